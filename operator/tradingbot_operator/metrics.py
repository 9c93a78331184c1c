"""What the operator has done, in Prometheus's conventions. Names are an interface: alerts rest on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from tradingbot_operator.cluster import Cluster

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


class Metrics:
    def __init__(
        self, cluster: Cluster, *, queue: Callable[[], int], bots: Callable[[], int], away: Callable[[], int]
    ):
        """The callables are asked when the page is: keys that wait or are worked on, TradingBots, kinds without a
        watch."""
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

    def reconciled(self, seconds: float, *, failed: bool) -> None:
        self._reconciles.labels(result="failed" if failed else "done").inc()
        self._seconds.observe(seconds)

    def wrote(self, why: str) -> None:
        self._writes.labels(why=why).inc()

    def page(self) -> bytes:
        return generate_latest(self.registry)
