"""Which data directory a command means, and whose it is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.specs import PAPER, bot_of
from tradingbot_agents.domain.values import Mode
from tradingbot_agents.ledger.datadir import DataDir, DataDirError
from tradingbot_agents.ledger.port import AccountKey
from tradingbot_agents.runtime.data import find_data_dir, identity_at, opened_ledger
from tradingbot_agents.runtime.identity import account_key, default_data_dir, identity_of

NOW = datetime(2024, 3, 1, tzinfo=UTC)
BOT = bot_of(PAPER)


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(path: Path) -> Path:
    DataDir.open(path, now=NOW, identity=identity_of(BOT, 7, "abc")).close()
    return path


def test_a_bot_has_a_directory_of_its_name_where_it_is_started() -> None:
    assert default_data_dir(BOT) == Path(".tradingbot/paper")


def test_a_directory_belongs_to_a_bot_an_account_candles_and_a_seed() -> None:
    assert identity_of(BOT, 7, "abc") == {
        "bot": "paper",
        "mode": "paper",
        "exchange": "simulated",
        "endpoint": "",
        "account": "main",
        "quoteCurrency": "USDT",
        "seed": "7",
        "candles": "abc",
    }
    assert account_key(BOT) == AccountKey(mode=Mode.PAPER, exchange="simulated", endpoint="", name="main")


def test_the_directory_that_was_named_is_meant() -> None:
    made(Path(".tradingbot/other"))
    made(Path("mine"))
    assert find_data_dir(Path("mine")) == Path("mine")


def test_the_only_one_is_meant_when_none_was_named() -> None:
    made(Path(".tradingbot/paper"))
    Path(".tradingbot/not-a-bot").mkdir()
    assert find_data_dir(None) == Path(".tradingbot/paper")


@pytest.mark.parametrize(
    ("there", "named", "said"),
    [
        ([], "nowhere", "nowhere does not exist: name the data directory of a bot with --data-dir"),
        ([], None, "there is no data directory in .tradingbot: run a bot first, or name one with --data-dir"),
        (
            ["b", "a"],
            None,
            "there are 2 data directories in .tradingbot: name one with --data-dir, such as .tradingbot/a",
        ),
    ],
)
def test_what_can_not_be_found_is_said_with_what_to_do(there: list[str], named: str | None, said: str) -> None:
    for name in there:
        made(Path(".tradingbot") / name)
    with pytest.raises(DataDirError) as refused:
        find_data_dir(None if named is None else Path(named))
    assert str(refused.value) == said


def test_whose_it_is_can_be_read_without_opening_it() -> None:
    assert identity_at(made(Path("mine")))["seed"] == "7"


async def _open(place: Path) -> None:
    async with opened_ledger(place):
        pytest.fail("it was opened")


def test_a_place_that_is_no_bots_is_refused_and_left_as_it_is() -> None:
    folder, file = Path("folder"), Path("file")
    folder.mkdir()
    file.write_text("mine")
    for place, said in ((folder, "is not the data directory of a bot"), (file, "is not a directory")):
        with pytest.raises(DataDirError, match=said):
            identity_at(place)
        with pytest.raises(DataDirError, match=said):
            asyncio.run(_open(place))
    assert list(folder.iterdir()) == []
    assert file.read_text() == "mine"
