"""The operator with a clock that a test moves: a person has a day to decide, and no test has one to wait.

``python -m support.moved_clock FILE``: the seconds in FILE are how far the clock is ahead, at every look at it.
All else is the operator's own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tradingbot_operator.cluster import configuration
from tradingbot_operator.logs import configure_logging
from tradingbot_operator.main import DEFAULT_IMAGE
from tradingbot_operator.process import Operator
from tradingbot_operator.settings import read_settings


async def main(file: Path) -> None:
    settings = read_settings(os.environ, default_image=DEFAULT_IMAGE)
    configure_logging(settings.log_format, settings.log_level)

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(file.read_text()))

    async with Operator(await configuration(None), settings, now=now) as operator:
        await operator.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
