"""How far the candle store is behind the exchange."""

from __future__ import annotations

from datetime import timedelta

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.market import CLOCKS, is_halted
from tradingbot_agents.reality.words import lasting, moment

POLLS = 2
"""Of data collection, within which a bar that has closed must be in the store: one may just have begun."""

HANDLING = timedelta(seconds=30)
"""And for what the exchange, the network and the store take."""


def judge(evidence: Evidence) -> Judgement:
    stored, market, settings = known(evidence.candles), known(evidence.market), evidence.settings
    # A bar that closed after this need not be there yet.
    due = min(stored.read_at, market.read_at) - POLLS * settings.poll_interval - HANDLING
    breaches: list[str] = []
    doubts: list[str] = []
    ages: list[timedelta] = []
    for symbol in settings.symbols:
        # One of the future hides how late the store is; prices.fresh tells of it.
        ours = [each for each in stored.candles.get(symbol, ()) if each.close_time <= stored.read_at + CLOCKS]
        theirs = market.candles.get(symbol, ())
        wanted = [candle for candle in theirs if candle.close_time <= due]
        if not theirs:
            if not is_halted(evidence, symbol):
                doubts.append(f"{symbol}: the exchange gave no bar to compare with")
        elif wanted and not ours:
            breaches.append(
                f"{symbol}: the candle store has none, the exchange has one of {moment(wanted[-1].close_time)}"
            )
        elif wanted and ours[-1].open_time < wanted[-1].open_time:
            behind = wanted[-1].open_time - ours[-1].open_time
            breaches.append(
                f"{symbol}: the newest bar in the store closed at {moment(ours[-1].close_time)}, {lasting(behind)}"
                f" before the exchange's"
            )
        if ours:
            ages.append(stored.read_at - ours[-1].close_time)
    oldest = f", the oldest is {lasting(max(ages))} old" if ages else ""
    return judged(breaches, f"the store has the newest bar of every symbol{oldest}", doubts=doubts)


CHECK = Check(
    id="feed.age",
    asks="Is the newest bar of the exchange in the candle store?",
    protects="A bot that sees an old market decides on it, and its stops that are watched come late.",
    needs=(Source.CANDLES, Source.MARKET),
    severity=Severity.WARNING,
    remedy=(
        "Look at the log of data-collection: feed_stale names what the exchange answers, candles_spooled that"
        " InfluxDB takes nothing. With neither, restart data-collection: it fetches what is missing from the"
        " exchange."
    ),
    judge=judge,
    compares=True,
)
