"""Bad input through the real command: one clear error with file and line, exit code 2, and nothing written."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.busy_bot import write_candles, write_spec
from support.process import Workshop, workshop

pytestmark = pytest.mark.process

BTC = "BTC_USDT-5m.csv"


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with workshop() as shop:
        write_candles(shop.path / "good", days=0.25)
        write_spec(shop.path / "bot.yaml")
        yield shop


Edit = Callable[[Path], object]


def rows(change: Callable[[list[str]], list[str]]) -> Edit:
    """An edit of the lines of the file of BTC; the first one is the header."""

    def edit(folder: Path) -> None:
        path = folder / BTC
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return edit


def field(line: int, column: int, value: str) -> Edit:
    """An edit of one field; ``line`` counts as an editor does."""

    def change(lines: list[str]) -> list[str]:
        fields = lines[line - 1].split(",")
        fields[column] = value
        return [*lines[: line - 1], ",".join(fields), *lines[line:]]

    return rows(change)


def cut_off(folder: Path) -> None:
    packed = gzip.compress((folder / BTC).read_bytes())
    (folder / BTC).unlink()
    (folder / f"{BTC}.gz").write_bytes(packed[: len(packed) // 2])


CASES: dict[str, tuple[Edit, str]] = {
    "missing column": (
        rows(lambda lines: [line.rpartition(",")[0] for line in lines]),
        f"{BTC}, line 1: column volume",
    ),
    "unordered": (rows(lambda lines: [*lines[:9], lines[10], lines[9], *lines[11:]]), f"{BTC}, line 11: its bar of"),
    "duplicate": (rows(lambda lines: [*lines[:10], lines[9], *lines[10:]]), f"{BTC}, line 11: it is a second bar"),
    "not a number": (field(21, 2, "NaN"), f"{BTC}, line 21: high is NaN"),
    "negative": (field(21, 4, "-1"), f"{BTC}, line 21: close is -1"),
    "words": (field(21, 5, "much"), f"{BTC}, line 21: volume is 'much'"),
    "too few fields": (
        rows(lambda lines: [*lines[:20], "1709510400000,1", *lines[21:]]),
        f"{BTC}, line 21: it has 2",
    ),
    "high below low": (field(21, 2, "1"), f"{BTC}, line 21: "),
    "cut-off gzip": (cut_off, f"{BTC}.gz, line 1: the gzip data is cut off"),
    "no gzip": (lambda folder: (folder / BTC).rename(folder / f"{BTC}.gz"), f"{BTC}.gz: it is not a gzip"),
    "empty": (lambda folder: (folder / BTC).write_text(""), f"{BTC}, line 1: the file is empty"),
    "header only": (rows(lambda lines: lines[:1]), f"{BTC}: it has a header and no bars"),
    "another timeframe": (field(2, 0, "1709510460000"), f"{BTC}, line 2: ts_ms is 1709510460000"),
    "named after another timeframe": (
        lambda folder: (folder / BTC).rename(folder / "BTC_USDT-1h.csv"),
        f"no file is BTC/USDT 5m: it would be called {BTC}",
    ),
    "no file": (lambda folder: (folder / BTC).unlink(), f"no file is BTC/USDT 5m: it would be called {BTC}"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_candles(shop: Workshop, name: str) -> None:
    edit, message = CASES[name]
    folder = shop.path / name.replace(" ", "-")
    folder.mkdir()
    for path in (shop.path / "good").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    edit(folder)
    finished = shop.run("run", "bot.yaml", "--candles", folder, "--data-dir", f"data {name}")
    assert finished.code == 2
    assert finished.out == ""
    assert message in finished.err
    assert len(finished.err.splitlines()) == 1
    assert not (shop.path / f"data {name}").exists()


TEN_MISTAKES = """\
apiVersion: tradingbot.dev/v1alpha1
kind: TradingBot
metadata: {name: Bad_Name}
spec:
  mode: papper
  state: Runing
  exchange: {name: simulated, replay: {source: candles, sped: max}}
  account: {name: main, quoteCurrency: USDT, paperBalances: {USDT: 84.54}}
  symbols: [BTCUSDT]
  timeframe: 7m
  strategy: {fusion: majority, minConfidence: "1.5"}
  risk: {approval: {window: 250}}
"""
WHERE = [
    "line 3   metadata.name: Bad_Name",
    "line 5   spec.mode: papper",
    "line 6   spec.state: Runing",
    "line 7   spec.exchange.replay.sped:",
    "line 8   spec.account.paperBalances.USDT: 84.54",
    "line 9   spec.symbols[0]: BTCUSDT",
    "line 10  spec.timeframe: 7m",
    "line 11  spec.strategy.fusion: majority",
    "line 11  spec.strategy.minConfidence: 1.5",
    "line 12  spec.risk.approval.window: 250",
]


@pytest.mark.parametrize("command", ["run", "validate"])
def test_ten_mistakes_are_ten_messages(shop: Workshop, command: str) -> None:
    (shop.path / "bad.yaml").write_text(TEN_MISTAKES)
    finished = shop.run(command, "bad.yaml")
    assert finished.code == 2
    heading, *messages = (finished.err if command == "run" else finished.out).splitlines()
    assert heading.endswith("bad.yaml: 10 mistakes")
    assert len(messages) == len(WHERE)
    for message, wanted in zip(messages, WHERE, strict=True):
        assert message.strip().startswith(wanted)
        assert ";" in message, "it names a remedy"
    assert not (shop.path / ".tradingbot").exists()


def test_a_spec_that_is_not_there(shop: Workshop) -> None:
    finished = shop.run("run", "nowhere.yaml", "--data-dir", "data")
    assert finished.code == 2
    assert "nowhere.yaml" in finished.err
    assert len(finished.err.splitlines()) == 1
    assert not (shop.path / "data").exists()


@pytest.mark.parametrize("argument", ["--speed=fast", "--seed=-1", "--until=tomorrow", "--output=xml"])
def test_a_bad_option(shop: Workshop, argument: str) -> None:
    finished = shop.run("run", "bot.yaml", argument)
    assert finished.code == 2
    assert argument.partition("=")[0] in finished.err
    assert not (shop.path / ".tradingbot").exists()
