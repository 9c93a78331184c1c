"""Where events go. ``LogSink`` writes them as structured lines; ``FanOut`` hands them to several readers."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, TextIO

from tradingbot_agents.lean_imports import hidden

# It would draw tracebacks with it, at three times its own cost. Who runs an agent imports structlog from here first.
with hidden("rich"):
    import structlog
    from structlog.typing import EventDict

from tradingbot_agents.domain.events import Event, Severity

get_logger = structlog.get_logger


def worth_telling(attempt: int) -> bool:
    """Of many attempts in a row (from 1) the first, the second, the fourth and so on."""
    return attempt & (attempt - 1) == 0


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
    output: Literal["text", "json"],
    level: Literal["debug", "info", "warning"],
    stream: TextIO | None = None,
    *,
    bot: str | None = None,
    hidden: Callable[[], Iterable[str]] = tuple,
) -> None:
    """JSON lines (a cluster, a pipe) or readable lines (a terminal), of ``level`` and above. Events carry their
    own time in ``at``; ``timestamp`` is when the line was written.

    With ``bot``, every line names it, and warnings of libraries are lines too. ``hidden`` are texts that no line
    shows, whoever wrote it."""
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if output == "json"
        else structlog.dev.ConsoleRenderer(colors=(stream or sys.stdout).isatty())
    )

    def named(logger: Any, method: str, line: EventDict) -> EventDict:
        if bot is not None:
            line.setdefault("bot", bot)
        return line

    def written(logger: Any, method: str, line: EventDict) -> str:
        text: str = renderer(logger, method, line)
        for secret in hidden():
            # As it stands in a line of JSON, too.
            for shown in {secret, json.dumps(secret)[1:-1]}:
                text = text.replace(shown, "***")
        return text

    structlog.configure(
        processors=[
            named,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            written,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stdout),
        cache_logger_on_first_use=False,
    )
    if bot is not None:
        logging.basicConfig(handlers=[_LibraryLines()], level=logging.WARNING, force=True)


class _LibraryLines(logging.Handler):
    """Warnings of libraries, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno,
                "library_warning",
                library=record.name,
                why=record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:
            self.handleError(record)
