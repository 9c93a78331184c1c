"""Only the class that is needed is loaded, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import sys, time
import aiohttp, asyncio
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
before = resident()
from tradingbot_agents.exchange.ccxt_import import exchange_class
for name in sys.argv[1:]:
    assert exchange_class(name)({}).id == name
loaded = sorted(name for name in sys.modules if name.startswith("ccxt.async_support.") and name.count(".") == 2)
print(resident() - before, *loaded)
import ccxt, ccxt.async_support
assert ccxt.NetworkError is ccxt.async_support.NetworkError
assert ccxt.async_support.bitstamp({}).id == "bitstamp"
try:
    ccxt.async_support.no_such_exchange
except AttributeError:
    pass
else:
    raise SystemExit("a name that is not there was found")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory from /proc")
@pytest.mark.parametrize(
    "names", [["binance"], ["kraken"], ["okx"], ["bybit"], ["coinbase"], ["binance", "binanceus"]]
)
def test_an_exchange_is_loaded_without_the_others(names: list[str]) -> None:
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM, *names],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    ).stdout.split()
    assert set(told[1:]) == {"ccxt.async_support.base", *(f"ccxt.async_support.{name}" for name in names)}
    # It is some 20 MB; with the others it is 70 and more.
    assert float(told[0]) < 40


def test_a_ccxt_that_is_loaded_already_is_used_as_it_is() -> None:
    program = (
        "import ccxt.async_support; "
        "from tradingbot_agents.exchange.ccxt_import import exchange_class; "
        "assert exchange_class('binance') is ccxt.async_support.binance"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("name", ["binance", "kraken", "okx", "bybit", "coinbase"])
def test_an_exchanges_websockets_are_loaded_without_the_others(name: str) -> None:
    program = (
        "import sys; from tradingbot_agents.exchange.ccxt_import import exchange_class; "
        f"made = exchange_class('{name}', streams=True)({{}}); "
        "assert made.has['ws'] and made.has['watchOHLCV'] is not None; "
        "print(*sorted(name for name in sys.modules if name.startswith('ccxt.') and name.count('.') == 2))"
    )
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True, timeout=60
    ).stdout.split()
    loaded = {module for module in told if not module.startswith(("ccxt.base.", "ccxt.abstract."))}
    assert loaded == {"ccxt.async_support.base", f"ccxt.async_support.{name}", f"ccxt.pro.{name}"}
