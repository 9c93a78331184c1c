"""The five agents of a trading bot, the ports they speak through, and the command that runs them.

Floors, from the ground up (an import contract keeps them; see ``docs/architecture.md``):
``domain`` → ``clock``, ``telemetry`` → ``bus``, ``marketdata``, ``ledger``, ``exchange`` → one room per
agent → ``runtime`` → ``cli``.
"""
