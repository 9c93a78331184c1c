"""What a run came to: a pure function of what the ledger and the exchange say, as text and as JSON.

Everything in it is read from the database and the exchange's books, nothing from the memory of the run: a
finished data directory gives the same report again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any

import msgspec

from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.spelling import spelled
from tradingbot_agents.domain.values import ZERO, floor_time, split_symbol
from tradingbot_agents.ledger.port import Balance, EquityPoint, Invariant, Trade
from tradingbot_agents.risk.exposure import TailRisk, unit_values

REPORT_VERSION = 1
_RATIO = Decimal("0.0001")
_MINUTE = timedelta(minutes=1)


class PositionLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    symbol: str
    state: str
    amount: Decimal
    average_cost: Decimal | None
    price: Decimal | None
    stop: Decimal | None
    target: Decimal | None
    unrealised: Decimal | None


class TradeLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    trade_id: str
    symbol: str
    opened_at: datetime
    closed_at: datetime
    bought: Decimal
    cost: Decimal
    profit: Decimal
    fees: Decimal
    closed_by: str
    indicators: tuple[str, ...]


class BalanceLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    asset: str
    total: Decimal
    reserved: Decimal
    outside_holds: Decimal
    available: Decimal


class EquityLine(msgspec.Struct, frozen=True, kw_only=True):
    start: Decimal
    end: Decimal
    change: Decimal
    """As a fraction of the start."""


class InvariantsLine(msgspec.Struct, frozen=True, kw_only=True):
    checked: int
    violated: int
    details: tuple[str, ...]
    """One line for each violation, in words."""


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Money in quote currency; fractions have four places."""

    version: int = REPORT_VERSION
    bot: str
    account: str
    quote_currency: str
    seed: int
    finished: bool
    """Whether the candles are used up."""
    start: datetime
    end: datetime
    candles: int
    decisions: int
    approved: int
    trades: int
    """Finished round trips."""
    wins: int
    losses: int
    """A trade without profit or loss is neither."""
    fills: int
    refusals: dict[str, int]
    fees: Decimal
    profit: Decimal
    """Realised, fees taken off."""
    unrealised: Decimal
    equity: EquityLine
    drawdown: Decimal
    """The deepest fall of the equity below an earlier peak, as a fraction of that peak."""
    exposure: Decimal
    """The share of the time in which at least one position was held, counted in minutes."""
    value_at_risk: Decimal | None
    """The loss of one bar that what is held at the end does not exceed with the spec's confidence. ``None``: nothing
    is held, or there are too few returns to say."""
    expected_shortfall: Decimal | None
    """The mean loss of the bars in the tail beyond it."""
    positions: tuple[PositionLine, ...]
    balances: tuple[BalanceLine, ...]
    invariants: InvariantsLine
    closed_trades: tuple[TradeLine, ...]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the report is made of."""

    bot: str
    account: str
    quote_currency: str
    seed: int
    finished: bool
    start: datetime
    end: datetime
    candles: int
    approved: int
    refusals: Mapping[str, int]
    trades: Sequence[Trade]
    fills: Sequence[Fill]
    positions: Mapping[str, Position]
    balances: Mapping[str, Balance]
    prices: Mapping[str, Decimal]
    """Last price by symbol."""
    equity_start: Decimal
    equity_points: Sequence[EquityPoint]
    risk: TailRisk | None
    """Of what is held at the end; ``None``: nothing is held."""
    invariants: Sequence[Invariant]


def build_report(facts: Facts) -> Report:
    end_equity = equity_at(facts.balances, facts.prices, facts.quote_currency)
    outside = facts.equity_points[-1].outside if facts.equity_points else ZERO
    curve = [
        EquityPoint(facts.start, facts.equity_start),
        *facts.equity_points,
        EquityPoint(facts.end, end_equity - outside, outside),
    ]
    positions = tuple(_position_line(facts.positions[symbol], facts.prices) for symbol in sorted(facts.positions))
    wins = sum(1 for trade in facts.trades if trade.profit > ZERO)
    details = tuple(
        f"{invariant.name}: {violation}" for invariant in facts.invariants for violation in invariant.violations
    )
    return Report(
        bot=facts.bot,
        account=facts.account,
        quote_currency=facts.quote_currency,
        seed=facts.seed,
        finished=facts.finished,
        start=facts.start,
        end=facts.end,
        candles=facts.candles,
        decisions=facts.approved + sum(facts.refusals.values()),
        approved=facts.approved,
        trades=len(facts.trades),
        wins=wins,
        losses=sum(1 for trade in facts.trades if trade.profit < ZERO),
        fills=len(facts.fills),
        refusals=dict(sorted(facts.refusals.items())),
        fees=_plain(sum((position.fees for position in facts.positions.values()), ZERO)),
        profit=_plain(sum((position.realised for position in facts.positions.values()), ZERO)),
        unrealised=_plain(sum((line.unrealised or ZERO for line in positions), ZERO)),
        equity=EquityLine(
            start=_plain(facts.equity_start),
            end=_plain(end_equity),
            change=_ratio(end_equity - facts.equity_start, facts.equity_start),
        ),
        drawdown=max_drawdown(unit_values(curve)),
        exposure=_exposure(facts),
        value_at_risk=facts.risk.value_at_risk if facts.risk is not None else None,
        expected_shortfall=facts.risk.expected_shortfall if facts.risk is not None else None,
        positions=positions,
        balances=tuple(_balance_line(facts.balances[asset]) for asset in sorted(facts.balances)),
        invariants=InvariantsLine(
            checked=len(facts.invariants),
            violated=sum(1 for invariant in facts.invariants if invariant.violations),
            details=details,
        ),
        closed_trades=tuple(_trade_line(trade) for trade in facts.trades),
    )


def equity_at(balances: Mapping[str, Balance], prices: Mapping[str, Decimal], quote: str) -> Decimal:
    """What the account's bots have, at the last prices; an asset without a price counts nothing, nor does what was
    set aside at the opening."""
    value = ZERO
    by_base = {split_symbol(symbol)[0]: price for symbol, price in prices.items() if split_symbol(symbol)[1] == quote}
    for asset, balance in balances.items():
        value += balance.own if asset == quote else balance.own * by_base.get(asset, ZERO)
    return value


def max_drawdown(curve: Sequence[Decimal]) -> Decimal:
    """The deepest fall below an earlier peak, as a fraction of that peak, four places."""
    peak = deepest = ZERO
    for equity in curve:
        peak = max(peak, equity)
        if peak > ZERO:
            deepest = max(deepest, (peak - equity) / peak)
    return deepest.quantize(_RATIO, ROUND_HALF_UP)


def _exposure(facts: Facts) -> Decimal:
    spans = [(trade.opened_at, trade.closed_at) for trade in facts.trades]
    spans += [
        (position.opened_at, facts.end)
        for position in facts.positions.values()
        if position.is_held and position.opened_at is not None
    ]
    # The moments that an order takes differ after a restart, and are not what is asked for.
    minutes = sorted((floor_time(opened, _MINUTE), floor_time(closed, _MINUTE)) for opened, closed in spans)
    held = timedelta(0)
    until = facts.start
    for opened, closed in minutes:
        begin, end = max(opened, until), min(closed, facts.end)
        if end > begin:
            held += end - begin
            until = end
    whole = facts.end - facts.start
    if whole <= timedelta(0):
        return ZERO
    return _ratio(Decimal(held // timedelta(seconds=1)), Decimal(whole // timedelta(seconds=1)))


def _position_line(position: Position, prices: Mapping[str, Decimal]) -> PositionLine:
    price = prices.get(position.symbol)
    held = position.amount != ZERO
    return PositionLine(
        symbol=position.symbol,
        state=position.state.value,
        amount=_plain(position.amount),
        average_cost=position.average_cost if held else None,
        price=price,
        stop=position.stop_price if position.is_held else None,
        target=position.target_price if position.is_held else None,
        unrealised=_plain(position.unrealised(price)) if held and price is not None else None,
    )


def _trade_line(trade: Trade) -> TradeLine:
    return TradeLine(
        trade_id=trade.trade_id,
        symbol=trade.symbol,
        opened_at=trade.opened_at,
        closed_at=trade.closed_at,
        bought=_plain(trade.bought),
        cost=_plain(trade.cost),
        profit=_plain(trade.profit),
        fees=_plain(trade.fees),
        closed_by=trade.leg.value,
        indicators=trade.indicators,
    )


def _balance_line(balance: Balance) -> BalanceLine:
    return BalanceLine(
        asset=balance.asset,
        total=_plain(balance.total),
        reserved=_plain(balance.reserved),
        outside_holds=_plain(balance.outside_holds),
        available=_plain(balance.available),
    )


def _plain(value: Decimal) -> Decimal:
    """Without trailing zeros or an exponent, so that equal values print alike."""
    return value.normalize() + ZERO


def _ratio(part: Decimal, whole: Decimal) -> Decimal:
    return (part / whole).quantize(_RATIO, ROUND_HALF_UP) if whole else ZERO


def as_data(report: Report) -> Any:
    """JSON-able. Decimals are strings without an exponent: spreadsheets and people read them too."""
    return spelled(report)


def to_json(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(as_data(report)), indent=2).decode()


def to_text(report: Report) -> str:
    """For people: a screen at most, the worst news first."""
    money = partial(_money, quote=report.quote_currency)
    lines: list[str] = []
    if report.invariants.violated:
        lines.append(f"!! {report.invariants.violated} of {report.invariants.checked} invariants are VIOLATED:")
        lines += [f"   {detail}" for detail in report.invariants.details]
        lines.append("")
    state = "finished" if report.finished else "not finished: the same command goes on from here"
    lines += [
        f"{report.bot}: {report.candles:,} candles, {report.start:%Y-%m-%d %H:%M} to "
        f"{report.end:%Y-%m-%d %H:%M} UTC ({state})",
        "",
        _row(
            "equity", f"{money(report.equity.start)} → {money(report.equity.end)} ({_percent(report.equity.change)})"
        ),
        _row(
            "profit",
            f"{money(report.profit)} realised, {money(report.unrealised)} unrealised, fees {money(report.fees)}",
        ),
        _row("trades", f"{report.trades} closed: {report.wins} won, {report.losses} lost; {report.fills} fills"),
        _row("drawdown", f"{_percent(report.drawdown, sign=False)} at most"),
        _row("exposure", f"in the market {_percent(report.exposure, sign=False)} of the time"),
        _row(
            "decisions",
            f"{report.decisions}: {report.approved} approved, {report.decisions - report.approved} refused",
        ),
    ]
    lines += [f"    {count:>6}  {reason}" for reason, count in sorted(report.refusals.items(), key=_most_first)]
    held = [line for line in report.positions if line.amount]
    lines.append(_row("positions", "none" if not held else ""))
    for line in held:
        gain = f"{money(line.unrealised)} unrealised" if line.unrealised is not None else "no price"
        lines.append(f"    {line.symbol:<10} {line.state:<8} {line.amount:f} · {_exits(line)} · {gain}")
    if held:
        lines.append(_row("risk", _risk(report)))
    verdict = "all hold" if not report.invariants.violated else f"{report.invariants.violated} VIOLATED"
    lines.append(_row("invariants", f"{report.invariants.checked} checked, {verdict}"))
    return "\n".join(lines)


def _exits(line: PositionLine) -> str:
    """How the position will end, in words."""
    if line.state == PositionState.DUST.value:
        return "too little to be sold"
    stop = f"stop {line.stop:f}" if line.stop is not None else "NO STOP"
    return stop if line.target is None else f"{stop}, target {line.target:f}"


def _risk(report: Report) -> str:
    if report.value_at_risk is None or report.expected_shortfall is None:
        return "too few bars to say what one can cost"
    money = partial(_money, quote=report.quote_currency)
    shortfall = money(report.expected_shortfall)
    return f"one bar: value at risk {money(report.value_at_risk)}, expected shortfall {shortfall}"


def _row(name: str, text: str) -> str:
    return f"  {name:<11} {text}".rstrip()


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _money(value: Decimal, quote: str) -> str:
    return f"{value:,.2f} {quote}"


def _percent(value: Decimal, *, sign: bool = True) -> str:
    return f"{value * 100:+.2f} %" if sign else f"{value * 100:.2f} %"
