"""Small replays for tests: candle files written from rows, and a simulated exchange over them."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import TIMEFRAMES, OrderType, Side, TimeInForce, to_millis
from tradingbot_agents.exchange.candle_source import find_candles
from tradingbot_agents.exchange.faults import Faults
from tradingbot_agents.exchange.market_rules import load_market_rules
from tradingbot_agents.exchange.port import Capabilities, OrderRequest
from tradingbot_agents.exchange.simulated import SimulatedExchange, SimulatedSettings

START = datetime(2024, 3, 1, tzinfo=UTC)
STEP = TIMEFRAMES["5m"]
HEADER = "ts_ms,open,high,low,close,volume"

Bar = tuple[object, object, object, object, object]
"""open, high, low, close, volume"""

EXAMPLES = Path(__file__).parents[2] / "examples" / "candles"
MARKET_DATA = Path(os.environ.get("TRADINGBOT_MARKET_DATA") or Path(__file__).parents[3] / "shared" / "market-data")
"""Whole candle files, which are not part of the project: tests that need them are skipped without."""

SETTINGS = SimulatedSettings(
    initial_balances={"USDT": Decimal("10000")},
    fees=None,
    slippage=Decimal("0"),
    latency=timedelta(0),
    participation=Decimal("1"),
    rate_limit=None,
    rate_window=timedelta(minutes=1),
    lost_calls=Decimal(0),
    history=1000,
    capabilities=Capabilities(stop_market=True, stop_limit=True, client_order_ids=True),
)


def flat(price: object, volume: object = 100) -> Bar:
    return (price, price, price, price, volume)


def lines(bars: Sequence[Bar], start: datetime = START, step: timedelta = STEP) -> list[str]:
    return [
        ",".join([str(to_millis(start + place * step)), *(str(value) for value in bar)])
        for place, bar in enumerate(bars)
    ]


def write_lines(path: Path, rows: Sequence[str], header: str = HEADER) -> Path:
    """A CSV, compressed when its name says so."""
    data = "\n".join([header, *rows, ""]).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def write_bars(directory: Path, symbol: str, bars: Sequence[Bar], start: datetime = START) -> Path:
    return write_lines(directory / f"{symbol.replace('/', '_')}-5m.csv", lines(bars, start))


_opened: list[SimulatedExchange] = []


def close_all() -> None:
    """Close every exchange that a ``Replay`` has opened, those whose process was "killed" too."""
    while _opened:
        _opened.pop().close()


class Replay:
    """A simulated exchange over a few bars, its clock, and its faults."""

    def __init__(
        self,
        directory: Path,
        bars: Mapping[str, Sequence[Bar]],
        *,
        seed: int = 1,
        rules: Mapping[str, SymbolRules] | None = None,
        **settings: Any,
    ) -> None:
        self.directory = directory
        self.symbols = list(bars)
        self.seed = seed
        self.rules = rules or load_market_rules()
        self.settings = msgspec.structs.replace(SETTINGS, **settings)
        (directory / "candles").mkdir(exist_ok=True)
        for symbol, rows in bars.items():
            write_bars(directory / "candles", symbol, rows)
        self.clock = VirtualClock(START)
        self.faults = Faults()
        self.open()

    def open(self) -> SimulatedExchange:
        """The exchange of this directory, as a process that starts again finds it."""
        self.exchange = SimulatedExchange.open(
            self.directory / "state",
            source=find_candles(self.directory / "candles", self.symbols, "5m"),
            rules=self.rules,
            clock=self.clock,
            seed=self.seed,
            settings=self.settings,
            faults=self.faults,
        )
        _opened.append(self.exchange)
        return self.exchange

    def reopen(self) -> SimulatedExchange:
        self.exchange.close()
        return self.open()

    def killed(self, name: str) -> Replay:
        """The replay of a process that starts where a kill of this one, now, would leave it: what it has handed to
        the system is copied, and nothing else. Its clock goes on at the exchange's place."""
        copy = Replay.__new__(Replay)
        copy.__dict__.update(self.__dict__)
        copy.directory = self.directory / name
        copy.directory.mkdir()
        for part in ("state", "candles"):
            shutil.copytree(self.directory / part, copy.directory / part)
        copy.clock = VirtualClock(START)
        copy.clock.advance_to(copy.open().place)
        return copy

    def after(self, bars: int) -> SimulatedExchange:
        """The exchange when that many bars have closed."""
        self.clock.advance_to(START + bars * STEP)
        return self.exchange


def order(
    client_order_id: str,
    side: Side,
    amount: object,
    *,
    symbol: str = "BTC/USDT",
    limit: object = None,
    stop: object = None,
    ioc: bool = False,
) -> OrderRequest:
    """A request whose type follows from the prices it has."""
    kind = {
        (False, False): OrderType.MARKET,
        (True, False): OrderType.LIMIT,
        (False, True): OrderType.STOP_MARKET,
        (True, True): OrderType.STOP_LIMIT,
    }[limit is not None, stop is not None]
    return OrderRequest(
        client_order_id=client_order_id,
        symbol=symbol,
        side=side,
        type=kind,
        amount=Decimal(str(amount)),
        limit_price=None if limit is None else Decimal(str(limit)),
        stop_price=None if stop is None else Decimal(str(stop)),
        time_in_force=TimeInForce.IOC if ioc else TimeInForce.GTC,
    )
