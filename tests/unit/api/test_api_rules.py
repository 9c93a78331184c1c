"""The rules: each has a spec that breaks it alone, and a message that says how to mend it."""

from typing import Any

import pytest

from support.specs import LIVE, PAPER, REMOVED, bot_of, mistakes_of, spec_text
from tradingbot_api.rules import RULES, Place
from tradingbot_api.tree import from_yaml

TESTNET = {**LIVE, "spec": {**LIVE["spec"], "mode": "testnet"}}
REPLAY = {"source": "candles"}
SECRET = {"name": "a-secret"}
CAP = [{"cap": "0.1"}]

# (rule, valid spec, changes, path of the mistake, part of its message)
BROKEN: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "real_orders_need_credentials",
        LIVE,
        {"exchange": {"name": "binance"}},
        "exchange.credentialsSecretRef",
        "is missing: mode live sends orders to the exchange; name a Secret with apiKey and secret",
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
        {"exchange__simulated": {"latency": "1s"}},
        "exchange.simulated",
        "is for mode paper, and this is live",
    ),
    (
        "simulated_exchange_is_paper",
        TESTNET,
        {"exchange": {"name": "simulated", "replay": REPLAY}},
        "exchange.name",
        "simulated has no testnet mode; set mode: paper, or name a real exchange",
    ),
    (
        "real_orders_need_a_written_stop",
        TESTNET,
        {"risk__stopLoss": REMOVED},
        "risk.stopLoss",
        'is missing: mode testnet takes no default for it; write it out, such as stopLoss: "0.05"',
    ),
    (
        "real_orders_need_a_written_size",
        LIVE,
        {"risk__sizing": {"method": "fixedFractional"}},
        "risk.sizing.fraction",
        "is missing: mode live takes no default for the size of a position",
    ),
    (
        "real_orders_need_a_drawdown_limit",
        LIVE,
        {"risk__protections": [{"name": "cooldown"}]},
        "risk.protections",
        'has no maxDrawdown: mode live takes no default for it; add {name: maxDrawdown, limit: "0.15"}',
    ),
    (
        "real_orders_need_a_drawdown_limit",
        LIVE,
        {"risk__protections": REMOVED},
        "risk.protections",
        "has no maxDrawdown",
    ),
    (
        "real_orders_need_a_drawdown_limit",
        LIVE,
        {"risk__protections": [{"name": "maxDrawdown"}]},
        "risk.protections[0].limit",
        "is missing: mode live takes no default for it; write the loss at which to stop",
    ),
    (
        "live_needs_its_confirmation",
        LIVE,
        {"liveConfirmation": REMOVED},
        "liveConfirmation",
        'is missing; if that is what you want, write "trade real money on binance/main"',
    ),
    (
        "live_needs_its_confirmation",
        LIVE,
        {"account__name": "other"},
        "liveConfirmation",
        "trade real money on binance/main does not name this exchange and account; if that is what you want, "
        'write "trade real money on binance/other"',
    ),
    (
        "paper_needs_a_balance",
        PAPER,
        {"account__paperBalances": REMOVED},
        "account.paperBalances",
        "is missing: mode paper has no exchange to ask",
    ),
    (
        "paper_needs_a_balance",
        PAPER,
        {"account__paperBalances": {"BTC": "1"}},
        "account.paperBalances",
        'holds no USDT, so nothing could be bought; add the quote currency, such as USDT: "1000"',
    ),
    (
        "paper_needs_a_balance",
        PAPER,
        {"account__paperBalances": {"USDT": "0"}},
        "account.paperBalances",
        "holds no USDT",
    ),
    (
        "symbols_are_unique",
        PAPER,
        {"symbols": ["BTC/USDT", "ETH/USDT", "BTC/USDT"]},
        "symbols[2]",
        "BTC/USDT is given twice, at [0] too",
    ),
    (
        "symbols_are_quoted_in_the_account_currency",
        PAPER,
        {"symbols": ["BTC/USDT", "ETH/USDC"]},
        "symbols[1]",
        "ETH/USDC is quoted in USDC, and account.quoteCurrency is USDT; write ETH/USDT",
    ),
    (
        "symbols_are_quoted_in_the_account_currency",
        PAPER,
        {"symbols": ["USDT/USDT"]},
        "symbols[0]",
        "trades a currency against itself",
    ),
    (
        "replay_is_for_the_simulated_exchange",
        PAPER,
        {"exchange": {"name": "simulated"}},
        "exchange.replay",
        "is missing: the simulated exchange needs candles",
    ),
    (
        "replay_is_for_the_simulated_exchange",
        PAPER,
        {"exchange__name": "kraken"},
        "exchange.replay",
        "is for the simulated exchange, and this is kraken; remove it, or write name: simulated",
    ),
    (
        "simulated_exchange_has_no_address",
        PAPER,
        {"exchange__endpoint": "http://127.0.0.1:8080"},
        "exchange.endpoint",
        "is an address, and the simulated exchange has none",
    ),
    (
        "simulated_exchange_has_no_websocket",
        PAPER,
        {"exchange__feed": "websocket"},
        "exchange.feed",
        "websocket is not what the simulated exchange has",
    ),
    (
        "polling_is_not_too_fast",
        PAPER,
        {"exchange__pollInterval": "200ms"},
        "exchange.pollInterval",
        "200ms polls so often that exchanges refuse it; write 1s or more",
    ),
    (
        "replay_ends_after_its_start",
        PAPER,
        {
            "exchange__replay__startTime": "2024-02-01T00:00:00Z",
            "exchange__replay__endTime": "2024-02-01T01:00:00+01:00",
        },
        "exchange.replay.endTime",
        "is not after startTime",
    ),
    (
        "polling_is_faster_than_candles",
        PAPER,
        {"exchange__pollInterval": "1m", "timeframe": "1m"},
        "exchange.pollInterval",
        "1m is not shorter than the timeframe 1m",
    ),
    (
        "prices_can_be_fresh",
        PAPER,
        {"exchange__pollInterval": "2m", "data__staleAfter": "8m"},
        "risk.maxPriceAge",
        "90s (the default) is shorter than exchange.pollInterval (2m): hardly a price is fresh; write 6m",
    ),
    (
        "signals_can_be_fresh",
        PAPER,
        {"strategy__signalMaxAge": "10s"},
        "strategy.signalMaxAge",
        "10s is shorter than exchange.pollInterval (30s)",
    ),
    (
        "feed_is_not_stale_between_polls",
        PAPER,
        {"data__staleAfter": "45s"},
        "data.staleAfter",
        "45s is less than two of exchange.pollInterval (30s): one missed poll would be an alarm; write 2m",
    ),
    (
        "intents_do_not_outlive_their_candle",
        PAPER,
        {"strategy__intentTimeToLive": "6m"},
        "strategy.intentTimeToLive",
        "6m is longer than the timeframe 5m: an intent would meet the next candle's; write 5m or less",
    ),
    (
        "intents_outlive_their_approval",
        PAPER,
        {"risk__approval__window": "60s"},
        "risk.approval.window",
        "60s is not shorter than strategy.intentTimeToLive (1m)",
    ),
    (
        "look_ups_outlast_the_receive_window",
        PAPER,
        {"execution__lookUpMargin": "5s"},
        "execution.lookUpMargin",
        "5s is not longer than exchange.receiveWindow (5s)",
    ),
    (
        "restarts_back_off",
        PAPER,
        {"runtime__restartDelay": "31s"},
        "runtime.restartDelayMaximum",
        "30s (the default) is shorter than restartDelay (31s); write 31s or more",
    ),
    (
        "exits_back_off",
        PAPER,
        {"execution__exitRetryDelayMaximum": "1s"},
        "execution.exitRetryDelayMaximum",
        "1s is shorter than exitRetryDelay (2s)",
    ),
    (
        "state_is_obeyed_in_time",
        PAPER,
        {"runtime__specInterval": "10s"},
        "runtime.specInterval",
        "10s is too long: a changed state must be obeyed within 5 s",
    ),
    (
        "plugin_excludes_fusion",
        PAPER,
        {"strategy": {"fusion": "consensus", "plugin": {"path": "a.b:C"}}},
        "strategy.fusion",
        "consensus is given together with plugin, and only one can decide",
    ),
    (
        "indicator_ids_are_unique",
        PAPER,
        {"strategy__indicators": [{"name": "rsi"}, {"name": "macd"}, {"name": "rsi", "overbought": 80}]},
        "strategy.indicators[2]",
        "has the id rsi-14 of [0]; remove one, or give it an id of its own, such as id: rsi-14-b",
    ),
    (
        "agreement_is_possible",
        PAPER,
        {"strategy__indicators": [{"name": "rsi"}]},
        "strategy.consensus.minimumAgreement",
        "asks 2 indicators to agree, and there are 1; write minimumAgreement: 1 or less, or add indicators",
    ),
    (
        "window_holds_the_indicators",
        PAPER,
        {"strategy__window": 30},
        "strategy.window",
        "30 is too short: macd-12-26-9 needs 35 candles; write 35 or more",
    ),
    (
        "hybrid_has_weight",
        PAPER,
        {"strategy__hybrid__weights": {"consensus": "0", "timeDecay": "0", "bayesian": "0.0"}},
        "strategy.hybrid.weights",
        "are all zero",
    ),
    (
        "indicator_takes_its_parameters",
        PAPER,
        {"strategy__indicators": [{"name": "rsi"}, {"name": "bollinger", "fast": 12}]},
        "strategy.indicators[1].fast",
        "12 is no parameter of bollinger; remove it; bollinger takes period, stdDev",
    ),
    (
        "fast_is_faster_than_slow",
        PAPER,
        {"strategy__indicators": [{"name": "rsi"}, {"name": "macd", "slow": 12}]},
        "strategy.indicators[1].slow",
        "12 is not above fast (12, the default); write a larger slow or a smaller fast",
    ),
    (
        "oversold_is_below_overbought",
        PAPER,
        {"strategy__indicators": [{"name": "macd"}, {"name": "rsi", "oversold": 70}]},
        "strategy.indicators[1].oversold",
        "70 is not below overbought (70)",
    ),
    (
        "caps_ascend",
        PAPER,
        {"risk__sizing__caps": [{"below": "1000", "cap": "0.8"}, {"below": "900", "cap": "0.3"}, *CAP]},
        "risk.sizing.caps[1].below",
        "900 is not above the one before it (1000)",
    ),
    (
        "caps_ascend",
        PAPER,
        {"risk__sizing__caps": [{"below": "1000", "cap": "0.8"}]},
        "risk.sizing.caps[0].below",
        "1000 leaves larger accounts without a cap; end the list with a cap that has no below",
    ),
    (
        "caps_ascend",
        PAPER,
        {"risk__sizing__caps": CAP + CAP},
        "risk.sizing.caps[0]",
        "has no below, and only the last cap may have none",
    ),
    (
        "kelly_looks_back_far_enough",
        PAPER,
        {"risk__sizing__kelly__minimumTrades": 300},
        "risk.sizing.kelly.lookbackTrades",
        "200 (the default) is less than minimumTrades (300)",
    ),
    (
        "entry_limit_is_above_the_stop",
        PAPER,
        {"risk__stopLoss": "0.004"},
        "risk.worstPriceSlippage",
        "0.005 (the default) is not below stopLoss (0.004)",
    ),
    (
        "trailing_starts_before_the_target",
        PAPER,
        {"risk__trailingStop": {"distance": "0.02", "activateAt": "0.1"}, "risk__takeProfit": "0.1"},
        "risk.trailingStop.activateAt",
        "0.1 is not below takeProfit (0.1): the target always comes first",
    ),
    (
        "protections_are_unique",
        PAPER,
        {"risk__protections": [{"name": "cooldown"}, {"name": "cooldown", "pause": "2h"}]},
        "risk.protections[1]",
        "is cooldown again, as [0]; keep one",
    ),
    (
        "reward_to_risk_is_possible",
        PAPER,
        {"risk__protections": [{"name": "minRewardToRisk"}]},
        "risk.protections[0]",
        "is minRewardToRisk, which needs a target to compare with; write takeProfit",
    ),
    (
        "reward_to_risk_is_possible",
        PAPER,
        {"risk__protections": [{"name": "minRewardToRisk", "ratio": "3"}], "risk__takeProfit": "0.10"},
        "risk.protections[0].ratio",
        "3 is never reached by takeProfit 0.1 over stopLoss 0.05: nothing would be bought; lower the ratio, or write "
        'takeProfit: "0.15" or more',
    ),
    (
        "protection_takes_its_parameters",
        PAPER,
        {"risk__protections": [{"name": "cooldown", "limit": "0.1"}]},
        "risk.protections[0].limit",
        "0.1 is no parameter of cooldown; remove it; cooldown takes pause, perSymbol",
    ),
    (
        "messaging_is_managed_or_external",
        PAPER,
        {"messaging": {"managed": {}, "external": {"urlSecretRef": SECRET}}},
        "messaging.managed",
        "is given together with external, and only one can be used",
    ),
    (
        "time_series_is_managed_or_external",
        PAPER,
        {"timeSeries": {"managed": {}, "external": {"urlSecretRef": SECRET, "tokenSecretRef": SECRET}}},
        "timeSeries.managed",
        "is given together with external",
    ),
    (
        "database_is_managed_or_external",
        PAPER,
        {"database": {"managed": {}, "external": {"urlSecretRef": SECRET}}},
        "database.managed",
        "is given together with external",
    ),
    (
        "refusals_outlive_their_intents",
        PAPER,
        {"database.history.refusals": "23h"},
        "database.history.refusals",
        "a refused intent could come again and be decided anew",
    ),
    (
        "notification_names_are_unique",
        PAPER,
        {"notifications": [{"name": "me", "format": "json", "urlSecretRef": SECRET}] * 2},
        "notifications[1].name",
        "me is the name of [0] too",
    ),
    (
        "variable_has_one_source",
        PAPER,
        {"agents__risk__env": [{"name": "A", "value": "1"}, {"name": "B"}]},
        "agents.risk.env[1]",
        "needs exactly one of value and valueFromSecret",
    ),
    (
        "variable_has_one_source",
        PAPER,
        {"agents__risk__env": [{"name": "A", "value": "1", "valueFromSecret": SECRET}]},
        "agents.risk.env[0]",
        "needs exactly one of value and valueFromSecret",
    ),
    (
        "variables_are_unique",
        PAPER,
        {"agents__strategy__env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        "agents.strategy.env[1].name",
        "A is given twice, at [0] too",
    ),
    (
        "requests_are_within_limits",
        PAPER,
        {"agents__execution__resources": {"requests": {"memory": "1Gi", "cpu": "1"}, "limits": {"memory": "512Mi"}}},
        "agents.execution.resources.requests.memory",
        "1Gi is above its limit",
    ),
]


@pytest.mark.parametrize(
    ("rule", "base", "changes", "path", "message"),
    BROKEN,
    ids=[f"{case[0]}-{number}" for number, case in enumerate(BROKEN)],
)
def test_a_rule_finds_what_it_is_for(
    rule: str, base: dict[str, Any], changes: dict[str, Any], path: str, message: str
) -> None:
    mistakes = mistakes_of(spec_text(base, **changes))
    assert [mistake.path for mistake in mistakes] == [f"spec.{path}"]
    assert message in str(mistakes[0])
    assert mistakes[0].line is not None
    assert finds(rule, base, changes)


def finds(name: str, base: dict[str, Any], changes: dict[str, Any]) -> bool:
    """Whether the mistakes of the spec go away without the rule: it is this rule that finds them."""
    kept = list(RULES)
    try:
        RULES[:] = [(cls, rule) for cls, rule in kept if rule.__name__ != name]
        return not mistakes_of(spec_text(base, **changes))
    finally:
        RULES[:] = kept


def test_every_rule_has_such_a_spec() -> None:
    assert {rule.__name__ for _, rule in RULES} == {case[0] for case in BROKEN}


@pytest.mark.parametrize("base", [PAPER, TESTNET, LIVE], ids=["paper", "testnet", "live"])
def test_the_valid_specs_are_valid(base: dict[str, Any]) -> None:
    assert mistakes_of(spec_text(base)) == ()


@pytest.mark.parametrize(
    ("method", "sizing"),
    [
        ("fixedFractional", {"fraction": "0.1"}),
        ("kelly", {"fraction": "0.1", "kelly": {"cap": "0.2"}}),
        ("volatility", {"volatility": {"targetRisk": "0.01"}}),
        ("hybrid", {"fraction": "0.1", "kelly": {"cap": "0.2"}, "volatility": {"targetRisk": "0.01"}}),
    ],
)
def test_real_orders_write_out_what_sizes_them_by_their_method(method: str, sizing: dict[str, Any]) -> None:
    assert mistakes_of(spec_text(LIVE, risk__sizing={"method": method, **sizing})) == ()
    missing = mistakes_of(spec_text(LIVE, risk__sizing={"method": method}))
    assert len(missing) == len(sizing)
    assert mistakes_of(spec_text(PAPER, risk__sizing={"method": method})) == ()


def test_without_any_risk_section_real_orders_are_refused_for_each_part() -> None:
    paths = [mistake.path for mistake in mistakes_of(spec_text(LIVE, risk=REMOVED))]
    assert paths == [
        "spec.risk.protections",
        "spec.risk.sizing.fraction",
        "spec.risk.sizing.method",
        "spec.risk.stopLoss",
    ]


def test_rules_still_see_what_is_right_beside_a_mistake() -> None:
    """A mistake silences the rules that read it, and no others."""
    text = spec_text(
        LIVE,
        exchange={"name": "binance", "pollInterval": 30},
        account__paperBalances={"USDT": "1"},
        symbols=["BTC/USDT", "btc/usdt", "BTC/USDT"],
        risk__protections=[{"name": "cooldown"}, {"name": "cooldown", "pause": "soon"}],
    )
    assert sorted(mistake.path for mistake in mistakes_of(text)) == [
        "spec.account.paperBalances",
        "spec.exchange.credentialsSecretRef",
        "spec.exchange.pollInterval",
        "spec.risk.protections",
        "spec.risk.protections[1]",
        "spec.risk.protections[1].pause",
        "spec.symbols[1]",
    ]


def test_a_place_names_the_nearest_line() -> None:
    tree, _ = from_yaml("spec:\n  risk:\n    stopLoss: x\n")
    place = Place(tree, ("spec",))
    assert place.given("risk", "stopLoss")
    assert not place.given("risk", "sizing", "fraction")
    assert place.mistake("risk", "stopLoss", problem="p", remedy="r").line == 3
    assert place.mistake("risk", "sizing", "fraction", problem="p", remedy="r").line == 2
    assert place.mistake("exchange", problem="p", remedy="r").line == 1


def test_confirmation_is_for_live_only() -> None:
    assert bot_of(PAPER).spec.live_confirmation is None
    assert mistakes_of(spec_text(TESTNET, liveConfirmation=REMOVED)) == ()
