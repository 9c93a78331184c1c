"""Two bots on one account trade on an exchange that is a pod, in real orders of its API.

The tests of this module share the two, each leaves them trading. At the end of what has to do with orders, the
exchange's own books are held against what the bots say.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from typing import Any

import pytest

from support.connections import TABLES, Edge, arrivals, connections, edges
from support.kubernetes import Cluster, Json, until
from support.network_policies import Network
from support.on_a_node import AGENTS, CHART, MONEY, ON_A_NODE, OWN, RELEASE, Figures, Namespace, is_ready
from support.specs import LIVE, changed
from support.trading_floor import BACK, UP, Floor
from tradingbot_agents.reality.check import all_checks
from tradingbot_api import load_object

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


COMPONENT = "app.kubernetes.io/component"

DUST = Decimal(10)
"""USDT: below it nothing can be sold, and nothing protected."""

USERS = {
    "rabbitmq": set(AGENTS),
    "influxdb": {"data-collection", "technical-analysis", "risk"},
    "postgres": {"strategy", "risk", "execution"},
}
"""Which agents speak to which server."""


@pytest.fixture(scope="module")
def both(floor: Namespace) -> Floor:
    made = Floor(floor)
    made.start()
    return made


@pytest.mark.short
def test_two_bots_trade_and_never_spend_the_same_money(both: Floor) -> None:
    def each_holds() -> bool:
        return all(int(bot.row().get("POSITIONS", "0")) > 0 for bot in both.bots)

    both.namespace.until(each_holds, "both hold something", 180)
    for bot in both.bots:
        row = bot.row()
        assert {name: row[name] for name in ("MODE", "STATE", "READY")} == {
            "MODE": "live",
            "STATE": "Running",
            "READY": "5/5",
        }
        assert Decimal("0.9") * MONEY < Decimal(row["EQUITY"]) <= MONEY
    both.trades_again(180)
    both.settle()
    both.compare()
    both.go_on()


def test_what_it_takes_is_within_what_it_asks_for(both: Floor, operator: Namespace, figures: Figures) -> None:
    """Under load: a bar every five seconds, a trade every few."""
    for use in [*both.namespace.uses(60), *operator.uses(10)]:
        if use.component != "exchange":
            figures.note(f"under load {use}")
            assert use.memory < 0.8 * use.memory_limit, f"{use} of {use.pod}"


def test_a_check_fires_by_itself_names_what_is_wrong_and_what_was_mended(both: Floor) -> None:
    bot = both.alpha

    def last_job(after: str = "") -> Json | None:
        """The newest that has ended, if its name comes after."""
        jobs = [
            job
            for job in both.namespace.items("batch/v1/jobs")
            if any(owner["name"] == "alpha-check" for owner in job["metadata"].get("ownerReferences") or [])
            and any(one["type"] in ("Complete", "Failed") for one in job.get("status", {}).get("conditions") or [])
            and job["metadata"]["name"] > after
        ]
        return max(jobs, key=lambda job: job["metadata"]["name"], default=None)

    def check_says(result: str, limit: float = 300) -> Any:
        newest = ""

        def seen() -> Any:
            nonlocal newest
            job = last_job(newest)
            if job is None:
                return None
            newest = job["metadata"]["name"]
            check = bot.ended(newest)
            return check if check.line["report"]["result"] == result else None

        return both.namespace.until(seen, f"a check that {result}", limit)

    first = check_says("passed")
    assert set(first.findings) == {check.id for check in all_checks()}
    assert "Reality check of alpha" in first.log
    assert bot.row()["CHECK"] == "passed"
    assert "RealityCheckPassed" in bot.events()

    name = "tb0123456789abcdef"
    both.exchange.order_by_hand(name)
    try:
        failed = check_says("failed")
        assert set(failed.wrong) == {"orders.unknown"}, failed.log
        assert failed.outcome == "Failed"
        condition = bot.condition("RealityCheckPassed")
        assert (condition["status"], condition["reason"]) == ("False", "InvariantBroken")
        assert "orders.unknown" in condition["message"]
        assert bot.row()["CHECK"] == "failed"
        assert "RealityCheckFailed" in bot.events()
        assert "orders.unknown" in bot.kubectl("describe", "tb", "alpha")
    finally:
        both.exchange.forget(name)
    mended = check_says("passed")
    assert mended.outcome == "Complete"
    assert bot.condition("RealityCheckPassed")["status"] == "True"


@contextmanager
def a_row_changed(both: Floor) -> Iterator[None]:
    """A profit is invented in the ledger."""
    [pod] = both.namespace.items("v1/pods", f"{COMPONENT}=postgres")
    mine = "bot = (SELECT id FROM bots WHERE name = 'beta')"
    where = f"{mine} AND symbol = (SELECT min(symbol) FROM positions WHERE {mine})"

    def add(amount: str) -> None:
        told = both.namespace.kubectl(
            *("exec", pod["metadata"]["name"], "--", "psql", "-U", "tradingbot", "-d", "tradingbot", "-c"),
            f"UPDATE positions SET realised = realised + {amount} WHERE {where}",
        )
        assert told.strip() == "UPDATE 1"

    add("5")
    try:
        yield
    finally:
        add("-5")


@contextmanager
def a_price_poisoned(both: Floor) -> Iterator[None]:
    document = changed(LIVE, ON_A_NODE)
    document["metadata"]["name"] = "beta"
    series = load_object(document).spec.time_series
    place = (series.organization, series.bucket)

    def poison(*words: str) -> str:
        told: str = both.beta.kubectl(
            "exec", "deployment/beta-data-collection", "--", "python", "-m", "support.poison", *words
        )
        return told.strip()

    before = poison("spoil", *place, "BTC/USDT", document["spec"]["timeframe"])
    try:
        yield
    finally:
        poison("write", *place, before)


@contextmanager
def an_old_revision_left_running(both: Floor) -> Iterator[None]:
    """By somebody who has told the operator to keep its hands off."""
    beta = both.beta
    beta.kubectl("annotate", "tradingbot", "beta", "tradingbot.dev/paused=true")
    running = set(beta.starts("strategy"))
    annotations = {"tradingbot.dev/revision": "0123456789ab"}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    beta.kubectl("patch", "deployment", "beta-strategy", "--patch", json.dumps(patch))
    both.namespace.until(
        lambda: not running & set(beta.starts("strategy")) and all(map(is_ready, beta.pods("strategy"))),
        "another",
        90,
    )
    yield
    running = set(beta.starts("strategy"))
    beta.kubectl("annotate", "tradingbot", "beta", "tradingbot.dev/paused-")
    both.namespace.until(lambda: running.isdisjoint(beta.starts("strategy")), "the revision that is wanted", 90)
    beta.trades(BACK)


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (a_row_changed, {"accounting.profit"}),
        (a_price_poisoned, {"prices.stored"}),
        (an_old_revision_left_running, {"agents.revision"}),
    ],
    ids=["a row", "a price", "an old revision"],
)
def test_what_is_broken_is_named_and_its_mending_seen(
    both: Floor, broken: Callable[[Floor], AbstractContextManager[None]], named: set[str]
) -> None:
    beta, job = both.beta, broken.__name__.replace("_", "-")
    with broken(both):
        found = beta.check(job)
        assert set(found.wrong) == named, found.log
        assert found.outcome == "Failed"
        assert all(each in beta.condition("RealityCheckPassed")["message"] for each in named)
    mended = beta.check(f"{job}-no-more")
    assert mended.wrong == {}, mended.log
    assert beta.row()["CHECK"] == "passed"


def test_every_connection_is_one_that_the_policies_allow(both: Floor, figures: Figures) -> None:
    """The network may enforce nothing, as this machine's does; that the policies let through all that is used, and
    nothing that is not, is so wherever they are enforced."""
    namespace = both.namespace
    labels: dict[str, dict[str, str]] = {}
    seen: set[Edge] = set()

    def of(component: str) -> set[str]:
        """Who uses it."""
        return {
            labels[edge.source][COMPONENT]
            for edge in seen
            if edge.target is not None and labels[edge.target].get(COMPONENT, edge.target) == component
        }

    def look(tables: Mapping[str, str]) -> None:
        """``tables``: of a pod's kernel, by the pod's name."""
        pods = namespace.items("v1/pods")
        labels.update({pod["metadata"]["name"]: pod["metadata"]["labels"] for pod in pods})
        opened = {each for name, table in tables.items() for each in connections(name, table)}
        arrived = {each for name, table in tables.items() for each in arrivals(name, table)}
        seen.update(edges(opened, pods, namespace.items("v1/services"), arrived))

    def missing() -> dict[str, set[str]]:
        """Users not seen yet, by server."""
        return {server: users - of(server) for server, users in USERS.items() if users - of(server)}

    def looked() -> bool:
        running = [pod for pod in namespace.items("v1/pods") if pod["status"]["phase"] == "Running"]
        names = [pod["metadata"]["name"] for pod in running if COMPONENT in pod["metadata"]["labels"]]
        # A check may end meanwhile.
        look({name: namespace.kubectl("exec", name, "--", "cat", *TABLES, check=False) for name in names})
        return not missing()

    # It is over too soon to be looked at from outside. What it has closed first, its own kernel tells, and the
    # servers' what they have.
    watched = both.beta.check_watched("watched", TABLES)
    [pod] = namespace.items("v1/pods", "job-name=watched")
    look({pod["metadata"]["name"]: watched})
    looked()
    assert {server for server in USERS if "reality-check" in of(server)} == set(USERS)
    namespace.until(looked, lambda: f"each server used by all who use it: missing {missing()}", 200)
    network = Network(namespace.items("networking.k8s.io/v1/networkpolicies"))
    refused = [
        edge
        for edge in seen
        if not network.allows(labels[edge.source], None if edge.target is None else labels[edge.target], edge.port)
    ]
    assert refused == []
    assert {server: of(server) & set(AGENTS) for server in USERS} == USERS
    named = {
        (
            labels[edge.source][COMPONENT],
            "outside" if edge.target is None else labels[edge.target].get(COMPONENT, "the exchange"),
            edge.port,
        )
        for edge in seen
    }
    for source, target, port in sorted(named):
        figures.note(f"{source} speaks to {target} on port {port}")


def test_a_state_is_reached_and_left_without_a_restart(both: Floor) -> None:
    bot = both.beta
    before = bot.starts()
    both.namespace.until(lambda: int(bot.row().get("POSITIONS", "0")) > 0, "it holds something", 180)
    for state in ("Paused", "ReduceOnly", "Stopped"):
        bot.state(state)
        assert bot.row()["STATE"] == state
        assert bot.condition("Trading")["reason"] == state
    bot.state("Flatten", 120)
    both.namespace.until(lambda: bot.row()["POSITIONS"] == "0", "everything is sold", 60)
    assert [each for each in bot.command("positions") if each["state"] == "open"] == []
    assert both.alpha.condition("Trading")["status"] == "True", "the other bot trades on"
    bot.state("Running")
    bot.trades(BACK)
    assert bot.starts() == before
    both.trades_again(180)


def test_who_is_told_to_end_in_its_first_moments_ends(both: Floor) -> None:
    """And not when its whole grace is over: a signal that nobody listens for yet is lost to a container's first
    process. When that is, nobody tells: a pod is said to run a second after it does."""
    beta = both.beta

    def uids() -> dict[str, str]:
        found = [pod["metadata"] for pod in beta.pods("strategy")]
        return {each["uid"]: each["name"] for each in found if "deletionTimestamp" not in each}

    def all_uids() -> set[str]:
        return {pod["metadata"]["uid"] for pod in beta.pods("strategy")}

    for tenths in range(1, 13):
        before = set(uids())
        for name in uids().values():
            beta.kubectl("delete", "pod", name, "--wait=false")
        until(lambda before=before: set(uids()) - before, "another", 30)
        moment = time.monotonic() + tenths / 10
        until(lambda moment=moment: time.monotonic() > moment, "its moment", 5)
        told = set(uids())
        for name in uids().values():
            beta.kubectl("delete", "pod", name, "--wait=false")
        both.namespace.until(lambda told=told: not told & all_uids(), f"{tenths / 10} s old, it ends", 15)
    beta.trades(BACK)


def test_a_changed_spec_waits_for_a_person_or_does_not(both: Floor) -> None:
    alpha, beta = both.bots
    both.namespace.until(lambda: int(alpha.row().get("POSITIONS", "0")) > 0, "it holds something", 180)
    before = alpha.starts()
    alpha.patch(risk={"maxPriceAge": "80s"})
    alpha.until("ConfigDrift", "True", 60)
    condition = alpha.condition("ConfigDrift")
    assert condition["reason"] == "Pending"
    assert alpha.starts() == before, "nothing restarts a bot that holds positions, but a person"
    # The command is in the message, to be copied.
    [pending] = [word for word in condition["message"].split() if word.startswith("tradingbot.dev/apply=")]
    alpha.kubectl("annotate", "tradingbot", "alpha", "--overwrite", pending.rstrip(".;,"))
    alpha.until("ConfigDrift", "False", 60)
    both.namespace.until(lambda: not set(alpha.starts()) & set(before), "every pod is another", UP)
    alpha.trades(BACK)

    before = beta.starts()
    beta.patch(risk={"maxPriceAge": "80s"})
    both.namespace.until(lambda: not set(beta.starts()) & set(before), "every pod is another", UP)
    beta.until("ConfigDrift", "False", 60)
    beta.trades(BACK)
    both.trades_again(180)


class Watched:
    """Pods of one component, as the API told them while it was watched."""

    def __init__(self, cluster: Cluster, namespace: str, selector: str) -> None:
        self._cluster = cluster
        self._path = (namespace, selector)
        self._over = threading.Event()
        self.most = 0
        """How many there were at once, those that end included."""
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        namespace, selector = self._path
        while not self._over.wait(0.05):
            pods = self._cluster.api.list("v1/pods", namespace, selector)
            alive = [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]
            self.most = max(self.most, len(alive))


def test_another_image_is_rolled_in_the_safe_order(both: Floor, cluster: Cluster) -> None:
    bot = both.beta
    before = bot.starts()
    with Watched(cluster, both.namespace.name, "tradingbot.dev/bot=beta,app.kubernetes.io/component=risk") as risk:
        bot.patch(image=f"{OWN}:2")
        both.namespace.until(lambda: not set(bot.starts()) & set(before), "every pod is another", UP)
        bot.trades(BACK)
    assert risk.most == 1, "never two that decide on the same money"
    made = {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod for pod in bot.pods()}
    assert {pod["spec"]["containers"][0]["image"] for pod in made.values()} == {f"{OWN}:2"}
    order = sorted(AGENTS, key=lambda agent: made[agent]["metadata"]["creationTimestamp"])
    assert order[0] == "execution", order
    both.trades_again(180)


def test_an_upgrade_of_the_operator_restarts_no_bot(both: Floor, cluster: Cluster, operator: Namespace) -> None:
    before = {bot.name: bot.starts() for bot in both.bots}
    pods = {pod["metadata"]["name"] for pod in operator.items("v1/pods")}
    cluster.helm(
        *("upgrade", RELEASE, CHART, "--namespace", operator.name, "--reset-then-reuse-values"),
        *("--set-string", "podAnnotations.example\\.com/again=1", "--wait", "--timeout=2m"),
    )
    operator.until(
        lambda: pods.isdisjoint(pod["metadata"]["name"] for pod in operator.items("v1/pods")), "another pod", 60
    )
    # It has taken the bots up: what is asked of it is done.
    both.alpha.state("Paused")
    both.alpha.state("Running")
    both.trade(BACK)
    assert {bot.name: bot.starts() for bot in both.bots} == before
    assert all(bot.condition("ConfigDrift")["status"] == "False" for bot in both.bots)


def test_a_delete_does_what_the_policy_says(both: Floor) -> None:
    alpha, beta = both.bots
    both.namespace.until(lambda: int(alpha.row().get("POSITIONS", "0")) > 0, "it holds something", 180)
    refused = alpha.kubectl("delete", "tb", "alpha", "--timeout=10s", check=False)
    assert "position" in refused, refused
    assert "deletionTimestamp" not in (alpha.get() or {})["metadata"]

    beta.patch(deletionPolicy="Flatten")
    beta.kubectl("delete", "tb", "beta", "--timeout=120s")
    assert beta.get() is None
    resting = {order["client_order_id"] for order in both.resting()}
    mine = {order["client_order_id"] for order in alpha.command("orders", "--limit", "100000")}
    assert resting <= mine, "nothing of beta's rests"

    alpha.patch(deletionPolicy="Retain")
    alpha.kubectl("delete", "tb", "alpha", "--timeout=60s")
    both.namespace.until(lambda: not both.namespace.items("v1/pods", "tradingbot.dev/bot"), "no pod is left", 60)
    both.namespace.until(
        lambda: not both.namespace.made("all,cronjobs,networkpolicies,configmaps"), "all is gone", 60
    )
    kept = both.namespace.made("persistentvolumeclaims,secrets")
    assert {name.partition("/")[0] for name in kept} == {"persistentvolumeclaim", "secret"}, kept
    assert any("postgres" in name for name in kept), kept
    books = both.exchange.books()
    stops = sorted(order["symbol"] for order in books["orders"] if order["status"] == "NEW")
    prices = {trade["symbol"]: Decimal(trade["price"]) for trade in books["trades"]}
    totals = {f"{asset}USDT": Decimal(total) for asset, total in books["balances"].items()}
    # What is sold leaves dust.
    assert stops == sorted(symbol for symbol, price in prices.items() if totals[symbol] * price > DUST)
