"""The last price of a symbol, and when it was that."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec


class Ticker(msgspec.Struct, frozen=True):
    symbol: str
    last: Decimal
    at: datetime
