"""What data collection refuses to be set to, with field, value and remedy."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.collection import collection_settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols": ()}, "symbols is empty: name at least one"),
        ({"symbols": ("BTC/USDT", "BTC/USDT")}, "symbols BTC/USDT, BTC/USDT name one twice"),
        ({"timeframe": "7m"}, "timeframe '7m' is not known: use one of 1m, 3m, 5m"),
        ({"poll_interval": timedelta(0)}, "poll_interval is 0:00:00, but it must be above zero"),
        ({"settle_delay": timedelta(seconds=-1)}, "settle_delay is .*, but it must be within a bar of 5m"),
        ({"settle_delay": timedelta(minutes=5)}, "settle_delay is 0:05:00, but it must be within a bar of 5m"),
        ({"stale_after": timedelta(minutes=5)}, "stale_after is 0:05:00, but .* up to 0:05:00 old .* make it longer"),
        ({"history": 0}, "history is 0, but it must be at least 1 bar"),
    ],
)
def test_what_can_not_work_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collection_settings(**change)


def test_the_bar_is_the_timeframes_length() -> None:
    assert collection_settings(timeframe="1h", stale_after=timedelta(hours=3)).bar == timedelta(hours=1)
