"""Where events go. ``LogSink`` writes them as structured lines; ``FanOut`` hands them to several readers."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Literal, Protocol, TextIO

import structlog

from tradingbot_agents.domain.events import Event, Severity


class Sink(Protocol):
    def emit(self, event: Event) -> None:
        """Take the event. Must neither block nor raise."""
        ...


class MemorySink:
    """Keeps the events, for tests and for a live view."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


class FanOut:
    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = tuple(sinks)

    def emit(self, event: Event) -> None:
        for sink in self._sinks:
            sink.emit(event)


_LEVELS = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.SEVERE: "error"}


class LogSink:
    """Writes each event as one structured line."""

    def __init__(self, bot: str) -> None:
        self._log = structlog.get_logger().bind(bot=bot)

    def emit(self, event: Event) -> None:
        getattr(self._log, _LEVELS[event.severity])(event.name, **event.fields())


def configure_logging(output: Literal["text", "json"], stream: TextIO | None = None) -> None:
    """JSON lines (a cluster, a pipe) or readable lines (a terminal). Events carry their own time in ``at``;
    ``timestamp`` is when the line was written."""
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if output == "json"
        else structlog.dev.ConsoleRenderer(colors=(stream or sys.stdout).isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stdout),
        cache_logger_on_first_use=False,
    )
