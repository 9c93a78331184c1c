"""Feeds that fell silent and were not heard of again."""

from __future__ import annotations

from datetime import datetime

from tradingbot_agents.bus.topology import DATA_COLLECTION
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Heard, Source
from tradingbot_agents.reality.happenings import counting, unheard
from tradingbot_agents.reality.market import is_halted
from tradingbot_agents.reality.words import moment, times

WEBSOCKET = "websocket"


def judge(evidence: Evidence) -> Judgement:
    breaches: list[str] = []
    lost = _open(evidence, "stream_lost", "stream_recovered") if evidence.settings.feed == WEBSOCKET else []
    stale = _open(evidence, "feed_stale", "feed_recovered")
    for each in (*lost, *stale):
        symbol = each.key[0]
        if is_halted(evidence, symbol):
            continue
        what = f"the stream of {each.key[1]}" if each in lost else "its feed"
        why = each.sample.get("why") or each.sample.get("error")
        breaches.append(f"{symbol}: {what} is silent since {moment(each.last)}" + (f": {why}" if why else ""))
    back = sum(each.count for each in counting(evidence, "stream_recovered", "feed_recovered"))
    again = f"; {times(back)} one came back" if back else ""
    return judged(breaches, f"no feed is silent{again}", doubts=unheard(evidence, [DATA_COLLECTION]))


def _open(evidence: Evidence, lost: str, back: str) -> list[Heard]:
    """What was lost, and did not come back after it."""
    recovered: dict[tuple[str, ...], datetime] = {}
    for each in counting(evidence, back):
        recovered[each.key] = max(each.last, recovered.get(each.key, each.last))
    newest: dict[tuple[str, ...], Heard] = {}
    for each in counting(evidence, lost):
        if each.key not in newest or each.last > newest[each.key].last:
            newest[each.key] = each
    return [each for key, each in newest.items() if key not in recovered or recovered[key] < each.last]


CHECK = Check(
    id="feed.streams",
    asks="Does every feed of market data speak?",
    protects=(
        "While a websocket is silent the exchange is asked by REST, which is later and counts against its limits;"
        " while that is silent too, nothing is known of the market."
    ),
    needs=(Source.LOGS,),
    severity=Severity.WARNING,
    remedy=(
        "See the exchange's status page, and the reason that is told. A stream that stays silent while the exchange"
        " is well: restart data-collection, or set spec.exchange.feed to rest until it is mended."
    ),
    judge=judge,
)
