"""Where the reality check sends what it has to say: addresses that are secrets, each a file or a variable.

``TRADINGBOT_NOTIFICATION_PHONE`` is the address of the notification ``phone``, ``TRADINGBOT_PING_URL`` the one that
is called after each passed check. As with other secrets, ``NAME_FILE`` is the path of a file that holds it. Where
neither is set, it is looked for beside the other secrets, as a cluster mounts them: ``notification-phone``,
``ping-url``.

An address that is not there or wrong stops no check: it is told as a message that could not be sent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from tradingbot_agents.runtime.connections import Secret, Variable

PING = "TRADINGBOT_PING_URL"

_PING_FILE = "ping-url"
_SHORTEST_TOKEN = 16
"""Characters of a part of a path that may be what makes the address a secret."""


class NoAddress(msgspec.Struct, frozen=True):
    why: str
    """And what to do; without the address."""


Address = Secret | NoAddress


def notification_variable(name: str) -> str:
    return f"TRADINGBOT_NOTIFICATION_{name.upper().replace('-', '_')}"


def notification_file(name: str) -> str:
    return f"notification-{name}"


def read_notification(name: str, environment: Mapping[str, str]) -> Address:
    """Of one of ``spec.notifications``."""
    return _read(notification_variable(name), notification_file(name), environment)


def read_ping(environment: Mapping[str, str]) -> Address:
    return _read(PING, _PING_FILE, environment)


def _read(variable: str, file: str, environment: Mapping[str, str]) -> Address:
    plain, from_file = environment.get(variable), environment.get(f"{variable}_FILE")
    if plain and from_file:
        return NoAddress(f"{variable} and {variable}_FILE are both set: set one of them")
    if plain:
        return Secret(plain.strip())
    folder = _folder(environment)
    if not from_file and folder is None:
        return NoAddress(f"its address is not given: set {variable}, or {variable}_FILE to a file that holds it")
    path = Path(from_file) if from_file else Path(folder or ".") / file
    try:
        found = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return NoAddress(f"{path} is not there: make the Secret and the key that the spec names, or set {variable}")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        return NoAddress(f"{path} can not be read ({why}): mount the file there")
    return Secret(found, path) if found else NoAddress(f"{path} is empty: write the address into it")


def _folder(environment: Mapping[str, str]) -> Path | None:
    """Where the other secrets are."""
    files = (environment.get(f"{variable.value}_FILE") for variable in Variable)
    return next((Path(file).parent for file in files if file), None)


def hidden(addresses: Iterable[Address]) -> set[str]:
    """Texts that must show nowhere: the addresses, and the passwords and tokens within them."""
    found: set[str] = set()
    for address in addresses:
        if isinstance(address, Secret):
            for text in address.seen:
                user_info, _, _ = _authority(text).rpartition("@")
                parts = [*re.split(r"[/?&=#]", text.partition("://")[2]), *user_info.split(":"), _authority(text)]
                found |= {text, *(part for part in parts if len(part) >= _SHORTEST_TOKEN)}
                found |= {part for part in user_info.split(":")[1:] if part}
    return found | {unquote(text) for text in found}


def scrubbed(words: str, address: str) -> str:
    """Another's words about ``address``, without any part of it that tells where it leads."""
    parts = {address, _authority(address), *re.split(r"[/:@?&=#,;+]+", address.partition("://")[2])}
    parts |= {unquote(part) for part in parts}
    for part in sorted((part for part in parts if len(part) > 3), key=len, reverse=True):
        words = words.replace(part, "***")
    return words


def speaks(address: str, schemes: Collection[str]) -> bool:
    """Whether it is an address, and begins with one of ``schemes``."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.netloc)


def _authority(address: str) -> str:
    return re.split(r"[/?#]", address.partition("://")[2], maxsplit=1)[0]
