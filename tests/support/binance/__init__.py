"""An exchange of our own on loopback that speaks Binance's spot API, so that the real ccxt code runs against it.

``BinanceServer`` keeps its own books: a test ends by comparing them with the ledger. It is told when to fail.
"""

from support.binance.books import Balance, BinanceBooks, BinanceOrder, BinanceTrade, Refused
from support.binance.faults import Fault, FaultKind
from support.binance.server import ApiKey, BinanceServer
from support.binance.symbols import MAJORS, BinanceSymbol

__all__ = [
    "MAJORS",
    "ApiKey",
    "Balance",
    "BinanceBooks",
    "BinanceOrder",
    "BinanceServer",
    "BinanceSymbol",
    "BinanceTrade",
    "Fault",
    "FaultKind",
    "Refused",
]
