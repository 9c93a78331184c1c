"""The agent that reads the market: indicators over a rolling window, one signal per candle.

``window`` and ``indicators`` are pure functions of the last N candles; ``agent`` feeds them.
"""
