"""What the operator has done, in Prometheus's conventions. Names are an interface: alerts rest on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tradingbot_operator.cluster import Cluster
from tradingbot_operator.kinds import Owner
from tradingbot_operator.timetable import Checked

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Requests(Collector):
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily(
            "tradingbot_operator_api_requests",
            "Requests to the API server by verb and status; status 0 got no answer.",
            labels=("verb", "status"),
        )
        for (verb, status), count in sorted(self._cluster.requests.items()):
            family.add_metric((verb, str(status)), count)
        yield family


RESULTS = ("passed", "failed", "severe", "unknown")
"""Of a reality check; severe: an invariant is broken."""


class _Bots(Collector):
    """What the TradingBots' statuses tell; it goes with the bot. The agents' metrics have the same labels."""

    def __init__(
        self,
        ready: Callable[[], Iterable[tuple[Owner, int]]],
        checks: Callable[[], Iterable[tuple[Owner, Checked]]],
    ) -> None:
        self._ready = ready
        self._checks = checks

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ("namespace", "bot")
        ready = GaugeMetricFamily(
            "tradingbot_agents_ready", "Agents of a bot that are ready, of five.", labels=labels
        )
        for bot, count in sorted(self._ready()):
            ready.add_metric((bot.namespace, bot.name), count)
        result = GaugeMetricFamily(
            "tradingbot_reality_check_result",
            "The result of a bot's last reality check: 1, and 0 for what it was not.",
            labels=(*labels, "result"),
        )
        at = GaugeMetricFamily(
            "tradingbot_reality_check_timestamp_seconds",
            "When a bot's last reality check looked, in Unix time.",
            labels=labels,
        )
        late = GaugeMetricFamily(
            "tradingbot_reality_check_late_timestamp_seconds",
            "From when on a bot's next reality check is late, in Unix time; not there while it is suspended.",
            labels=labels,
        )
        for bot, checked in sorted(self._checks()):
            own = (bot.namespace, bot.name)
            if checked.result is not None:
                for each in RESULTS:
                    result.add_metric((*own, each), each == checked.result)
            if checked.at is not None:
                at.add_metric(own, checked.at)
            if checked.late is not None:
                late.add_metric(own, checked.late)
        yield from (ready, result, at, late)


class Metrics:
    def __init__(
        self,
        cluster: Cluster,
        *,
        queue: Callable[[], int],
        bots: Callable[[], int],
        away: Callable[[], int],
        ready: Callable[[], Iterable[tuple[Owner, int]]],
        checks: Callable[[], Iterable[tuple[Owner, Checked]]],
    ):
        """The callables are asked when the page is: keys that wait or are worked on, TradingBots, kinds without a
        watch; of each bot its ready agents and its reality check."""
        self.registry = CollectorRegistry()
        self._reconciles = Counter(
            "tradingbot_operator_reconciles", "Reconciles by result.", ("result",), registry=self.registry
        )
        self._seconds = Histogram(
            "tradingbot_operator_reconcile_seconds",
            "Duration of a reconcile.",
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
            registry=self.registry,
        )
        self._writes = Counter(
            "tradingbot_operator_writes", "Objects written or deleted, by why.", ("why",), registry=self.registry
        )
        gauges = (
            ("tradingbot_operator_queue", "Keys that are reconciled or wait for it.", queue),
            ("tradingbot_operator_bots", "TradingBots that are known.", bots),
            ("tradingbot_operator_watches_away", "Kinds that can not be watched now.", away),
        )
        for name, text, ask in gauges:
            Gauge(name, text, registry=self.registry).set_function(ask)
        for result in ("done", "failed"):
            self._reconciles.labels(result=result)
        self.registry.register(_Requests(cluster))
        self.registry.register(_Bots(ready, checks))

    def reconciled(self, seconds: float, *, failed: bool) -> None:
        self._reconciles.labels(result="failed" if failed else "done").inc()
        self._seconds.observe(seconds)

    def wrote(self, why: str) -> None:
        self._writes.labels(why=why).inc()

    def page(self) -> bytes:
        return generate_latest(self.registry)
