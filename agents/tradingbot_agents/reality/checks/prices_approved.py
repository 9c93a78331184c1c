"""The price that each entry was approved at, against the exchange's own bars of that time."""

from __future__ import annotations

from tradingbot_agents.bus.topology import RISK
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.spelling import plain
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.market import decided, overlapping, tick_of
from tradingbot_agents.reality.words import moment


def judge(evidence: Evidence) -> Judgement:
    market, settings = known(evidence.market), evidence.settings
    breaches: list[str] = []
    doubts: list[str] = []
    entries = decided(evidence, RISK)
    for entry in entries:
        at, symbol = entry.order.created_at, entry.order.symbol
        named = f"{symbol} at {moment(at)} ({entry.order.client_order_id})"
        begin = at - settings.maximum_price_age - settings.timeframe
        bars = overlapping(market.candles.get(symbol, ()), begin, at)
        if not bars:
            doubts.append(f"{named}: the exchange gave no bar of that time")
            continue
        lowest, highest = min(bar.low for bar in bars), max(bar.high for bar in bars)
        tick = tick_of(evidence, symbol, entry.limit)
        if entry.highest >= lowest - tick and entry.lowest <= highest + tick:
            continue
        told = (
            f"{named}: approved at {plain(entry.lowest)}, but the exchange traded between {plain(lowest)} and"
            f" {plain(highest)} then"
        )
        if bars[-1].close_time <= at:
            # The bar of that moment is not over: a ticker's price may lie in it.
            doubts.append(f"{told}, as far as its bars are over")
        else:
            breaches.append(told)
    return judged(breaches, f"{len(entries)} approved at a price that the exchange had", doubts=doubts)


CHECK = Check(
    id="prices.approved",
    asks="Did the exchange trade at the price that each entry was approved at?",
    protects="A wrong price makes a wrong size, limit and stop, and no line of any log need admit it.",
    needs=(Source.LEDGER, Source.MARKET),
    severity=Severity.SEVERE,
    remedy=(
        "Let the bot make no entry (tradingbot hold ReduceOnly --spec SPEC --reason TEXT). See prices.stored for bars"
        " that are wrong, and prices.fallbacks for the source of the price. The position was opened with the stop of"
        " a wrong price: check it by hand, and close it when in doubt. Release the hold (tradingbot release --spec"
        " SPEC) when prices.stored passes."
    ),
    judge=judge,
)
