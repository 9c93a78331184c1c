"""The bus: how agents speak. One port, an embedded implementation here; RabbitMQ keeps the same promises."""

from tradingbot_agents.bus.port import (
    Bus,
    DeadLetter,
    DependencyUnavailable,
    Handler,
    HandlerFailed,
    QueueSpec,
    Reject,
    RequestTimedOut,
    Responder,
)

__all__ = [
    "Bus",
    "DeadLetter",
    "DependencyUnavailable",
    "Handler",
    "HandlerFailed",
    "QueueSpec",
    "Reject",
    "RequestTimedOut",
    "Responder",
]
