"""Symbols `BASE/QUOTE` and currencies, as ccxt writes those of spot markets."""

import re
from typing import Annotated

from .scalar import text_scalar

_CURRENCY = r"^[A-Z0-9]{1,20}$"
_SYMBOL = r"^[A-Z0-9]{1,20}/[A-Z0-9]{1,20}$"


def parse_symbol(text: str) -> tuple[str, str]:
    """`"BTC/USDT"` → ("BTC", "USDT"). Raises `ScalarInvalid`."""
    base, quote = SYMBOL.parse(text).split("/")
    return base, quote


def format_symbol(base: str, quote: str) -> str:
    """("BTC", "USDT") → `"BTC/USDT"`."""
    return f"{base}/{quote}"


def _explain_symbol(text: str) -> tuple[str, str]:
    upper = text.strip().upper()
    if ":" in upper and re.fullmatch(_SYMBOL, upper.split(":")[0]):
        return "is a derivative's symbol", f"this stack trades spot markets: write {upper.split(':')[0]}"
    candidate = re.sub(r"\s*[-_/]\s*", "/", upper)
    if re.fullmatch(_SYMBOL, candidate):
        return "is not written as a symbol", f"write {candidate}"
    return "is not a symbol", "write BASE/QUOTE in capitals, such as BTC/USDT"


def _explain_currency(text: str) -> tuple[str, str]:
    upper = text.strip().upper()
    if re.fullmatch(_CURRENCY, upper):
        return "is not written as a currency", f"write {upper}"
    return "is not a currency", "write its code in capitals, such as USDT"


SYMBOL = text_scalar("symbol", _SYMBOL, 64, "BTC/USDT", _explain_symbol)
CURRENCY = text_scalar("currency", _CURRENCY, 64, "USDT", _explain_currency)

Symbol = Annotated[str, SYMBOL]
Currency = Annotated[str, CURRENCY]
