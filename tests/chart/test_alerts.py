"""The alerts, judged by Prometheus' own promtool against series that are recorded from the real metrics of agents and
operator: what is renamed there, or labelled otherwise, is seen here."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from support.chart import CHART
from support.kubernetes import Json, absent, servers_cache
from support.process import REPOSITORY
from tradingbot_agents.domain.events import PriceFallbackUsed
from tradingbot_agents.runtime.parts import TIME_SERIES
from tradingbot_agents.telemetry.metrics import Metrics
from tradingbot_operator.bots import owner
from tradingbot_operator.cluster import Cluster
from tradingbot_operator.kinds import Owner
from tradingbot_operator.metrics import Metrics as OperatorMetrics
from tradingbot_operator.timetable import Checked

pytestmark = pytest.mark.process

SCRAPE = 15
"""Seconds, as in the chart's values."""
MINUTE = 60 // SCRAPE

BOT = {"namespace": "trading", "bot": "majors"}
OWNER = owner("trading", "majors")
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_PROMTOOL = "no promtool: run 'make servers', or put Prometheus' promtool on the PATH"

RULES: Json = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
ALERTS: dict[str, Json] = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}


class Recording:
    """Series as Prometheus has them, scrape by scrape."""

    def __init__(self) -> None:
        self._series: dict[str, list[str]] = {}
        self._length = 0

    def scrape(self, *registries: CollectorRegistry, times: int = 1) -> None:
        """``times`` in a row nothing changes."""
        for _ in range(times):
            for registry in registries:
                for name, value in _samples(registry):
                    values = self._series.setdefault(name, [])
                    values += ["_"] * (self._length - len(values)) + [value]
            self._length += 1

    @property
    def now(self) -> str:
        """The time of the last scrape."""
        return f"{(self._length - 1) * SCRAPE}s"

    @property
    def series(self) -> list[Json]:
        # One that was not scraped is stale at once, and does not linger for five minutes.
        return [
            {"series": name, "values": " ".join([*values, *["stale"] * (len(values) < self._length)])}
            for name, values in self._series.items()
        ]


def _samples(registry: CollectorRegistry) -> Iterator[tuple[str, str]]:
    for family in registry.collect():
        for sample in family.samples:
            # What the monitors add; the operator's own labels are honoured.
            labels = {"namespace": "trading", **sample.labels}
            written = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
            yield f"{sample.name}{{{written}}}", f"{sample.value:g}"


class Connection(Cluster):
    """What the operator's metrics read of the connection to the API server."""

    def __init__(self) -> None:
        self.requests = {}


class Operator:
    def __init__(self) -> None:
        self.ready: dict[Owner, int] = {OWNER: 5}
        self.checks: dict[Owner, Checked] = {OWNER: Checked("passed", 0.0, None)}
        self.registry = OperatorMetrics(
            Connection(), queue=int, bots=int, away=int, ready=lambda: self.ready.items(), checks=self._checks
        ).registry

    def _checks(self) -> list[tuple[Owner, Checked]]:
        return list(self.checks.items())

    def says(self, result: str | None, late: float | None = None) -> None:
        self.checks[OWNER] = Checked(result, 0.0, late)


@pytest.fixture
def promtool() -> Path:
    built = servers_cache() / "promtool" / "bin" / "promtool"
    found = built if built.exists() else shutil.which("promtool")
    return Path(found) if found else absent(NO_PROMTOOL)


@pytest.fixture
def expect(promtool: Path, tmp_path: Path) -> Callable[..., None]:
    """Holds an alert to what it says at the end of a recording."""

    def expect(alert: str, recording: Recording, *summaries: str, **labels: str) -> None:
        """``summaries`` are those of the alerts that fire, ``labels`` what they have beside the bot's."""
        rules = {
            "groups": [
                {**group, "rules": [{**rule, "annotations": _summary(rule)} for rule in group["rules"]]}
                for group in RULES["groups"]
            ]
        }
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
        fired = {**BOT, **labels, **ALERTS[alert]["labels"]}
        test = {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": f"{SCRAPE}s",
            "tests": [
                {
                    "interval": f"{SCRAPE}s",
                    "input_series": recording.series,
                    "alert_rule_test": [
                        {
                            "eval_time": recording.now,
                            "alertname": alert,
                            "exp_alerts": [
                                {"exp_labels": fired, "exp_annotations": {"summary": each}} for each in summaries
                            ],
                        }
                    ],
                }
            ],
        }
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(test, width=10**6))
        done = subprocess.run(
            [promtool, "test", "rules", tmp_path / "test.yaml"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return expect


def _summary(rule: Json) -> Json:
    """The one part of its words that has values in it."""
    assert "{{" not in rule["annotations"]["description"]
    return {"summary": rule["annotations"]["summary"]}


Expect = Callable[..., None]


def test_prometheus_takes_the_rules(promtool: Path) -> None:
    done = subprocess.run(
        [promtool, "check", "rules", "--lint-fatal", CHART / "files" / "alerts.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


# --- prices: within a minute --------------------------------------------------------------------------------------


def agents() -> dict[str, Metrics]:
    found = {name: Metrics("majors", name) for name in ("data-collection", "risk")}
    for metrics in found.values():
        metrics.dependency(TIME_SERIES, True)
    return found


def registries(found: Mapping[str, Metrics]) -> list[CollectorRegistry]:
    return [each.registry for each in found.values()]


def test_a_candle_store_that_is_away_is_told_within_a_minute(expect: Expect) -> None:
    recording, bots = Recording(), agents()
    recording.scrape(*registries(bots), times=10)
    expect("TradingBotCandleStoreDown", recording)
    for each in bots.values():
        each.dependency(TIME_SERIES, False)
    # Ten seconds may pass before an agent notices, and as many scrapes as fit into the rest of a minute.
    recording.scrape(*registries(bots), times=(60 - 10) // SCRAPE)
    expect("TradingBotCandleStoreDown", recording, "majors: InfluxDB does not answer 2 of its agents")
    for each in bots.values():
        each.dependency(TIME_SERIES, True)
    recording.scrape(*registries(bots))
    expect("TradingBotCandleStoreDown", recording)


def test_an_agent_that_starts_is_without_the_candle_store_for_a_moment_and_alarms_nobody(expect: Expect) -> None:
    recording, bots = Recording(), agents()
    bots["risk"].dependency(TIME_SERIES, False)
    recording.scrape(*registries(bots))
    bots["risk"].dependency(TIME_SERIES, True)
    recording.scrape(*registries(bots))
    expect("TradingBotCandleStoreDown", recording)


def test_another_part_that_is_away_is_told_as_such(expect: Expect) -> None:
    recording, bots = Recording(), agents()
    bots["risk"].dependency("messaging", False)
    bots["risk"].dependency(TIME_SERIES, False)
    recording.scrape(*registries(bots), times=6 * MINUTE)
    told = {"agent": "risk", "dependency": "messaging"}
    expect("TradingBotDependencyAway", recording, "majors: risk is without messaging", **told)


def fallback(source: str) -> PriceFallbackUsed:
    return PriceFallbackUsed(at=AT, agent="risk", symbol="BTC/USDT", source=source, why="it was frozen")


@pytest.mark.parametrize("earlier", [0, 1], ids=["the first of its process", "a further one"])
def test_one_price_from_a_fallback_is_told_at_the_next_scrape(expect: Expect, earlier: int) -> None:
    recording, bots = Recording(), agents()
    for _ in range(earlier):
        bots["risk"].emit(fallback("ticker"))
    recording.scrape(*registries(bots), times=40 * MINUTE)
    expect("TradingBotPriceFallbackUsed", recording)
    bots["risk"].emit(fallback("ticker"))
    recording.scrape(*registries(bots))
    told = "majors: a price did not come from InfluxDB, but from ticker"
    expect("TradingBotPriceFallbackUsed", recording, told, source="ticker")
    # And it is over when it does not come again.
    recording.scrape(*registries(bots), times=6 * MINUTE)
    expect("TradingBotPriceFallbackUsed", recording)


def test_prices_that_come_from_a_fallback_again_and_again(expect: Expect) -> None:
    recording, bots = Recording(), agents()
    bots["risk"].emit(fallback("bus"))
    for _ in range(20):
        recording.scrape(*registries(bots))
        bots["risk"].emit(fallback("bus"))
    expect("TradingBotPricesFallBack", recording, "majors: prices come from the second source")


# --- reality checks -----------------------------------------------------------------------------------------------

VERDICTS = {
    "passed": None,
    "failed": ("TradingBotRealityCheckFailed", "majors: the reality check has failed"),
    "severe": ("TradingBotInvariantBroken", "majors: the reality check has found a broken invariant"),
    "unknown": ("TradingBotRealityCheckUnknown", "majors: the reality check can not look everywhere"),
}


@pytest.mark.parametrize("result", VERDICTS)
def test_each_result_of_a_reality_check_has_its_own_alert(expect: Expect, result: str) -> None:
    recording, operator = Recording(), Operator()
    operator.says("passed")
    recording.scrape(operator.registry, times=4)
    operator.says(result)
    recording.scrape(operator.registry, times=41 * MINUTE)
    for alert, summary in filter(None, VERDICTS.values()):
        fires = VERDICTS[result] == (alert, summary)
        expect(alert, recording, *([summary] if fires else []), result=result)
    operator.says("passed")
    recording.scrape(operator.registry)
    for alert, _ in filter(None, VERDICTS.values()):
        expect(alert, recording)


def test_a_single_check_that_could_not_see_everything_alarms_nobody(expect: Expect) -> None:
    recording, operator = Recording(), Operator()
    operator.says("unknown")
    recording.scrape(operator.registry, times=30 * MINUTE)
    operator.says("passed")
    recording.scrape(operator.registry, times=30 * MINUTE)
    expect("TradingBotRealityCheckUnknown", recording)


def test_a_reality_check_that_does_not_run_any_more(expect: Expect) -> None:
    recording, operator = Recording(), Operator()
    operator.says("passed", late=600.0)
    recording.scrape(operator.registry, times=10 * MINUTE)
    expect("TradingBotRealityCheckLate", recording)
    recording.scrape(operator.registry, times=2 * MINUTE)
    expect("TradingBotRealityCheckLate", recording, "majors: two runs of the reality check are missing")
    operator.says("passed", late=None)
    recording.scrape(operator.registry)
    expect("TradingBotRealityCheckLate", recording)


# --- agents -------------------------------------------------------------------------------------------------------


def test_an_agent_that_is_not_ready_for_longer_than_a_roll_takes(expect: Expect) -> None:
    recording, operator = Recording(), Operator()
    operator.ready[OWNER] = 4
    recording.scrape(operator.registry, times=4 * MINUTE)
    expect("TradingBotAgentDown", recording)
    recording.scrape(operator.registry, times=2 * MINUTE)
    expect("TradingBotAgentDown", recording, "majors: only 4 of its five agents are ready")
    # It goes with its bot.
    operator.ready.clear()
    recording.scrape(operator.registry)
    expect("TradingBotAgentDown", recording)


# --- docs ---------------------------------------------------------------------------------------------------------


def test_every_alert_is_explained_and_no_other() -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    (chapter,) = re.findall(r"^## Alerts\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
    rows: dict[str, Any] = dict(re.findall(r"^\| (TradingBot\w+) \| (.+) \|$", chapter, re.MULTILINE))
    assert list(rows) == list(ALERTS)
    assert all(len(text.split()) > 5 for text in rows.values())
