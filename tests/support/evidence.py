"""Evidence of a small bot at which everything is as it should be, and changes to it: only what a test of a check is
about needs to be said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from tradingbot_agents.bus.topology import AGENTS, EXECUTION, RISK, STRATEGY, topology
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.symbol_rules import Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import ZERO, BotState, Leg, Mode, OrderType, Side, TimeInForce
from tradingbot_agents.exchange.port import (
    Capabilities,
    ExchangeBalance,
    ExchangeOrder,
    ExchangeOrderState,
    ExchangeTrade,
)
from tradingbot_agents.ledger.invariants import RULES
from tradingbot_agents.ledger.port import Balance, Books, Invariant, KnownRules
from tradingbot_agents.reality.evidence import (
    AccountEvidence,
    AgentEvidence,
    AgentLog,
    AgentsEvidence,
    CandleEvidence,
    Epochs,
    Evidence,
    Heard,
    Known,
    LedgerEvidence,
    Logs,
    MarketEvidence,
    MessagingEvidence,
    QueueEvidence,
    Settings,
)

NOW = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
SINCE = NOW - timedelta(minutes=35)
BAR = timedelta(minutes=5)
NEWEST = datetime(2026, 3, 1, 11, 55, tzinfo=UTC)
"""When the newest bar opened; it closed a minute ago."""
BEGAN = NOW - timedelta(days=3)
"""When the running revision did."""
BITCOIN, ETHER = "BTC/USDT", "ETH/USDT"
REVISION = "r2"

T = TypeVar("T", bound=msgspec.Struct)


def but(found: Known[T], **changes: Any) -> T:
    """A place of evidence with some of its fields changed."""
    assert isinstance(found, msgspec.Struct)
    return msgspec.structs.replace(found, **changes)  # type: ignore[return-value]


def settings(**changes: Any) -> Settings:
    fields: dict[str, Any] = {
        "bot": "majors",
        "mode": Mode.LIVE,
        "exchange": "binance",
        "symbols": (BITCOIN, ETHER),
        "quote": "USDT",
        "timeframe": BAR,
        "poll_interval": timedelta(seconds=10),
        "feed": "rest",
        "maximum_price_age": timedelta(seconds=90),
        "rules_interval": timedelta(hours=1),
        "reconcile_interval": timedelta(minutes=5),
        "protect_within": timedelta(minutes=1),
        "resolve_within": timedelta(minutes=1),
        "send_within": timedelta(seconds=30),
        "slippage": Decimal("0.005"),
        "has_stop": True,
        "stops_on_exchange": True,
        "fees": None,
        "backlog": 100,
    }
    return Settings(**{**fields, **changes})


def rules(symbol: str = BITCOIN, **changes: Any) -> SymbolRules:
    base, quote = symbol.split("/")
    fields: dict[str, Any] = {
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "amount": Precision(PrecisionMode.TICK_SIZE, Decimal("0.00001")),
        "price": Precision(PrecisionMode.TICK_SIZE, Decimal("0.01")),
        "fees": Fees(maker=Decimal("0.001"), taker=Decimal("0.001")),
        "min_amount": Decimal("0.00001"),
        "min_notional": Decimal(5),
    }
    return SymbolRules(**{**fields, **changes})


def bar(back: int = 0, symbol: str = BITCOIN, close: str = "100", **changes: Any) -> Candle:
    """The closed bar that opened ``back`` bars before the newest one."""
    price = Decimal(close)
    candle = Candle(symbol, "5m", NEWEST - back * BAR, price, price + 1, price - 1, price, Decimal(10))
    return msgspec.structs.replace(candle, **changes)


def bars(symbol: str = BITCOIN, count: int = 10) -> list[Candle]:
    return [bar(back, symbol) for back in reversed(range(count))]


def entry(order: str = "tbentry", at: datetime = NOW - timedelta(minutes=14), **changes: Any) -> Order:
    """A filled one that was decided on at 100."""
    fields: dict[str, Any] = {
        "client_order_id": order,
        "bot": "majors",
        "symbol": BITCOIN,
        "side": Side.BUY,
        "leg": Leg.ENTRY,
        "type": OrderType.LIMIT,
        "time_in_force": TimeInForce.IOC,
        "amount": Decimal("0.1"),
        "limit_price": Decimal("100.50"),
        "stop_price": None,
        "state": OrderState.FILLED,
        "cause": "intent-1",
        "attempt": 1,
        "correlation_id": "candle-1",
        "created_at": at,
        "expires_at": at + timedelta(minutes=1),
        "filled": Decimal("0.1"),
        "cost": Decimal("10.01"),
        "exchange_order_id": "1001",
        "claimed_at": at + timedelta(seconds=1),
        "finished_at": at + timedelta(seconds=2),
    }
    return Order(**{**fields, **changes})


def stop(order: str = "tbstop", at: datetime = NOW - timedelta(minutes=13), **changes: Any) -> Order:
    """The one that protects what the entry bought."""
    fields: dict[str, Any] = {
        "leg": Leg.STOP,
        "side": Side.SELL,
        "type": OrderType.STOP_MARKET,
        "time_in_force": TimeInForce.GTC,
        "amount": Decimal("0.0999"),
        "limit_price": None,
        "stop_price": Decimal("95"),
        "state": OrderState.OPEN,
        "cause": "trade-1",
        "expires_at": None,
        "filled": ZERO,
        "cost": ZERO,
        "exchange_order_id": "1002",
        "finished_at": None,
    }
    return entry(order, at, **{**fields, **changes})


def fill(order: Order | None = None, **changes: Any) -> Fill:
    """All of the entry, its fee in what was bought."""
    order = order or entry()
    fields: dict[str, Any] = {
        "exchange_trade_id": f"trade-of-{order.client_order_id}",
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": order.side,
        "price": Decimal("100.1"),
        "amount": Decimal("0.1"),
        "at": order.created_at + timedelta(seconds=2),
        "fee": Fee("BTC", Decimal("0.0001")),
    }
    return Fill(**{**fields, **changes})


def heard(name: str, *key: str, agent: str = RISK, at: datetime = NOW - timedelta(minutes=5), **sample: Any) -> Heard:
    return Heard(agent=agent, name=name, key=key, count=1, first=at, last=at, sample=sample)


def invariants(**broken: str) -> tuple[Invariant, ...]:
    """All of the ledger's, each with the violation that is given for its name."""
    return tuple(
        Invariant(
            name=rule.name,
            protects=rule.protects,
            violations=(broken[rule.name],) if rule.name in broken else (),
        )
        for rule in RULES
    )


def ledger(**changes: Any) -> LedgerEvidence:
    balances = {
        "USDT": Balance(asset="USDT", total=Decimal("989.99"), reserved=ZERO, outside_holds=ZERO),
        "BTC": Balance(asset="BTC", total=Decimal("0.0999"), reserved=ZERO, outside_holds=ZERO),
    }
    fields: dict[str, Any] = {
        "read_at": NOW,
        "asked_at": NOW,
        "schema": None,
        "opened_at": BEGAN,
        "books": Books(
            opened_at=BEGAN,
            newest_entry=4,
            newest_at=NOW - timedelta(minutes=14),
            balances=balances,
            live=(stop(),),
        ),
        "invariants": invariants(),
        "bots": ("majors",),
        "positions": {
            BITCOIN: Position(
                symbol=BITCOIN,
                state=PositionState.OPEN,
                amount=Decimal("0.0999"),
                cost=Decimal("10.01"),
                exit_hold=Decimal("0.0999"),
                trade_id="trade-1",
                entry_order="tbentry",
                opened_at=NOW - timedelta(minutes=14),
                stop_price=Decimal("95"),
            )
        },
        "account_positions": {BITCOIN: Decimal("0.0999")},
        "orders": (stop(), entry()),
        "reservations": (),
        "fills": (fill(),),
        "trades": (),
        "refusals": {},
        "rules": {
            symbol: KnownRules(rules(symbol), since=BEGAN, read_at=NOW - timedelta(minutes=20))
            for symbol in (BITCOIN, ETHER)
        },
        "heard": (),
        "revisions": {STRATEGY: BEGAN, RISK: BEGAN, EXECUTION: BEGAN},
        "epochs": Epochs(risk=3, risk_since=BEGAN, execution=3, execution_since=BEGAN),
        "hold": None,
        "equity": (),
        "outside": {},
        "profit_told": ZERO,
        "profit_counted": ZERO,
    }
    return LedgerEvidence(**{**fields, **changes})


def open_stop(**changes: Any) -> ExchangeOrder:
    """The stop, as the exchange has it."""
    ours = stop()
    fields: dict[str, Any] = {
        "exchange_order_id": ours.exchange_order_id,
        "client_order_id": ours.client_order_id,
        "symbol": ours.symbol,
        "side": ours.side,
        "type": ours.type,
        "state": ExchangeOrderState.OPEN,
        "amount": ours.amount,
        "filled": ZERO,
        "stop_price": ours.stop_price,
        "at": ours.created_at,
    }
    return ExchangeOrder(**{**fields, **changes})


def trade(**changes: Any) -> ExchangeTrade:
    """The fill, as the exchange has it."""
    ours = fill()
    fields: dict[str, Any] = {
        "exchange_trade_id": ours.exchange_trade_id,
        "exchange_order_id": entry().exchange_order_id,
        "symbol": ours.symbol,
        "side": ours.side,
        "price": ours.price,
        "amount": ours.amount,
        "at": ours.at,
        "fee": ours.fee,
    }
    return ExchangeTrade(**{**fields, **changes})


def account(**changes: Any) -> AccountEvidence:
    fields: dict[str, Any] = {
        "read_at": NOW,
        "balances": {
            "USDT": ExchangeBalance(Decimal("989.99"), ZERO),
            "BTC": ExchangeBalance(ZERO, Decimal("0.0999")),
        },
        "open_orders": (open_stop(),),
        "looked_up": {},
        "trades": (trade(),),
        "trades_since": SINCE,
    }
    return AccountEvidence(**{**fields, **changes})


def market(**changes: Any) -> MarketEvidence:
    fields: dict[str, Any] = {
        "read_at": NOW,
        "rules": {symbol: rules(symbol) for symbol in (BITCOIN, ETHER)},
        "candles": {symbol: bars(symbol) for symbol in (BITCOIN, ETHER)},
        "clock_offset": timedelta(milliseconds=120),
        "capabilities": Capabilities(stop_market=True, stop_limit=True, client_order_ids=True),
    }
    return MarketEvidence(**{**fields, **changes})


def candles(**changes: Any) -> CandleEvidence:
    fields: dict[str, Any] = {"read_at": NOW, "candles": {symbol: bars(symbol) for symbol in (BITCOIN, ETHER)}}
    return CandleEvidence(**{**fields, **changes})


def queues(**changes: Any) -> tuple[QueueEvidence, ...]:
    """Each with its consumer and nothing that waits; ``changes`` are of ``risk.intents``."""
    specs = topology(market_time_to_live=BAR, market_length=100, delivery_limit=5)
    found = (
        QueueEvidence(name=spec.name, owner=spec.owner, messages=0, consumers=1, durable=spec.ttl is None)
        for spec in specs
    )
    return tuple(msgspec.structs.replace(each, **changes) if each.name == "risk.intents" else each for each in found)


def messaging(**changes: Any) -> MessagingEvidence:
    fields: dict[str, Any] = {"read_at": NOW, "queues": queues(), "absent": (), "dead_letters": ()}
    return MessagingEvidence(**{**fields, **changes})


def pod(agent: str, **changes: Any) -> AgentEvidence:
    fields: dict[str, Any] = {
        "agent": agent,
        "place": f"majors-{agent}-0",
        "revision": REVISION,
        "ready": True,
        "why_not": "",
        "restarts": 0,
        "restarted_at": None,
        "ended": "",
        "started_at": BEGAN,
    }
    return AgentEvidence(**{**fields, **changes})


def pods(of: str = "", **changes: Any) -> tuple[AgentEvidence, ...]:
    """Of all five; ``changes`` are of the agent ``of``."""
    return tuple(pod(agent, **(changes if agent == of else {})) for agent in AGENTS)


def agents(**changes: Any) -> AgentsEvidence:
    fields: dict[str, Any] = {
        "read_at": NOW,
        "wanted_revision": REVISION,
        "pods": pods(),
        "state": BotState.RUNNING,
    }
    return AgentsEvidence(**{**fields, **changes})


def log(agent: str, **changes: Any) -> AgentLog:
    fields: dict[str, Any] = {
        "agent": agent,
        "counts_from": SINCE,
        "begins": BEGAN,
        "ends": NOW,
        "complete": True,
        "lines": 1000,
        "heard": (),
    }
    return AgentLog(**{**fields, **changes})


def logs(of: str = "", **changes: Any) -> Logs:
    """Of all five; ``changes`` are of the agent ``of``."""
    return Logs(agents={agent: log(agent, **(changes if agent == of else {})) for agent in AGENTS})


def evidence(**changes: Any) -> Evidence:
    """Of all places, or with others given in their stead."""
    fields: dict[str, Any] = {
        "at": NOW,
        "since": SINCE,
        "settings": settings(),
        "ledger": ledger(),
        "account": account(),
        "market": market(),
        "candles": candles(),
        "messaging": messaging(),
        "agents": agents(),
        "logs": logs(),
    }
    return Evidence(**{**fields, **changes})
