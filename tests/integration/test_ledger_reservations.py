"""The balance lock on a real database: nothing is promised twice, whoever asks and however many at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal

import asyncpg
import pytest

from support.ledger import ACCOUNT, NOW, connect, entry, exit_leg, exit_request, fill, opened, refusal
from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import BotState, Leg, Mode, Side
from tradingbot_agents.ledger.port import AccountKey, Fenced, Hold, LedgerError, Outcome, Role
from tradingbot_agents.ledger.postgres import PostgresLedger

pytestmark = pytest.mark.postgres

D = Decimal
THREE = (("btc", "BTC/USDT"), ("eth", "ETH/USDT"), ("sol", "SOL/USDT"))


async def assert_sound(ledger: PostgresLedger) -> None:
    violated = {rule.name: rule.violations for rule in await ledger.invariants() if rule.violations}
    assert not violated


@pytest.mark.parametrize("at_once", [True, False])
async def test_three_intents_against_84_54_usdt(ledger_dsn: str, at_once: bool) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    proposals = [entry(name, symbol) for name, symbol in THREE]
    if at_once:
        decisions = await ledger.reserve_many(risk, proposals)
    else:
        decisions = [await ledger.reserve(risk, proposal) for proposal in proposals]
    assert [decision.reason for decision in decisions] == [
        None,
        Reason.INSUFFICIENT_AVAILABLE_BALANCE,
        Reason.INSUFFICIENT_AVAILABLE_BALANCE,
    ]
    assert decisions[0].reserved == D("67.63")
    assert [decision.available_after for decision in decisions] == [D("16.91")] * 3
    assert decisions[1].detail == "67.63 USDT are needed, 16.91 are available"
    usdt = (await ledger.balances())["USDT"]
    assert (usdt.total, usdt.reserved, usdt.available) == (D("84.54"), D("67.63"), D("16.91"))
    assert [order.client_order_id for order in await ledger.orders_to_send()] == ["entry-btc"]
    # An entry is its own announcement.
    assert await ledger.unpublished(Role.RISK) == []
    assert await ledger.refusals() == {"insufficient_available_balance": 2}
    await assert_sound(ledger)
    await ledger.close()


async def test_a_batch_is_decided_in_its_order(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    decisions = await ledger.reserve_many(
        risk,
        [
            entry("1", "BTC/USDT", budget="80"),
            entry("2", "ETH/USDT", budget="10"),
            entry("3", "SOL/USDT", budget="4.54"),
            entry("4", "ADA/USDT", budget="0.01"),
        ],
    )
    assert [decision.outcome for decision in decisions] == [
        Outcome.APPROVED,
        Outcome.REJECTED,
        Outcome.APPROVED,
        Outcome.REJECTED,
    ]
    assert decisions[2].available_after == 0
    assert [decision.intent_id for decision in await ledger.decisions()] == [
        "intent-4",
        "intent-3",
        "intent-2",
        "intent-1",
    ]
    await ledger.close()


async def test_an_intent_is_decided_once(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    first = await ledger.reserve(risk, entry("btc"))
    refused = await ledger.reserve(risk, entry("eth", "ETH/USDT"))
    before = await ledger.balances()
    # Again, and with other figures: the decision stands.
    for again in (entry("btc"), entry("btc", "SOL/USDT", budget="1")):
        decision = await ledger.reserve(risk, again)
        assert not decision.new
        assert (decision.client_order_id, decision.reserved, decision.symbol) == ("entry-btc", D("67.63"), "BTC/USDT")
        assert decision.available_after == first.available_after
    assert (await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="1"))).reason == refused.reason
    assert await ledger.balances() == before
    assert len(await ledger.orders()) == 1
    assert await ledger.decision("intent-btc", "entry-btc") == (await ledger.decisions())[1]
    assert await ledger.decision("intent-unknown", "entry-unknown") is None
    await ledger.close()


async def test_an_intent_twice_in_a_batch(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    decisions = await ledger.reserve_many(risk, [entry("btc", budget="10"), entry("btc", budget="10")])
    assert [decision.new for decision in decisions] == [True, False]
    assert decisions[0].reserved == decisions[1].reserved == D(10)
    assert (await ledger.balances())["USDT"].reserved == D(10)
    await ledger.close()


async def test_one_position_per_symbol_and_at_most_so_many(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    small = {"budget": "5", "most": 2}
    await ledger.reserve(risk, entry("1", **small))
    assert (await ledger.reserve(risk, entry("2", **small))).reason is Reason.POSITION_ALREADY_OPEN
    # An entry that became a position counts once, whether it is unfinished or over.
    await ledger.claim(execution, "entry-1", NOW)
    await ledger.book("entry-1", [fill("entry-1", "t1", "0.0001", "40000")], None, NOW)
    assert (await ledger.reserve(risk, entry("3", **small))).reason is Reason.POSITION_ALREADY_OPEN
    assert (await ledger.reserve(risk, entry("4", "ETH/USDT", **small))).reason is None
    refused = await ledger.reserve(risk, entry("5", "SOL/USDT", **small))
    assert (refused.reason, refused.detail) == (Reason.MAX_OPEN_POSITIONS, "2 of at most 2 positions are open")
    await ledger.book("entry-1", [], OrderState.CANCELLED, NOW)
    assert (await ledger.reserve(risk, entry("6", **small))).reason is Reason.POSITION_ALREADY_OPEN
    assert (await ledger.reserve(risk, entry("7", "SOL/USDT", **small))).reason is Reason.MAX_OPEN_POSITIONS
    await ledger.deny(execution, "entry-4", "test", NOW)
    assert (await ledger.reserve(risk, entry("8", "SOL/USDT", **small))).reason is None
    await ledger.close()


async def test_a_hold_refuses_entries_until_a_person_releases_it(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    hold = Hold(state=BotState.REDUCE_ONLY, reason="fills differ", by="reality-check", at=NOW)
    await ledger.place_hold(hold)
    assert await ledger.hold() == hold
    refused = await ledger.reserve(risk, entry("1"))
    assert (refused.reason, refused.detail) == (
        Reason.NOT_TRADABLE_STATE,
        "ReduceOnly by reality-check: fills differ",
    )
    assert await ledger.release_hold()
    assert not await ledger.release_hold()
    assert await ledger.hold() is None
    assert (await ledger.reserve(risk, entry("2"))).outcome is Outcome.APPROVED
    await ledger.close()


async def test_refusals_are_recorded_once(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    await ledger.reserve(risk, entry("btc", budget="1"))
    decisions = await ledger.refuse(risk, [refusal("eth"), refusal("btc"), refusal("eth")])
    assert [decision.new for decision in decisions] == [True, False, False]
    assert decisions[0].reason is decisions[2].reason is Reason.NO_FRESH_PRICE
    assert decisions[1].outcome is Outcome.APPROVED
    assert not (await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="1"))).new
    assert await ledger.refusals() == {"no_fresh_price": 1}
    assert await ledger.refuse(risk, []) == []
    assert await ledger.reserve_many(risk, []) == []
    await ledger.close()


async def test_budgets_in_several_assets(ledger_dsn: str) -> None:
    ledger = await connect(ledger_dsn)
    await ledger.open_account({"USDT": D(10), "EUR": D(7)}, (), NOW, quote="USDT")
    risk = await ledger.raise_epoch(Role.RISK, NOW)
    await ledger.book_outside_movement("EUR", D(5), "deposit", NOW)
    decisions = await ledger.reserve_many(
        risk,
        [
            entry("1", "BTC/USDT", budget="6"),
            entry("2", "BTC/EUR", budget="4", asset="EUR"),
            entry("3", "ETH/USDT", budget="4"),
            # What was on the account at the opening and is nobody's stays aside.
            entry("4", "ETH/EUR", budget="1.01", asset="EUR"),
            entry("5", "SOL/GBP", budget="1", asset="GBP"),
        ],
    )
    assert [decision.available_after for decision in decisions] == [4, 1, 0, 1, 0]
    assert [decision.outcome is Outcome.APPROVED for decision in decisions] == [True, True, True, False, False]
    await assert_sound(ledger)
    await ledger.close()


async def test_hundreds_of_intents_at_once_over_several_bots(ledger_dsn: str) -> None:
    """Four bots with two connections each, 240 single and batched intents, all in flight together."""
    owner, _, _ = await opened(ledger_dsn, "1000")
    ledgers = []
    for number in range(4):
        one, other = await connect(ledger_dsn, f"bot-{number}"), await connect(ledger_dsn, f"bot-{number}")
        ledgers += [(one, other, await one.raise_epoch(Role.RISK, NOW))]
    calls = []
    for number, (one, other, risk) in enumerate(ledgers):
        for place in range(30):
            name, symbol = f"{number}-{place}", f"A{place}/USDT"
            calls.append(one.reserve_many(risk, [entry(name, symbol)]))
            # The same intents from the other connection, and new ones of the same symbols.
            calls.append(other.reserve_many(risk, [entry(name, symbol), entry(f"{name}-again", symbol)]))
    answers = [decision for decisions in await asyncio.gather(*calls) for decision in decisions]
    approved = {decision.client_order_id for decision in answers if decision.outcome is Outcome.APPROVED}
    assert len(approved) == 14  # 14 * 67.63 = 946.82: not one more fits.
    assert sum(decision.new for decision in answers) == 240
    usdt = (await owner.balances())["USDT"]
    assert (usdt.reserved, usdt.available) == (D("946.82"), D("53.18"))
    assert {reservation.client_order_id for reservation in await owner.reservations()} == approved
    await assert_sound(owner)
    for ledger in (owner, *(one for pair in ledgers for one in pair[:2])):
        await ledger.close()


async def test_two_risk_agents_at_once_of_which_the_older_is_fenced_off(ledger_dsn: str) -> None:
    old, risk, execution = await opened(ledger_dsn)
    await old.reserve(risk, entry("btc"))
    new = await connect(ledger_dsn)
    raised = await new.raise_epoch(Role.RISK, NOW + timedelta(seconds=1))
    assert raised.number == risk.number + 1
    before = (await old.balances(), await old.decisions(), await old.orders())
    for call in (
        old.reserve(risk, entry("eth", "ETH/USDT", budget="1")),
        old.reserve_many(risk, [entry("btc"), entry("sol", "SOL/USDT", budget="1")]),
        old.refuse(risk, [refusal("ada")]),
        old.request_exit(risk, exit_request("sell")),
        old.check_epoch(risk),
    ):
        with pytest.raises(Fenced, match="risk epoch 1 is fenced off by epoch 2") as raised_error:
            await call
        assert (raised_error.value.epoch, raised_error.value.current) == (risk, 2)
    assert (await old.balances(), await old.decisions(), await old.orders()) == before
    # The other role is another epoch, and the other bot is another one still.
    assert await new.claim(execution, "entry-btc", NOW) is not None
    assert (await new.reserve(raised, entry("eth", "ETH/USDT", budget="1"))).outcome is Outcome.APPROVED
    other = await connect(ledger_dsn, "minors")
    assert (await other.raise_epoch(Role.RISK, NOW)).number == 1
    await new.check_epoch(raised)
    for ledger in (old, new, other):
        await ledger.close()


async def test_an_older_execution_is_fenced_off(ledger_dsn: str) -> None:
    ledger, risk, old = await opened(ledger_dsn)
    await ledger.reserve(risk, entry("btc"))
    new = await ledger.raise_epoch(Role.EXECUTION, NOW)
    calls = (
        lambda epoch: ledger.claim(epoch, "entry-btc", NOW),
        lambda epoch: ledger.lose_contact(epoch, "entry-btc", "timeout", NOW),
        lambda epoch: ledger.acknowledge(epoch, "entry-btc", "x-1"),
        lambda epoch: ledger.request_cancel(epoch, "entry-btc", NOW),
        lambda epoch: ledger.lose_contact(epoch, "entry-btc", "timeout", NOW),
        lambda epoch: ledger.not_found(epoch, "entry-btc", NOW),
        lambda epoch: ledger.submit_leg(epoch, exit_leg("stop", "0.0001", leg=Leg.STOP)),
        lambda epoch: ledger.watch(epoch, "BTC/USDT", D(1), None),
        lambda epoch: ledger.mark_dust(epoch, "BTC/USDT", Leg.STOP, NOW),
    )
    for number, call in enumerate(calls):
        with pytest.raises(Fenced):
            await call(old)
        if number == 6:
            # Booking carries no epoch: what happened is booked whoever tells it.
            await ledger.book("entry-btc", [fill("entry-btc", "t1")], None, NOW)
        await call(new)
    with pytest.raises(Fenced):
        await ledger.deny(old, "entry-btc", "test", NOW)
    await assert_sound(ledger)
    await ledger.close()


async def test_epochs_raised_at_once_are_different(ledger_dsn: str) -> None:
    ledgers = [await connect(ledger_dsn) for _ in range(4)]
    epochs = await asyncio.gather(*(ledger.raise_epoch(Role.RISK, NOW) for ledger in ledgers))
    assert sorted(epoch.number for epoch in epochs) == [1, 2, 3, 4]
    for ledger in ledgers:
        await ledger.close()


async def test_the_database_itself_refuses_to_overcommit(ledger_dsn: str) -> None:
    """Even a reservation that went round our functions."""
    ledger, _, _ = await opened(ledger_dsn)
    connection = await asyncpg.connect(ledger_dsn)
    with pytest.raises(asyncpg.CheckViolationError, match="never_overcommitted"):
        await connection.execute("UPDATE balances SET reserved = 84.55 WHERE asset = 'USDT'")
    for amount in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(f"UPDATE balances SET total = '{amount}'")
    await connection.close()
    await ledger.close()


async def test_an_order_id_that_another_intent_has(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    await ledger.reserve(risk, entry("btc", budget="1"))
    clash = entry("eth", "ETH/USDT", budget="1")
    clash = type(clash)(
        **{name: getattr(clash, name) for name in clash.__struct_fields__} | {"client_order_id": "entry-btc"}
    )
    with pytest.raises(LedgerError, match="order entry-btc of intent intent-eth belongs to intent intent-btc"):
        await ledger.reserve(risk, clash)
    assert (await ledger.balances())["USDT"].reserved == 1
    assert await ledger.decision("intent-eth", "entry-eth") is None
    await ledger.close()


async def test_accounts_never_mix(ledger_dsn: str) -> None:
    paper, risk, _ = await opened(ledger_dsn)
    live = await PostgresLedger.connect(
        ledger_dsn, AccountKey(mode=Mode.LIVE, exchange="simulated", endpoint="", name="main"), "majors"
    )
    assert await live.balances() == {}
    assert await live.positions() == {}
    assert await live.orders() == []
    assert await live.hold() is None
    await live.open_account({"USDT": D(5)}, (), NOW, quote="USDT")
    live_risk = await live.raise_epoch(Role.RISK, NOW)
    assert (await live.reserve(live_risk, entry("btc"))).reason is Reason.INSUFFICIENT_AVAILABLE_BALANCE
    assert (await paper.reserve(risk, entry("btc"))).outcome is Outcome.APPROVED
    assert (await live.balances())["USDT"].total == 5
    for ledger in (paper, live):
        await assert_sound(ledger)
        await ledger.close()


async def test_an_account_is_opened_once(ledger_dsn: str) -> None:
    ledger = await connect(ledger_dsn)
    # Until then it is empty, and reading it says so.
    assert await ledger.balances() == {}
    assert await ledger.open_account({"USDT": D("84.54"), "BTC": D(0)}, (), NOW, quote="USDT")
    assert not await ledger.open_account({"USDT": D(1000)}, (), NOW, quote="USDT")
    other = await connect(ledger_dsn, "minors")
    assert not await other.open_account({"USDT": D(1000)}, (), NOW, quote="USDT")
    assert (await other.balances())["USDT"].total == D("84.54")
    assert [(line.asset, line.amount, line.kind) for line in await other.entries()] == [
        ("USDT", D("84.54"), "opening")
    ]
    with pytest.raises(LedgerError, match=f"account {ACCOUNT} was opened with quote currency USDT, not EUR"):
        await other.open_account({}, (), NOW, quote="EUR")
    for one in (ledger, other):
        await one.close()


async def test_a_decision_keeps_what_it_was_made_with(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    await ledger.reserve(risk, entry("btc"))
    decision = await ledger.decision("intent-btc", "entry-btc")
    assert decision is not None
    assert (decision.side, decision.confidence, decision.at) == (Side.BUY, D("0.8123"), NOW)
    order = await ledger.order("entry-btc")
    assert order is not None
    assert (order.state, order.cause, order.attempt) == (OrderState.APPROVED, "intent-btc", 0)
    assert (order.amount, order.limit_price, order.stop_price) == (D("0.00055"), D("121556.65"), None)
    assert order.expires_at == NOW + timedelta(minutes=5)
    await ledger.close()
