"""The reconciliation on the real ledger: several bots compare one account, and a fill takes its movement back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from support.binance import BinanceServer
from support.binance.adapter import adapter_on
from support.execution import SYMBOL, D
from support.execution_rig import ACCOUNT, BOT, Rig
from support.reconciling import MARGIN, PERIOD, RECONCILING, Comparer, agree, half_filled, outside, told
from tradingbot_agents.domain.events import OutsideMovementBooked, OutsideMovementReversed, Reconciled
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import Leg, Side
from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange
from tradingbot_agents.ledger.postgres import PostgresLedger

pytestmark = pytest.mark.postgres


@pytest.fixture
async def rig(ledger_dsn: str) -> AsyncIterator[Rig]:
    """An account that was opened an hour ago; the agent is not started."""
    ledger = await PostgresLedger.connect(ledger_dsn, ACCOUNT, BOT)
    rig = Rig(ledger, settings=RECONCILING)
    await rig.open()
    rig.clock.advance_to(rig.clock.now() + timedelta(hours=1))
    yield rig
    await rig.end()
    await ledger.close()


async def test_of_bots_that_compare_at_the_same_time_one_books(rig: Rig, ledger_dsn: str) -> None:
    rig.venue.purse["USDT"] += D(50)
    rig.venue.order_by_hand(SYMBOL, Side.BUY, "1", "20")
    bots = ["minors", "memes", "stables", "others"]
    ledgers = [await PostgresLedger.connect(ledger_dsn, ACCOUNT, bot) for bot in bots]
    comparers = [Comparer(rig, ledger, bot) for bot, ledger in zip(bots, ledgers, strict=True)]
    await asyncio.gather(*(comparer.reconciler.run() for comparer in comparers))
    assert await outside(rig.ledger) == [("outside", "USDT", "50")]
    assert len(told(rig, OutsideMovementBooked)) == 1
    assert (await rig.ledger.balances())["USDT"].outside_holds == 20
    # Who came too late compares again, and has no doubt about what is booked now.
    rig.clock.advance_to(rig.clock.now() + timedelta(seconds=MARGIN))
    for comparer in comparers:
        await comparer.reconciler.run()
    assert all(comparer.reconciler.done for comparer in comparers)
    assert len(await outside(rig.ledger)) == 1
    await rig.check_invariants()
    for ledger in ledgers:
        await ledger.close()


async def test_a_hidden_fill_is_a_movement_until_it_is_found(rig: Rig) -> None:
    await rig.start()
    name = await half_filled(rig)
    await rig.run(120)
    rig.venue.hidden.update(rig.venue.fill_late(name, D("0.25")))
    await rig.run(PERIOD)
    assert await outside(rig.ledger) == [("outside", "BTC", "0.24975"), ("outside", "USDT", "-25")]
    await agree(rig)
    rig.venue.hidden.clear()
    await rig.run(PERIOD + MARGIN)
    assert len(told(rig, OutsideMovementReversed)) == 2
    assert (await rig.position()).amount == D("0.74925")
    await rig.run(PERIOD)
    assert [kind for kind, *_ in await outside(rig.ledger)] == ["outside", "outside", "reversal", "reversal"]
    await rig.check()
    await agree(rig)


async def test_a_restored_ledger_catches_up_with_the_exchange(rig: Rig) -> None:
    """An order that the lost time sent is nobody's, and what it did came from outside; a fill of one that the books
    have is booked."""
    await rig.start()
    name = await half_filled(rig)
    await rig.end()
    lost = rig.venue.order_by_hand(SYMBOL, Side.BUY, "1", "100", "tblosttimelosttime")
    rig.venue.fill_by_hand(lost)
    rig.venue.fill_late(name, D("0.25"))
    rig.clock.advance_to(rig.clock.now() + timedelta(days=1))
    await rig.start()
    await rig.run(PERIOD)
    assert await outside(rig.ledger) == [("outside", "BTC", "0.999"), ("outside", "USDT", "-100")]
    assert (await rig.position()).amount == D("0.74925")
    assert told(rig, Reconciled)[-1].fills + told(rig, Reconciled)[-2].fills == 2
    await agree(rig)
    await rig.check_invariants()


# --- on an exchange that speaks, by ccxt


@pytest.fixture
async def binance() -> AsyncIterator[BinanceServer]:
    async with BinanceServer(balances={"USDT": Decimal(1000)}) as server:
        server.move(SYMBOL, "100")
        yield server


@pytest.fixture
async def venue(binance: BinanceServer, rig: Rig) -> AsyncIterator[CcxtExchange]:
    """The rig's time is the server's."""
    rig.clock.advance_to(datetime.now(UTC))
    async with adapter_on(binance) as exchange:
        yield exchange


def others_order(server: BinanceServer, side: str, amount: str, price: str, name: str) -> None:
    server.books.place(
        symbol="BTCUSDT",
        side=side,
        type="LIMIT",
        time_in_force="GTC",
        quantity=D(amount),
        price=D(price),
        stop_price=None,
        client_order_id=name,
        now=server.now(),
    )


async def agrees_with(server: BinanceServer, rig: Rig) -> None:
    ours = {asset: balance.total for asset, balance in (await rig.ledger.balances()).items() if balance.total}
    assert ours == server.books.totals()


async def test_an_account_that_others_use_too(rig: Rig, binance: BinanceServer, venue: CcxtExchange) -> None:
    await rig.start(venue=venue)
    assert len(told(rig, Reconciled)) == 1
    await rig.approve()
    (stop,) = await rig.legs(Leg.STOP)
    assert stop.state is OrderState.OPEN
    others_order(binance, "BUY", "1", "90", "web_1")
    binance.books.balances["USDT"].free += D("12.34")
    await rig.run(PERIOD + MARGIN)
    assert await outside(rig.ledger) == [("outside", "USDT", "12.34")]
    usdt, btc = (await rig.ledger.balances())["USDT"], (await rig.ledger.balances())["BTC"]
    assert (usdt.outside_holds, btc.outside_holds) == (D(90), D(0))
    assert told(rig, Reconciled)[-1].outside_orders == 1
    await agrees_with(binance, rig)
    binance.move(SYMBOL, "89")
    await rig.run(2 * PERIOD)
    assert (await rig.position()).amount == 0, "our stop sold, and theirs bought"
    assert (await rig.ledger.balances())["USDT"].outside_holds == 0
    assert (await outside(rig.ledger))[1:] == [("outside", "BTC", "0.999"), ("outside", "USDT", "-90")]
    await agrees_with(binance, rig)
    await rig.check_invariants()


async def test_a_stop_that_sold_while_we_were_away_and_a_withdrawal(
    rig: Rig, binance: BinanceServer, venue: CcxtExchange
) -> None:
    await rig.start(venue=venue)
    await rig.approve()
    await rig.end()
    binance.move(SYMBOL, "94")
    binance.books.balances["USDT"].free -= D(50)
    rig.clock.advance_to(rig.clock.now() + timedelta(minutes=10))
    await rig.start(venue=venue)
    assert (await rig.position()).amount == 0
    await rig.run(MARGIN)
    assert await outside(rig.ledger) == [("outside", "USDT", "-50")]
    assert len(told(rig, Reconciled)) == 2
    await agrees_with(binance, rig)


async def test_balances_that_lag_after_a_trade(rig: Rig, binance: BinanceServer, venue: CcxtExchange) -> None:
    await rig.start(venue=venue)
    binance.freeze_balances()
    await rig.approve()
    await rig.run(PERIOD)
    assert await outside(rig.ledger) == []
    binance.thaw_balances()
    await rig.run(PERIOD)
    assert await outside(rig.ledger) == []
    await agrees_with(binance, rig)
