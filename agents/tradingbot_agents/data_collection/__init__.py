"""The agent that brings the market in: closed candles only, every one once, in order, gaps and silence said.

``tracker`` decides what a fetched candle is (new, seen, broken, out of reach) and when a feed is silent;
``agent`` asks the exchange at the right moments, and publishes what the tracker lets through.
"""
