"""The spec's per-agent overrides: what a person may change of the pods that the operator makes."""

from typing import Annotated, Any, Literal

import msgspec

from .exchange import UrlSecretRef
from .model import PRESERVED, WHOLE, Model, doc, keyed
from .names import EnvName
from .quantities import Bytes, Cpu


class ResourceAmounts(Model, frozen=True, kw_only=True):
    """Amounts of CPU and memory."""

    cpu: Annotated[Cpu | None, doc('Cores, such as "100m" or "2".')] = None
    memory: Annotated[Bytes | None, doc('Bytes, such as "64Mi".')] = None


class Resources(Model, frozen=True, kw_only=True):
    """What a pod is promised, and what it may use at most."""

    requests: Annotated[ResourceAmounts | None, doc("What it is promised.")] = None
    limits: Annotated[ResourceAmounts | None, doc("What it may use at most.")] = None


class Toleration(Model, frozen=True, kw_only=True):
    """A toleration as Kubernetes has it."""

    key: Annotated[str | None, doc("Key of the taint; none means every taint.")] = None
    operator: Annotated[Literal["Exists", "Equal"] | None, doc("How value is compared.")] = None
    value: Annotated[str | None, doc("Value of the taint.")] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None, doc("Effect; none means all.")
    ] = None
    toleration_seconds: Annotated[
        Annotated[int, msgspec.Meta(ge=0)] | None,
        doc("Seconds for which NoExecute is tolerated; none means for ever."),
    ] = None


class EnvVar(Model, frozen=True, kw_only=True):
    """An environment variable: exactly one of value and valueFromSecret."""

    name: Annotated[EnvName, doc("Name of the variable.")]
    value: Annotated[str | None, doc("Its value.")] = None
    value_from_secret: Annotated[UrlSecretRef | None, WHOLE, doc("Secret and key that hold its value.")] = None


class AgentOverrides(Model, frozen=True, kw_only=True):
    """Changes of one agent's pod. What is not given stays as the operator makes it."""

    resources: Annotated[Resources | None, doc("Requests and limits.")] = None
    node_selector: Annotated[
        Annotated[dict[str, str], msgspec.Meta(max_length=50)], WHOLE, doc("Labels that the node must have.")
    ] = msgspec.field(default_factory=dict)
    tolerations: Annotated[
        Annotated[tuple[Toleration, ...], msgspec.Meta(max_length=50)], doc("Taints of nodes that are tolerated.")
    ] = ()
    affinity: Annotated[dict[str, Any] | None, PRESERVED, WHOLE, doc("Affinity as a pod's spec has it.")] = None
    env: Annotated[
        Annotated[tuple[EnvVar, ...], msgspec.Meta(max_length=100), keyed("name")],
        doc("Further environment variables."),
    ] = ()
    annotations: Annotated[
        Annotated[dict[str, str], msgspec.Meta(max_length=100)], doc("Further annotations of the pod.")
    ] = msgspec.field(default_factory=dict)


class Agents(Model, frozen=True, kw_only=True):
    """Changes of the pods, agent by agent."""

    data_collection: Annotated[AgentOverrides | None, doc("The data collection agent.")] = None
    technical_analysis: Annotated[AgentOverrides | None, doc("The technical analysis agent.")] = None
    strategy: Annotated[AgentOverrides | None, doc("The strategy agent.")] = None
    risk: Annotated[AgentOverrides | None, doc("The risk agent.")] = None
    execution: Annotated[AgentOverrides | None, doc("The execution agent.")] = None
    reality_check: Annotated[AgentOverrides | None, doc("The reality check's Job.")] = None
