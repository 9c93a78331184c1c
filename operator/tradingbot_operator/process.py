"""The operator's process: kopf watches the TradingBots, ``Children`` what was made of them, and both only wake a
reconcile.

Handlers are of kopf's lowest level (``on.event``): they keep no progress in the objects, so that a bot at rest is
never written; what has to be done follows from what is there, at a start and after a crash alike.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import kopf
import structlog
from kubernetes.aio.client import Configuration

from tradingbot_operator.bots import Bot
from tradingbot_operator.children import Children
from tradingbot_operator.cluster import ApiError, Busy, Cluster, Missing, Refused
from tradingbot_operator.health import Pages
from tradingbot_operator.kinds import TRADING_BOT, WATCHED, Kind, Manifest, Owner
from tradingbot_operator.metrics import Metrics
from tradingbot_operator.names import GROUP, PLURAL, VERSION, Label
from tradingbot_operator.reconcile import Reconciler
from tradingbot_operator.registry import Registry
from tradingbot_operator.settings import PACE, RELIST, STOP_LIMIT, STUCK_AFTER, Settings, kopf_settings
from tradingbot_operator.work import Again, Over, Workers

log = structlog.get_logger()


class Operator:
    """Use it as a context; ``run`` returns when it is asked to stop by a signal."""

    def __init__(
        self,
        configuration: Configuration,
        settings: Settings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._cluster = Cluster(configuration)
        self._registry = Registry()
        self._children = Children(
            self._cluster,
            WATCHED,
            settings.namespaces,
            on_change=self._child_changed,
            on_trouble=self._watch_in_trouble,
        )
        self._workers: Workers[Owner] = Workers(self._work, PACE, on_failure=self._failed)
        self._metrics = Metrics(
            self._cluster,
            queue=lambda: self._workers.waiting,
            bots=lambda: len(self._registry),
            away=lambda: self._children.away,
            ready=self._registry.ready,
            checks=self._registry.checks,
        )
        self._reconciler = Reconciler(
            self._cluster,
            self._children,
            self._registry,
            agents_image=settings.agents_image,
            now=now,
            wrote=self._metrics.wrote,
            wake=self._wake,
        )
        self._pages = Pages(self._metrics, stuck=self._stuck, missing=self._missing)
        self._early: set[Owner] | None = set()
        """Woken before everything was seen once: acting on half of it would make again what is there."""
        self._beat = time.monotonic()
        self._listed = asyncio.Event()
        self._there: set[tuple[Owner, str]] = set()
        """The bots of the last list, with their uids."""
        self._ended: set[str] = set()
        """Uids of the bots that went since the last list was asked for, which may still have them."""
        self.port = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._cluster.close()

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Until ``stop``, or a signal. Raises what keeps it from working: its pod is to be started anew then."""
        stop = asyncio.Event() if stop is None else stop
        if threading.current_thread() is threading.main_thread():
            # Until kopf takes them over: without a handler, a signal does not end the first process of a container.
            for each in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(each, stop.set)
        self.port = await self._pages.start(*self._settings.listen)
        log.info("operator_started", port=self.port, namespaces=self._settings.namespaces or "all")
        helpers = [
            asyncio.create_task(self._children.follow(), name="children"),
            asyncio.create_task(self._begin(), name="begin"),
            asyncio.create_task(self._tick(), name="beat"),
            asyncio.create_task(self._look_for_lost_ones(), name="lost ones"),
        ]
        main = asyncio.create_task(self._watch_bots(stop), name="kopf")
        try:
            done, _ = await asyncio.wait({main, *helpers}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            log.info("operator_stops")
            await self._workers.stop(STOP_LIMIT)
            for task in (main, *helpers):
                task.cancel()
            await asyncio.gather(main, *helpers, return_exceptions=True)
            await self._pages.stop()

    async def _watch_bots(self, stop: asyncio.Event) -> None:
        """First all that are there: what an account is follows from all of its bots, and kopf tells of one after the
        other."""
        attempt = 0
        while True:
            try:
                await self._list_bots()
                break
            except ApiError as error:
                # The chart's kinds may come after its Deployment; the server may be away.
                attempt += 1
                log.warning("bots_unknown", attempt=attempt, why=str(error), remedy=_remedy(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), min(0.5 * 2 ** min(attempt, 6), 15))
                    return
        self._listed.set()
        await self._kopf(stop)

    async def _look_for_lost_ones(self) -> None:
        """A bot that went while nobody watched (the server was away, its history too short) is told by no watch."""
        while True:
            await asyncio.sleep(RELIST.total_seconds())
            before = self._registry.known()
            try:
                await self._list_bots()
            except ApiError as error:
                log.warning("bots_unknown", attempt=1, why=str(error), remedy="none: it is tried again")
                continue
            for bot, uid in before:
                if (bot, uid) not in self._there:
                    self._bot_gone(bot, uid)

    async def _list_bots(self) -> None:
        there = set()
        places = self._settings.namespaces if self._settings.namespaces is not None else (None,)
        for place in places:
            self._ended.clear()
            async for items, _ in self._cluster.pages(TRADING_BOT, place):
                for item in items:
                    bot = Bot({"apiVersion": TRADING_BOT.api_version, "kind": TRADING_BOT.name, **item})
                    if bot.uid in self._ended:
                        continue
                    there.add((bot.owner, bot.uid))
                    for key in self._registry.put(bot):
                        self._wake(key)
        self._there = there

    async def _kopf(self, stop: asyncio.Event) -> None:
        handlers = kopf.OperatorRegistry()
        kopf.on.login(registry=handlers)(_login)
        kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers)(self._bot_seen)
        await kopf.operator(
            registry=handlers,
            settings=kopf_settings(),
            standalone=True,
            clusterwide=self._settings.namespaces is None,
            namespaces=self._settings.namespaces or (),
            stop_flag=stop,
        )

    async def _begin(self) -> None:
        """Work on what has been seen, once all of it has."""
        await self._children.synced.wait()
        await self._listed.wait()
        early, self._early = self._early or set(), None
        for key in sorted(early):
            self._workers.wake(key)
        # For as long as the operator runs, like its neighbours: one that ends is a failure.
        await asyncio.Event().wait()

    async def _tick(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(1)

    # --- what wakes --------------------------------------------------------------------------------------

    async def _bot_seen(self, **known: Any) -> None:
        """``known`` is what kopf tells a handler; the event is as the API server has sent it."""
        event: Manifest = known["event"]
        bot = Bot(event["object"])
        if event["type"] == "DELETED":
            self._bot_gone(bot.owner, bot.uid)
            return
        for key in self._registry.put(bot):
            self._wake(key)

    def _bot_gone(self, bot: Owner, uid: str) -> None:
        self._ended.add(uid)
        for key in self._registry.remove(bot, uid):
            self._wake(key)
        if self._registry.get(bot) is None:
            # Another of its name may be there already.
            self._workers.drop(bot)

    def _child_changed(self, key: Owner) -> None:
        if key.label == Label.ACCOUNT:
            # Its bots wait for their database.
            for each in self._registry.bots_of(key):
                self._wake(each)
        self._wake(key)

    def _wake(self, key: Owner) -> None:
        if self._early is not None:
            self._early.add(key)
        else:
            self._workers.wake(key)

    # --- what works --------------------------------------------------------------------------------------

    async def _work(self, key: Owner) -> Again | Over | None:
        began = time.monotonic()
        failed = True
        try:
            again: Again | Over | None = await self._reconciler.reconcile(key)
            failed = False
            return again
        finally:
            self._metrics.reconciled(time.monotonic() - began, failed=failed)

    def _failed(self, key: Owner, error: Exception, times: int) -> float:
        """Seconds for which the server asks to be left alone."""
        log.warning(
            "reconcile_failed",
            namespace=key.namespace,
            **{"bot" if key.label == Label.BOT else "account": key.name},
            attempt=times,
            why=f"{type(error).__name__}: {error}",
            exc_info=None if self._reconciler.is_expected(error) else error,
        )
        return error.retry_after if isinstance(error, Busy) else 0.0

    def _watch_in_trouble(self, kind: Kind, why: str, times: int) -> None:
        if times == 0:
            log.info("watch_back", kind=kind.name)
        elif times & (times - 1) == 0:
            # The first, and then less and less often.
            log.warning("watch_away", kind=kind.name, why=why, attempt=times)

    # --- what is asked -----------------------------------------------------------------------------------

    def _stuck(self) -> str:
        still = time.monotonic() - self._beat
        return f"its loop has not turned for {still:.0f} s" if still > STUCK_AFTER.total_seconds() else ""

    def _missing(self) -> str:
        return "" if self._early is None else "it has not seen everything yet"


def _remedy(error: ApiError) -> str:
    """For who waits for an operator that sees no bot."""
    match error:
        case Missing():
            return "is the CRD installed?"
        case Refused():
            return "see the rights of its service account: docs/rbac.md"
    return "see that the API server answers, and its certificate; it is tried again"


async def _login(**options: Any) -> kopf.ConnectionInfo | None:
    """A pod's service account, or the kubeconfig of a person."""
    return kopf.login_with_service_account(**options) or kopf.login_with_kubeconfig(**options)
