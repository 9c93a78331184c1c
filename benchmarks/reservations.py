"""How fast reservations are, durable, and what our own layers cost of that.

    python benchmarks/reservations.py [--rounds N]

Starts an embedded PostgreSQL of its own (fsync on, synchronous_commit on) in a temporary folder and compares, in
interleaved rounds so that a busy machine slows all of them:

- ``reserve`` of the ledger, one after the other;
- the same SQL function called by bare asyncpg with its arguments ready made;
- a bare SQL function that only checks, holds and inserts one row: about the least that any lock could do;
- ``reserve_many`` with batches of ten.

``sync`` is what the disk takes for one commit: the rates can not be compared between machines without it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import asyncpg

from tradingbot_agents.domain import ids
from tradingbot_agents.domain.values import Leg, Mode, Side
from tradingbot_agents.ledger import rows
from tradingbot_agents.ledger.database import SESSION
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.migrate import migrate
from tradingbot_agents.ledger.port import AccountKey, EntryProposal, Epoch, Outcome, Role
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.runtime.run import GARBAGE_THRESHOLD

NOW = datetime(2025, 10, 9, 12, tzinfo=UTC)
ACCOUNT = AccountKey(mode=Mode.PAPER, exchange="simulated", endpoint="", name="benchmark")
BOT = "benchmark"
SYMBOLS = tuple(f"{base}/USDT" for base in ("BTC", "ETH", "SOL", "BNB", "XRP", "ADA", "DOGE", "AVAX", "DOT", "LINK"))
BATCH = len(SYMBOLS)
"""Also how many calls are timed in a row: after so many, their orders are ended, as their exits would."""
BATCHES_A_ROUND = 20

FLOOR = """
CREATE TABLE floor_orders (id text PRIMARY KEY, amount numeric NOT NULL, ended boolean NOT NULL DEFAULT false);
CREATE FUNCTION floor_reserve(_account integer, _id text, _amount numeric) RETURNS boolean
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM FROM balances WHERE account = _account AND asset = 'USDT' AND total - reserved >= _amount FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE balances SET reserved = reserved + _amount WHERE account = _account AND asset = 'USDT';
    INSERT INTO floor_orders (id, amount) VALUES (_id, _amount);
    RETURN true;
END
$body$;
"""

_numbers = count(1)


def proposal(symbol: str) -> EntryProposal:
    """As risk makes it for the 84.54 USDT example, with a budget that a long run does not use up."""
    number = next(_numbers)
    intent = ids.intent_id(BOT, symbol, Side.BUY, f"candle.{number}")
    order = ids.client_order_id(str(ACCOUNT), BOT, intent, Leg.ENTRY, 0)
    amount, price = Decimal("0.00055"), Decimal("121556.65")
    return EntryProposal(
        intent_id=intent,
        client_order_id=order,
        symbol=symbol,
        confidence=Decimal("0.8123"),
        amount=amount,
        limit_price=price,
        reserve_asset="USDT",
        reserve_amount=Decimal("67.63"),
        stop_price=Decimal("115478.82"),
        target_price=Decimal("133712.32"),
        indicators=("emaCross", "rsi", "macd"),
        correlation_id=f"candle.{number}",
        at=NOW,
        expires_at=NOW + timedelta(minutes=5),
        max_open_positions=BATCH,
    )


class Contest:
    """The ways to reserve, each called with a batch of proposals."""

    def __init__(
        self,
        ledger: PostgresLedger,
        connection: asyncpg.Connection[asyncpg.Record],
        janitor: asyncpg.Connection[asyncpg.Record],
        epoch: Epoch,
    ) -> None:
        """``janitor`` ends orders between the measured calls, so that no other session is warmer for it."""
        self._ledger = ledger
        self._connection = connection
        self._janitor = janitor
        self._epoch = epoch

    async def reserve(self, batch: Sequence[EntryProposal]) -> float:
        started = time.perf_counter()
        decisions = [await self._ledger.reserve(self._epoch, one) for one in batch]
        taken = time.perf_counter() - started
        if any(decision.outcome is not Outcome.APPROVED for decision in decisions):
            raise SystemExit(f"a reservation was refused: {decisions}")
        return taken

    async def same_sql(self, batch: Sequence[EntryProposal]) -> float:
        account, bot = await self._ids()
        ready = [(account, bot, "risk", self._epoch.number, [rows.proposal(one)]) for one in batch]
        started = time.perf_counter()
        for arguments in ready:
            await self._connection.fetch("SELECT * FROM reserve($1, $2, $3, $4, $5)", *arguments)
        return time.perf_counter() - started

    async def floor(self, batch: Sequence[EntryProposal]) -> float:
        account, _ = await self._ids()
        started = time.perf_counter()
        for one in batch:
            await self._connection.fetchval(
                "SELECT floor_reserve($1, $2, $3)", account, one.client_order_id, one.reserve_amount
            )
        return time.perf_counter() - started

    async def reserve_many(self, batch: Sequence[EntryProposal]) -> float:
        started = time.perf_counter()
        decisions = await self._ledger.reserve_many(self._epoch, batch)
        taken = time.perf_counter() - started
        if any(decision.outcome is not Outcome.APPROVED for decision in decisions):
            raise SystemExit(f"a reservation was refused: {decisions}")
        return taken

    async def end_orders(self) -> None:
        """What was reserved stays so: only the orders make room for the next. It is on disk when this returns, or
        the next call would pay for it."""
        await self._janitor.execute(
            "UPDATE orders SET state = 'denied', finished_at = created_at WHERE finished_at IS NULL;"
            "UPDATE floor_orders SET ended = true WHERE NOT ended"
        )

    async def _ids(self) -> tuple[int, int]:
        row = await self._connection.fetchrow("SELECT account, id FROM bots")
        return row["account"], row["id"]


def sync_time(folder: Path) -> float:
    """Seconds that one small write takes to be on disk."""
    descriptor = os.open(folder / "probe", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        taken = []
        for _ in range(50):
            started = time.perf_counter()
            os.pwrite(descriptor, b"x" * 8192, 0)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - started)
        return statistics.median(taken)
    finally:
        os.close(descriptor)


async def measure(dsn: str, rounds: int) -> dict[str, list[float]]:
    """Reservations a second, of each way and round."""
    ledger = await PostgresLedger.connect(dsn, ACCOUNT, BOT)
    connection = await asyncpg.connect(dsn, server_settings=SESSION)
    janitor = await asyncpg.connect(dsn, server_settings=SESSION)
    try:
        await connection.execute(FLOOR)
        await ledger.open_account({"USDT": Decimal(10**12)}, (), NOW, quote="USDT")
        contest = Contest(ledger, connection, janitor, await ledger.raise_epoch(Role.RISK, NOW))
        ways: dict[str, Callable[[Sequence[EntryProposal]], Awaitable[float]]] = {
            "reserve": contest.reserve,
            "same SQL, bare asyncpg": contest.same_sql,
            "bare floor": contest.floor,
            f"reserve_many({BATCH})": contest.reserve_many,
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                seconds = 0.0
                for _ in range(BATCHES_A_ROUND):
                    seconds += await way([proposal(symbol) for symbol in SYMBOLS])
                    await contest.end_orders()
                # The first round warms up.
                if number:
                    rates[name].append(BATCHES_A_ROUND * BATCH / seconds)
        return rates
    finally:
        await janitor.close()
        await connection.close()
        await ledger.close()


def print_report(rates: dict[str, list[float]], sync: float) -> None:
    reserve, same_sql, floor, many = rates.values()
    print(f"sync {sync * 1e6:.0f} µs")
    print(f"{'reservations a second':<26}{'median':>9}{'lowest':>9}{'highest':>9}")
    for name, figures in rates.items():
        print(f"{name:<26}{statistics.median(figures):>9,.0f}{min(figures):>9,.0f}{max(figures):>9,.0f}")
    for name, others, goal in (("same SQL", same_sql, 0.90), ("bare floor", floor, 0.60)):
        ratios = [ours / theirs for ours, theirs in zip(reserve, others, strict=True)]
        print(
            f"reserve / {name:<16}{statistics.median(ratios):>9.0%}{min(ratios):>9.0%}{max(ratios):>9.0%}"
            f"   goal {goal:.0%}"
        )
    print(f"reserve_many({BATCH}): {statistics.median(many):,.0f} a second, goal 10,000")


async def run(folder: Path, rounds: int) -> None:
    server = EmbeddedPostgres(folder)
    dsn = await server.start()
    try:
        await migrate(dsn)
        sync = sync_time(folder)
        print_report(await measure(dsn, rounds), sync)
    finally:
        await server.stop()


def main() -> None:
    # As the run itself does (runtime/run.py).
    gc.set_threshold(GARBAGE_THRESHOLD)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds (default 7)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="tradingbot-benchmark-") as name:
        folder = Path(name)
        # The server is another user when we are root.
        folder.chmod(0o755)
        asyncio.run(run(folder, rounds))


if __name__ == "__main__":
    main()
