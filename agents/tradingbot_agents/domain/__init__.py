"""Values and rules of trading: no I/O, no clock, no asyncio, no logging.

Everything here is a frozen value or a function of its arguments, so that the live bot, the replay and the
property tests run the same decisions. Amounts, prices and balances are ``Decimal``; times are aware UTC
``datetime``.
"""
