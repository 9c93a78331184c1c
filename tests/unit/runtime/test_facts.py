"""What is told on the TradingBot, and when that is worth a write."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.execution import stop_order
from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import LedgerUnavailable
from tradingbot_agents.runtime.api_server import ApiUnavailable
from tradingbot_agents.runtime.cluster import Teller, read_cluster
from tradingbot_agents.runtime.connections import ConnectionsInvalid
from tradingbot_agents.runtime.facts import FRESH, MOST_POSITIONS, PAUSE, Report, Worth, is_due, status_of, worth_of
from tradingbot_agents.telemetry import MemorySink
from tradingbot_api.status import Status

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def position(symbol: str, **changes: Any) -> Position:
    held = Position(
        symbol=symbol,
        state=PositionState.OPEN,
        amount=Decimal("0.0010"),
        cost=Decimal("60.30"),
        stop_price=Decimal(57000),
    )
    return msgspec.structs.replace(held, **changes)


def stop_of(symbol: str, state: OrderState = OrderState.OPEN) -> Order:
    return stop_order(symbol=symbol, state=state)


def worth(*positions: Position, orders: tuple[Order, ...] = (), equity: str | None = "100", after: int = 0) -> Worth:
    return worth_of(
        {each.symbol: each for each in positions},
        orders,
        None if equity is None else Decimal(equity),
        "USDT",
        NOW + after * SECOND,
    )


def running(what: Worth | None) -> Report:
    return Report(BotState.RUNNING, what)


# ---------------------------------------------------------------------------------------------- what is told


def test_the_status_is_what_the_crd_knows_and_no_more() -> None:
    btc = position("BTC/USDT")
    flat = position("ETH/USDT", state=PositionState.FLAT, amount=Decimal(0), cost=Decimal(0))
    dust = position("SOL/USDT", state=PositionState.DUST)
    status = status_of("risk", "0123456789ab", running(worth(btc, flat, dust, orders=(stop_of("BTC/USDT"),))))
    assert status == {
        "agents": {"risk": {"state": "Running", "revision": "0123456789ab"}},
        "equity": "100",
        "quoteCurrency": "USDT",
        "openPositions": 1,
        "liveOrders": 1,
        "unprotectedPositions": 0,
        "factsAt": "2026-03-01T12:00:00Z",
        "positions": [{"symbol": "BTC/USDT", "amount": "0.001", "averagePrice": "60300", "protected": True}],
    }
    strict = msgspec.convert(status, Status, strict=False)
    assert strict.open_positions == 1


def test_execution_tells_its_state_alone() -> None:
    assert status_of("execution", None, Report(BotState.PAUSED, None)) == {
        "agents": {"execution": {"state": "Paused"}}
    }


def test_an_equity_that_is_not_known_is_not_told() -> None:
    assert "equity" not in status_of("risk", None, running(worth(equity=None)))


@pytest.mark.parametrize(
    ("stop_price", "orders", "protected"),
    [
        (Decimal(57000), (), True),
        (None, (stop_of("BTC/USDT"),), True),
        (None, (), False),
        (None, (stop_of("ETH/USDT"),), False),
        (None, (stop_of("BTC/USDT", OrderState.UNRESOLVED),), False),
    ],
)
def test_a_position_is_protected_by_a_stop_that_rests_or_is_watched(
    stop_price: Decimal | None, orders: tuple[Order, ...], protected: bool
) -> None:
    told = worth(position("BTC/USDT", stop_price=stop_price), orders=orders)
    assert [holding.protected for holding in told.holdings] == [protected]
    assert told.unprotected == (0 if protected else 1)


def test_more_positions_than_the_status_has_room_for_are_counted() -> None:
    many = [position(f"COIN{number:03}/USDT") for number in range(MOST_POSITIONS + 5)]
    status = status_of("risk", None, running(worth(*many)))
    assert (len(status["positions"]), status["openPositions"]) == (MOST_POSITIONS, MOST_POSITIONS + 5)


# ------------------------------------------------------------------------------------------ when it is a write


def test_the_first_report_is_due_and_the_same_again_is_not() -> None:
    report = running(worth())
    assert is_due(None, report, timedelta.max)
    assert not is_due(report, report, FRESH - SECOND)


@pytest.mark.parametrize(
    "news",
    [
        Report(BotState.PAUSED, worth(position("BTC/USDT"))),
        running(worth()),
        running(worth(position("ETH/USDT"))),
        running(worth(position("BTC/USDT"), position("ETH/USDT"))),
        running(worth(position("BTC/USDT", stop_price=None))),
        running(worth(position("BTC/USDT"), orders=(stop_of("BTC/USDT"),))),
    ],
)
def test_what_somebody_waits_for_is_told_at_once(news: Report) -> None:
    assert is_due(running(worth(position("BTC/USDT"))), news, timedelta(0))


@pytest.mark.parametrize(
    "news",
    [
        worth(position("BTC/USDT"), orders=(stop_of("BTC/USDT"),), equity="100.1"),
        worth(position("BTC/USDT"), orders=(stop_of("BTC/USDT"),), equity="99.9"),
        worth(position("BTC/USDT"), orders=(stop_of("BTC/USDT"),), equity=None),
        worth(position("BTC/USDT", amount=Decimal("0.0005")), orders=(stop_of("BTC/USDT"),)),
        worth(position("BTC/USDT"), orders=(stop_of("BTC/USDT"), stop_of("ETH/USDT"))),
    ],
)
def test_other_news_is_told_with_a_pause(news: Worth) -> None:
    before = running(worth(position("BTC/USDT"), orders=(stop_of("BTC/USDT"),)))
    assert not is_due(before, running(news), PAUSE - SECOND)
    assert is_due(before, running(news), PAUSE)


@pytest.mark.parametrize(
    ("equity", "told"),
    [
        ("926.051569589", "926.052"),
        ("1000", "1000"),
        ("1234567.891", "1234567.89"),
        ("0.0123456789", "0.0123457"),
        ("-3.104999999", "-3.105"),
        ("0", "0"),
    ],
)
def test_equity_is_told_as_a_person_reads_it(equity: str, told: str) -> None:
    assert status_of("risk", None, running(worth(equity=Decimal(equity))))["equity"] == told


@pytest.mark.parametrize("equity", ["100.09", "99.91", "100.00"])
def test_equity_below_a_step_is_no_news(equity: str) -> None:
    assert not is_due(running(worth()), running(worth(equity=equity)), FRESH - SECOND)


def test_nothing_is_no_step_of_nothing() -> None:
    assert not is_due(running(worth(equity="0")), running(worth(equity="0.00")), FRESH - SECOND)
    assert is_due(running(worth(equity="0")), running(worth(equity="0.01")), PAUSE)


def test_a_report_is_repeated_before_it_looks_old() -> None:
    seconds = int(FRESH.total_seconds())
    assert not is_due(running(worth()), running(worth(after=seconds - 1)), timedelta.max)
    assert is_due(running(worth()), running(worth(after=seconds)), timedelta.max)


def test_execution_has_nothing_to_repeat() -> None:
    report = Report(BotState.PAUSED, None)
    assert not is_due(report, report, timedelta.max)


# ----------------------------------------------------------------------------------------------- the teller


class Desk:
    """A teller whose state, facts and API server the test decides."""

    def __init__(self, *, agent: str = "risk") -> None:
        self.clock = VirtualClock(NOW)
        self.sink = MemorySink()
        self.state = BotState.RUNNING
        self.worth: Worth | Exception = worth()
        self.refuses: str | None = None
        self.idle = asyncio.Event()
        self.idle.set()
        self.written: list[dict[str, Any]] = []
        self.asked = 0
        self.looks = 0
        self.up: list[bool] = []
        self.teller = Teller(
            agent=agent,
            revision="0123456789ab",
            state=lambda: self.state,
            settled=self._settled,
            worth=self._look if agent == "risk" else None,
            look_interval=5 * SECOND,
            apply=self._apply,
            clock=self.clock,
            sink=self.sink,
            up=self.up.append,
        )

    async def _settled(self) -> None:
        await self.idle.wait()

    async def _look(self) -> Worth:
        self.looks += 1
        if isinstance(self.worth, Exception):
            raise self.worth
        return msgspec.structs.replace(self.worth, at=self.clock.now())

    async def _apply(self, status: Mapping[str, Any]) -> None:
        self.asked += 1
        if self.refuses is not None:
            raise ApiUnavailable(self.refuses)
        self.written.append(dict(status))

    async def beats(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.teller.beat()
            self.clock.advance_to(self.clock.now() + SECOND)

    @property
    def events(self) -> list[str]:
        return [event.name for event in self.sink.events]


async def test_an_agent_at_rest_writes_once_in_ten_minutes() -> None:
    desk = Desk()
    await desk.beats(1801)
    assert len(desk.written) == 1 + 3
    assert desk.looks == 361


async def test_execution_at_rest_writes_once() -> None:
    desk = Desk(agent="execution")
    await desk.beats(1801)
    assert desk.written == [{"agents": {"execution": {"state": "Running", "revision": "0123456789ab"}}}]


async def test_a_state_is_told_when_it_is_reached_and_not_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tradingbot_agents.runtime.cluster._SETTLE_SECONDS", 0.01)
    desk = Desk(agent="execution")
    await desk.beats(2)
    desk.state = BotState.PAUSED
    desk.idle.clear()
    await desk.beats(3)
    assert len(desk.written) == 1, "a handler still runs that began when it was Running"
    desk.idle.set()
    await desk.beats(1)
    assert [each["agents"]["execution"]["state"] for each in desk.written] == ["Running", "Paused"]


async def test_nothing_is_told_before_the_first_look_for_that_would_take_away_what_was_told_before() -> None:
    desk = Desk()
    desk.worth = LedgerUnavailable("no answer")
    await desk.beats(10)
    assert desk.asked == 0
    desk.worth = worth(position("BTC/USDT"))
    await desk.beats(5)
    assert [each["openPositions"] for each in desk.written] == [1]


async def test_facts_that_can_not_be_looked_at_keep_their_time_and_the_state_is_told_all_the_same() -> None:
    desk = Desk()
    await desk.beats(1)
    desk.worth = LedgerUnavailable("no answer")
    await desk.beats(10)
    desk.state = BotState.FLATTEN
    await desk.beats(1)
    first, second = desk.written
    assert second["agents"]["risk"]["state"] == "Flatten"
    assert second["factsAt"] == first["factsAt"]


async def test_an_api_server_that_refuses_is_told_once_and_tried_with_growing_pauses() -> None:
    desk = Desk()
    desk.refuses = "the API server says 403: not yours"
    await desk.beats(3600)
    assert desk.events == ["dependency_away"]
    (away,) = desk.sink.events
    assert (away.what, away.why) == ("kubernetes", desk.refuses)  # type: ignore[attr-defined]
    assert desk.up == [False]
    assert 10 < desk.asked < 20
    desk.refuses = None
    await desk.beats(300)
    assert desk.events == ["dependency_away", "dependency_back"]
    assert desk.up == [False, True]
    assert len(desk.written) == 1


async def test_whatever_goes_wrong_the_agent_does_not_hear_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk()
    desk.worth = ZeroDivisionError("a defect of ours")
    await desk.beats(1)
    assert "telling_failed" in capsys.readouterr().out
    desk.worth = worth()
    await desk.beats(5)
    assert len(desk.written) == 1


# ------------------------------------------------------------------------------------------- the environment

IN_CLUSTER = {
    "TRADINGBOT_KUBERNETES": "1",
    "TRADINGBOT_NAMESPACE": "bots",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
}


def test_only_risk_and_execution_write() -> None:
    assert [agent for agent in AGENTS if read_cluster(agent, IN_CLUSTER)] == ["risk", "execution"]
    assert read_cluster("risk", {**IN_CLUSTER, "TRADINGBOT_KUBERNETES": ""}) is None


def test_a_pod_finds_the_api_server_by_what_every_pod_is_given() -> None:
    access = read_cluster("risk", IN_CLUSTER)
    assert access is not None
    assert (access.server, access.namespace) == ("https://10.96.0.1:443", "bots")
    assert access.folder == Path("/var/run/secrets/kubernetes.io/serviceaccount")
    assert access.revision is None
    other = read_cluster("risk", {**IN_CLUSTER, "KUBERNETES_SERVICE_HOST": "fd00::1"})
    assert other is not None
    assert other.server == "https://[fd00::1]:443"


def test_a_half_told_cluster_is_refused_with_all_that_is_missing() -> None:
    with pytest.raises(ConnectionsInvalid) as raised:
        read_cluster("risk", {"TRADINGBOT_KUBERNETES": "1", "KUBERNETES_SERVICE_PORT": "443"})
    assert "TRADINGBOT_NAMESPACE, KUBERNETES_SERVICE_HOST is not set" in str(raised.value)
