"""What is known of the children while lists, watches and our own writes overtake each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, cast

from support.fast_loop import run_fast
from tradingbot_operator.bots import owner
from tradingbot_operator.children import Children
from tradingbot_operator.cluster import Cluster, Gone
from tradingbot_operator.kinds import SECRET, Manifest, Owner
from tradingbot_operator.names import Component, bot_labels

OWNER = owner("n", "bot")


def secret(version: int, name: str = "bot-rabbitmq", uid: str = "u1") -> Manifest:
    labels = bot_labels("bot", Component.RABBITMQ)
    meta = {"name": name, "namespace": "n", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {}}


class Slow:
    """A server whose lists take a second, and whose watches say nothing, or that all is too old."""

    def __init__(self, *, version: int = 5, gone: bool = False, pages: Sequence[list[Manifest]] = ([],)) -> None:
        """``pages`` of its list; after the last one that is not empty it has forgotten the list, if ``gone``."""
        self.lists = 0
        self._pages = pages
        self._version = version
        self._gone = gone

    async def pages(self, *_: Any) -> AsyncIterator[tuple[list[Manifest], str]]:
        self.lists += 1
        for page in self._pages:
            await asyncio.sleep(1)
            yield page, str(self._version)
        if self._gone and any(self._pages):
            raise Gone("the list is too old")

    async def watch(self, *_: Any) -> AsyncIterator[tuple[str, Manifest]]:
        if self._gone:
            raise Gone("too old")
        await asyncio.sleep(10_000)
        yield "BOOKMARK", {}


def children_of(server: Slow) -> Children:
    return Children(
        cast(Cluster, server), [SECRET], None, on_change=lambda _: None, on_trouble=lambda kind, why, times: None
    )


async def followed(children: Children, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(children.follow(), seconds)


def test_a_list_forgets_what_has_gone_and_not_what_was_written_while_it_was_under_way() -> None:
    async def scenario() -> None:
        children = children_of(Slow(version=5))
        children.put(SECRET, secret(3, "long-gone", "u0"))
        children.put(SECRET, secret(7))
        await followed(children, 10)
        assert [ref.name for ref in children.of(OWNER)] == ["bot-rabbitmq"]

    run_fast(scenario())


def test_a_list_of_several_pages_is_one_list() -> None:
    async def scenario() -> None:
        pages = [[secret(3, "one", "u1"), secret(4, "two", "u2")], [secret(5, "three", "u3")]]
        children = children_of(Slow(version=9, pages=pages))
        children.put(SECRET, secret(2, "long-gone", "u0"))
        await followed(children, 10)
        assert sorted(ref.name for ref in children.of(OWNER)) == ["one", "three", "two"]

    run_fast(scenario())


def test_of_a_list_that_breaks_off_nothing_is_forgotten_and_what_it_told_is_news() -> None:
    async def scenario() -> None:
        told: list[Owner] = []
        server = Slow(version=9, pages=[[secret(3, "one", "u1")]], gone=True)
        children = Children(
            cast(Cluster, server), [SECRET], None, on_change=told.append, on_trouble=lambda kind, why, times: None
        )
        children.put(SECRET, secret(2, "there", "u0"))
        await followed(children, 1.1)
        assert sorted(ref.name for ref in children.of(OWNER)) == ["one", "there"]
        assert told == [OWNER]
        assert not children.synced.is_set()

    run_fast(scenario())


def test_a_server_that_finds_everything_too_old_is_not_asked_without_end() -> None:
    async def scenario() -> None:
        server = Slow(gone=True)
        await followed(children_of(server), 60)
        assert 10 <= server.lists <= 55, "it is asked again, with pauses"

    run_fast(scenario())


def test_the_end_of_an_older_one_of_its_name_is_passed_over() -> None:
    async def scenario() -> None:
        children = children_of(Slow())
        children.put(SECRET, secret(7, uid="new"))
        children.put(SECRET, secret(6, uid="old"))
        [found] = children.of(OWNER).values()
        assert found["metadata"]["uid"] == "new"

    run_fast(scenario())
