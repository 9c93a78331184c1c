"""The reality check: a CronJob that looks, from outside of the agents, whether the bot is what it says it is."""

from __future__ import annotations

import hashlib
import math
from datetime import timedelta

from tradingbot_api import TradingBot
from tradingbot_api.defaults import REALITY_CHECK_TIME_LIMIT
from tradingbot_operator import names
from tradingbot_operator.builders import agents, config, pods
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component

_AROUND = 240
"""Seconds beyond ``realityCheck.timeLimit``: for its pod to be placed, its image to be pulled, its report to be
written, people to be told of it. The check keeps the limit itself, and then says so; a pod that is ended by
Kubernetes says nothing."""

DELAY = "TRADINGBOT_REALITY_DELAY"
"""A variable of the environment: seconds that the check waits before it looks at anything."""

_SPREAD = 60
"""Seconds over which the checks of all bots are spread: most have one schedule, which knows minutes only."""

_LATEST_START = 600
"""Seconds. Without it, a cluster that was off for a hundred checks would never start one again."""

_HISTORY = 3


def cron_job(bot: TradingBot, namespace: str, image: str, revision: str, uid: str) -> Manifest:
    """The check of ``revision``, which is what ``bot`` and ``image`` are; ``uid`` is that of the TradingBot. Without
    ``realityCheck.credentialsSecretRef`` it has no key, so it asks the exchange for nothing but the market: it is
    never given the key that trades."""
    name = bot.metadata.name
    settings = bot.spec.reality_check
    labels = names.bot_labels(name, Component.REALITY_CHECK)
    job = {
        # What it finds is no failure that a second attempt would mend, and its pod keeps the report.
        "backoffLimit": 0,
        "activeDeadlineSeconds": math.ceil(longest(settings.time_limit).total_seconds()),
        "template": agents.template(
            Component.REALITY_CHECK,
            bot,
            image,
            revision,
            {"args": ["reality-check", config.SPEC_FILE, "--output", "both"]},
            environment=[{"name": DELAY, "value": str(delay(uid))}],
            volumes=[],
            mounts=[],
            pod={"restartPolicy": "Never"},
        ),
    }
    return pods.cron_job(
        names.check_cron_job(name),
        namespace,
        labels,
        job,
        schedule=settings.schedule,
        suspend=settings.suspend,
        startingDeadlineSeconds=_LATEST_START,
        successfulJobsHistoryLimit=_HISTORY,
        failedJobsHistoryLimit=_HISTORY,
    )


def longest(limit: timedelta | None) -> timedelta:
    """From its schedule to its end; ``limit`` is ``realityCheck.timeLimit``."""
    return (REALITY_CHECK_TIME_LIMIT if limit is None else limit) + timedelta(seconds=_SPREAD + _AROUND)


def delay(uid: str) -> int:
    """Seconds, of the bot's own: a hundred checks in the same second would all ask the exchange at once."""
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8], "big") % _SPREAD
