"""Evidence of the ledger: one snapshot of PostgreSQL, of a server or of a data directory. It only reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec

from tradingbot_agents.bus.topology import AGENTS, EXECUTION, RISK, STRATEGY
from tradingbot_agents.clock import Clock
from tradingbot_agents.ledger.port import AccountKey, LedgerError, Role
from tradingbot_agents.ledger.snapshot import LedgerSnapshot, Start, opened_snapshot
from tradingbot_agents.reality.evidence import EVENTS_HEARD, Epochs, Heard, Known, LedgerEvidence, Missing, Settings
from tradingbot_agents.reality.logs import OTHERS
from tradingbot_agents.reality.recount import Recount

MOST = 20_000
"""Rows of one kind, of a window. An order and its fill take four kilobytes until all is judged, and a check's pod has
a limit."""

_GROUPS = 1_000
_LONGEST = 200
_MOST_FIELDS = 30
_VIOLATIONS = 20

_RUN_STARTED = "run_started"
_STARTS = ("agent_started", _RUN_STARTED)
_WRITERS = (STRATEGY, RISK, EXECUTION)
"""Agents whose durable events are rows, when each is a process."""


async def ledger_evidence(
    url: Callable[[], str],
    settings: Settings,
    account: AccountKey,
    *,
    since: datetime,
    within: timedelta,
    clock: Clock,
) -> Known[LedgerEvidence]:
    """What happened from ``since`` on, and how things stand, within ``within``. Raises nothing: what is wrong is
    ``Missing``, without a secret."""
    seconds = within.total_seconds()
    schema: LedgerError | None = None
    try:
        async with (
            asyncio.timeout(seconds),
            opened_snapshot(url(), account, settings.bot, limit=seconds, most=MOST) as ledger,
        ):
            # What is wrong with it is a finding of its own; what this version needs may be there all the same.
            schema = await ledger.schema_problem()
            return await _evidence(ledger, since, clock, None if schema is None else str(schema))
    except TimeoutError:
        return Missing(f"the database did not answer all that was asked within {seconds:g} s")
    except LedgerError as error:
        return Missing(str(schema or error))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        told = getattr(error, "strerror", None) or str(error)
        return Missing(str(schema or f"the database can not be read: {told}"))
    except Exception as error:
        # Its text may hold the address with its password.
        return Missing(str(schema or f"the ledger could not be read: {type(error).__name__}"))


async def _evidence(ledger: LedgerSnapshot, since: datetime, clock: Clock, schema: str | None) -> LedgerEvidence:
    asked_at = clock.now()
    read_at = await ledger.now()
    books = await ledger.account_books()
    if books.opened_at is None:
        raise LedgerError("the account has no books yet: its bot has not begun")
    holdings = await ledger.holdings()
    positions = await ledger.positions()
    revisions = await _revisions(ledger)
    told = await ledger.told(EVENTS_HEARD, since, revisions, groups=_GROUPS, longest=_LONGEST, others=OTHERS)
    risk, execution = await ledger.writer(Role.RISK), await ledger.writer(Role.EXECUTION)
    return LedgerEvidence(
        read_at=read_at,
        asked_at=asked_at,
        schema=schema,
        opened_at=books.opened_at,
        books=books,
        invariants=await ledger.bounded_invariants(_VIOLATIONS),
        bots=await ledger.bots(),
        positions=positions,
        account_positions=await ledger.account_positions(),
        orders=await ledger.account_orders(since),
        reservations=await ledger.held(),
        fills=await ledger.account_fills(since),
        trades=await ledger.trades_since(since),
        refusals=await ledger.refusals_since(since),
        rules=await ledger.market_rules(),
        heard=tuple(
            Heard(
                agent=each.agent,
                name=each.name,
                key=each.key,
                count=each.count,
                first=each.first,
                last=each.last,
                sample=_sample(msgspec.json.decode(each.fields)),
            )
            for each in told
        ),
        revisions=revisions,
        epochs=Epochs(
            risk=risk.epoch,
            risk_since=risk.since,
            execution=execution.epoch,
            execution_since=execution.since,
        ),
        hold=await ledger.hold(),
        equity=await ledger.equity_since(since),
        outside=holdings.outside,
        profit_told=sum((each.realised for each in positions.values()), Decimal(0)),
        profit_counted=await _recounted(ledger),
    )


async def _revisions(ledger: LedgerSnapshot) -> dict[str, datetime]:
    """Since when each agent that writes here runs its present revision. Its start may be so long ago that it was
    pruned: then since its oldest word that is left."""
    found = running_since(await ledger.starts(_STARTS))
    return {**await ledger.oldest_words([agent for agent in _WRITERS if agent not in found]), **found}


def _sample(fields: Mapping[str, Any]) -> dict[str, object]:
    """Not much of it, as of a line of a log, whoever wrote the row."""
    return {name[:_LONGEST]: _short(value) for name, value in list(fields.items())[:_MOST_FIELDS]}


def _short(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return (value if isinstance(value, str) else msgspec.json.encode(value).decode())[:_LONGEST]


def running_since(starts: Iterable[Start]) -> dict[str, datetime]:
    """``starts`` are newest first. One of the same revision once more changes nothing. A run starts all agents; once
    one is a process of its own, only those write here that have told of their start since."""
    revisions: dict[str, str] = {}
    since: dict[str, datetime] = {}
    ended: set[str] = set()
    writers: frozenset[str] | None = None
    for start in starts:
        if start.name == _RUN_STARTED and writers is None:
            writers = frozenset(since or AGENTS)
        for agent in AGENTS if start.name == _RUN_STARTED else (start.agent,):
            if writers is not None and agent not in writers:
                continue
            if revisions.setdefault(agent, start.revision) != start.revision:
                ended.add(agent)
            elif agent not in ended:
                since[agent] = min(start.at, since.get(agent, start.at))
    return since


async def _recounted(ledger: LedgerSnapshot) -> Decimal:
    recount = Recount()
    for each in await ledger.adopted():
        recount.adopt(each.symbol, each.amount, each.cost)
    async for fill in ledger.every_fill():
        recount.take(fill)
    return recount.profit
