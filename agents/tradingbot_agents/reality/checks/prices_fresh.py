"""The newest bar of each symbol in the candle store, by its age."""

from __future__ import annotations

from collections.abc import Sequence

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import CandleEvidence, Evidence, MarketEvidence, Source, known
from tradingbot_agents.reality.market import CLOCKS, is_halted
from tradingbot_agents.reality.words import lasting, moment


def judge(evidence: Evidence) -> Judgement:
    stored = known(evidence.candles)
    breaches: list[str] = []
    quiet: list[str] = []
    for symbol in evidence.settings.symbols:
        problem = _problem(evidence, stored, symbol)
        if problem is None:
            continue
        candles = stored.candles.get(symbol, ())
        if not _is_future(stored, candles) and (
            is_halted(evidence, symbol) or _is_all_there_is(evidence, symbol, candles)
        ):
            quiet.append(symbol)
        else:
            breaches.append(f"{symbol}: {problem}")
    fresh = len(evidence.settings.symbols) - len(quiet)
    told = f"{fresh} fresh" + (f"; the exchange itself has nothing newer of {', '.join(quiet)}" if quiet else "")
    return judged(breaches, told)


def _problem(evidence: Evidence, stored: CandleEvidence, symbol: str) -> str | None:
    candles = stored.candles.get(symbol, ())
    if not candles:
        return "the candle store has no bar of it"
    settings = evidence.settings
    newest = candles[-1]
    age = stored.read_at - newest.close_time
    if _is_future(stored, candles):
        return f"its newest bar ends at {moment(newest.close_time)}, which is {lasting(-age)} from now"
    limit = settings.timeframe + settings.maximum_price_age
    if age > limit:
        return (
            f"its newest bar closed at {moment(newest.close_time)}, {lasting(age)} ago; {lasting(limit)} is the limit"
        )
    return None


def _is_future(stored: CandleEvidence, candles: Sequence[Candle]) -> bool:
    return bool(candles) and candles[-1].close_time > stored.read_at + CLOCKS


def _is_all_there_is(evidence: Evidence, symbol: str, stored: Sequence[Candle]) -> bool:
    if not isinstance(evidence.market, MarketEvidence) or symbol not in evidence.market.candles:
        return False
    exchange = evidence.market.candles[symbol]
    return bool(stored) and all(candle.open_time <= stored[-1].open_time for candle in exchange)


CHECK = Check(
    id="prices.fresh",
    asks="Has the candle store a fresh price of every symbol?",
    protects="Risk buys nothing without a fresh price, and what is asked for one is the candle store.",
    needs=(Source.CANDLES,),
    severity=Severity.WARNING,
    remedy=(
        "See feed.age: when the store is behind the exchange, look at the log of data-collection (feed_stale,"
        " candles_spooled) and at InfluxDB. A bar that ends in the future was written by a clock that is wrong, or by"
        " hand: see agents.clock, and delete the bar."
    ),
    judge=judge,
)
