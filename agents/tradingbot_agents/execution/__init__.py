"""Execution: claims, sends, looks up, books and cancels orders, and keeps positions protected.

The pure part decides (``resolve`` for orders, ``exits`` for positions, ``fills`` for the money); ``desk`` talks
to the exchange and the ledger about one order at a time, and ``agent`` is woken by messages, candles and timers.
"""
