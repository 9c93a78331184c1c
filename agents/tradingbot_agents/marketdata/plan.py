"""What of InfluxDB shall be there for a bot. Apart from what makes it, which needs the client."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from tradingbot_agents.domain.values import TIMEFRAMES

HOUR = "1h"
HOURLY_SUFFIX = "_1h"


class TimeSeriesPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be there."""

    organization: str
    bucket: str
    retention: timedelta
    hourly_retention: timedelta
    """Of the hourly candles, which tell of the time that ``retention`` has forgotten."""
    timeframe: str
    """Of the candles that are summed up; an hour or more needs no summing up."""
    late: timedelta
    """How late a candle may come and still be in its hour's sum; counted in whole hours, at least one."""

    @property
    def hourly_bucket(self) -> str:
        return self.bucket + HOURLY_SUFFIX

    @property
    def downsamples(self) -> bool:
        return TIMEFRAMES[self.timeframe] < TIMEFRAMES[HOUR]

    @property
    def task(self) -> str:
        return f"tradingbot {self.bucket} hourly"
