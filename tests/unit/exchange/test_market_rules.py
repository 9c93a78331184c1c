"""The market rules file: what comes with the package, what a user adds, and what is wrong with a line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tradingbot_agents.domain.symbol_rules import FeeCurrency
from tradingbot_agents.exchange.market_rules import (
    COLUMNS,
    MarketRulesInvalid,
    NoMarketRules,
    load_market_rules,
    rules_of,
)

HEADER = ",".join(COLUMNS)
LINE = "FOO/USDT,0.01,0.001,0.01,1000,,5,,0.0005,0.001,quote"


def user_file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "rules.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_many_symbols_come_with_the_package() -> None:
    rules = load_market_rules()
    assert sum(symbol.endswith("/USDT") for symbol in rules) >= 30
    assert {"BTC/USDC", "ETH/BTC", "BTC/EUR"} <= set(rules)
    assert all(rule.symbol == symbol == f"{rule.base}/{rule.quote}" for symbol, rule in rules.items())
    assert all(rule.amount.holds(rule.min_amount) and rule.min_notional > 0 for rule in rules.values())


def test_every_field_of_a_line_is_read(tmp_path: Path) -> None:
    rule = load_market_rules(user_file(tmp_path, "# mine", "", HEADER, LINE))["FOO/USDT"]
    assert (rule.base, rule.quote) == ("FOO", "USDT")
    assert (rule.amount.value, rule.price.value) == (Decimal("0.01"), Decimal("0.001"))
    assert (rule.min_amount, rule.max_amount, rule.max_market_amount) == (Decimal("0.01"), Decimal("1000"), None)
    assert (rule.min_notional, rule.max_notional) == (Decimal("5"), None)
    assert (rule.fees.maker, rule.fees.taker) == (Decimal("0.0005"), Decimal("0.001"))
    assert rule.fees.currency is FeeCurrency.QUOTE


def test_a_users_line_replaces_the_packages(tmp_path: Path) -> None:
    mine = load_market_rules(user_file(tmp_path, HEADER, LINE.replace("FOO", "BTC")))
    assert mine["BTC/USDT"].amount.value == Decimal("0.01")
    assert mine["ETH/USDT"] == load_market_rules()["ETH/USDT"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], ": it is empty; the header must be "),
        (["symbol,amount_step"], ", line 1: column price_tick, min_amount, "),
        ([HEADER, LINE + ",1"], ", line 2: it has 12 fields, but the header names 11"),
        ([HEADER, LINE, LINE], ", line 3: FOO/USDT appears a second time; keep one of the lines"),
        ([HEADER, LINE.replace("FOO/", "FOO")], ", line 2: symbol 'FOOUSDT' is not of the form BASE/QUOTE"),
        ([HEADER, LINE.replace(",1000,", ",x,")], ", line 2, FOO/USDT: max_amount is 'x', not a number"),
        ([HEADER, LINE.replace("T,0.01,", "T,0,")], ", line 2, FOO/USDT: amount_step is 0; it must be above zero"),
        ([HEADER, LINE.replace(",0.001,0.01", ",,0.01")], ", line 2, FOO/USDT: price_tick is '', not a number"),
        ([HEADER, LINE.replace(",5,", ",-5,")], ", line 2, FOO/USDT: min_notional is -5; it must be zero or more"),
        ([HEADER, LINE.replace(",5,", ",NaN,")], ", line 2, FOO/USDT: min_notional is NaN; it must be zero or more"),
        (
            [HEADER, LINE.replace("0.0005", "1")],
            ", line 2, FOO/USDT: maker_fee is 1; it is a fraction",
        ),
        (
            [HEADER, LINE.replace("quote", "BNB")],
            ", line 2, FOO/USDT: fee_currency is 'BNB'; it must be",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    path = user_file(tmp_path, *lines)
    with pytest.raises(MarketRulesInvalid) as refused:
        load_market_rules(path)
    assert str(refused.value).startswith(f"{path}{message}")


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MarketRulesInvalid, match=r"nowhere\.csv: it can not be read \(No such file"):
        load_market_rules(tmp_path / "nowhere.csv")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("é".encode("latin-1"))
    with pytest.raises(MarketRulesInvalid, match="it is not UTF-8"):
        load_market_rules(latin)


def test_symbols_without_rules_are_named_with_the_file_to_add_them_to() -> None:
    known = load_market_rules()
    assert list(rules_of(known, ["ETH/USDT", "BTC/USDT"], None)) == ["ETH/USDT", "BTC/USDT"]
    with pytest.raises(NoMarketRules) as refused:
        rules_of(known, ["FOO/USDT", "BTC/USDT", "BAR/USDT"], Path("mine.csv"))
    assert str(refused.value) == (
        "there are no market rules for FOO/USDT, BAR/USDT: add a line for each to mine.csv, with the columns "
        + HEADER
    )
    assert refused.value.symbols == ("FOO/USDT", "BAR/USDT")
    with pytest.raises(NoMarketRules, match="to a market rules file of your own"):
        rules_of(known, ["FOO/USDT"], None)
