"""A thousand intents of ten bots at once on one account: no overcommitment, and how fast it is.

    python benchmarks/shared_account.py [--intents N] [--bots N]

Each bot has a connection of its own, as its risk process has, and reserves one intent after the other while all
others do the same; the account can pay for a tenth of what they ask. Durable (fsync on). Then the books are checked:
what was approved is reserved to the last digit and no more than there is, everything else was refused for the
balance, and the ledger's invariants hold. The peer is one bot that reserves as many alone.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tradingbot_agents.domain import ids
from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.values import Leg, Mode, Side
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.migrate import migrate
from tradingbot_agents.ledger.port import AccountKey, Decision, EntryProposal, Epoch, Outcome, Role
from tradingbot_agents.ledger.postgres import PostgresLedger

NOW = datetime(2025, 10, 9, 12, tzinfo=UTC)
BUDGET = Decimal("67.63")
PAYABLE = 10
"""One intent of so many can be paid for."""


def proposal(account: AccountKey, bot: str, number: int, most: int) -> EntryProposal:
    symbol = f"COIN{number}/USDT"
    intent = ids.intent_id(bot, symbol, Side.BUY, f"candle.{number}")
    return EntryProposal(
        intent_id=intent,
        client_order_id=ids.client_order_id(str(account), bot, intent, Leg.ENTRY, 0),
        symbol=symbol,
        confidence=Decimal("0.8123"),
        amount=Decimal("0.00055"),
        limit_price=Decimal("121556.65"),
        reserve_asset="USDT",
        reserve_amount=BUDGET,
        stop_price=Decimal("115478.82"),
        target_price=Decimal("133712.32"),
        indicators=("emaCross", "rsi", "macd"),
        correlation_id=f"candle.{number}",
        at=NOW,
        expires_at=NOW + timedelta(minutes=5),
        max_open_positions=most,
    )


async def contest(dsn: str, account: AccountKey, bots: int, intents: int) -> float:
    """Decisions a second, with the books checked."""
    ledgers = [await PostgresLedger.connect(dsn, account, f"bot-{number}", pool_size=1) for number in range(bots)]
    try:
        money = BUDGET * (intents // PAYABLE) + Decimal("16.91")
        await ledgers[0].open_account({"USDT": money}, (), NOW, quote="USDT")
        epochs = [await ledger.raise_epoch(Role.RISK, NOW) for ledger in ledgers]
        each = intents // bots

        async def reserve(ledger: PostgresLedger, epoch: Epoch, bot: str) -> list[Decision]:
            asked = [proposal(account, bot, number, each + 1) for number in range(each)]
            return [await ledger.reserve(epoch, one) for one in asked]

        began = time.perf_counter()
        decided = await asyncio.gather(
            *(
                reserve(ledger, epoch, f"bot-{n}")
                for n, (ledger, epoch) in enumerate(zip(ledgers, epochs, strict=True))
            )
        )
        seconds = time.perf_counter() - began
        await check(ledgers[0], [decision for answers in decided for decision in answers], money)
        return bots * each / seconds
    finally:
        for ledger in ledgers:
            await ledger.close()


async def check(ledger: PostgresLedger, decisions: list[Decision], money: Decimal) -> None:
    approved = [decision for decision in decisions if decision.outcome is Outcome.APPROVED]
    refused = [decision for decision in decisions if decision.outcome is not Outcome.APPROVED]
    balance = (await ledger.balances())["USDT"]
    wrong = []
    if balance.reserved != BUDGET * len(approved):
        wrong.append(f"{len(approved)} were approved, and {balance.reserved} is reserved")
    if len(approved) != money // BUDGET:
        wrong.append(f"{len(approved)} were approved, and the account can pay for {money // BUDGET}")
    if balance.available < 0:
        wrong.append(f"overcommitted: {balance.available} is available")
    if any(decision.reason is not Reason.INSUFFICIENT_AVAILABLE_BALANCE for decision in refused):
        wrong.append("something was refused for another reason than the balance")
    wrong += [f"{each.name}: {text}" for each in await ledger.invariants() for text in each.violations]
    if wrong:
        raise SystemExit("OVERCOMMITTED OR WRONG: " + "; ".join(wrong))
    print(
        f"  {len(decisions)} intents: {len(approved)} approved, {len(refused)} refused for the balance,"
        f" {balance.reserved} of {balance.total} reserved, every invariant holds"
    )


async def run(folder: Path, bots: int, intents: int) -> None:
    server = EmbeddedPostgres(folder)
    dsn = await server.start()
    try:
        await migrate(dsn)
        rates = {}
        for many in (1, bots):
            account = AccountKey(mode=Mode.PAPER, exchange="simulated", endpoint="", name=f"shared-{many}")
            print(f"{many} bot{'s' if many > 1 else ''} on one account")
            rates[many] = await contest(dsn, account, many, intents)
            print(f"  {rates[many]:,.0f} decisions a second")
        print(f"{bots} bots at once / one alone: {rates[bots] / rates[1]:.0%}")
    finally:
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intents", type=int, default=1000, help="of all bots together (default 1000)")
    parser.add_argument("--bots", type=int, default=10, help="(default 10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tradingbot-benchmark-") as name:
        folder = Path(name)
        # The server is another user when we are root.
        folder.chmod(0o755)
        asyncio.run(run(folder, options.bots, options.intents))


if __name__ == "__main__":
    main()
