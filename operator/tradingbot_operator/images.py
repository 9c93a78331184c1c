"""The images of the servers that the operator makes, each with the user that it runs as. Pinned by version and
variant: another variant has another user, and volumes belong to the user that wrote them.

All are official, and built for amd64 and arm64.
"""

from __future__ import annotations

from typing import Final

RABBITMQ: Final = "docker.io/library/rabbitmq:4.1-alpine"
# Without the management plugin, which costs 50 MB and whose pages nobody needs here; the Alpine variant is a third
# as large.
RABBITMQ_UID: Final = 100
RABBITMQ_GID: Final = 101

INFLUXDB: Final = "docker.io/library/influxdb:2.7-alpine"
# 2.7 is the last line with Flux as its language of first choice; what the agents are tested against.
INFLUXDB_UID: Final = 1000
INFLUXDB_GID: Final = 1000

POSTGRES: Final = "docker.io/library/postgres:17-alpine"
# Before 18 the image has its data below /var/lib/postgresql/data; an upgrade of the major version needs a dump.
POSTGRES_UID: Final = 70
POSTGRES_GID: Final = 70
