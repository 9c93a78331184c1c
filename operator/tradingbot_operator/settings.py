"""Every setting of the operator and of kopf: with its unit, its default and the reason for it. There are none
elsewhere.

What a person may change comes from the environment, which the chart writes; the rest are constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, cast

import kopf
import msgspec

from tradingbot_operator.work import Pace

NAMESPACES = "TRADINGBOT_OPERATOR_NAMESPACES"
AGENTS_IMAGE = "TRADINGBOT_OPERATOR_AGENTS_IMAGE"
LISTEN = "TRADINGBOT_OPERATOR_LISTEN"
LOG_LEVEL = "TRADINGBOT_OPERATOR_LOG_LEVEL"
LOG_FORMAT = "TRADINGBOT_OPERATOR_LOG_FORMAT"

PACE = Pace(
    # Bots at once. The API server answers a write in some 5 ms, so eight keep one core of ours busy; more would only
    # make it refuse (its default takes 400 requests at a time, of everybody).
    concurrency=8,
    # After a failure: soon, for most of them are a conflict or a moment without a server...
    first_retry=timedelta(seconds=1),
    # ...and never so seldom that a mended bot waits long.
    longest_retry=timedelta(minutes=5),
    # Without being woken: everything is watched, so this finds what no watch tells (a report that has become old).
    resync=timedelta(minutes=5),
)

STOP_LIMIT = timedelta(seconds=15)
"""For the reconciles that run when the operator is asked to stop. What is not done then is done by the next one.
Below Kubernetes' 30 s, of which kopf takes some as well."""

STUCK_AFTER = timedelta(seconds=30)
"""Of a loop that does not turn: the longest thing that it does at once is to build one bot's manifests, some ms."""

RELIST = timedelta(minutes=10)
"""Between two lists of all TradingBots: one request, and what it finds has hardly ever been missed."""

SETTLING = timedelta(seconds=10)
"""Until the next look at a bot that is not ready: it may wait for something that no watch tells, as for a person's
Secret, or for the time when a new pod has had its time."""

LOG_LINES = 20
"""Of a container that has crashed: read to find its last words."""


class SettingsInvalid(Exception):
    """The environment can not be used; all that is wrong is told at once."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    namespaces: tuple[str, ...] | None
    """``None``: all of them."""
    agents_image: str
    listen: tuple[str, int]
    log_level: Literal["debug", "info", "warning"]
    log_format: Literal["text", "json"]


def read_settings(environment: Mapping[str, str], *, default_image: str) -> Settings:
    """Raises ``SettingsInvalid``."""
    problems: list[str] = []
    host, _, port = environment.get(LISTEN, "0.0.0.0:8080").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        problems.append(f"{LISTEN} is {environment.get(LISTEN)!r}: write HOST:PORT, such as 0.0.0.0:8080")
    level = environment.get(LOG_LEVEL, "info").lower()
    if level not in ("debug", "info", "warning"):
        problems.append(f"{LOG_LEVEL} is {level!r}: write debug, info or warning")
    form = environment.get(LOG_FORMAT, "json").lower()
    if form not in ("text", "json"):
        problems.append(f"{LOG_FORMAT} is {form!r}: write text or json")
    image = environment.get(AGENTS_IMAGE, default_image)
    if not image.strip() or " " in image.strip():
        problems.append(f"{AGENTS_IMAGE} is {image!r}: write an image, such as registry/name:tag")
    if problems:
        raise SettingsInvalid("\n".join(problems))
    named = tuple(sorted({name.strip() for name in environment.get(NAMESPACES, "").split(",") if name.strip()}))
    return Settings(
        namespaces=named or None,
        agents_image=image.strip(),
        listen=(host, int(port)),
        log_level=cast(Literal["debug", "info", "warning"], level),
        log_format=cast(Literal["text", "json"], form),
    )


def kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # Our Events tell what changed, in words of ours; kopf's would tell what its handlers did.
    settings.posting.enabled = False
    # Peering is for operators that must not run twice. Two of ours make the same of a bot and write nothing twice.
    settings.peering.standalone = True
    # Namespaces and kinds are known from the settings. kopf would watch both over the whole cluster, and where it may
    # not it would try for a minute.
    settings.scanning.disabled = True
    # The server ends a watch after that, and it is taken up where it was: some networks cut what is older than 5 min.
    settings.watching.server_timeout = 290
    settings.watching.connect_timeout = 10
    # Of one list or patch by kopf: longer is a server that does not answer.
    settings.networking.request_timeout = 30
    return settings
