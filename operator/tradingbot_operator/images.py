"""The images of the servers that the operator makes, each with the user that it runs as.

Pinned by version and variant: the user is the variant's, and a volume belongs to the user that wrote it. So
an image that a spec names instead has to be of the same variant, or a mirror of it. Never by a digest or a patch
version: those of a minor version read each other's data, and the newest is the safest.

All are official, and built for amd64 and arm64.
"""

from __future__ import annotations

from typing import Final

RABBITMQ: Final = "docker.io/library/rabbitmq:4.1"
# Without the management plugin, which costs 50 MB and whose pages nobody needs here. On Ubuntu, for RabbitMQ's own
# team does not support it on Alpine.
RABBITMQ_UID: Final = 999
RABBITMQ_GID: Final = 999

INFLUXDB: Final = "docker.io/library/influxdb:2.7-alpine"
# 2.7 is what the agents are tested against; 3 has no Flux. The variant is half as large, with the same program.
INFLUXDB_UID: Final = 1000
INFLUXDB_GID: Final = 1000

POSTGRES: Final = "docker.io/library/postgres:17-alpine"
# The variant is a third smaller. An upgrade of the major version needs a dump, so this one stays for long.
POSTGRES_UID: Final = 70
POSTGRES_GID: Final = 70
