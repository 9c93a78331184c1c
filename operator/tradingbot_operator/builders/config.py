"""What the agents read: the pinned spec of one revision, and the state that is wanted of them now.

They are two ConfigMaps because they live differently. The spec of a revision never changes, so that a pod that
starts anew after a crash reads what its neighbours read, whatever has been edited meanwhile; it carries the image and
the workloads too, so that an operator of another version leaves a running revision as it is. The state is obeyed
without a restart, so it is not part of a revision, and its ConfigMap changes.

Both are mounted as whole folders: a file that is mounted by ``subPath`` is never refreshed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from tradingbot_api import Metadata, TradingBot, dump, load_text, revision
from tradingbot_operator import names
from tradingbot_operator.builders import pods
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component, Label

SPEC_FOLDER = "/etc/tradingbot/spec"
SPEC_KEY = "bot.yaml"
SPEC_FILE = f"{SPEC_FOLDER}/{SPEC_KEY}"

STATE_FOLDER = "/etc/tradingbot/state"
STATE_KEY = "state"
STATE_FILE = f"{STATE_FOLDER}/{STATE_KEY}"

IMAGE_KEY = "image"
WORKLOADS_KEY = "workloads.json"

_REVISION_LENGTH = 12


class Pinned(msgspec.Struct, frozen=True):
    """One revision, as its ConfigMap has it."""

    bot: TradingBot
    image: str
    workloads: dict[str, list[Manifest]]


def pinned(bot: TradingBot, image: str) -> str:
    """What of a revision the spec and the image are: 12 hexadecimal digits, equal for equal resolved specs on the
    same image. ``image`` is the one that the agents run, also where the spec leaves it to the operator."""
    return hashlib.sha256(f"{revision(bot)}\n{image}".encode()).hexdigest()[:_REVISION_LENGTH]


def spec_config(
    bot: TradingBot, namespace: str, image: str, revision: str, workloads: Mapping[str, list[Manifest]]
) -> Manifest:
    """The immutable ConfigMap of a revision: the spec, the image, and what was made of them. Its ``state`` is the one
    of the moment in which it was made: make it once."""
    name = bot.metadata.name
    # A bot's own labels and annotations change without a new revision.
    bare = msgspec.structs.replace(bot, metadata=Metadata(name=name, namespace=namespace))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": pods.metadata(names.spec_config(name, revision), namespace, shared_labels(name)),
        "immutable": True,
        "data": {
            SPEC_KEY: dump(bare),
            IMAGE_KEY: image,
            WORKLOADS_KEY: msgspec.json.encode(workloads, order="sorted").decode(),
        },
    }


def read_spec_config(manifest: Manifest) -> Pinned:
    """The revision that a ConfigMap of ``spec_config`` holds. Raises ``SpecInvalid`` when an older version of the
    operator pinned what this one refuses."""
    data = manifest["data"]
    workloads = msgspec.json.decode(data[WORKLOADS_KEY], type=dict[str, list[Manifest]])
    return Pinned(load_text(data[SPEC_KEY]), data[IMAGE_KEY], workloads)


def state_config(bot: TradingBot, namespace: str, state: str | None = None) -> Manifest:
    """The ConfigMap with the wanted state in one word. ``state``: another one than the spec asks for, as while a
    deletion waits until everything is sold."""
    name = bot.metadata.name
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": pods.metadata(names.state_config(name), namespace, shared_labels(name)),
        "data": {STATE_KEY: state or bot.spec.state},
    }


def shared_labels(bot: str) -> dict[str, str]:
    """Of what belongs to a bot and to none of its components."""
    labels = names.bot_labels(bot, Component.STRATEGY)
    return {label: value for label, value in labels.items() if label != Label.COMPONENT.value}
