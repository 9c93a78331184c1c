"""Specs for tests: a small valid one of each mode, and changes to it by dotted path."""

from copy import deepcopy
from typing import Any

import yaml

from support import wishful
from tradingbot_api import Mistake, SpecInvalid, TradingBot, load_text

REMOVED = object()
"""As a changed value: take the field away."""

PAPER: dict[str, Any] = {
    "apiVersion": "tradingbot.dev/v1alpha1",
    "kind": "TradingBot",
    "metadata": {"name": "paper"},
    "spec": {
        "mode": "paper",
        "exchange": {"name": "simulated", "replay": {"source": "candles"}},
        "account": {"name": "main", "quoteCurrency": "USDT", "paperBalances": {"USDT": "84.54"}},
        "symbols": ["BTC/USDT"],
    },
}

LIVE: dict[str, Any] = {
    "apiVersion": "tradingbot.dev/v1alpha1",
    "kind": "TradingBot",
    "metadata": {"name": "live"},
    "spec": {
        "mode": "live",
        "liveConfirmation": "trade real money on binance/main",
        "exchange": {"name": "binance", "credentialsSecretRef": {"name": "binance-keys"}},
        "account": {"name": "main", "quoteCurrency": "USDT"},
        "symbols": ["BTC/USDT"],
        "risk": {
            "sizing": {"method": "fixedFractional", "fraction": "0.10"},
            "stopLoss": "0.05",
            "protections": [{"name": "maxDrawdown", "limit": "0.15"}],
        },
    },
}


QUICK: dict[str, Any] = {
    "symbols": ["BTC/USDT", "ETH/USDT", "SOL/USDT"],
    "timeframe": "1m",
    "exchange.pollInterval": "2s",
    "data.history": 20,
    "data.settleDelay": "200ms",
    "strategy.plugin": {"path": wishful.PATH, "parameters": {"confidence": "0.8"}},
    "strategy.window": 16,
    "strategy.signalMemoryCandles": 1,
    "strategy.indicators": [{"name": "rsi", "period": 5}],
    "risk.sizing": {"method": "fixedFractional", "fraction": "0.30"},
    "risk.stopLoss": "0.05",
    "execution.exitWatchInterval": "1s",
    "execution.sweepInterval": "1s",
    "execution.lookUpInterval": "500ms",
    "execution.lookUpMargin": "10s",
    "execution.reconcileInterval": "5s",
}
"""Against ``LIVE``: a bot that buys with every candle and is quick to look, so that a test need not wait."""


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy in which the fields at dotted paths below `spec` have other values."""
    document = deepcopy(base)
    for path, value in changes.items():
        *above, last = path.split(".")
        place = document["spec"]
        for step in above:
            place = place.setdefault(step, {})
        if value is REMOVED:
            del place[last]
        else:
            place[last] = value
    return document


def spec_text(base: dict[str, Any], **changes: Any) -> str:
    """The YAML text of a changed spec; `risk__stopLoss` stands for `risk.stopLoss`."""
    paths = {path.replace("__", "."): value for path, value in changes.items()}
    return yaml.safe_dump(changed(base, paths), sort_keys=False)


def bot_of(base: dict[str, Any], **changes: Any) -> TradingBot:
    return load_text(spec_text(base, **changes))


def mistakes_of(text: str) -> tuple[Mistake, ...]:
    """The mistakes of a text; none when it is valid."""
    try:
        load_text(text)
    except SpecInvalid as error:
        return error.mistakes
    return ()
