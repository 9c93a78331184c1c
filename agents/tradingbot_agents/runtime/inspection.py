"""What the ledger and the exchange say now: for the report, the live view, and the words at a stop.

Everything is read, nothing remembered, and the ledger is held against the exchange's own books: so a finished data
directory gives the same report again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from tradingbot_agents.domain.values import Leg
from tradingbot_agents.exchange.simulated import SimulatedExchange
from tradingbot_agents.ledger.port import Balance, Invariant
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.risk.exposure import Closes, TailRisk, tail_risk, value_account
from tradingbot_agents.runtime import report as reporting
from tradingbot_agents.runtime.control import StateControl
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.runtime.view import Snapshot
from tradingbot_agents.runtime.wiring import opening, risk_settings
from tradingbot_api import TradingBot


class Inspection:
    def __init__(
        self, *, bot: TradingBot, seed: int, start: datetime, exchange: SimulatedExchange, ledger: PostgresLedger
    ) -> None:
        """``start`` is when the first candle opens."""
        self._bot = bot
        self._seed = seed
        self._start = start
        self._exchange = exchange
        self._ledger = ledger
        self._quote = bot.spec.account.quote_currency

    def prices(self) -> dict[str, Decimal]:
        return {
            symbol: price
            for symbol in self._bot.spec.symbols
            if (price := self._exchange.last_price(symbol)) is not None
        }

    async def snapshot(self, control: StateControl, at: datetime, rate: float) -> Snapshot:
        balances = await self._ledger.balances()
        positions = await self._ledger.positions()
        prices = self.prices()
        played, in_all = self._exchange.progress
        return Snapshot(
            bot=self._bot.metadata.name,
            account=str(account_key(self._bot)),
            quote=self._quote,
            state=control(),
            hold=control.hold,
            at=at,
            candles=played,
            candles_in_all=in_all,
            rate=rate,
            equity_start=self._equity_start(),
            equity=reporting.equity_at(balances, prices, self._quote),
            realised=sum((position.realised for position in positions.values()), Decimal(0)),
            fees=sum((position.fees for position in positions.values()), Decimal(0)),
            balances=balances,
            positions=positions,
            prices=prices,
        )

    def _equity_start(self) -> Decimal:
        """What the account was worth when it was opened, at the opening prices."""
        prices = {symbol: self._exchange.opening_price(symbol) for symbol in self._bot.spec.symbols}
        paper = self._bot.spec.account.paper_balances or {}
        balances, adopted = opening(self._bot, paper, prices, self._exchange.rules)
        return sum((each.amount * each.price for each in adopted), balances.get(self._quote, Decimal(0)))

    def _tail_risk(self, balances: Mapping[str, Balance]) -> TailRisk | None:
        """Of what the account holds now; ``None``: nothing."""
        settings = risk_settings(self._bot)
        prices = self.prices()
        held = value_account(balances, prices, tuple(prices), self._quote).held
        if not held:
            return None
        closes = Closes(settings.value_at_risk.lookback_candles)
        for symbol in held:
            for bar in self._exchange.last_bars(symbol, settings.value_at_risk.lookback_candles + 1):
                closes.add(bar)
        returns = {symbol: closes.returns(symbol) for symbol in held}
        return tail_risk(held, returns, settings.value_at_risk.confidence, settings.quote_step)

    async def left(self) -> str:
        """What is left when a run is stopped, in words."""
        positions = [position for position in (await self._ledger.positions()).values() if position.is_held]
        stops = [order for order in await self._ledger.live_orders() if order.leg is Leg.STOP]
        played, in_all = self._exchange.progress
        return (
            f"Left: {_counted(len(positions), 'open position')}, {_counted(len(stops), 'stop')} resting on the"
            f" exchange, {_counted(in_all - played, 'candle')}."
        )

    async def report(self) -> reporting.Report:
        ledger = self._ledger
        played, _ = self._exchange.progress
        decisions = await ledger.decisions()
        balances = await ledger.balances()
        return reporting.build_report(
            reporting.Facts(
                bot=self._bot.metadata.name,
                account=str(account_key(self._bot)),
                quote_currency=self._quote,
                seed=self._seed,
                finished=self._exchange.next_close() is None,
                start=self._start,
                end=self._exchange.place,
                candles=played,
                approved=sum(1 for decision in decisions if decision.reason is None),
                refusals=await ledger.refusals(),
                trades=await ledger.trades(),
                fills=await ledger.fills(),
                positions=await ledger.positions(),
                balances=balances,
                prices=self.prices(),
                equity_start=self._equity_start(),
                equity_points=await ledger.equity(),
                risk=self._tail_risk(balances),
                invariants=[*await ledger.invariants(), await self._exchange_agrees()],
            )
        )

    async def _exchange_agrees(self) -> Invariant:
        """The ledger against the exchange's own books: balances, trades, and orders that only one of them knows."""
        ledger_totals = {asset: balance.total for asset, balance in (await self._ledger.balances()).items()}
        exchange_totals = {asset: balance.total for asset, balance in (await self._exchange.balances()).items()}
        violations = [
            f"{asset}: the ledger has {ledger_totals.get(asset, Decimal(0)):f}, "
            f"the exchange {exchange_totals.get(asset, Decimal(0)):f}"
            for asset in sorted({*ledger_totals, *exchange_totals})
            if ledger_totals.get(asset, Decimal(0)) != exchange_totals.get(asset, Decimal(0))
        ]
        booked = {fill.exchange_trade_id for fill in await self._ledger.fills()}
        traded = {trade.exchange_trade_id for trade in self._exchange.all_trades()}
        violations += [f"trade {trade} of the exchange is not booked" for trade in sorted(traded - booked)]
        violations += [
            f"fill {fill} is booked, and the exchange has no such trade" for fill in sorted(booked - traded)
        ]
        for order in await self._exchange.open_orders():
            known = order.client_order_id and await self._ledger.order(order.client_order_id)
            if not known or not known.state.is_live:
                violations.append(f"order {order.client_order_id} is open on the exchange and not in the ledger")
        return Invariant(
            name="exchange_agrees",
            protects="what we believe to have is what the exchange says we have",
            violations=tuple(violations),
        )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
