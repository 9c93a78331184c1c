"""The daily removal of what the ledger keeps no longer (``spec.database.history``): without it an account's database
grows until its volume is full, and then no order can be written down any more.

A CronJob for each bot, and not one for each account: how long is each bot's own setting, and what is removed is its
own. It works on a database that is there already as well: who keeps that knows nothing of what is in it.
"""

from __future__ import annotations

import hashlib

from tradingbot_api import TradingBot
from tradingbot_operator import names
from tradingbot_operator.builders import agents, config, pods
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component

_LIMIT = 3600
"""Seconds. It removes in batches and may be broken off: what is left is the next day's."""

_ATTEMPTS = 3
"""The pauses between them grow, so that a restart of the database is outlived."""

_MINUTES = 24 * 60


def cron_job(bot: TradingBot, namespace: str, image: str, revision: str) -> Manifest:
    """The removal by ``revision``, which is what ``bot`` and ``image`` are."""
    name = bot.metadata.name
    labels = names.bot_labels(name, Component.PRUNE)
    job = {
        "backoffLimit": _ATTEMPTS,
        "activeDeadlineSeconds": _LIMIT,
        "template": agents.template(
            Component.PRUNE,
            bot,
            image,
            revision,
            {"args": ["prune", config.SPEC_FILE]},
            volumes=[],
            mounts=[],
            pod={"restartPolicy": "OnFailure"},
        ),
    }
    return pods.cron_job(
        names.child(name, Component.PRUNE),
        namespace,
        labels,
        job,
        schedule=schedule(namespace, name),
        # One that was missed (the node was off) is made up for within the day.
        startingDeadlineSeconds=12 * 3600,
        successfulJobsHistoryLimit=1,
        failedJobsHistoryLimit=3,
    )


def schedule(namespace: str, bot: str) -> str:
    """Daily, at a minute of the bot's own: a hundred bots that woke in the same minute would be a hundred pods at
    once, many of them at one database. A bot that is made anew under its name keeps it."""
    digest = hashlib.sha256(f"{namespace}/{bot}".encode()).digest()
    hour, minute = divmod(int.from_bytes(digest[:8], "big") % _MINUTES, 60)
    return f"{minute} {hour} * * *"
