"""Who speaks to whom in a namespace, as the pods' own kernels tell it: each pod's TCP connections."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from support.kubernetes import Json

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

_ESTABLISHED_OR_OVER = frozenset({"01", "04", "05", "06", "08"})
"""As ``/proc/net/tcp`` numbers them: in use, or just closed."""
_LISTENING = "0A"


@dataclass(frozen=True)
class Connection:
    source: str
    """A pod's name."""
    address: str
    port: int


@dataclass(frozen=True)
class Edge:
    """Of one pod to another, or to somewhere that is none."""

    source: str
    target: str | None
    port: int


@dataclass(frozen=True)
class Arrival:
    """A connection that another has opened to ``target``, a pod's name. Whoever closes one first is the one whose
    kernel remembers it for a minute."""

    address: str
    """Whose."""
    target: str
    port: int


def connections(pod: str, tables: str) -> set[Connection]:
    """Those that ``pod`` has opened, by its ``TABLES``, one after the other, or more often."""
    return {
        Connection(pod, address, port) for (_, own, address, port), heard in _sockets(tables).items() if not heard
    }


def arrivals(pod: str, tables: str) -> set[Arrival]:
    """Those that others have opened to it."""
    return {Arrival(address, pod, own) for (_, own, address, _), heard in _sockets(tables).items() if heard}


def _sockets(tables: str) -> dict[tuple[str, int, str, int], bool]:
    """Of others than itself: own address and port, the other's; whether it came by a port that is listened at."""
    rows = [line.split() for line in tables.splitlines() if ":" in line.partition(" ")[2]]
    sockets = [(_address(row[1]), _address(row[2]), row[3]) for row in rows if len(row) > 3 and ":" in row[1]]
    listening = {port for (_, port), _, state in sockets if state == _LISTENING}
    return {
        (*own, *other): own[1] in listening
        for own, other, state in sockets
        if state in _ESTABLISHED_OR_OVER and not ipaddress.ip_address(other[0]).is_loopback
    }


def edges(
    found: set[Connection], pods: list[Json], services: list[Json], arrived: Iterable[Arrival] = ()
) -> set[Edge]:
    """``services``: their addresses stand for the pods that they select. Of what has ``arrived``, what comes from one
    of ``pods``."""
    by_address: dict[str, tuple[str, dict[int, int]]] = {
        pod["status"]["podIP"]: (pod["metadata"]["name"], {}) for pod in pods if pod["status"].get("podIP")
    }
    for service in services:
        selector = service["spec"].get("selector") or {}
        behind = [
            pod for pod in pods if selector and selector.items() <= (pod["metadata"].get("labels") or {}).items()
        ]
        if behind and service["spec"].get("clusterIP", "None") != "None":
            ports = {each["port"]: _target(each, behind[0]) for each in service["spec"]["ports"]}
            by_address[service["spec"]["clusterIP"]] = (behind[0]["metadata"]["name"], ports)
    result = {
        Edge(by_address[each.address][0], each.target, each.port) for each in arrived if each.address in by_address
    }
    for each in found:
        target, ports = by_address.get(each.address, (None, {}))
        result.add(Edge(each.source, target, ports.get(each.port, each.port)))
    return result


def _target(port: Json, pod: Json) -> int:
    wanted: Any = port.get("targetPort", port["port"])
    if isinstance(wanted, int):
        return wanted
    named = [each for container in pod["spec"]["containers"] for each in container.get("ports") or []]
    found: int = next(each["containerPort"] for each in named if each.get("name") == wanted)
    return found


def _address(text: str) -> tuple[str, int]:
    """Hexadecimal, each group of 32 bits in the order of the machine: little-endian, wherever this runs."""
    digits, _, port = text.partition(":")
    raw = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), int(port, 16)
