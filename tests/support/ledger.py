"""What tests of the ledger ask it for: proposals, legs and fills with the figures of the 84.54 USDT example."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.messages import OrderApproved
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.symbol_rules import Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import Leg, Mode, OrderType, Side, TimeInForce
from tradingbot_agents.ledger.port import (
    AccountKey,
    EntryProposal,
    Epoch,
    ExitRequest,
    LegProposal,
    Refusal,
    Role,
)
from tradingbot_agents.ledger.postgres import PostgresLedger

D = Decimal
NOW = datetime(2025, 10, 9, 12, tzinfo=UTC)
ACCOUNT = AccountKey(mode=Mode.PAPER, exchange="simulated", endpoint="", name="main")
BOT = "majors"


async def connect(dsn: str, bot: str = BOT, account: AccountKey = ACCOUNT) -> PostgresLedger:
    return await PostgresLedger.connect(dsn, account, bot)


async def opened(dsn: str, usdt: str = "84.54") -> tuple[PostgresLedger, Epoch, Epoch]:
    """A ledger with that much on its account, and the epochs of risk and execution."""
    ledger = await connect(dsn)
    await ledger.open_account({"USDT": D(usdt)}, (), NOW, quote="USDT")
    return ledger, await ledger.raise_epoch(Role.RISK, NOW), await ledger.raise_epoch(Role.EXECUTION, NOW)


def entry(
    name: str,
    symbol: str = "BTC/USDT",
    *,
    budget: str = "67.63",
    amount: str = "0.00055",
    price: str = "121556.65",
    most: int | None = None,
    at: datetime = NOW,
    asset: str = "USDT",
) -> EntryProposal:
    """An entry whose intent is ``intent-<name>`` and whose order is ``entry-<name>``."""
    return EntryProposal(
        intent_id=f"intent-{name}",
        client_order_id=f"entry-{name}",
        symbol=symbol,
        confidence=D("0.8123"),
        amount=D(amount),
        limit_price=D(price),
        reserve_asset=asset,
        reserve_amount=D(budget),
        stop_price=D("115478.82"),
        target_price=D("133712.32"),
        indicators=("emaCross", "rsi"),
        correlation_id=f"candle-{name}",
        at=at,
        expires_at=at + timedelta(minutes=5),
        max_open_positions=most,
    )


def approved_order(bot: str, proposal: EntryProposal) -> Order:
    """The order that the ledger writes for an approved entry."""
    return Order(
        client_order_id=proposal.client_order_id,
        bot=bot,
        symbol=proposal.symbol,
        side=Side.BUY,
        leg=Leg.ENTRY,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        amount=proposal.amount,
        limit_price=proposal.limit_price,
        stop_price=None,
        state=OrderState.APPROVED,
        cause=proposal.intent_id,
        attempt=0,
        correlation_id=proposal.correlation_id,
        created_at=proposal.at,
        expires_at=proposal.expires_at,
    )


def fill(
    order: str,
    trade: str,
    amount: str = "0.00055",
    price: str = "121556.65",
    *,
    symbol: str = "BTC/USDT",
    side: Side = Side.BUY,
    fee: tuple[str, str] | None = None,
    at: datetime = NOW,
) -> Fill:
    return Fill(
        exchange_trade_id=trade,
        client_order_id=order,
        symbol=symbol,
        side=side,
        price=D(price),
        amount=D(amount),
        at=at,
        fee=None if fee is None else Fee(fee[0], D(fee[1])),
    )


def sale(order: str, trade: str, amount: str = "0.00055", price: str = "130000", **more: object) -> Fill:
    return fill(order, trade, amount, price, side=Side.SELL, **more)  # type: ignore[arg-type]


def exit_leg(
    order: str, amount: str = "0.00055", *, leg: Leg = Leg.EXIT, symbol: str = "BTC/USDT", at: datetime = NOW
) -> LegProposal:
    return LegProposal(
        client_order_id=order,
        symbol=symbol,
        leg=leg,
        type=OrderType.STOP_MARKET if leg is Leg.STOP else OrderType.MARKET,
        time_in_force=TimeInForce.GTC,
        amount=D(amount),
        limit_price=None,
        stop_price=D("115478.82") if leg is Leg.STOP else None,
        cause="trade",
        attempt=1,
        correlation_id=f"candle-{order}",
        at=at,
    )


def exit_request(
    cause: str, symbol: str = "BTC/USDT", *, leg: Leg = Leg.EXIT, at: datetime = NOW, bot: str = BOT
) -> ExitRequest:
    return ExitRequest(
        cause=cause,
        symbol=symbol,
        leg=leg,
        reason=f"{leg.value} of {cause}",
        confidence=D("0.7"),
        correlation_id=f"candle-{cause}",
        at=at,
        message=OrderApproved(
            id=f"order.{cause}",
            correlation_id=f"candle-{cause}",
            causation_id=cause,
            bot=bot,
            producer="risk",
            at=at,
            symbol=symbol,
            side=Side.SELL,
            leg=leg,
            client_order_id=None,
        ),
    )


def refusal(name: str, symbol: str = "BTC/USDT", reason: Reason = Reason.NO_FRESH_PRICE) -> Refusal:
    return Refusal(
        intent_id=f"intent-{name}",
        entry_order=f"entry-{name}",
        symbol=symbol,
        side=Side.BUY,
        reason=reason,
        detail="no price within 60 s",
        confidence=D("0.5"),
        correlation_id=f"candle-{name}",
        at=NOW,
    )


async def held_position(dsn: str) -> tuple[PostgresLedger, Epoch, Epoch]:
    """A position of 0.00055 BTC."""
    ledger, risk, execution = await opened(dsn)
    await ledger.reserve(risk, entry("btc"))
    await ledger.claim(execution, "entry-btc", NOW)
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], OrderState.FILLED, NOW)
    return ledger, risk, execution


def rules_of(symbol: str, step: str) -> SymbolRules:
    """Rules with one grid for amounts and prices."""
    base, quote = symbol.split("/")
    grid = Precision(PrecisionMode.TICK_SIZE, Decimal(step))
    fees = Fees(maker=Decimal("0.001"), taker=Decimal("0.001"))
    return SymbolRules(symbol=symbol, base=base, quote=quote, amount=grid, price=grid, fees=fees)
