"""A TradingBot as the API server has it, read for the operator: what is asked, what a person has annotated, what was
last reported."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tradingbot_api import SpecInvalid, TradingBot, cluster_mistakes, load_object, parse_timestamp
from tradingbot_operator.kinds import Manifest, Owner, version_of
from tradingbot_operator.names import FINALIZER, Annotation, Label
from tradingbot_operator.status import Deletion


class Bot(msgspec.Struct, frozen=True):
    body: Manifest

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.body["metadata"]["uid"])

    @property
    def owner(self) -> Owner:
        return owner(self.namespace, self.name)

    @property
    def generation(self) -> int:
        return int(self.body["metadata"]["generation"])

    @property
    def version(self) -> int:
        return version_of(self.body)

    @property
    def status(self) -> Manifest:
        found: Manifest = self.body.get("status") or {}
        return found

    @property
    def deleted_at(self) -> datetime | None:
        return _time(self.body["metadata"].get("deletionTimestamp"))

    @property
    def has_finalizer(self) -> bool:
        return FINALIZER in (self.body["metadata"].get("finalizers") or [])

    def annotation(self, name: Annotation) -> str | None:
        found: str | None = (self.body["metadata"].get("annotations") or {}).get(name.value)
        return found

    @property
    def hands_off(self) -> bool:
        return self.annotation(Annotation.PAUSED) == "true"

    @property
    def abandoned(self) -> bool:
        return self.annotation(Annotation.ABANDON) == "true"

    @property
    def positions(self) -> int | None:
        """Open, as last reported; ``None``: never."""
        found: int | None = self.status.get("openPositions")
        return found

    @property
    def live_orders(self) -> int | None:
        found: int | None = self.status.get("liveOrders")
        return found

    @property
    def deletion(self) -> Deletion | None:
        """What it was last said to wait for."""
        told = self.status.get("deletion")
        since = _time(told.get("since")) if told else None
        if not told or since is None:
            return None
        return Deletion(
            phase=told.get("phase", ""),
            waiting_for=told.get("waitingFor", ""),
            since=since,
            deadline=_time(told.get("deadline")),
        )

    def read(self) -> TradingBot:
        """The typed spec with its defaults. Raises ``SpecInvalid``: the API server knows fewer rules than we do, and
        an object may be older than a rule; or it can run, and not on a cluster."""
        bot = load_object(self.body)
        mistakes = cluster_mistakes(bot)
        if mistakes:
            raise SpecInvalid("TradingBot", mistakes)
        return bot


def owner(namespace: str, name: str) -> Owner:
    return Owner(namespace, Label.BOT.value, name)


def account_owner(namespace: str, account: str) -> Owner:
    return Owner(namespace, Label.ACCOUNT.value, account)


def in_words(error: SpecInvalid) -> str:
    """Every mistake, on one line."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _time(text: object) -> datetime | None:
    return parse_timestamp(text) if isinstance(text, str) else None
