"""The whole topology, in one place: every agent declares all of it, so that start order does not matter."""

from __future__ import annotations

from datetime import timedelta

from tradingbot_agents.bus.port import QueueSpec

DATA_COLLECTION = "data-collection"
TECHNICAL_ANALYSIS = "technical-analysis"
STRATEGY = "strategy"
RISK = "risk"
EXECUTION = "execution"

AGENTS = (DATA_COLLECTION, TECHNICAL_ANALYSIS, STRATEGY, RISK, EXECUTION)
"""The five, from the exchange to the order."""


def topology(*, market_time_to_live: timedelta, market_length: int, delivery_limit: int) -> tuple[QueueSpec, ...]:
    """The queues of one bot. Candles and signals are worth little soon: after ``market_time_to_live`` they are
    dropped, and of more than ``market_length`` the oldest. Everything else is kept until it is dealt with, or has
    failed ``delivery_limit`` times."""

    def market(name: str, owner: str, topic: str) -> QueueSpec:
        return QueueSpec(
            name=name,
            owner=owner,
            topics=(topic,),
            ttl=market_time_to_live,
            max_length=market_length,
            delivery_limit=delivery_limit,
        )

    def durable(name: str, owner: str, topic: str) -> QueueSpec:
        return QueueSpec(name=name, owner=owner, topics=(topic,), delivery_limit=delivery_limit)

    return (
        market("technical-analysis.candles", TECHNICAL_ANALYSIS, "market.candle"),
        market("risk.candles", RISK, "market.candle"),
        market("execution.candles", EXECUTION, "market.candle"),
        market("strategy.signals", STRATEGY, "analysis.signal"),
        durable("risk.intents", RISK, "trade.intent"),
        durable("execution.orders", EXECUTION, "trade.order"),
        durable("strategy.reports", STRATEGY, "execution.report"),
        durable("risk.reports", RISK, "execution.report"),
    )
