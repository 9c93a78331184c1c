"""The bus: how agents speak. One port, an embedded implementation here; RabbitMQ keeps the same promises."""

from tradingbot_agents.bus.embedded import EmbeddedBus
from tradingbot_agents.bus.port import (
    BatchHandler,
    Bus,
    DeadLetter,
    DependencyUnavailable,
    Handler,
    HandlerFailed,
    QueueSpec,
    Reject,
    RequestTimedOut,
    Responder,
    Unroutable,
)

__all__ = [
    "BatchHandler",
    "Bus",
    "DeadLetter",
    "DependencyUnavailable",
    "EmbeddedBus",
    "Handler",
    "HandlerFailed",
    "QueueSpec",
    "Reject",
    "RequestTimedOut",
    "Responder",
    "Unroutable",
]
