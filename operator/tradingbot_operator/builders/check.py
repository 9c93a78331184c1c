"""The reality check: a CronJob that looks, from outside of the agents, whether the bot is what it says it is."""

from __future__ import annotations

import math

from tradingbot_api import TradingBot
from tradingbot_operator import names
from tradingbot_operator.builders import agents, config, pods
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component

_AROUND = 120
"""Seconds beyond ``realityCheck.timeLimit``: for its pod to be placed, its image to be pulled, its report to be
written. The check keeps the limit itself, and then says so; a pod that is ended by Kubernetes says nothing."""

_LATEST_START = 600
"""Seconds. Without it, a cluster that was off for a hundred checks would never start one again."""

_HISTORY = 3


def cron_job(bot: TradingBot, namespace: str, image: str, revision: str) -> Manifest:
    """The check of ``revision``, which is what ``bot`` and ``image`` are. Without
    ``realityCheck.credentialsSecretRef`` it has no key, so it asks the exchange for nothing that needs one: it is
    never given the key that trades."""
    name = bot.metadata.name
    settings = bot.spec.reality_check
    labels = names.bot_labels(name, Component.REALITY_CHECK)
    limit = math.ceil(settings.time_limit.total_seconds()) + _AROUND
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": pods.metadata(names.check_cron_job(name), namespace, labels),
        "spec": {
            "schedule": settings.schedule,
            "timeZone": "Etc/UTC",
            "suspend": settings.suspend,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": _LATEST_START,
            "successfulJobsHistoryLimit": _HISTORY,
            "failedJobsHistoryLimit": _HISTORY,
            "jobTemplate": {
                "metadata": {"labels": labels},
                "spec": {
                    # What it finds is no failure that a second attempt would mend, and its pod keeps the report.
                    "backoffLimit": 0,
                    "activeDeadlineSeconds": limit,
                    "template": agents.template(
                        Component.REALITY_CHECK,
                        bot,
                        image,
                        revision,
                        {"args": ["reality-check", config.SPEC_FILE, "--output", "text"]},
                        volumes=[],
                        mounts=[],
                        pod={"restartPolicy": "Never"},
                    ),
                },
            },
        },
    }
