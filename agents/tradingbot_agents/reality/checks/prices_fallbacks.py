"""Prices that did not come from the candle store (the lesson DEV-70)."""

from __future__ import annotations

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Heard, Source
from tradingbot_agents.reality.happenings import counting, how_often

ANSWERS = {
    "bus": "was the last close on the bus",
    "ticker": "was the exchange's ticker",
    "none": "was not known at all, so nothing was bought",
}


def judge(evidence: Evidence) -> Judgement:
    found = counting(evidence, "price_fallback_alert", "price_fallback_used")
    # Those that came in a row first: they are the ones that somebody must look at.
    found.sort(key=lambda each: each.name)
    return judged([_told(each) for each in found], "every price came from the candle store")


def _told(each: Heard) -> str:
    symbol, source = (*each.key, "", "")[:2]
    answer = ANSWERS.get(source, f"came from {source}")
    again = f", {each.sample.get('in_a_row', 'many')} in a row" if each.name == "price_fallback_alert" else ""
    return f"{symbol}: the price {answer}{again} ({how_often(each)}), at last because {each.sample.get('why', '?')}"


CHECK = Check(
    id="prices.fallbacks",
    asks="Did every price that risk decided on come from the candle store?",
    protects=(
        "A fallback is bounded and loud, but it is a second best: one that is used again and again hides that the"
        " store is empty, late or away."
    ),
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "Read the reason that is told. The store's last close is too old or missing: see prices.fresh and feed.age,"
        " and the log of data-collection. The store failed: see that InfluxDB runs, and its token. It passes again"
        " once no fallback lies in the window."
    ),
    judge=judge,
)
