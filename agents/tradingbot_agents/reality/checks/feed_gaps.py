"""Bars that the exchange has and the candle store has not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.happenings import counting, how_often
from tradingbot_agents.reality.words import moment, times


def judge(evidence: Evidence) -> Judgement:
    stored, market, settings = known(evidence.candles), known(evidence.market), evidence.settings
    breaches: list[str] = []
    bars = 0
    for symbol in settings.symbols:
        ours = {candle.open_time for candle in stored.candles.get(symbol, ())}
        if not ours:
            # feed.age says that.
            continue
        # Before the first bar the bot was not there; after the last one the store is late, and feed.age tells that.
        within = [candle for candle in market.candles.get(symbol, ()) if min(ours) < candle.open_time < max(ours)]
        bars += len(within)
        breaches += _gaps(symbol, [candle for candle in within if candle.open_time not in ours], settings.timeframe)
    dropped = counting(evidence, "candles_dropped")
    breaches += [
        f"{each.agent} dropped candles for InfluxDB ({how_often(each)}), at last {each.sample.get('candles', '?')}"
        for each in dropped
    ]
    nowhere = sum(each.count for each in counting(evidence, "candle_gap"))
    more = f"; {times(nowhere)} the exchange itself had none to fill a gap with" if nowhere else ""
    return judged(breaches, f"{bars} bars without a gap{more}")


def _gaps(symbol: str, missing: Sequence[Candle], timeframe: timedelta) -> list[str]:
    """Those that follow each other together."""
    told: list[str] = []
    run: list[Candle] = []
    for candle in [*missing, None]:
        if run and (candle is None or candle.open_time - run[-1].open_time > timeframe):
            first, last = run[0].open_time, run[-1].open_time
            told.append(
                f"{symbol}: the bar of {moment(first)} is missing"
                if len(run) == 1
                else f"{symbol}: {len(run)} bars are missing, from {moment(first)} to {moment(last)}"
            )
            run = []
        if candle is not None:
            run.append(candle)
    return told


CHECK = Check(
    id="feed.gaps",
    asks="Has the candle store every bar of the window that the exchange has?",
    protects="An indicator that skips bars says something about another market.",
    needs=(Source.CANDLES, Source.MARKET),
    severity=Severity.WARNING,
    remedy=(
        "Restart data-collection: at its start it fetches what is missing from the exchange; then restart"
        " technical-analysis, which reads the bars anew. If candles were dropped, InfluxDB was away for longer than"
        " spec.timeSeries.spoolLength lasts: give it more."
    ),
    judge=judge,
    compares=True,
)
