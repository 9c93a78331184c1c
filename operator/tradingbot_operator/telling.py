"""Events on TradingBots, for ``kubectl describe``: one for each change, none at rest.

An Event that can not be written is no reason to leave a bot alone: that is logged, and what it said is in the log as
well.
"""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import structlog

from tradingbot_api import format_timestamp
from tradingbot_operator.bots import Bot
from tradingbot_operator.cluster import ApiError, Cluster
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import MANAGER

LONGEST = 1000
"""Characters: the API server takes 1024."""

log = structlog.get_logger()


def event_of(bot: Bot, reason: str, message: str, now: datetime, *, warning: bool, unique: str) -> Manifest:
    at = format_timestamp(now.replace(microsecond=0))
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{bot.name}.{unique}", "namespace": bot.namespace},
        "involvedObject": {
            "apiVersion": bot.body["apiVersion"],
            "kind": bot.body["kind"],
            "name": bot.name,
            "namespace": bot.namespace,
            "uid": bot.uid,
        },
        "reason": reason,
        "message": message if len(message) <= LONGEST else message[: LONGEST - 1] + "…",
        "type": "Warning" if warning else "Normal",
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


async def tell(
    cluster: Cluster, bot: Bot, reason: str, message: str, now: datetime, *, warning: bool = False
) -> None:
    log.log(30 if warning else 20, "bot_event", namespace=bot.namespace, bot=bot.name, reason=reason, message=message)
    try:
        await cluster.create(event_of(bot, reason, message, now, warning=warning, unique=uuid4().hex[:16]))
    except ApiError as error:
        log.warning("event_not_written", namespace=bot.namespace, bot=bot.name, reason=reason, why=str(error))
