"""What the API server makes of a TradingBot by the CustomResourceDefinition alone, without an operator.

A spec that it takes may still be refused by the operator (`OPERATOR_ONLY`); one that the types take it must take too,
or what runs on a laptop could not be applied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from support.kubernetes import Cluster, Completed, Json, Refused, address
from support.specs import LIVE, PAPER, REMOVED, changed
from tradingbot_api import (
    SpecInvalid,
    defaults,
    load_file,
    load_object,
    resolved,
    revision,
)
from tradingbot_api.crd_rules import BY_LIST_TYPE, CEL_RULES, OPERATOR_ONLY
from tradingbot_api.model import camel
from unit.api.test_api_rules import BROKEN, TESTNET

pytestmark = [pytest.mark.kubernetes, pytest.mark.minutes, pytest.mark.usefixtures("tradingbots")]

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))

BOTS = "tradingbot.dev/v1alpha1/tradingbots"

SECRET = {"name": "a-secret"}
CAP = [{"cap": "0.1"}]
REWARD_OF_THREE = {"name": "minRewardToRisk", "ratio": "3"}


class Bots:
    """TradingBots of a namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.api = cluster.api
        self.namespace = namespace

    def named(self, document: Json, name: str | None = None) -> Json:
        body = deepcopy(document)
        body["metadata"]["namespace"] = self.namespace
        if name is not None:
            body["metadata"]["name"] = name
        return body

    def create(self, document: Json, name: str | None = None, **query: str) -> Json:
        return self.api.ask("POST", address(BOTS, self.namespace), self.named(document, name), **query)

    def refusals(self, document: Json) -> list[tuple[str, str]]:
        """(field below spec, message) of what the API server would refuse; nothing is stored."""
        try:
            self.create(document, dryRun="All", fieldValidation="Strict")
        except Refused as refused:
            if refused.code != 422:
                raise
            return list(causes(refused))
        return []

    def apply(self, spec: Json, manager: str, name: str = "shared", **query: str) -> Json:
        """Server-side."""
        body = {**{key: PAPER[key] for key in ("apiVersion", "kind")}, "metadata": {"name": name}, "spec": spec}
        path = address(BOTS, self.namespace, name)
        return self.api.ask(
            "PATCH", path, self.named(body), "application/apply-patch+yaml", fieldManager=manager, **query
        )

    def told(self, status: Json, manager: str, name: str = "shared") -> Json:
        """A writer's part of the status, applied as each writer does it."""
        body = {**{key: PAPER[key] for key in ("apiVersion", "kind")}, "metadata": {"name": name}, "status": status}
        path = address(BOTS, self.namespace, name, "status")
        query = {"fieldManager": manager, "force": "true"}
        return self.api.ask("PATCH", path, self.named(body), "application/apply-patch+yaml", **query)

    def change(self, name: str, spec: Json) -> Json:
        return self.api.patch(BOTS, self.namespace, name, {"spec": spec})


def causes(refused: Refused) -> Iterator[tuple[str, str]]:
    for cause in refused.status["details"]["causes"]:
        yield (
            cause["field"].removeprefix("spec."),
            re.sub(r"^(Invalid value|Required value|Forbidden): (\"object\": )?", "", cause["message"]),
        )


@pytest.fixture
def bots(control_plane: Cluster, namespace: str) -> Bots:
    return Bots(control_plane, namespace)


def with_changes(base: Json, changes: Json) -> Json:
    return changed(base, {path.replace("__", "."): value for path, value in changes.items()})


# -------------------------------------------------------------------------------------------------------- rules

REWARD = "is less than minRewardToRisk's ratio times stopLoss: nothing would be bought; lower the ratio, or raise "
NOT_BOTH = "is given together with external, and only one can be used; remove one of them"
ONE_SOURCE = "needs exactly one of value and valueFromSecret; write the one, remove the other"
SIZE = (
    "is missing: mode {mode} takes no default for the size of a position; method {method} needs it: it decides how "
    "much money one trade uses, so write it out"
)

# (rule, valid spec, changes, field of the mistake, its message)
REFUSED: list[tuple[str, Json, Json, str, str]] = [
    (
        "real_orders_need_credentials",
        LIVE,
        {"exchange": {"name": "binance"}},
        "exchange.credentialsSecretRef",
        "is missing: mode live sends orders to the exchange; name a Secret with apiKey and secret, such as "
        "credentialsSecretRef: {name: binance-keys}",
    ),
    (
        "real_orders_need_credentials",
        TESTNET,
        {"exchange": {"name": "binance"}},
        "exchange.credentialsSecretRef",
        "is missing: mode testnet sends orders to the exchange; name a Secret with apiKey and secret, such as "
        "credentialsSecretRef: {name: binance-keys}",
    ),
    (
        "only_paper_has_paper_balances",
        TESTNET,
        {"account__paperBalances": {"USDT": "1"}},
        "account.paperBalances",
        "is for mode paper, and this is testnet; remove it: the balances come from the exchange",
    ),
    (
        "only_paper_has_simulated_fills",
        LIVE,
        {"exchange__simulated": {}},
        "exchange.simulated",
        "is for mode paper, and this is live; remove it: the exchange itself fills the orders",
    ),
    (
        "simulated_exchange_is_paper",
        TESTNET,
        {"exchange": {"name": "simulated", "replay": {"source": "candles"}}},
        "exchange.name",
        "simulated has no testnet mode; set mode: paper, or name a real exchange",
    ),
    (
        "real_orders_need_a_written_stop",
        LIVE,
        {"risk__stopLoss": REMOVED},
        "risk.stopLoss",
        'is missing: mode live takes no default for it; write it out, such as stopLoss: "0.05"',
    ),
    (
        "real_orders_need_a_written_size",
        TESTNET,
        {"risk__sizing": REMOVED},
        "risk.sizing.method",
        "is missing: mode testnet takes no default for the size of a position; write it out, such as "
        "method: fixedFractional, with the size that it needs",
    ),
    (
        "real_orders_need_a_written_size",
        LIVE,
        {"risk__sizing": {"method": "fixedFractional"}},
        "risk.sizing.fraction",
        SIZE.format(mode="live", method="fixedFractional"),
    ),
    (
        "real_orders_need_a_written_size",
        LIVE,
        {"risk__sizing": {"method": "kelly", "fraction": "0.1"}},
        "risk.sizing.kelly.cap",
        SIZE.format(mode="live", method="kelly"),
    ),
    (
        "real_orders_need_a_written_size",
        LIVE,
        {"risk__sizing": {"method": "hybrid", "fraction": "0.1", "kelly": {"cap": "0.2"}}},
        "risk.sizing.volatility.targetRisk",
        SIZE.format(mode="live", method="hybrid"),
    ),
    (
        "real_orders_need_a_drawdown_limit",
        LIVE,
        {"risk__protections": [{"name": "cooldown"}]},
        "risk.protections",
        'has no maxDrawdown: mode live takes no default for it; add {name: maxDrawdown, limit: "0.15"} with the loss '
        "at which to stop",
    ),
    (
        "real_orders_need_a_drawdown_limit",
        LIVE,
        {"risk__protections": [{"name": "maxDrawdown"}]},
        "risk.protections",
        "has a maxDrawdown without a limit: mode live takes no default for it; write the loss at which to stop, such "
        'as limit: "0.15"',
    ),
    (
        "live_needs_its_confirmation",
        LIVE,
        {"account__name": "other"},
        "liveConfirmation",
        "is missing or does not name this exchange and account; if that is what you want, write "
        '"trade real money on binance/other"',
    ),
    (
        "paper_needs_a_balance",
        PAPER,
        {"account__paperBalances": REMOVED},
        "account.paperBalances",
        "is missing: mode paper has no exchange to ask; say what the account holds at the start, such as "
        'USDT: "1000"',
    ),
    (
        "paper_needs_a_balance",
        PAPER,
        {"account__paperBalances": {"USDT": "0.00", "BTC": "1"}},
        "account.paperBalances",
        'holds no USDT, so nothing could be bought; add the quote currency, such as USDT: "1000"',
    ),
    (
        "symbols_are_unique",
        PAPER,
        {"symbols": ["BTC/USDT", "ETH/USDT", "BTC/USDT"]},
        "symbols[2]",
        'Duplicate value: "BTC/USDT"',
    ),
    (
        "symbols_are_quoted_in_the_account_currency",
        PAPER,
        {"symbols": ["BTC/USDT", "ETH/USDC"]},
        "symbols",
        "ETH/USDC is not quoted in account.quoteCurrency, USDT; write such as BTC/USDT, or make another bot for it",
    ),
    (
        "symbols_are_quoted_in_the_account_currency",
        PAPER,
        {"symbols": ["USDT/USDT"]},
        "symbols",
        "USDT/USDT trades a currency against itself; remove it",
    ),
    (
        "replay_is_for_the_simulated_exchange",
        PAPER,
        {"exchange": {"name": "simulated"}},
        "exchange.replay",
        "is missing: the simulated exchange needs candles; say which, such as replay: {source: candles, speed: max}",
    ),
    (
        "replay_is_for_the_simulated_exchange",
        PAPER,
        {"exchange__name": "kraken"},
        "exchange.replay",
        "is for the simulated exchange, and this is kraken; remove it, or write exchange.name: simulated",
    ),
    (
        "simulated_exchange_has_no_address",
        PAPER,
        {"exchange__endpoint": "http://127.0.0.1:8080"},
        "exchange.endpoint",
        "is an address, and the simulated exchange has none; remove it",
    ),
    (
        "simulated_exchange_has_no_websocket",
        PAPER,
        {"exchange__feed": "websocket"},
        "exchange.feed",
        "is not what the simulated exchange has; remove it, or write rest",
    ),
    (
        "polling_is_not_too_fast",
        PAPER,
        {"exchange__pollInterval": "999ms"},
        "exchange.pollInterval",
        "polls so often that exchanges refuse it; write 1s or more; feed: websocket is faster",
    ),
    (
        "replay_ends_after_its_start",
        PAPER,
        {
            "exchange__replay__startTime": "2024-02-01T00:00:00Z",
            "exchange__replay__endTime": "2024-02-01T01:00:00+01:00",
        },
        "exchange.replay.endTime",
        "is not after startTime, so there is nothing to replay; swap or change them",
    ),
    (
        "state_is_obeyed_in_time",
        PAPER,
        {"runtime__specInterval": "5001ms"},
        "runtime.specInterval",
        "is too long: a changed state must be obeyed within 5 s; write 5s or less, such as 1s",
    ),
    (
        "plugin_excludes_fusion",
        PAPER,
        {"strategy": {"fusion": "consensus", "plugin": {"path": "a.b:C"}}},
        "strategy.fusion",
        "is given together with plugin, and only one can decide; remove one of them",
    ),
    (
        "indicator_ids_are_unique",
        PAPER,
        {"strategy__indicators": [{"name": "rsi", "id": "one"}, {"name": "macd", "id": "one"}]},
        "strategy.indicators",
        "have the same id twice; give each an id of its own, or leave them out",
    ),
    (
        "agreement_is_possible",
        PAPER,
        {"strategy__indicators": [{"name": "rsi"}]},
        "strategy.consensus.minimumAgreement",
        "asks more indicators to agree than there are; write less, or add indicators",
    ),
    (
        "window_holds_the_indicators",
        PAPER,
        {"strategy__window": 34},
        "strategy.window",
        "is too short for an indicator's periods; write more, or leave it out to have what settles every indicator",
    ),
    (
        "hybrid_has_weight",
        PAPER,
        {"strategy__hybrid__weights": {"consensus": "0", "timeDecay": "0", "bayesian": "0.0"}},
        "strategy.hybrid.weights",
        "are all zero; give at least one method a weight",
    ),
    *(
        (
            "indicator_takes_its_parameters",
            PAPER,
            {"strategy__indicators": [{"name": "macd"}, {"name": name, parameter: value}]},
            f"strategy.indicators[1].{parameter}",
            f"is no parameter of {name}; remove it, it belongs to {owners}",
        )
        for name, parameter, value, owners in (
            ("bollinger", "fast", 12, "emaCross, macd"),
            ("bollinger", "slow", 12, "emaCross, macd"),
            ("emaCross", "signal", 9, "macd"),
            ("emaCross", "period", 9, "rsi, bollinger, atr, adx, obv, vwap"),
            ("rsi", "stdDev", "2", "bollinger, vwap"),
            ("rsi", "multiple", "2", "atr"),
            ("atr", "oversold", 30, "rsi"),
            ("atr", "overbought", 70, "rsi"),
            ("atr", "threshold", 25, "adx"),
        )
    ),
    (
        "fast_is_faster_than_slow",
        PAPER,
        {"strategy__indicators": [{"name": "rsi"}, {"name": "macd", "slow": 12}]},
        "strategy.indicators[1].fast",
        "is not below slow; write a larger slow or a smaller fast",
    ),
    (
        "oversold_is_below_overbought",
        PAPER,
        {"strategy__indicators": [{"name": "macd"}, {"name": "rsi", "oversold": 70}]},
        "strategy.indicators[1].oversold",
        "is not below overbought; write a larger overbought or a smaller oversold",
    ),
    (
        "caps_ascend",
        PAPER,
        {"risk__sizing__caps": [{"below": "1000", "cap": "0.8"}, {"below": "900", "cap": "0.3"}, *CAP]},
        "risk.sizing.caps",
        "have a below that is not above the one before it; order them from small accounts to large ones",
    ),
    (
        "caps_ascend",
        PAPER,
        {"risk__sizing__caps": [{"below": "900", "cap": "0.8"}, {"below": "900", "cap": "0.3"}, *CAP]},
        "risk.sizing.caps",
        "have a below that is not above the one before it; order them from small accounts to large ones",
    ),
    (
        "caps_ascend",
        PAPER,
        {"risk__sizing__caps": [{"below": "1000", "cap": "0.8"}]},
        "risk.sizing.caps",
        "end with a below, which leaves larger accounts without a cap; end the list with a cap that has none",
    ),
    (
        "caps_ascend",
        PAPER,
        {"risk__sizing__caps": CAP + CAP},
        "risk.sizing.caps",
        "have one without a below that is not the last; write up to which equity it holds",
    ),
    (
        "kelly_looks_back_far_enough",
        PAPER,
        {"risk__sizing__kelly__minimumTrades": 300},
        "risk.sizing.kelly.lookbackTrades",
        "is less than minimumTrades, so Kelly would never be used; write as many or more",
    ),
    (
        "entry_limit_is_above_the_stop",
        PAPER,
        {"risk__stopLoss": "0.004"},
        "risk.worstPriceSlippage",
        "is not below stopLoss (0.004): an entry could be bought at a loss that its own stop would sell; write less, "
        "or a larger stopLoss",
    ),
    (
        "trailing_starts_before_the_target",
        PAPER,
        {"risk__trailingStop": {"distance": "0.02", "activateAt": "0.1"}, "risk__takeProfit": "0.1"},
        "risk.trailingStop.activateAt",
        "is not below takeProfit (0.1): the target always comes first; lower activateAt, or raise or remove "
        "takeProfit",
    ),
    (
        "protections_are_unique",
        PAPER,
        {"risk__protections": [{"name": "cooldown"}, {"name": "cooldown", "pause": "2h"}]},
        "risk.protections[1]",
        'Duplicate value: {"name":"cooldown"}',
    ),
    (
        "reward_to_risk_is_possible",
        PAPER,
        {"risk__protections": [{"name": "minRewardToRisk"}]},
        "risk.takeProfit",
        "is missing: minRewardToRisk needs a target to compare with; write takeProfit, or remove this protection",
    ),
    (
        "reward_to_risk_is_possible",
        PAPER,
        {"risk__protections": [REWARD_OF_THREE], "risk__takeProfit": "0.1499"},
        "risk.takeProfit",
        f"{REWARD}takeProfit",
    ),
    *(
        (
            "protection_takes_its_parameters",
            PAPER,
            {"risk__protections": [{"name": name, parameter: value}]},
            f"risk.protections[0].{parameter}",
            f"is no parameter of {name}; remove it, it belongs to {owners}",
        )
        for name, parameter, value, owners in (
            ("cooldown", "limit", "0.1", "maxDrawdown, dailyLoss"),
            ("cooldown", "lookback", "1d", "maxDrawdown, stopLossGuard"),
            ("dailyLoss", "pause", "1d", "maxDrawdown, cooldown, stopLossGuard"),
            ("dailyLoss", "count", 3, "stopLossGuard, maxOpenPositions"),
            ("dailyLoss", "share", "0.1", "maxSymbolShare"),
            ("dailyLoss", "ratio", "1", "minRewardToRisk"),
            ("dailyLoss", "perSymbol", True, "cooldown, stopLossGuard"),
        )
    ),
    (
        "messaging_is_managed_or_external",
        PAPER,
        {"messaging": {"managed": {}, "external": {"urlSecretRef": SECRET}}},
        "messaging.managed",
        NOT_BOTH,
    ),
    (
        "time_series_is_managed_or_external",
        PAPER,
        {"timeSeries": {"managed": {}, "external": {"urlSecretRef": SECRET, "tokenSecretRef": SECRET}}},
        "timeSeries.managed",
        NOT_BOTH,
    ),
    (
        "database_is_managed_or_external",
        PAPER,
        {"database": {"managed": {}, "external": {"urlSecretRef": SECRET}}},
        "database.managed",
        NOT_BOTH,
    ),
    (
        "notification_names_are_unique",
        PAPER,
        {"notifications": [{"name": "me", "format": "json", "urlSecretRef": SECRET}] * 2},
        "notifications[1]",
        'Duplicate value: {"name":"me"}',
    ),
    (
        "variable_has_one_source",
        PAPER,
        {"agents__risk__env": [{"name": "A", "value": "1"}, {"name": "B"}]},
        "agents.risk.env[1]",
        ONE_SOURCE,
    ),
    (
        "variable_has_one_source",
        PAPER,
        {"agents__risk__env": [{"name": "A", "value": "1", "valueFromSecret": SECRET}]},
        "agents.risk.env[0]",
        ONE_SOURCE,
    ),
    (
        "variables_are_unique",
        PAPER,
        {"agents__strategy__env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        "agents.strategy.env[1]",
        'Duplicate value: {"name":"A"}',
    ),
    (
        "requests_are_within_limits",
        PAPER,
        {"agents__execution__resources": {"requests": {"memory": "1Gi", "cpu": "1"}, "limits": {"memory": "512Mi"}}},
        "agents.execution.resources.requests.memory",
        "1Gi is above its limit of 512Mi; lower the request or raise the limit",
    ),
    (
        "requests_are_within_limits",
        PAPER,
        {"messaging__managed__resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "900m"}}},
        "messaging.managed.resources.requests.cpu",
        "1 is above its limit of 900m; lower the request or raise the limit",
    ),
    (
        "some_cpu",
        PAPER,
        {"agents__risk__resources": {"requests": {"cpu": "0.0"}}},
        "agents.risk.resources.requests.cpu",
        "is no CPU at all; write at least 1m",
    ),
]


@pytest.mark.parametrize(
    ("base", "changes", "field", "message"),
    [case[1:] for case in REFUSED],
    ids=[f"{case[0]}-{number}" for number, case in enumerate(REFUSED)],
)
def test_a_rule_refuses_what_it_is_for_and_says_the_remedy(
    bots: Bots, base: Json, changes: Json, field: str, message: str
) -> None:
    broken = with_changes(base, changes)
    assert bots.refusals(base) == []
    assert bots.refusals(broken) == [(field, message)]
    with pytest.raises(SpecInvalid):
        load_object(broken)


def test_every_rule_has_such_a_spec() -> None:
    covered = [(case[0], case[4]) for case in REFUSED]
    for rule in CEL_RULES:
        if rule.name in ("immutable", "object_name"):
            continue  # below
        parts = [re.escape(part) for part in re.split(r"\{\{.+?\}\}", rule.message)]
        pattern = ".+".join(parts)
        assert any(rule.name == name and re.fullmatch(pattern, message) for name, message in covered), rule
    assert {name for name, _ in covered} >= BY_LIST_TYPE


@pytest.mark.parametrize(
    ("rule", "base", "changes"),
    [case[:3] for case in BROKEN],
    ids=[f"{case[0]}-{n}" for n, case in enumerate(BROKEN)],
)
def test_what_the_types_refuse_the_api_server_refuses_unless_it_cannot_say_it(
    bots: Bots, rule: str, base: Json, changes: Json
) -> None:
    derived_ids = rule == "indicator_ids_are_unique"
    assert bool(bots.refusals(with_changes(base, changes))) == (rule not in OPERATOR_ONLY and not derived_ids)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (LIVE, {"risk__sizing": {"method": "volatility", "volatility": {"targetRisk": "0.01"}}}),
        (LIVE, {"risk__sizing": {"method": "kelly", "fraction": "0.1", "kelly": {"cap": "0.2"}}}),
        (TESTNET, {"liveConfirmation": REMOVED}),
        (PAPER, {"exchange__pollInterval": "1000ms"}),
        (PAPER, {"runtime__specInterval": "5000ms"}),
        (PAPER, {"runtime__specInterval": "5s"}),
        (PAPER, {"strategy__window": 35}),
        (PAPER, {"strategy": {"plugin": {"path": "a.b:C"}, "indicators": [{"name": "rsi"}]}}),
        (PAPER, {"strategy": {"fusion": "timeDecay", "indicators": [{"name": "rsi"}]}}),
        (PAPER, {"strategy": {"indicators": [{"name": "rsi", "period": 7}, {"name": "rsi"}], "window": 16}}),
        (PAPER, {"strategy": {"indicators": [{"name": "adx"}, {"name": "obv"}], "window": 29}}),
        (PAPER, {"strategy__hybrid__weights": {"consensus": "0", "timeDecay": "0", "bayesian": "0.1"}}),
        (PAPER, {"risk__protections": [REWARD_OF_THREE], "risk__takeProfit": "0.15"}),
        (PAPER, {"risk": {"worstPriceSlippage": "0.029999999999999999", "stopLoss": "0.03"}}),
        (PAPER, {"risk__sizing__caps": CAP}),
        (PAPER, {"risk__sizing__caps": [{"below": "9", "cap": "1"}, {"below": "10", "cap": "0.5"}, *CAP]}),
        (PAPER, {"risk__protections": []}),
        (PAPER, {"messaging": {"external": {"urlSecretRef": SECRET}}}),
        (PAPER, {"database": {"managed": {"provider": "CloudNativePG"}}}),
        (PAPER, {"agents__risk__resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "0.1"}}}),
        (PAPER, {"agents__risk__env": [{"name": "A", "valueFromSecret": SECRET}, {"name": "B", "value": ""}]}),
        (PAPER, {"agents__risk__affinity": {"podAffinity": {"weights": [1, {"any": "thing"}]}}}),
    ],
)
def test_what_the_types_take_the_api_server_takes(bots: Bots, base: Json, changes: Json) -> None:
    document = with_changes(base, changes)
    load_object(document)
    assert bots.refusals(document) == []


FRACTIONS = ("0.001", "0.005", "0.0050", "0.049999999999999999", "0.05", "0.050", "0.3", "0.999999999999999999")
POSITIVE = (*FRACTIONS, "1", "1.5", "900", "900.0", "1000", "1000.000000000000000001", "999999999999999999")


def some(random: Random, chance: float = 0.5, /, **options: Any) -> Json:
    """Each key now and then, with one of its values."""
    return {key: random.choice(values) for key, values in options.items() if random.random() < chance}


def an_indicator(random: Random) -> Json:
    name = random.choice(list(defaults.INDICATOR_PARAMETERS))
    counts = dict.fromkeys(("fast", "slow", "signal", "period", "threshold"), (2, 9, 12, 13, 26, 30, 99))
    levels = dict.fromkeys(("oversold", "overbought"), (1, 30, 69, 70, 99))
    options = {**counts, **levels, "stdDev": POSITIVE, "multiple": POSITIVE}
    mine = {camel(key) for key in defaults.INDICATOR_PARAMETERS[name]}
    own = {key: values for key, values in options.items() if key in mine or random.random() < 0.02}
    return {"name": name, **some(random, **own), **some(random, 0.2, id=("one", "two", "three"))}


def a_protection(random: Random, name: str) -> Json:
    options = {
        "limit": FRACTIONS,
        "share": FRACTIONS,
        "ratio": POSITIVE,
        "pause": ("1h", "2d"),
        "lookback": ("1h", "2d"),
        "count": (1, 3),
        "perSymbol": (True, False),
    }
    mine = {camel(key) for key in defaults.PROTECTION_PARAMETERS[name]}
    own = {key: values for key, values in options.items() if key in mine or random.random() < 0.02}
    return {"name": name, **some(random, **own)}


def a_spec(random: Random) -> Json:
    """Right in its parts, and as a whole or not."""
    names = random.sample(list(defaults.PROTECTION_PARAMETERS), random.randint(0, 4))
    caps = [{"cap": "0.5", **some(random, 0.8, below=POSITIVE)} for _ in range(random.randint(0, 3))]
    counts = (1, 30, 31, 200)
    parts: list[Json] = [
        {
            "strategy": {
                **some(random, 0.2, fusion=("consensus", "timeDecay", "hybrid"), plugin=({"path": "a.b:C"},)),
                **some(random, 0.5, window=(15, 30, 35, 60, 200), consensus=({"minimumAgreement": 1},)),
                "indicators": [an_indicator(random) for _ in range(random.randint(1, 4))],
            }
        },
        {
            f"risk.{key}": value
            for key, value in some(
                random,
                stopLoss=FRACTIONS,
                worstPriceSlippage=FRACTIONS,
                takeProfit=POSITIVE,
                trailingStop=[{"distance": "0.1", "activateAt": value} for value in POSITIVE],
                protections=[[a_protection(random, name) for name in names]],
            ).items()
        },
        {"risk.sizing.caps": [*caps, {"cap": "0.1"}]},
        {"risk.sizing.kelly": some(random, minimumTrades=counts, lookbackTrades=counts)},
    ]
    return changed(random.choice((PAPER, LIVE)), random.choice(parts))


@pytest.mark.parametrize("seed", range(4))
def test_the_api_server_refuses_no_spec_that_the_types_take(bots: Bots, seed: int) -> None:
    """Of many, made by chance: about half of them have no mistake."""
    random = Random(seed)
    taken = [document for document in (a_spec(random) for _ in range(300)) if is_taken(document)]
    assert 100 < len(taken) < 200
    for document in taken:
        assert bots.refusals(document) == [], yaml.safe_dump(document)


# ------------------------------------------------------------------------------------------------------- scalars

TEXTS: dict[str, list[Any]] = {
    "risk.stopLoss": ["0.05", "0", "0.0", "1", "0.9999", "5%", "0,05", ".5", "5e-2", "-0.05", "+0.05", "00.5", ""],
    "risk.sizing.fraction": ["1", "1.0", "1.01", "0.000000000000000001", "0.0000000000000000001", "80", " 0.1"],
    "risk.takeProfit": ["0", "0.10", "1.5", "999999999999999999", "1000000000000000000", "Infinity", "NaN", "1_0"],
    "exchange.simulated.slippage": ["0", "0.000", "1", "1.1", "2"],
    "account.quoteStep": ["0.01", "0", "1", "0.010"],
    "exchange.requestTimeout": ["10s", "0s", "10", "1h30m", "5 m", "1w", "999999999ms", "1234567890ms", "01s", "10S"],
    "exchange.simulated.latency": ["0s", "0ms", "250ms", "0", "00s"],
    "exchange.replay.speed": ["max", "60", "0.5", "0", "60x", "MAX"],
    "exchange.replay.startTime": [
        "2024-01-01T00:00:00Z",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-02-30T00:00:00Z",
    ],
    "exchange.replay.source": ["candles", "a b", " a", "a ", "", "x" * 1000, "x" * 1001],
    "account.name": ["main", "Main", "a.b", "-a", "a" * 40, "a" * 41],
    "image": ["docker.io/library/postgres:18", "Postgres", "a" * 512, "a" * 513],
    "strategy.plugin.path": ["a.b:C", "a.b", "a:" + "C" * 254, "a:" + "C" * 255],
    "realityCheck.schedule": ["*/30 * * * *", "@hourly", "* * * *", ",".join(["1"] * 101) + " * * * *"],
    "realityCheck.credentialsSecretRef.name": ["a.b", "A", ".".join(["a" * 63] * 4)],
    "messaging.managed.storage.size": ["1Gi", "1.5Gi", "0", "1GB", "1gi", "100000"],
    "agents.risk.resources.limits.cpu": ["100m", "2", "0.5", "0", "0m", "1.2345", "-1"],
    "mode": ["paper", "Paper", ""],
    "timeframe": ["5m", "7m", "1M"],
    "data.history": [1, 100_000, 0, 100_001, "5", 5.5],
    "realityCheck.suspend": [True, "true", 1],
    "symbols": [["BTC/USDT"], [], ["BTCUSDT"], ["btc/usdt"], [f"A{number}/USDT" for number in range(51)], "BTC/USDT"],
    "account.paperBalances": [{"USDT": "1", "BTC": "0"}, {"USDT": "1", "btc": "0"}, {"USDT": 1}, {"USDT": "-1"}],
}


def is_taken(document: Json) -> bool:
    """By the types."""
    try:
        load_object(document)
    except SpecInvalid:
        return False
    return True


@pytest.mark.parametrize("field", TEXTS)
def test_the_api_server_and_the_types_agree_on_a_value(bots: Bots, field: str) -> None:
    for value in TEXTS[field]:
        document = changed(PAPER, {field: value})
        assert (bots.refusals(document) == []) == is_taken(document), repr(value)


@pytest.mark.parametrize(
    "endpoint",
    ["https://a.example/x", "ftp://a.example", "https://me:pw@a.example", "https://a b", f"http://a/{'b' * 992}"],
)
def test_the_api_server_and_the_types_agree_on_an_address(bots: Bots, endpoint: str) -> None:
    document = changed(LIVE, {"exchange.endpoint": endpoint})
    assert (bots.refusals(document) == []) == is_taken(document)


def test_a_wrong_value_is_answered_with_what_to_write(bots: Bots) -> None:
    """Beside the pattern, which few can read; and without an error of a rule that reads the value."""
    document = changed(PAPER, {"risk.stopLoss": "5%", "exchange.pollInterval": "half a minute"})
    messages = bots.refusals(document)
    assert ("risk.stopLoss", '"5%": is not a fraction above 0, below 1: write one such as "0.05"') in messages
    assert (
        "exchange.pollInterval",
        '"half a minute": is not a duration: write one such as "30s"',
    ) in messages
    assert {field for field, _ in messages} == {"risk.stopLoss", "exchange.pollInterval"}


@pytest.mark.parametrize("name", ["a" * 41, "a.b"])
def test_a_name_that_would_be_too_long_for_the_children_is_refused(bots: Bots, name: str) -> None:
    with pytest.raises(Refused) as caught:
        bots.create(PAPER, name, dryRun="All")
    assert "use up to 40 of a-z, 0-9 and hyphens" in caught.value.message
    assert bots.create(PAPER, "a" * 40, dryRun="All")["metadata"]["name"] == "a" * 40


# ---------------------------------------------------------------------------------------------------- defaulting


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_is_the_same_bot_on_the_api_server(
    bots: Bots, kubectl: Callable[..., Completed], path: Path
) -> None:
    kubectl("apply", "-n", bots.namespace, "-f", path)
    bot = load_file(path)
    stored = load_object(bots.api.get(BOTS, bots.namespace, bot.metadata.name))
    assert stored.spec == bot.spec
    assert revision(stored) == revision(bot)


def test_what_is_stored_is_the_resolved_spec(bots: Bots) -> None:
    """But for what is derived or never defaulted, which this spec writes out."""
    spec = resolved(load_object(PAPER))["spec"]
    written = with_changes(
        PAPER,
        {
            "account__quoteStep": spec["account"]["quoteStep"],
            "exchange__simulated": {},
            "strategy__fusion": spec["strategy"]["fusion"],
            "strategy__window": spec["strategy"]["window"],
            "risk__stopLoss": spec["risk"]["stopLoss"],
            "risk__protections": spec["risk"]["protections"],
            "risk__sizing": {
                "method": spec["risk"]["sizing"]["method"],
                "fraction": spec["risk"]["sizing"]["fraction"],
                "kelly": {"cap": spec["risk"]["sizing"]["kelly"]["cap"]},
                "volatility": {"targetRisk": spec["risk"]["sizing"]["volatility"]["targetRisk"]},
            },
            "messaging__managed": {},
            "timeSeries__managed": {},
            "database__managed": {},
        },
    )
    assert bots.create(written)["spec"] == spec


def test_nothing_that_decides_about_money_is_filled_in(bots: Bots) -> None:
    spec = bots.create(PAPER)["spec"]
    assert not {"stopLoss", "sizing", "protections"} & set(spec["risk"])
    assert "managed" not in spec["messaging"]
    assert spec["messaging"]["marketTimeToLive"] == "2m"


def test_a_misspelt_field_is_pruned_and_never_becomes_a_default(bots: Bots) -> None:
    typo = changed(LIVE, {"risk.stopLoss": REMOVED, "risk.stopLos": "0.05"})
    with pytest.raises(Refused) as caught:
        bots.create(typo, fieldValidation="Ignore")
    assert list(causes(caught.value)) == [
        (
            "risk.stopLoss",
            'is missing: mode live takes no default for it; write it out, such as stopLoss: "0.05"',
        )
    ]
    stored = bots.create(changed(LIVE, {"risk.takeProfits": "0.1"}), fieldValidation="Ignore")
    assert "takeProfits" not in stored["spec"]["risk"]


def test_kubectl_refuses_a_misspelt_field(bots: Bots, kubectl: Callable[..., Completed]) -> None:
    done = kubectl(
        "apply", "-n", bots.namespace, "-f", "-", input=changed(PAPER, {"risk.stopLos": "0.05"}), check=False
    )
    assert done.code == 1
    assert 'unknown field "spec.risk.stopLos"' in done.err


def test_an_affinity_is_kept_as_it_is(bots: Bots) -> None:
    affinity = {"nodeAffinity": {"anything": [{"goes": True}]}}
    stored = bots.create(changed(PAPER, {"agents.risk.affinity": affinity}))
    assert stored["spec"]["agents"]["risk"]["affinity"] == affinity


# ------------------------------------------------------------------------------------------------- immutability


@pytest.mark.parametrize(
    ("base", "change", "field", "why"),
    [
        (LIVE, {"mode": "testnet"}, "mode", "paper and real money are never one bot's books"),
        (
            LIVE,
            {"exchange": {"name": "kraken"}, "liveConfirmation": "trade real money on kraken/main"},
            "exchange.name",
            "the bot's books are those of one exchange",
        ),
        (
            LIVE,
            {"exchange": {"endpoint": "https://other.example"}},
            "exchange.endpoint",
            "the bot's books are those of one exchange",
        ),
        (
            changed(LIVE, {"exchange.endpoint": "https://one.example"}),
            {"exchange": {"endpoint": None}},
            "exchange.endpoint",
            "the bot's books are those of one exchange",
        ),
        (
            LIVE,
            {"account": {"name": "other"}, "liveConfirmation": "trade real money on binance/other"},
            "account.name",
            "the bot's positions belong to this account",
        ),
        (
            LIVE,
            {"account": {"quoteCurrency": "USDC"}, "symbols": ["BTC/USDC"]},
            "account.quoteCurrency",
            "the bot's books are kept in it",
        ),
    ],
    ids=["mode", "exchange", "endpoint-set", "endpoint-removed", "account", "currency"],
)
def test_what_the_books_rest_on_never_changes(bots: Bots, base: Json, change: Json, field: str, why: str) -> None:
    bots.create(base, "bot")
    with pytest.raises(Refused) as caught:
        bots.change("bot", change)
    message = f"cannot be changed: {why}; make a new TradingBot with a name of its own"
    assert list(causes(caught.value)) == [(field, message)]


@pytest.mark.parametrize("server", ["messaging", "timeSeries", "database"])
def test_a_volume_keeps_its_size_and_class(bots: Bots, server: str) -> None:
    """A StatefulSet's claims can not be changed: taken here, it would be refused to the operator for ever."""
    bots.create({**PAPER, "spec": {**PAPER["spec"], server: {"managed": {"storage": {"size": "2Gi"}}}}}, "bot")
    for field, value, remedy in (
        ("size", "3Gi", "edit the size of its PersistentVolumeClaim, if its storage class lets volumes grow"),
        ("className", "fast", "a volume stays where it was made"),
    ):
        with pytest.raises(Refused) as caught:
            bots.change("bot", {server: {"managed": {"storage": {field: value}}}})
        message = f"cannot be changed: the volume exists; {remedy}"
        assert list(causes(caught.value)) == [(f"{server}.managed.storage.{field}", message)]
    assert bots.change("bot", {server: {"managed": {"storage": {"whenDeleted": "Delete"}}}})


def test_everything_else_may_change(bots: Bots) -> None:
    bots.create(LIVE, "bot")
    change = {
        "state": "Paused",
        "symbols": ["ETH/USDT"],
        "exchange": {"credentialsSecretRef": {"name": "newer-keys"}, "pollInterval": "20s"},
        "risk": {"stopLoss": "0.04"},
    }
    assert bots.change("bot", change)["spec"]["state"] == "Paused"


# ------------------------------------------------------------------------------------------- server-side apply


def spec_of_paper(**changes: Any) -> Json:
    spec: Json = with_changes(PAPER, changes)["spec"]
    return spec


def test_two_managers_merge_what_has_keys(bots: Bots) -> None:
    drawdown, cooldown = {"name": "maxDrawdown", "limit": "0.1"}, {"name": "cooldown", "pause": "2h"}
    mine = spec_of_paper(
        risk__protections=[drawdown], agents__risk__env=[{"name": "A", "value": "1"}], symbols=["BTC/USDT"]
    )
    bots.apply(mine, "person")
    theirs = {
        "symbols": ["ETH/USDT"],
        "risk": {"protections": [cooldown]},
        "agents": {"risk": {"env": [{"name": "B", "value": "2"}]}},
        "notifications": [{"name": "ops", "format": "json", "urlSecretRef": SECRET}],
    }
    spec = bots.apply(theirs, "team")["spec"]
    assert spec["symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert spec["risk"]["protections"] == [drawdown, cooldown]
    assert [variable["name"] for variable in spec["agents"]["risk"]["env"]] == ["A", "B"]
    # Who leaves out what was his removes it, and nobody else's.
    spec = bots.apply({**mine, "symbols": ["SOL/USDT"]}, "person")["spec"]
    assert sorted(spec["symbols"]) == ["ETH/USDT", "SOL/USDT"]
    spec = bots.apply({"symbols": ["ETH/USDT"]}, "team")["spec"]
    assert spec["risk"]["protections"] == [drawdown]
    assert spec["notifications"] == []


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (
            {"strategy__indicators": [{"name": "rsi"}, {"name": "macd"}]},
            {"strategy": {"indicators": [{"name": "obv"}]}},
        ),
        ({"risk__sizing__caps": CAP}, {"risk": {"sizing": {"caps": [{"cap": "0.2"}]}}}),
        (
            {"realityCheck__pingUrlSecretRef": {"name": "ping", "key": "url"}},
            {"realityCheck": {"pingUrlSecretRef": {"name": "ping", "key": "other"}}},
        ),
        ({"agents__risk__nodeSelector": {"a": "b"}}, {"agents": {"risk": {"nodeSelector": {"c": "d"}}}}),
    ],
    ids=["indicators", "caps", "a reference", "node selector"],
)
def test_two_managers_do_not_mix_what_is_one_value(bots: Bots, mine: Json, theirs: Json) -> None:
    bots.apply(spec_of_paper(**mine), "person")
    with pytest.raises(Refused) as caught:
        bots.apply(theirs, "team")
    assert caught.value.code == 409
    assert 'conflict with "person"' in caught.value.message


def test_a_second_apply_of_the_same_writes_nothing(bots: Bots) -> None:
    """Defaults are no difference."""
    first = bots.apply(spec_of_paper(), "person")
    second = bots.apply(spec_of_paper(), "person")
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


# ------------------------------------------------------------------------------------------------------ status

NOW = "2026-01-01T00:00:00Z"


def condition(kind: str, status: str, message: str) -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": "AReason",
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": NOW,
    }


def a_told_bot(bots: Bots) -> Json:
    """Each writer tells its part."""
    bots.apply(spec_of_paper(), "person")
    bots.told(
        {
            "observedGeneration": 1,
            "state": "Running",
            "wantedState": "Running",
            "ready": "4/5",
            "readyAgents": 4,
            "revision": "0123456789ab",
            "conditions": [condition("Ready", "False", "waiting for risk")],
            "agents": {
                name: {"ready": name != "risk", "restarts": 0, "message": ""} for name in ("risk", "execution")
            },
            "children": {"messaging": "ready"},
        },
        "tradingbot-operator",
    )
    bots.told(
        {
            "equity": "-84.54",
            "quoteCurrency": "USDT",
            "openPositions": 2,
            "liveOrders": 0,
            "unprotectedPositions": 0,
            "factsAt": "2026-01-01T00:00:00.123456Z",
            "positions": [{"symbol": "BTC/USDT", "amount": "0.00055", "protected": True}],
            "agents": {"risk": {"state": "Running"}},
        },
        "risk",
    )
    bots.told({"agents": {"execution": {"state": "Paused"}}}, "execution")
    return bots.told(
        {
            "lastRealityCheck": {"at": NOW, "result": "passed", "summary": "all well", "since": NOW},
            "conditions": [condition("RealityCheckPassed", "True", "all well")],
        },
        "reality-check",
    )


def test_the_writers_of_a_status_do_not_remove_each_others_part(bots: Bots) -> None:
    status = a_told_bot(bots)["status"]
    assert [each["type"] for each in status["conditions"]] == ["Ready", "RealityCheckPassed"]
    assert status["agents"] == {
        "risk": {"ready": False, "restarts": 0, "message": "", "state": "Running"},
        "execution": {"ready": True, "restarts": 0, "message": "", "state": "Paused"},
    }
    assert (status["equity"], status["ready"], status["lastRealityCheck"]["result"]) == ("-84.54", "4/5", "passed")
    assert status["positions"] == [{"symbol": "BTC/USDT", "amount": "0.00055", "protected": True}]


def test_the_status_is_not_written_with_the_spec_nor_the_spec_with_the_status(bots: Bots) -> None:
    assert "status" not in bots.create({**PAPER, "status": {"state": "Running"}}, "bot")
    path = address(BOTS, bots.namespace, "bot", "status")
    changes = {"spec": {"state": "Stopped"}, "status": {"state": "Running"}}
    stored = bots.api.ask("PATCH", path, changes, "application/merge-patch+json")
    assert stored["spec"]["state"] == "Running"
    assert stored["metadata"]["generation"] == 1


def table(text: str) -> list[dict[str, str]]:
    """What kubectl prints, by the places of its headings."""
    head, *rows = text.splitlines()
    starts = [found.start() for found in re.finditer(r"\S+", head)]
    ends = [*starts[1:], None]
    names = head.split()
    return [
        {name: row[start:end].strip() for name, start, end in zip(names, starts, ends, strict=True)} for row in rows
    ]


def test_kubectl_answers_the_questions_that_a_person_has(bots: Bots, kubectl: Callable[..., Completed]) -> None:
    a_told_bot(bots)
    (row,) = table(kubectl("get", "tb", "-n", bots.namespace).out)
    assert row.pop("AGE")
    assert row.pop("CHECKED").endswith(("d", "y", "h"))
    assert row == {
        "NAME": "shared",
        "MODE": "paper",
        "STATE": "Running",
        "READY": "4/5",
        "EQUITY": "-84.54",
        "POSITIONS": "2",
        "CHECK": "passed",
    }
    (wide,) = table(kubectl("get", "tb", "-n", bots.namespace, "-o", "wide").out)
    assert {name: wide[name] for name in ("EXCHANGE", "ACCOUNT", "SYMBOLS", "WANTED", "REVISION", "MESSAGE")} == {
        "EXCHANGE": "simulated",
        "ACCOUNT": "main",
        "SYMBOLS": '["BTC/USDT"]',
        "WANTED": "Running",
        "REVISION": "0123456789ab",
        "MESSAGE": "waiting for risk",
    }
    assert "tradingbot.tradingbot.dev/shared" in kubectl("get", "all", "-n", bots.namespace).out


def test_there_is_no_scale(bots: Bots, kubectl: Callable[..., Completed]) -> None:
    bots.create(PAPER, "bot")
    done = kubectl("scale", "tb", "bot", "--replicas=2", "-n", bots.namespace, check=False)
    assert done.code == 1
    assert bots.api.find(BOTS, bots.namespace, "bot") is not None
    with pytest.raises(Refused) as caught:
        bots.api.ask("GET", address(BOTS, bots.namespace, "bot", "scale"))
    assert caught.value.code == 404


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("spec.risk.stopLoss", "Fraction below the entry price at which it is sold."),
        ("spec.mode", "paper: no real orders."),
        ("spec.exchange.pollInterval", "Between two polls of the feed by REST."),
        ("status.lastRealityCheck.result", "passed, failed, or unknown when evidence was missing."),
    ],
)
def test_kubectl_explains_a_field(kubectl: Callable[..., Completed], field: str, sentence: str) -> None:
    said = " ".join(kubectl("explain", f"tradingbot.{field}").out.split())
    assert sentence in said


def test_kubectl_explains_the_choices(kubectl: Callable[..., Completed]) -> None:
    said = kubectl("explain", "tradingbot.spec.state").out.split()
    start = said.index("ENUM:")
    assert said[start + 1 : start + 6] == ["Running", "Paused", "ReduceOnly", "Flatten", "Stopped"]


def test_the_server_takes_the_definition_as_written_and_once(
    control_plane: Cluster, kubectl: Callable[..., Completed]
) -> None:
    file = Path(__file__).parents[2] / "crds" / "tradingbots.yaml"
    wanted = yaml.safe_load(file.read_text(encoding="utf-8"))
    resource = "apiextensions.k8s.io/v1/customresourcedefinitions"
    stored = control_plane.api.get(resource, None, "tradingbots.tradingbot.dev")
    assert stored["spec"]["versions"][0]["schema"] == wanted["spec"]["versions"][0]["schema"]
    assert "NonStructuralSchema" not in [each["type"] for each in stored["status"]["conditions"]]
    kubectl("apply", "--server-side", "--force-conflicts", "-f", file)
    again = control_plane.api.get(resource, None, "tradingbots.tradingbot.dev")
    assert again["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
