"""A process of its own that sends one message by Apprise: ``python -m tradingbot_agents.runtime.apprise_process``.

Apprise costs its user 45 MB, and it waits for the network in ways that nobody can break off: in a child both end with
it. The order comes on standard input, so that no address shows in ``ps``; the answer says why it was not sent, and
holds no part of the address.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import msgspec

from tradingbot_agents.runtime.addresses import scrubbed

_LONGEST_WHY = 300
_LAST_WORDS = 3


class Order(msgspec.Struct, frozen=True):
    address: str
    title: str
    text: str
    kind: Literal["failure", "warning", "success"]
    seconds: float
    """For each answer of the other side."""


class Answer(msgspec.Struct, frozen=True):
    why: str | None
    """Why it could not be sent; ``None``: it was."""


class _Words(logging.Handler):
    """What Apprise says of it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        # It keeps the cause for those who look closer.
        if record.levelno >= logging.WARNING or said.startswith("Socket Exception"):
            self.said.append(said)


def send(order: Order) -> Answer:
    import apprise

    words = _Words()
    log = logging.getLogger("apprise")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(words)
    asset = apprise.AppriseAsset(
        app_id="tradingbot", app_desc="tradingbot", app_url="", storage_mode=apprise.PersistentStoreMode.MEMORY
    )
    made = apprise.Apprise.instantiate(order.address, asset=asset, suppress_exceptions=True)
    if made is None:
        return Answer(_why(words, order.address, "Apprise can not read its address"))
    made.socket_connect_timeout = made.socket_read_timeout = order.seconds
    sender = apprise.Apprise(asset=asset)
    sender.add(made)
    sent = sender.notify(
        body=order.text, title=order.title, notify_type=order.kind, body_format=apprise.NotifyFormat.TEXT
    )
    return Answer(None if sent else _why(words, order.address, "Apprise could not send it"))


def _why(words: _Words, address: str, otherwise: str) -> str:
    said = "; ".join(each.strip() for each in words.said[-_LAST_WORDS:])
    return scrubbed(" ".join((said or otherwise).split()), address)[:_LONGEST_WHY]


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    # The answer must stand alone on standard output, whatever else is printed.
    answer_to, sys.stdout = sys.stdout, sys.stderr
    answer_to.buffer.write(msgspec.json.encode(send(order)))
    answer_to.flush()


if __name__ == "__main__":
    main()
