"""The nightly copy of an account's ledger, on a volume of its own.

Of a database that is managed as a StatefulSet. CloudNativePG has its own backups (``ScheduledBackup``), to an object
store or by snapshots of volumes, of which only the cluster's owner knows; a database that is there already has its
owner's.
"""

from __future__ import annotations

from tradingbot_api import TradingBot
from tradingbot_operator import images, names
from tradingbot_operator.builders import backends, pods, postgres
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component

_FOLDER = "/backup"
_SECRETS_FOLDER = "/etc/postgresql-secrets"

RESOURCES = backends.amounts("0.025", 48, 192)

_SCRIPT = """\
set -eu
umask 077
PGPASSWORD="$(cat "$PASSWORD_FILE")"
export PGPASSWORD
# What is half a copy could fill the volume for ever; one that was killed has left its own.
remove_halves() { rm -f "$FOLDER"/*.part; }
trap remove_halves EXIT
remove_halves
name="ledger-$(date -u +%Y%m%dT%H%M%SZ).dump"
pg_dump --format=custom --file="$FOLDER/$name.part"
# All of it is read: a list of its content is at its beginning.
pg_restore --file=/dev/null "$FOLDER/$name.part"
mv "$FOLDER/$name.part" "$FOLDER/$name"
echo "backup $name: $(wc -c < "$FOLDER/$name") bytes"
ls -1 "$FOLDER" | grep '^ledger-.*[.]dump$' | sort -r | tail -n "+$((KEEP + 1))" | while read -r old; do
  rm -f "$FOLDER/$old"
  echo "removed $old"
done
"""
"""A copy counts once it is whole and can be read; only then is an old one removed."""

_LIMIT = 3600
"""Seconds for one backup."""


def claim(account: str, bot: TradingBot, namespace: str) -> Manifest | None:
    """The volume of the copies: as large as the database's own, of which the copies, compressed, take a part."""
    settings = bot.spec.database.managed
    if settings is None or settings.provider != "StatefulSet":
        return None
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": pods.metadata(_name(account), namespace, names.account_labels(account, Component.BACKUP)),
        "spec": pods.claim_spec(settings.storage.size, settings.storage.class_name),
    }


def cron_job(account: str, bot: TradingBot, namespace: str) -> Manifest | None:
    settings = bot.spec.database.managed
    if settings is None or settings.provider != "StatefulSet":
        return None
    labels = names.account_labels(account, Component.BACKUP)
    database = names.account_child(account, Component.POSTGRES)
    security = pods.security_context(images.POSTGRES_UID, images.POSTGRES_GID)
    container = {
        "name": "backup",
        # The server's own image: pg_dump must not be older than the server.
        "image": settings.image or images.POSTGRES,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _SCRIPT],
        "env": [
            {"name": "PGHOST", "value": database},
            {"name": "PGUSER", "value": postgres.USER},
            {"name": "PGDATABASE", "value": postgres.DATABASE},
            {"name": "PASSWORD_FILE", "value": f"{_SECRETS_FOLDER}/{postgres.PASSWORD_KEY}"},
            {"name": "FOLDER", "value": _FOLDER},
            {"name": "KEEP", "value": str(settings.backup.keep)},
        ],
        "resources": pods.resources(RESOURCES, None),
        "securityContext": security.container,
        "volumeMounts": [
            {"name": "backup", "mountPath": _FOLDER},
            {"name": "secrets", "mountPath": _SECRETS_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    job = {
        "backoffLimit": 3,
        "activeDeadlineSeconds": _LIMIT,
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "restartPolicy": "OnFailure",
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                **pods.HEARS_ITS_END,
                "securityContext": security.pod,
                "containers": [container],
                "volumes": [
                    {"name": "backup", "persistentVolumeClaim": {"claimName": _name(account)}},
                    pods.secret_files(database, postgres.PASSWORD_KEY),
                    {"name": "tmp", **pods.empty_dir(64 * backends.MEBIBYTE)},
                ],
            },
        },
    }
    return pods.cron_job(
        _name(account),
        namespace,
        labels,
        job,
        schedule=settings.backup.schedule,
        suspend=settings.backup.suspend,
        # One that was missed (the node was off) is made up for within the day.
        startingDeadlineSeconds=12 * 3600,
        successfulJobsHistoryLimit=1,
        failedJobsHistoryLimit=3,
    )


def _name(account: str) -> str:
    return names.account_child(account, Component.BACKUP)
