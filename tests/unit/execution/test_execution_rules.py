"""Market rules that change under a position: a halt, a delisting, a coarser grid, a higher minimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec
import pytest

from support.execution import SETTINGS, SYMBOL, D
from support.execution_rig import Rig
from support.fake_venue import FakeVenue, Spoil
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.position import PositionState
from tradingbot_agents.domain.symbol_rules import Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.exchange import NotListed

from .conftest import RigFactory

REREAD = msgspec.structs.replace(SETTINGS, rules_interval=timedelta(minutes=5), watch_interval=timedelta(seconds=10))
OTHER = "ETH/USDT"


@pytest.fixture
async def rig(make_rig: RigFactory) -> Rig:
    rig = await make_rig(symbols=(SYMBOL, OTHER), settings=REREAD)
    await rig.start()
    return rig


def change(rig: Rig, **changes: object) -> None:
    """The exchange's rules are others from now on."""
    rig.venue.rules[SYMBOL] = msgspec.structs.replace(rig.venue.rules[SYMBOL], **changes)


async def test_a_halt_leaves_the_stop_where_it_is_and_is_told_with_its_end(rig: Rig) -> None:
    await rig.approve()
    change(rig, active=False)
    await rig.run(301)
    assert rig.events().count("symbol_halted") == 1
    calls = len(rig.venue.sent)
    await rig.ask_exit()
    await rig.run(120)
    (stop,) = await rig.legs(Leg.STOP)
    assert stop.state is OrderState.OPEN, "withdrawn now it could not be placed again"
    assert len(rig.venue.sent) == calls
    assert "position_unprotected" not in rig.events()
    change(rig, active=True)
    await rig.run(61)
    assert rig.events().count("symbol_trades") == 1
    assert [trade.leg for trade in await rig.ledger.trades()] == [Leg.EXIT]
    await rig.check()


async def test_a_halt_with_nothing_on_the_exchange_is_told_as_unprotected_and_sold_after(rig: Rig) -> None:
    await rig.approve()
    (stop,) = await rig.legs(Leg.STOP)
    change(rig, active=False)
    await rig.run(301)
    rig.venue.cancel_by_hand(stop.client_order_id)
    await rig.run(20)
    assert "position_unprotected" in rig.events()
    sent = len(rig.venue.sent)
    await rig.run(600)
    assert len(rig.venue.sent) == sent, "nothing is sent into a halt"
    change(rig, active=True)
    await rig.run(61)
    assert len(await rig.legs(Leg.STOP)) == 2
    assert "position_protected" in rig.events()


class Delisting(FakeVenue):
    """Forgets symbols, as an exchange does; a new connection has never seen them."""

    gone: frozenset[str] = frozenset()

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        missing = sorted(self.gone & set(symbols))
        if missing:
            raise NotListed(missing, "the exchange")
        return await super().market_rules(symbols)


async def test_a_symbol_that_was_delisted_while_we_were_away_holds_up_no_other(rig: Rig) -> None:
    await rig.approve()
    await rig.approve(symbol=OTHER)
    rig.venue.__class__ = Delisting
    assert isinstance(rig.venue, Delisting)
    rig.venue.gone = frozenset({SYMBOL})
    await rig.start()
    assert rig.events().count("symbol_halted") == 1
    held = await rig.position()
    assert held.state is PositionState.OPEN, "it is a person's to withdraw"
    await rig.ask_exit(symbol=OTHER)
    assert [(trade.symbol, trade.leg) for trade in await rig.ledger.trades()] == [(OTHER, Leg.EXIT)]


async def test_a_symbol_that_was_never_listed_is_refused_at_the_start(rig: Rig) -> None:
    rig.venue.__class__ = Delisting
    assert isinstance(rig.venue, Delisting)
    rig.venue.gone = frozenset({SYMBOL})
    rig.ledger.account.rules.clear()  # type: ignore[attr-defined]
    with pytest.raises(NotListed, match=r"BTC/USDT: not listed on the exchange; check spec\.symbols"):
        await rig.start()


async def test_a_coarser_grid_leaves_a_resting_stop_alone_and_the_rest_of_a_sale_is_dust(rig: Rig) -> None:
    await rig.approve()
    change(rig, amount=Precision(PrecisionMode.TICK_SIZE, D("0.4")), min_amount=D("0.4"))
    await rig.run(301)
    (stop,) = await rig.legs(Leg.STOP)
    assert stop.state is OrderState.OPEN
    await rig.ask_exit()
    await rig.run(11)
    (sale,) = await rig.legs(Leg.EXIT)
    assert sale.amount == D("0.8"), "on the new grid"
    held = await rig.position()
    assert (held.state, held.amount) == (PositionState.DUST, D("0.199"))
    await rig.check()


async def test_a_position_below_a_new_minimum_keeps_the_stop_that_rests(rig: Rig) -> None:
    """The exchange took it before; placed anew it would be refused."""
    await rig.approve()
    change(rig, min_notional=D(1000))
    await rig.run(301)
    (stop,) = await rig.legs(Leg.STOP)
    assert stop.state is OrderState.OPEN
    rig.venue.move(SYMBOL, D("94"))
    await rig.run(11)
    assert [trade.leg for trade in await rig.ledger.trades()] == [Leg.STOP]
    await rig.check()


async def test_rules_that_can_not_be_read_now_are_the_old_ones(rig: Rig) -> None:
    await rig.approve()
    rig.venue.spoil("market_rules", Spoil.LOST_REQUEST)
    await rig.run(301)
    assert rig.events().count("symbol_halted") == 0
    await rig.ask_exit()
    assert [trade.leg for trade in await rig.ledger.trades()] == [Leg.EXIT]
