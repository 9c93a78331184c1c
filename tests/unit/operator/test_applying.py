"""What is written, and what of it was of no use."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tradingbot_operator.applying import Foreign, carry_out
from tradingbot_operator.bots import owner
from tradingbot_operator.children import Children
from tradingbot_operator.cluster import Cluster, Conflict
from tradingbot_operator.compare import difference
from tradingbot_operator.kinds import CONFIG_MAP, Manifest
from tradingbot_operator.names import Component, account_labels, bot_labels
from tradingbot_operator.plan import Plan, Why, Write

WANTED: Manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "bot-state", "namespace": "n", "labels": bot_labels("bot", Component.STRATEGY)},
    "data": {"state": "Running"},
}


def as_it_is(data: str, labels: dict[str, str] = WANTED["metadata"]["labels"]) -> Manifest:
    meta = {**WANTED["metadata"], "labels": labels, "uid": "u", "resourceVersion": "7"}
    return {**WANTED, "metadata": meta, "data": {"state": data}}


class Server:
    """It has one object, and whatever is applied to it becomes ``after``."""

    def __init__(self, found: Manifest, after: Manifest) -> None:
        self._found = found
        self._after = after

    async def get(self, *_: Any) -> Manifest:
        return self._found

    async def create(self, *_: Any) -> Manifest:
        raise Conflict("it is there already")

    async def apply(self, *_: Any, **__: Any) -> Manifest:
        return self._after


async def carried_out(server: Server, write: Write) -> tuple[int, int]:
    """Writes, and those that were in vain; what is known of the object afterwards is what the server has."""
    cluster = cast(Cluster, server)
    children = Children(
        cluster, [CONFIG_MAP], None, on_change=lambda _: None, on_trouble=lambda kind, why, times: None
    )
    done = await carry_out(cluster, children, "n", Plan([write], []))
    [known] = children.of(owner("n", "bot")).values()
    assert known["data"] == (await server.apply())["data"]
    return len(done.writes), len(done.in_vain)


@pytest.mark.parametrize(("after", "in_vain"), [("Running", 0), ("Halted", 1)])
async def test_a_repair_that_something_in_the_cluster_undoes_is_in_vain(after: str, in_vain: int) -> None:
    """It is tried with each look, and each would be an Event of its own."""
    found = as_it_is("Halted")
    write = Write(manifest=WANTED, once=False, why=Why.DRIFTED, detail=difference(found, WANTED) or "")
    assert await carried_out(Server(found, as_it_is(after)), write) == (1, in_vain)


async def test_what_has_drifted_otherwise_meanwhile_was_not_in_vain() -> None:
    found = as_it_is("Halted")
    write = Write(manifest=WANTED, once=False, why=Why.DRIFTED, detail=difference(found, WANTED) or "")
    assert await carried_out(Server(found, as_it_is("Paused")), write) == (1, 0)


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        (bot_labels("bot", Component.RABBITMQ), "for this bot: delete or rename it, or give the bot another name"),
        # Its name follows from the account's, and no other name of the bot would help.
        (account_labels("main", Component.POSTGRES), "for this account: delete or rename it"),
    ],
)
async def test_an_object_of_somebody_else_is_left_alone_and_the_remedy_told(
    labels: dict[str, str], remedy: str
) -> None:
    manifest = {**WANTED, "metadata": {**WANTED["metadata"], "labels": labels}}
    server = Server(as_it_is("mine", labels={}), manifest)
    with pytest.raises(Foreign) as raised:
        await carried_out(server, Write(manifest=manifest, once=True, why=Why.NEW))
    assert str(raised.value) == f"ConfigMap bot-state is there already, and not made {remedy}"
