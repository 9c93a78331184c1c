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

MARKET_MAX_LENGTH = 10_000
"""Candles or signals in one queue: days of them for tens of symbols, and a few megabytes at most."""

DELIVERY_LIMIT = 5
"""Failed deliveries before a message is set aside: a passing fault is over by then, a poison one never is."""


def topology(timeframe: timedelta) -> tuple[QueueSpec, ...]:
    """The queues of one bot. Candles and signals live for one bar: after that the next one replaces them."""

    def market(name: str, owner: str, topic: str) -> QueueSpec:
        return QueueSpec(
            name=name,
            owner=owner,
            topics=(topic,),
            ttl=timeframe,
            max_length=MARKET_MAX_LENGTH,
            delivery_limit=DELIVERY_LIMIT,
        )

    def durable(name: str, owner: str, topic: str) -> QueueSpec:
        return QueueSpec(name=name, owner=owner, topics=(topic,), delivery_limit=DELIVERY_LIMIT)

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
