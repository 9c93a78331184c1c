"""Every example is a valid spec and says what it is meant to say."""

from decimal import Decimal
from pathlib import Path

import pytest

from tradingbot_api import SIMULATED, dump, load_file, load_text

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_an_example_is_valid(path: Path) -> None:
    bot = load_file(path)
    assert load_text(dump(bot)) == bot
    assert path.read_text(encoding="utf-8").startswith("# "), "an example begins with what it is for"


def test_there_is_an_example_of_each_mode() -> None:
    assert {load_file(path).spec.mode for path in FILES} == {"paper", "testnet", "live"}


def test_the_quick_start_needs_nothing_but_the_repository() -> None:
    bot = load_file(EXAMPLES / "quickstart.yaml")
    exchange = bot.spec.exchange
    assert bot.metadata.name == "quickstart"
    assert exchange.name == SIMULATED
    assert exchange.replay is not None
    assert exchange.replay.source == "candles"
    assert exchange.replay.speed.is_infinite()
    assert bot.spec.symbols == ("BTC/USDT", "ETH/USDT", "SOL/USDT")
    assert bot.spec.risk.sizing.fraction * len(bot.spec.symbols) <= 1, "all symbols can be held at once"


def test_the_original_account() -> None:
    spec = load_file(EXAMPLES / "origin.yaml").spec
    assert spec.account.paper_balances == {"USDT": Decimal("84.54")}
    assert spec.risk.sizing.fraction == Decimal("0.80")
    assert (spec.risk.stop_loss, spec.risk.take_profit) == (Decimal("0.05"), Decimal("0.10"))
    assert spec.account.quote_step == Decimal("0.01")
