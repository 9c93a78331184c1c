"""Which errors say that something is away, and which are an agent's own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tradingbot_agents.bus import DependencyUnavailable
from tradingbot_agents.exchange.port import Ambiguous, ExchangeError, RateLimited
from tradingbot_agents.ledger.port import LedgerError, LedgerUnavailable
from tradingbot_agents.marketdata import CandleStoreRefused, CandleStoreUnavailable
from tradingbot_agents.runtime.process import away


def caused_by(cause: Exception | None) -> DependencyUnavailable:
    error = DependencyUnavailable("away")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (LedgerUnavailable("no answer"), "database"),
        (CandleStoreUnavailable("no answer"), "time-series"),
        (CandleStoreRefused("token"), "time-series"),
        (Ambiguous("timeout"), "exchange"),
        (RateLimited(timedelta(seconds=1)), "exchange"),
        (ExchangeError("maintenance"), "exchange"),
        (caused_by(None), "messaging"),
        (caused_by(OSError("cut")), "messaging"),
        (caused_by(LedgerUnavailable("no answer")), "database"),
        (ValueError("a bug"), None),
        (LedgerError("the books say no"), None),
    ],
)
def test_an_outage_is_told_from_a_failure(error: Exception, part: str | None) -> None:
    assert away(error) == part
