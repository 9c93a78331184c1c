"""Where events go. ``LogSink`` writes them as structured lines; ``FanOut`` hands them to several readers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
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
    """Writes each event as one structured line, until nobody can take them any more."""

    def __init__(self, bot: str, on_lost: Callable[[], None]) -> None:
        """``on_lost`` is called once, when a line can not be written (its reader has gone, the disk is full).
        A line that is lost must fail no agent: what it says is in the ledger."""
        self._log = structlog.get_logger().bind(bot=bot)
        self._on_lost = on_lost
        self._lost = False

    def emit(self, event: Event) -> None:
        if self._lost:
            return
        try:
            getattr(self._log, _LEVELS[event.severity])(event.name, **event.fields())
        except OSError:
            self._lost = True
            self._on_lost()


def configure_logging(
    output: Literal["text", "json"], level: Literal["debug", "info", "warning"], stream: TextIO | None = None
) -> None:
    """JSON lines (a cluster, a pipe) or readable lines (a terminal), of ``level`` and above. Events carry their
    own time in ``at``; ``timestamp`` is when the line was written."""
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
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stdout),
        cache_logger_on_first_use=False,
    )
