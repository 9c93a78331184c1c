"""How long an entry took from its approval to the exchange, and to its first fill."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.market import decided
from tradingbot_agents.reality.words import moment


def judge(evidence: Evidence) -> Judgement:
    limit = evidence.settings.send_within
    first: dict[str, datetime] = {}
    for fill in known(evidence.ledger).fills:
        first[fill.client_order_id] = min(fill.at, first.get(fill.client_order_id, fill.at))
    breaches: list[str] = []
    sent: list[timedelta] = []
    filled: list[timedelta] = []
    for entry in decided(evidence, EXECUTION):
        order = entry.order
        if order.claimed_at is None:
            continue
        sent.append(order.claimed_at - order.created_at)
        if sent[-1] > limit:
            breaches.append(
                f"{order.symbol} at {moment(order.created_at)} ({order.client_order_id}): sent after"
                f" {_seconds(sent[-1])}, more than {_seconds(limit)}"
            )
        if order.client_order_id in first:
            filled.append(first[order.client_order_id] - order.claimed_at)
    if not sent:
        return judged(breaches, "no entry was sent")
    told = f"{len(sent)} sent after {_told(sent)}"
    return judged(breaches, told + (f", filled {_told(filled)} later" if filled else ""))


def _told(spans: Sequence[timedelta]) -> str:
    return f"{_seconds(sorted(spans)[len(spans) // 2])} ({_seconds(max(spans))} at worst)"


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.1f} s"


CHECK = Check(
    id="behaviour.latency",
    asks="Was every approved entry sent in time?",
    protects="A price is worth something for a moment: an entry that is sent late is decided on another market.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "See agents.queues (does execution keep up), agents.ready (was it down meanwhile) and the latency metrics of"
        " execution: most often it waits for the exchange's rate limit or for the database."
    ),
    judge=judge,
)
