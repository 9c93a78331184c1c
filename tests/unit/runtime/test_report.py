"""The report, against figures that were worked out by hand, and what a person and a program read of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.values import Leg, Side
from tradingbot_agents.ledger.port import Balance, EquityPoint, Invariant, Trade
from tradingbot_agents.risk.exposure import TailRisk
from tradingbot_agents.runtime.report import (
    Facts,
    Report,
    build_report,
    equity_at,
    max_drawdown,
    to_json,
    to_text,
)

START = datetime(2024, 3, 1, tzinfo=UTC)
END = START + timedelta(hours=100)


def hours(number: float) -> datetime:
    return START + timedelta(hours=number)


def balance(asset: str, total: str, reserved: str = "0", outside: str = "0") -> Balance:
    return Balance(asset=asset, total=Decimal(total), reserved=Decimal(reserved), outside_holds=Decimal(outside))


def trade(symbol: str, opened: float, closed: float, profit: str, leg: Leg = Leg.STOP) -> Trade:
    return Trade(
        trade_id=f"trade-{symbol}-{opened:g}",
        symbol=symbol,
        opened_at=hours(opened),
        closed_at=hours(closed),
        bought=Decimal("0.0100"),
        cost=Decimal("600.60"),
        profit=Decimal(profit),
        fees=Decimal("1.20"),
        leg=leg,
        indicators=("rsi-14", "macd-12-26-9"),
    )


def a_fill(number: int) -> Fill:
    return Fill(
        exchange_trade_id=str(number),
        client_order_id=f"order-{number}",
        symbol="BTC/USDT",
        side=Side.BUY,
        amount=Decimal("0.01"),
        price=Decimal(60000),
        fee=Fee(asset="USDT", amount=Decimal("0.60"), quote_value=Decimal("0.60")),
        at=hours(number),
    )


BTC = Position(
    symbol="BTC/USDT",
    state=PositionState.OPEN,
    amount=Decimal("0.0100"),
    cost=Decimal("601.00"),
    exit_hold=Decimal("0.01"),
    opened_at=hours(90),
    stop_price=Decimal(57000),
    target_price=Decimal(66000),
    realised=Decimal("-30.00"),
    fees=Decimal("2.40"),
)
ETH = Position(symbol="ETH/USDT", state=PositionState.FLAT, realised=Decimal("80.50"), fees=Decimal("1.60"))
SOL = Position(
    symbol="SOL/USDT",
    state=PositionState.DUST,
    amount=Decimal("0.002"),
    cost=Decimal("0.30"),
    opened_at=hours(60),
    stop_price=Decimal(120),
    realised=Decimal("0.00"),
    fees=Decimal("0.50"),
)
HOLDS = Invariant(name="totals_are_sums_of_entries", protects="the books", violations=())


def facts(**changes: Any) -> Facts:
    whole = Facts(
        bot="majors",
        account="paper/simulated/main",
        quote_currency="USDT",
        seed=7,
        finished=True,
        start=START,
        end=END,
        candles=3600,
        approved=4,
        refusals={"position_already_open": 2, "insufficient_available_balance": 9},
        trades=(
            trade("BTC/USDT", 10, 20, "-30.00"),
            trade("ETH/USDT", 15, 40, "80.50", Leg.TARGET),
            trade("SOL/USDT", 60, 61, "0.00", Leg.EXIT),
        ),
        fills=tuple(a_fill(number) for number in range(7)),
        positions={"SOL/USDT": SOL, "BTC/USDT": BTC, "ETH/USDT": ETH},
        balances={
            "USDT": balance("USDT", "449.20", "49.20"),
            "BTC": balance("BTC", "0.0100", "0.01"),
            "SOL": balance("SOL", "0.002"),
            "BNB": balance("BNB", "3"),
        },
        prices={"BTC/USDT": Decimal(61000), "SOL/USDT": Decimal(100)},
        equity_start=Decimal("1000.00"),
        equity_points=(
            EquityPoint(hours(20), Decimal(970)),
            EquityPoint(hours(40), Decimal(1100)),
            EquityPoint(hours(70), Decimal(990)),
        ),
        risk=TailRisk(Decimal("12.34"), Decimal("15.60"), 500),
        invariants=(HOLDS, HOLDS),
    )
    return msgspec.structs.replace(whole, **changes)


def test_the_figures_of_a_run() -> None:
    report = build_report(facts())
    # 449.20 + 0.01 BTC at 61,000 + 0.002 SOL at 100; the BNB has no price in USDT and counts nothing.
    assert report.equity.end == Decimal("1059.4")
    assert report.equity.start == Decimal(1000)
    assert report.equity.change == Decimal("0.0594")
    assert report.profit == Decimal("50.5")
    # BTC 610 - 601 = 9; SOL 0.20 - 0.30 = -0.10.
    assert report.unrealised == Decimal("8.9")
    assert report.equity.end - report.equity.start == report.profit + report.unrealised
    assert report.fees == Decimal("4.5")
    assert (report.decisions, report.approved) == (15, 4)
    assert (report.trades, report.wins, report.losses, report.fills) == (3, 1, 1, 7)
    # 1100 down to 990.
    assert report.drawdown == Decimal("0.1")
    assert report.refusals == {"insufficient_available_balance": 9, "position_already_open": 2}


def test_exposure_counts_overlapping_positions_once() -> None:
    # 10..20 and 15..40 together are 30 h; 60..61 is 1 h, and its dust none; the open position since 90 is 10 h.
    assert build_report(facts()).exposure == Decimal("0.41")


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], "0"),
        ([(0, 100)], "1"),
        ([(10, 20), (12, 15)], "0.1"),
        ([(10, 20), (10, 20), (20, 30)], "0.2"),
        ([(50, 60), (10, 20)], "0.2"),
        ([(-5, 10)], "0.1"),
        ([(95, 101)], "0.05"),
    ],
)
def test_exposure(spans: list[tuple[float, float]], expected: str) -> None:
    trades = [trade("BTC/USDT", opened, closed, "1") for opened, closed in spans]
    assert build_report(facts(trades=trades, positions={})).exposure == Decimal(expected)


def test_a_run_that_has_not_begun_has_no_exposure_and_no_change() -> None:
    report = build_report(facts(end=START, trades=(), positions={}, equity_start=Decimal(0), equity_points=()))
    assert report.exposure == 0
    assert report.equity.change == 0


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([], "0"),
        (["100"], "0"),
        (["100", "110", "120"], "0"),
        (["100", "90", "95", "80", "200"], "0.2"),
        (["100", "50", "200", "120"], "0.5"),
        (["0", "100", "0"], "1"),
        (["3", "2"], "0.3333"),
    ],
)
def test_drawdown(curve: list[str], expected: str) -> None:
    assert max_drawdown([Decimal(value) for value in curve]) == Decimal(expected)


def test_the_drawdown_sees_the_start_and_the_end_too() -> None:
    report = build_report(facts(equity_start=Decimal("2118.80"), equity_points=()))
    assert report.drawdown == Decimal("0.5")


def test_equity_counts_every_asset_at_its_price_in_the_quote_currency() -> None:
    balances = {"USDT": balance("USDT", "10", "10"), "BTC": balance("BTC", "2"), "ETH": balance("ETH", "1")}
    prices = {"BTC/USDT": Decimal(100), "ETH/BTC": Decimal(50)}
    assert equity_at(balances, prices, "USDT") == Decimal(210)


def test_a_position_shows_exits_only_while_there_is_something_to_exit() -> None:
    btc, eth, sol = build_report(facts()).positions
    assert (btc.average_cost, btc.stop, btc.target) == (Decimal(60100), Decimal(57000), Decimal(66000))
    assert (eth.average_cost, eth.stop, eth.unrealised) == (None, None, None)
    assert (sol.state, sol.stop, sol.unrealised) == ("dust", None, Decimal("-0.1"))


def test_violated_invariants_are_counted_and_said() -> None:
    broken = Invariant(name="no_overcommitment", protects="money", violations=("USDT by 3", "BTC by 0.1"))
    report = build_report(facts(invariants=(HOLDS, broken)))
    assert (report.invariants.checked, report.invariants.violated) == (2, 1)
    assert report.invariants.details == ("no_overcommitment: USDT by 3", "no_overcommitment: BTC by 0.1")


TEXT = """\
majors: 3,600 candles, 2024-03-01 00:00 to 2024-03-05 04:00 UTC (finished)

  equity      1,000.00 USDT → 1,059.40 USDT (+5.94 %)
  profit      50.50 USDT realised, 8.90 USDT unrealised, fees 4.50 USDT
  trades      3 closed: 1 won, 1 lost; 7 fills
  drawdown    10.00 % at most
  exposure    in the market 41.00 % of the time
  decisions   15: 4 approved, 11 refused
         9  insufficient_available_balance
         2  position_already_open
  positions
    BTC/USDT   open     0.01 · stop 57000, target 66000 · 9.00 USDT unrealised
    SOL/USDT   dust     0.002 · too little to be sold · -0.10 USDT unrealised
  risk        one bar: value at risk 12.34 USDT, expected shortfall 15.60 USDT
  invariants  2 checked, all hold"""


def test_the_text() -> None:
    assert to_text(build_report(facts())) == TEXT


def test_the_worst_news_comes_first() -> None:
    broken = Invariant(name="no_overcommitment", protects="money", violations=("USDT by 3",))
    lines = to_text(build_report(facts(invariants=(HOLDS, broken)))).splitlines()
    assert lines[:4] == [
        "!! 1 of 2 invariants are VIOLATED:",
        "   no_overcommitment: USDT by 3",
        "",
        TEXT.splitlines()[0],
    ]
    assert lines[-1] == "  invariants  2 checked, 1 VIOLATED"


def test_the_text_of_a_run_that_is_not_finished_or_did_nothing() -> None:
    nothing = facts(
        finished=False, trades=(), fills=(), positions={}, refusals={}, approved=0, equity_points=(), prices={}
    )
    text = to_text(build_report(nothing))
    assert "(not finished: the same command goes on from here)" in text
    assert "  decisions   0: 0 approved, 0 refused\n  positions   none\n" in text


def test_a_position_without_a_stop_or_a_price_says_so_loudly() -> None:
    bare = msgspec.structs.replace(BTC, stop_price=None, target_price=None)
    text = to_text(build_report(facts(positions={"BTC/USDT": bare}, prices={})))
    assert "BTC/USDT   open     0.01 · NO STOP · no price" in text


def test_the_text_fits_a_terminal_of_eighty_columns() -> None:
    assert max(map(len, to_text(build_report(facts())).splitlines())) <= 80


KEYS = {
    "version", "bot", "account", "quoteCurrency", "seed", "finished", "start", "end", "candles", "decisions",
    "approved", "trades", "wins", "losses", "fills", "refusals", "fees", "profit", "unrealised", "equity",
    "drawdown", "exposure", "valueAtRisk", "expectedShortfall", "positions", "balances", "invariants", "closedTrades",
}  # fmt: skip


def test_the_json_keeps_its_keys_and_its_money_in_plain_strings() -> None:
    data = json.loads(to_json(build_report(facts())))
    assert set(data) == KEYS
    assert data["equity"] == {"start": "1000", "end": "1059.4", "change": "0.0594"}
    assert data["invariants"] == {"checked": 2, "violated": 0, "details": []}
    assert (data["candles"], data["decisions"], data["trades"]) == (3600, 15, 3)
    assert (data["fees"], data["profit"], data["drawdown"]) == ("4.5", "50.5", "0.1000")
    assert data["refusals"] == {"insufficient_available_balance": 9, "position_already_open": 2}
    assert data["positions"][0] == {
        "symbol": "BTC/USDT",
        "state": "open",
        "amount": "0.01",
        "averageCost": "60100.000000000000",
        "price": "61000",
        "stop": "57000",
        "target": "66000",
        "unrealised": "9",
    }
    assert data["balances"][0] == {
        "asset": "BNB", "total": "3", "reserved": "0", "outsideHolds": "0", "available": "3",
    }  # fmt: skip
    assert data["closedTrades"][1] == {
        "tradeId": "trade-ETH/USDT-15",
        "symbol": "ETH/USDT",
        "openedAt": "2024-03-01T15:00:00Z",
        "closedAt": "2024-03-02T16:00:00Z",
        "bought": "0.01",
        "cost": "600.6",
        "profit": "80.5",
        "fees": "1.2",
        "closedBy": "target",
        "indicators": ["rsi-14", "macd-12-26-9"],
    }


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in _numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("amount", ["1E+3", "1E-9", "0E-12", "-0.00", "1000000000.10"])
def test_no_amount_is_a_float_or_has_an_exponent(amount: str) -> None:
    odd = facts(balances={"USDT": balance("USDT", amount)}, positions={}, trades=(), equity_points=())
    data = json.loads(to_json(build_report(odd)))
    assert _numbers(data) == []
    total = data["balances"][0]["total"]
    assert "E" not in total
    assert not total.startswith("-0")
    assert Decimal(total) == Decimal(amount)


def test_the_json_is_read_back_as_the_report_it_was() -> None:
    report = build_report(facts())
    assert msgspec.json.decode(to_json(report), type=Report) == report


def test_what_was_set_aside_is_nobodys_equity() -> None:
    held = {
        "USDT": balance("USDT", "900"),
        "BTC": Balance(
            asset="BTC", total=Decimal("1.01"), reserved=Decimal(0), outside_holds=Decimal(1), set_aside=Decimal(1)
        ),
    }
    assert equity_at(held, {"BTC/USDT": Decimal(60000)}, "USDT") == Decimal(1500)


def test_a_drawdown_is_of_the_money_that_was_at_work() -> None:
    points = (
        EquityPoint(hours(10), Decimal(1000), Decimal(-900)),
        EquityPoint(hours(20), Decimal(910), Decimal(-900)),
    )
    left = {"USDT": balance("USDT", "10")}
    report = build_report(facts(balances=left, positions={}, equity_points=points, equity_start=Decimal(1000)))
    assert report.drawdown == Decimal("0.9")


def test_what_a_bar_can_cost() -> None:
    report = build_report(facts())
    assert (report.value_at_risk, report.expected_shortfall) == (Decimal("12.34"), Decimal("15.60"))
    assert "risk        one bar: value at risk 12.34 USDT, expected shortfall 15.60 USDT" in to_text(report)
    data = json.loads(to_json(report))
    assert (data["valueAtRisk"], data["expectedShortfall"]) == ("12.34", "15.60")


def test_what_a_bar_can_cost_is_not_known_from_few_bars_nor_of_nothing() -> None:
    few = build_report(facts(risk=TailRisk(None, None, 3)))
    assert (few.value_at_risk, few.expected_shortfall) == (None, None)
    assert "too few bars" in to_text(few)
    nothing = build_report(facts(risk=None, positions={}))
    assert nothing.value_at_risk is None
    assert "one bar" not in to_text(nothing)
