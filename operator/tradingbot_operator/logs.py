"""The operator's log: one JSON object a line in a cluster, readable lines on a terminal."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog


class _Lines(logging.Handler):
    """What libraries log, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno, "library", library=record.name, message=record.getMessage(), exc_info=record.exc_info
            )
        except Exception:
            self.handleError(record)


def configure_logging(form: Literal["text", "json"], level: Literal["debug", "info", "warning"]) -> None:
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=False,
    )
    # kopf tells of every event that it handles at INFO.
    logging.basicConfig(handlers=[_Lines()], level=logging.WARNING, force=True)
