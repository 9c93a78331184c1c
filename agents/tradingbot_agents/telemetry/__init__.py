"""Structured events and logs: what happened, by name, with bot, agent and correlation id.

Agents hand an ``Event`` to a ``Sink`` and do not care who reads it: a terminal, a JSON log, the ledger.
"""

from tradingbot_agents.telemetry.sink import (
    FanOut,
    LogSink,
    MemorySink,
    Sink,
    configure_logging,
    get_logger,
    worth_telling,
)

__all__ = ["FanOut", "LogSink", "MemorySink", "Sink", "configure_logging", "get_logger", "worth_telling"]
