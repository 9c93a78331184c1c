"""What follows from a report: a hold, a row in the ledger, messages, a ping. In this order, and nothing fails it.

The hold comes first, for it may be money; then the report is kept, which names it. People are told last, for that
takes the longest and is made again at the next run if it could not be done.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import LedgerError
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.reality import history, holding
from tradingbot_agents.reality.history import History
from tradingbot_agents.reality.report import TREND, Report
from tradingbot_agents.runtime.addresses import Address, read_notification, read_ping
from tradingbot_agents.runtime.notifying import Delivery, Send, ping, tell
from tradingbot_agents.telemetry import get_logger
from tradingbot_api import TradingBot


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    report: Report
    """With the hold that it placed."""
    number: int | None
    """In the ledger; ``None``: it could not be kept."""
    deliveries: tuple[Delivery, ...]
    """A message each, sent or not."""
    ping: Delivery | None
    """``None``: there was nothing to ping, or the check did not pass."""


class Addresses(msgspec.Struct, frozen=True):
    notifications: Mapping[str, Address]
    """By the notification's name."""
    ping: Address | None
    """``None``: the spec wants none."""

    @property
    def all(self) -> tuple[Address, ...]:
        return (*self.notifications.values(), *(() if self.ping is None else (self.ping,)))


def read_addresses(bot: TradingBot, environment: Mapping[str, str]) -> Addresses:
    """What the spec names. One that is missing is told when it is needed."""
    wants_ping = bot.spec.reality_check.ping_url_secret_ref is not None
    return Addresses(
        {each.name: read_notification(each.name, environment) for each in bot.spec.notifications},
        read_ping(environment) if wants_ping else None,
    )


async def past_reports(ledger: PostgresLedger, limit: int = TREND - 1) -> History:
    """The newest ones, newest first. Raises ``LedgerUnavailable`` or ``LedgerError``."""
    return history.read(await ledger.reports(limit))


async def conclude(
    report: Report,
    bot: TradingBot,
    ledger: PostgresLedger | None,
    addresses: Addresses,
    clock: Clock,
    *,
    send: Send | None = None,
) -> Conclusion:
    """``ledger`` is ``None`` when it could not be opened. Raises nothing: what can not be done is told in the log."""
    number = None
    if ledger is not None:
        report = await _held(report, bot, ledger)
        number = await _kept(report, ledger)
    deliveries = await tell(report, bot.spec.notifications, addresses.notifications, ledger, clock, send=send)
    pinged = None if addresses.ping is None else await ping(report, addresses.ping, clock)
    return Conclusion(report=report, number=number, deliveries=tuple(deliveries), ping=pinged)


async def _held(report: Report, bot: TradingBot, ledger: PostgresLedger) -> Report:
    asked = bot.spec.reality_check.on_severe
    state = None if asked == "Report" else BotState(asked)
    try:
        hold = await ledger.hold_by_check(lambda present, before: holding.holding(report, state, present, before))
    except LedgerError as error:
        get_logger().error("reality_hold_not_placed" if report.severe else "reality_not_remembered", why=str(error))
        return report
    if hold is None:
        return report
    get_logger().error("reality_hold_placed", state=hold.state.value, reason=hold.reason)
    return msgspec.structs.replace(report, hold=holding.words(hold))


async def _kept(report: Report, ledger: PostgresLedger) -> int | None:
    try:
        return await ledger.keep_report(history.to_keep(report))
    except LedgerError as error:
        get_logger().warning("reality_report_not_kept", why=str(error))
        return None
