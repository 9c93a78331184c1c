"""The risk agent: price, size, stop, protections, and then the reservation. One per bot.

Every decision is a pure function of its arguments (``sizing``, ``proposal``, ``protections``, ``exposure``,
``approval``); ``agent`` feeds them from the bus, the ledger and the price chain, and acts on what they return.
"""
