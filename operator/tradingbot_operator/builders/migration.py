"""Tables, buckets and retention of a revision, before any of its agents starts: an agent refuses a schema that it
does not know.

It is a Job and no init container: five of those would migrate at the same time, and a failure would be five pods' and
not one thing with a name.
"""

from __future__ import annotations

from tradingbot_api import TradingBot
from tradingbot_operator import names
from tradingbot_operator.builders import agents, config, pods
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component

_ATTEMPTS = 30
"""The servers start at the same time, and their images may have to be pulled first. Pauses between attempts grow to
five minutes, so that this is more than two hours: then a person is needed."""

_PATIENCE = "1m"
"""That an attempt waits for servers which start at the same time. After that it ends, and why is told on the bot."""

_KEPT = 24 * 60 * 60
"""Seconds for which its log can be read after its end."""


def job(bot: TradingBot, namespace: str, image: str, revision: str) -> Manifest:
    """The Job that brings database and time series to ``revision``. A Job's template is immutable: make it once. It
    is safe to repeat."""
    name = bot.metadata.name
    labels = names.bot_labels(name, Component.MIGRATION)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": pods.metadata(names.migration_job(name, revision), namespace, labels),
        "spec": {
            "backoffLimit": _ATTEMPTS,
            "ttlSecondsAfterFinished": _KEPT,
            "template": agents.template(
                Component.MIGRATION,
                bot,
                image,
                revision,
                {"args": ["migrate", config.SPEC_FILE, "--wait", _PATIENCE]},
                volumes=[],
                mounts=[],
                pod={"restartPolicy": "OnFailure"},
            ),
        },
    }
