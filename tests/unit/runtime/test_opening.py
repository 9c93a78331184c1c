"""The account of a real exchange, as the first start finds it."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from support.execution import CAPABILITIES, NOW, RULES, SYMBOL, D
from support.fake_venue import FakeVenue, Spoil
from support.ledger_model import LedgerModel, ModelAccount
from support.specs import LIVE, bot_of
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.position import PositionState
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange.port import ExchangeError
from tradingbot_agents.ledger.port import LedgerError
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.runtime.opening import open_account
from tradingbot_api import TradingBot

ETH = "ETH/USDT"


class Start:
    def __init__(self, **changes: object) -> None:
        self.bot: TradingBot = bot_of(LIVE, symbols=[SYMBOL, ETH], **changes)
        self.clock = VirtualClock(NOW)
        ether = msgspec.structs.replace(RULES, symbol=ETH, base="ETH")
        self.venue = FakeVenue(self.clock, {SYMBOL: RULES, ETH: ether}, {SYMBOL: D(100), ETH: D(10)}, CAPABILITIES)
        self.venue.purse = {"USDT": D(500), "BNB": D(2)}
        self.venue.base = {SYMBOL: D("1.5")}
        self.account = ModelAccount(account_key(self.bot))
        self.ledger = LedgerModel(self.account, self.bot.metadata.name)

    async def open(self) -> bool:
        return await open_account(self.bot, self.ledger, self.venue, self.clock)


async def test_the_first_start_writes_down_what_is_there() -> None:
    start = Start()
    start.venue.order_by_hand(SYMBOL, Side.BUY, "1", "90")
    assert await start.open() is True
    balances = await start.ledger.balances()
    assert {asset: (one.total, one.available) for asset, one in balances.items()} == {
        "USDT": (D(500), D(500)),
        "BNB": (D(2), D(0)),
        "BTC": (D("1.5"), D(0)),
    }, "free and used; what others hold is found by the first comparison"
    assert await start.ledger.positions() == {}
    assert "ticker" not in start.venue.calls
    assert (await start.ledger.account_books()).opened_at == NOW


async def test_holdings_are_adopted_at_the_price_of_now() -> None:
    start = Start(account__holdingsAtStart="adopt")
    assert await start.open() is True
    (position,) = (await start.ledger.positions()).values()
    assert (position.symbol, position.state, position.amount) == (SYMBOL, PositionState.OPEN, D("1.5"))
    assert (position.cost, position.stop_price) == (D(150), D(95))
    assert start.venue.calls.count("ticker") == 1, "no price is needed of what is not held"


async def test_the_second_start_asks_the_exchange_nothing() -> None:
    start = Start()
    await start.open()
    start.venue.calls.clear()
    start.venue.purse["USDT"] = D(700)
    start.clock.advance_to(NOW + timedelta(days=1))
    assert await start.open() is False
    assert start.venue.calls == []
    assert (await start.ledger.balances())["USDT"].total == 500


async def test_another_bot_of_the_account_finds_it_open() -> None:
    start = Start(account__holdingsAtStart="adopt")
    await start.open()
    other = LedgerModel(start.account, "another")
    assert await open_account(start.bot, other, start.venue, start.clock) is False
    assert await other.positions() == {}


async def test_another_quote_currency_is_refused_at_every_start() -> None:
    start = Start()
    await start.open()
    other = bot_of(LIVE, symbols=["BTC/EUR"], account__quoteCurrency="EUR")
    with pytest.raises(LedgerError):
        await open_account(other, start.ledger, start.venue, start.clock)


@pytest.mark.parametrize("call", ["balances", "ticker"])
async def test_what_the_exchange_does_not_tell_is_not_guessed(call: str) -> None:
    start = Start(account__holdingsAtStart="adopt")
    start.venue.spoil(call, Spoil.LOST_REQUEST)
    with pytest.raises(ExchangeError):
        await start.open()
    assert (await start.ledger.account_books()).opened_at is None
    assert await start.open() is True
