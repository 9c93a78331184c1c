"""The first start on a real exchange: the ledger's account is opened with what is on the exchange's.

It happens once for ever. Everything after it is a fill, a fee, or an outside movement, so nothing of ours may have
been sent before: execution does it before its agent starts.
"""

from __future__ import annotations

from decimal import Decimal

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.values import ZERO, split_symbol
from tradingbot_agents.exchange.port import TradingVenue
from tradingbot_agents.ledger.port import Ledger
from tradingbot_agents.runtime.wiring import opening
from tradingbot_api import TradingBot


async def open_account(bot: TradingBot, ledger: Ledger, venue: TradingVenue, clock: Clock) -> bool:
    """Open the account with the exchange's balances, free and used; ``False`` when it was open already, and then the
    exchange is asked nothing.

    Holdings in the bot's symbols are adopted at the exchange's last price, if the spec says so. May be repeated.
    Raises ``ExchangeError``, ``LedgerError`` (also for another quote currency than it was opened with) or
    ``LedgerUnavailable``.
    """
    quote = bot.spec.account.quote_currency
    if (await ledger.account_books()).opened_at is not None:
        return await ledger.open_account({}, (), clock.now(), quote=quote)
    holdings = {asset: balance.total for asset, balance in (await venue.balances()).items()}
    rules = await venue.market_rules(bot.spec.symbols)
    prices: dict[str, Decimal | None] = {}
    if bot.spec.account.holdings_at_start == "adopt":
        for symbol in bot.spec.symbols:
            base, _ = split_symbol(symbol)
            if holdings.get(base, ZERO) > ZERO:
                prices[symbol] = (await venue.ticker(symbol)).last
    balances, adopted = opening(bot, holdings, prices, rules)
    return await ledger.open_account(balances, adopted, clock.now(), quote=quote)
