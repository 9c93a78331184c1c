"""NetworkPolicies, applied as a cluster's network does it, for a network that enforces none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tradingbot_operator.kinds import Manifest


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def passes(
    all_policies: Iterable[Manifest], direction: str, own: dict[str, str], other: dict[str, str] | None, wanted: Any
) -> bool:
    """Whether ``own`` may take part in that direction: ``other`` is the pod on the other side."""
    peers, rules_of = ("to", "egress") if direction == "Egress" else ("from", "ingress")
    selecting = [
        each["spec"]
        for each in all_policies
        if direction in each["spec"]["policyTypes"] and selects(each["spec"]["podSelector"], own)
    ]
    if not selecting:
        return True
    for spec in selecting:
        # An API server leaves empty lists away.
        for rule in spec.get(rules_of) or []:
            side = rule.get(peers)
            reached = side is None or (
                other is not None and any(selects(peer["podSelector"], other) for peer in side)
            )
            if reached and wanted in [(port["protocol"], port["port"]) for port in rule["ports"]]:
                return True
    return False


class Network(msgspec.Struct):
    policies: list[Manifest]

    def allows(
        self, source: dict[str, str] | None, target: dict[str, str] | None, port: int, protocol: str = "TCP"
    ) -> bool:
        wanted = (protocol, port)
        out = source is None or passes(self.policies, "Egress", source, target, wanted)
        into = target is None or passes(self.policies, "Ingress", target, source, wanted)
        return out and into
