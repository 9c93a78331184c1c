"""Large libraries are loaded by halves, and what is used of them is there all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tradingbot_agents import lean_imports


def python(program: str, *, path: Path | None = None) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        env=None if path is None else {"PYTHONPATH": str(path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    package = tmp_path / "large"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from large.used import Used\nfrom .unused import Unused as Other\nraise RuntimeError('it ran')\n"
    )
    (package / "used.py").write_text("class Used: ...\n")
    (package / "unused.py").write_text("class Unused: ...\n")
    return tmp_path


def test_a_package_is_there_without_having_run_and_gives_each_name_when_asked(library: Path) -> None:
    told = python(
        "import sys; from tradingbot_agents.lean_imports import import_by_halves; import_by_halves('large')\n"
        "from large import Used; print(Used.__module__, 'large.unused' in sys.modules)\n"
        "import large; print(large.Other.__name__, large.Other is large.Other, hasattr(large, 'Missing'))",
        path=library,
    )
    assert told == "large.used False\nUnused True False"


def test_an_inner_package_is_reached_through_the_outer_one(library: Path) -> None:
    inner = library / "large" / "inner"
    inner.mkdir()
    (inner / "__init__.py").write_text("from large.used import Used as Model\nraise RuntimeError('it ran')\n")
    told = python(
        "from tradingbot_agents.lean_imports import import_by_halves; import_by_halves('large', 'large.inner')\n"
        "import large; print(large.inner.Model.__name__)",
        path=library,
    )
    assert told == "Used"


def test_both_halves_of_the_influx_client_work_in_one_process() -> None:
    """Its blocking half finds its models by name in a package that has not run."""
    told = python(
        "import tradingbot_agents.marketdata.influx_library, tradingbot_agents.marketdata.setup\n"
        "from influxdb_client import InfluxDBClient\n"
        "client = InfluxDBClient('http://127.0.0.1:1', 'token', org='org').api_client\n"
        "from types import SimpleNamespace\n"
        "print(client.deserialize(SimpleNamespace(data='{\"name\": \"market\"}'), 'Organization').name)"
    )
    assert told == "market"


def test_one_that_is_imported_already_stays_as_it_is() -> None:
    before = sys.modules["subprocess"]
    lean_imports.import_by_halves("subprocess")
    assert sys.modules["subprocess"] is before


def test_one_that_is_not_installed_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_library is not installed; install tradingbot"):
        lean_imports.import_by_halves("no_such_library")


def test_a_hidden_module_is_not_there_and_then_it_is() -> None:
    told = python(
        "from tradingbot_agents.lean_imports import hidden\n"
        "with hidden('colorsys'):\n"
        "    try:\n        import colorsys\n"
        "    except ModuleNotFoundError:\n        print('hidden')\n"
        "import colorsys; print(colorsys.__name__)\n"
        "with hidden('colorsys'):\n    import colorsys; print('used already')"
    )
    assert told == "hidden\ncolorsys\nused already"


@pytest.mark.parametrize(
    ("agent", "not_imported"),
    [
        ("data_collection", ["asyncpg", "talib", "numpy", "influxdb_client.domain.dashboard", "rich"]),
        ("technical_analysis", ["asyncpg", "ccxt", "rich"]),
        ("strategy", ["ccxt", "talib", "numpy", "influxdb_client", "aiohttp", "rich"]),
        ("risk", ["ccxt", "talib", "numpy", "rich"]),
        ("execution", ["talib", "numpy", "influxdb_client", "ccxt.kraken", "rich"]),
    ],
)
def test_an_agent_imports_what_it_needs_and_no_more(agent: str, not_imported: list[str]) -> None:
    """Each of these would cost megabytes, in each process that does not need it."""
    programs = {
        "data_collection": "import tradingbot_agents.marketdata.influx, tradingbot_agents.exchange.ccxt_exchange\n"
        "from tradingbot_agents.exchange.ccxt_import import exchange_class; exchange_class('binance')",
        "technical_analysis": "import tradingbot_agents.marketdata.influx",
        "strategy": "import tradingbot_agents.ledger.postgres",
        "risk": "import tradingbot_agents.marketdata.influx, tradingbot_agents.ledger.postgres",
        "execution": "import tradingbot_agents.ledger.postgres, tradingbot_agents.exchange.ccxt_exchange\n"
        "from tradingbot_agents.exchange.ccxt_import import exchange_class; exchange_class('binance')",
    }
    told = python(
        "import sys, tradingbot_agents.cli.main, tradingbot_agents.runtime.process, tradingbot_agents.bus.rabbitmq\n"
        f"import tradingbot_agents.{agent}.agent\n{programs[agent]}\n"
        f"print([name for name in {not_imported!r} if name in sys.modules])"
    )
    assert told == "[]"
