"""The candle store's bars against the exchange's own."""

from __future__ import annotations

from decimal import Decimal

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.spelling import plain
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.market import tick_of
from tradingbot_agents.reality.words import moment

PRICES = ("close", "open", "high", "low")


def judge(evidence: Evidence) -> Judgement:
    stored, market = known(evidence.candles), known(evidence.market)
    breaches: list[str] = []
    doubts: list[str] = []
    compared = 0
    for symbol in evidence.settings.symbols:
        theirs = {candle.open_time: candle for candle in market.candles.get(symbol, ())}
        ours = stored.candles.get(symbol, ())
        if not theirs and ours:
            doubts.append(f"{symbol}: the exchange gave no bar to compare with")
            continue
        reach = (min(theirs), max(theirs)) if theirs else None
        for candle in ours:
            told = theirs.get(candle.open_time)
            if told is not None:
                compared += 1
                breaches += _differences(evidence, candle, told)
            elif reach is not None and reach[0] < candle.open_time < reach[1]:
                breaches.append(f"{symbol} {moment(candle.open_time)}: the exchange has no such bar")
    return judged(breaches, f"{compared} bars are as the exchange has them", doubts=doubts)


def _differences(evidence: Evidence, ours: Candle, theirs: Candle) -> list[str]:
    found: list[str] = []
    for name in PRICES:
        mine: Decimal = getattr(ours, name)
        told: Decimal = getattr(theirs, name)
        if abs(mine - told) > tick_of(evidence, ours.symbol, told):
            found.append(f"{name} is {plain(mine)}, and {plain(told)} on the exchange")
    return [f"{ours.symbol} {moment(ours.open_time)}: {', '.join(found)}"] if found else []


CHECK = Check(
    id="prices.stored",
    asks="Does the candle store have the same prices as the exchange?",
    protects="Signals, sizes, stops and the price of every approval are counted from these bars.",
    needs=(Source.CANDLES, Source.MARKET),
    severity=Severity.WARNING,
    remedy=(
        "Let the bot make no entry (tradingbot hold ReduceOnly --spec SPEC --reason TEXT) until the bars are right."
        " Find out who writes to the bucket beside data-collection (its token should be the only one that may),"
        " delete the bars that are named (influx delete), and restart data-collection: it fetches what is missing"
        " from the exchange. Then restart technical-analysis, which has read them."
    ),
    judge=judge,
    compares=True,
)
