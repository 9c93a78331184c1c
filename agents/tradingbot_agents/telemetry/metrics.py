"""Events and conditions as Prometheus metrics: what an alert can be made of.

Apart from the package's other sinks, which every process imports: the client library costs some megabytes.
"""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from tradingbot_agents.domain.events import Event, ExposureMeasured, PriceFallbackUsed, TradeApproved, TradeRejected

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One process's metrics, and a ``Sink`` that counts events. Names are an interface (docs/operations.md)."""

    def __init__(self, bot: str, agent: str) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"bot": bot, "agent": agent}
        names = tuple(self._labels)
        self._events = Counter(
            "tradingbot_events", "Events by name.", (*names, "event", "severity"), registry=self.registry
        )
        self._approved = Counter("tradingbot_trades_approved", "Approved intents.", names, registry=self.registry)
        self._rejected = Counter(
            "tradingbot_trades_rejected", "Refused intents by reason.", (*names, "reason"), registry=self.registry
        )
        self._fallbacks = Counter(
            "tradingbot_price_fallbacks",
            "Prices that were not the first choice, by the step that answered.",
            (*names, "source"),
            registry=self.registry,
        )
        self._equity = Gauge(
            "tradingbot_equity", "Equity in quote currency, as measured last.", names, registry=self.registry
        )
        self._dependency = Gauge(
            "tradingbot_dependency_up",
            "Whether something that the agent needs answers.",
            (*names, "dependency"),
            registry=self.registry,
        )
        self._turn = Gauge(
            "tradingbot_turn_seconds",
            "Seconds that the longest handler of now has been running.",
            names,
            registry=self.registry,
        )
        self._info = Gauge(
            "tradingbot_agent_info",
            "The revision of the spec that runs: always 1.",
            (*names, "revision"),
            registry=self.registry,
        )
        self._started = Gauge(
            "tradingbot_agent_start_time_seconds",
            "When the process began, in Unix time.",
            names,
            registry=self.registry,
        )
        self._approved.labels(**self._labels)

    def started(self, at: datetime, revision: str) -> None:
        self._info.labels(**self._labels, revision=revision).set(1)
        self._started.labels(**self._labels).set(at.timestamp())

    def emit(self, event: Event) -> None:
        self._events.labels(**self._labels, event=event.name, severity=event.severity.value).inc()
        match event:
            case TradeApproved():
                self._approved.labels(**self._labels).inc()
            case TradeRejected():
                self._rejected.labels(**self._labels, reason=event.reason.value).inc()
            case PriceFallbackUsed():
                self._fallbacks.labels(**self._labels, source=event.source).inc()
            case ExposureMeasured():
                # A gauge is a float by its format; no decision reads it.
                self._equity.labels(**self._labels).set(float(event.equity))

    def dependency(self, name: str, up: bool) -> None:
        self._dependency.labels(**self._labels, dependency=name).set(1 if up else 0)

    def turn(self, seconds: float) -> None:
        self._turn.labels(**self._labels).set(seconds)

    def page(self) -> bytes:
        """What Prometheus scrapes."""
        return generate_latest(self.registry)
