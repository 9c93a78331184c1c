"""Market rules from a data file: what the simulated exchange accepts for each symbol.

The file that comes with the package holds the filters that Binance publishes for its spot symbols; a file of the
user's, in the same form, adds symbols or replaces them. No rule of a symbol is written in code.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import ONE, ZERO, split_symbol

COLUMNS = (
    "symbol",
    "amount_step",
    "price_tick",
    "min_amount",
    "max_amount",
    "max_market_amount",
    "min_notional",
    "max_notional",
    "maker_fee",
    "taker_fee",
    "fee_currency",
)
"""``max_*`` may be left empty: no limit. Fees are fractions (0.001 is 0.1 %); ``fee_currency`` is get, base or quote.
Lines that begin with # are comments."""

_OPTIONAL = frozenset({"max_amount", "max_market_amount", "max_notional"})
_MAY_BE_ZERO = frozenset({"min_amount", "min_notional", "maker_fee", "taker_fee"})


class MarketRulesInvalid(Exception):
    """A market rules file is wrong: file, line, field, and what to do."""


class NoMarketRules(Exception):
    """Symbols that no market rules file knows."""

    def __init__(self, symbols: Sequence[str], extra: Path | None) -> None:
        where = f"{extra}" if extra else "a market rules file of your own"
        super().__init__(
            f"there are no market rules for {', '.join(symbols)}: add a line for each to {where}, "
            f"with the columns {','.join(COLUMNS)}"
        )
        self.symbols = tuple(symbols)


def load_market_rules(extra: Path | None = None) -> Mapping[str, SymbolRules]:
    """The rules of every known symbol; a symbol in ``extra`` replaces the one of the package.

    Raises ``MarketRulesInvalid``.
    """
    rules = _read(files("tradingbot_agents.exchange") / "data" / "binance-spot.csv")
    if extra is not None:
        rules.update(_read(extra))
    return rules


def rules_of(known: Mapping[str, SymbolRules], symbols: Sequence[str], extra: Path | None) -> dict[str, SymbolRules]:
    """The rules of ``symbols``. Raises ``NoMarketRules`` naming all that are not known."""
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown:
        raise NoMarketRules(unknown, extra)
    return {symbol: known[symbol] for symbol in symbols}


def _read(path: Path | Traversable) -> dict[str, SymbolRules]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MarketRulesInvalid(
            f"{path}: it can not be read ({error.strerror}); check the path and its rights"
        ) from error
    except UnicodeDecodeError as error:
        raise MarketRulesInvalid(f"{path}: it is not UTF-8 ({error.reason}); save it as UTF-8 CSV") from error
    rules: dict[str, SymbolRules] = {}
    names: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in next(csv.reader([line]))]
        where = f"{path}, line {number}"
        if names is None:
            names = fields
            if missing := [name for name in COLUMNS if name not in names]:
                raise MarketRulesInvalid(
                    f"{where}: column {', '.join(missing)} is missing; the header must be {','.join(COLUMNS)}"
                )
            continue
        if len(fields) != len(names):
            raise MarketRulesInvalid(f"{where}: it has {len(fields)} fields, but the header names {len(names)}")
        rule = _rule(where, dict(zip(names, fields, strict=True)))
        if rule.symbol in rules:
            raise MarketRulesInvalid(f"{where}: {rule.symbol} appears a second time; keep one of the lines")
        rules[rule.symbol] = rule
    if names is None:
        raise MarketRulesInvalid(f"{path}: it is empty; the header must be {','.join(COLUMNS)}")
    return rules


def _rule(where: str, fields: Mapping[str, str]) -> SymbolRules:
    try:
        base, quote = split_symbol(fields["symbol"])
    except ValueError as error:
        raise MarketRulesInvalid(f"{where}: {error}") from error
    numbers = {
        name: _number(where, fields["symbol"], name, fields[name]) for name in COLUMNS[1:] if name != "fee_currency"
    }
    currency = fields["fee_currency"]
    if currency not in ("get", "base", "quote"):
        raise MarketRulesInvalid(
            f"{where}, {fields['symbol']}: fee_currency is {currency!r}; it must be get, base or quote"
        )
    for name in ("maker_fee", "taker_fee"):
        if (numbers[name] or ZERO) >= ONE:
            raise MarketRulesInvalid(
                f"{where}, {fields['symbol']}: {name} is {fields[name]}; it is a fraction: 0.1 % is 0.001"
            )
    return SymbolRules(
        symbol=fields["symbol"],
        base=base,
        quote=quote,
        amount=Precision(PrecisionMode.TICK_SIZE, numbers["amount_step"] or ZERO),
        price=Precision(PrecisionMode.TICK_SIZE, numbers["price_tick"] or ZERO),
        fees=Fees(
            maker=numbers["maker_fee"] or ZERO, taker=numbers["taker_fee"] or ZERO, currency=FeeCurrency(currency)
        ),
        min_amount=numbers["min_amount"] or ZERO,
        max_amount=numbers["max_amount"],
        max_market_amount=numbers["max_market_amount"],
        min_notional=numbers["min_notional"] or ZERO,
        max_notional=numbers["max_notional"],
    )


def _number(where: str, symbol: str, name: str, text: str) -> Decimal | None:
    if not text and name in _OPTIONAL:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise MarketRulesInvalid(f"{where}, {symbol}: {name} is {text!r}, not a number") from None
    if not number.is_finite() or number < ZERO or (number == ZERO and name not in _MAY_BE_ZERO):
        least = "zero or more" if name in _MAY_BE_ZERO else "above zero"
        raise MarketRulesInvalid(f"{where}, {symbol}: {name} is {text}; it must be {least}")
    return number
