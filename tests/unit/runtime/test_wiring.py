"""Every field of the spec reaches the settings that it is about, and no other; what reaches none is named here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from support.specs import LIVE, PAPER, REMOVED, bot_of, changed
from tradingbot_agents.domain.symbol_rules import Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import Mode
from tradingbot_agents.ledger.port import Adoption
from tradingbot_agents.runtime import wiring
from tradingbot_agents.runtime.identity import account_key, identity_of
from tradingbot_agents.runtime.wiring import (
    NotRunnable,
    bus_queues,
    check_deployable,
    check_runnable,
    data_collection_settings,
    exchange_settings,
    execution_settings,
    live_data_collection_settings,
    live_execution_settings,
    live_risk_settings,
    messaging_settings,
    opening,
    paper_execution_settings,
    paper_settings,
    reality_settings,
    restarts,
    retention,
    risk_settings,
    simulated_settings,
    strategy_settings,
    stream_settings,
    technical_analysis_settings,
    time_series_plan,
    time_series_settings,
)
from tradingbot_api import TradingBot, load_text
from tradingbot_api.building import fields_of, is_struct, take_apart
from tradingbot_api.model import camel
from tradingbot_api.types import Spec

BASE = changed(
    PAPER,
    {
        "exchange.simulated": {},
        "strategy.fusion": "hybrid",
        "strategy.indicators": [{"name": "rsi"}, {"name": "emaCross"}],
        "risk.takeProfit": "0.10",
        "risk.trailingStop": {"distance": "0.02", "activateAt": "0.03"},
        "risk.protections": [
            {"name": "maxDrawdown"},
            {"name": "dailyLoss"},
            {"name": "cooldown"},
            {"name": "stopLossGuard"},
            {"name": "maxOpenPositions"},
            {"name": "maxSymbolShare"},
            {"name": "minRewardToRisk"},
        ],
    },
)


def settings_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that a run is made of, by its dotted path. Decimals are text, durations ISO 8601."""
    bot = bot_from(document)
    rooms = {
        "bus": {queue.name: queue for queue in bus_queues(bot)},
        "simulated": simulated_settings(bot),
        "data_collection": data_collection_settings(bot),
        "technical_analysis": technical_analysis_settings(bot),
        "strategy": strategy_settings(bot),
        "risk": risk_settings(bot),
        "execution": execution_settings(bot),
        "restarts": restarts(bot),
        "identity": identity_of(bot, 1, "candles"),
    }
    return dict(_flat("", msgspec.to_builtins(rooms, builtin_types=(Decimal, timedelta))))


def bot_from(document: Mapping[str, Any]) -> TradingBot:
    return load_text(msgspec.json.encode(document).decode())


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{path}.{key}" if path else key, part)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _flat(f"{path}[{index}]", part)
    else:
        yield path, value


def changed_at(path: str, value: Any) -> dict[str, Any]:
    """The base spec with another value at a path such as ``risk.protections[0].limit``."""
    document = changed(BASE, {})
    place: Any = document["spec"]
    steps = [step for part in path.replace("]", "").split(".") for step in part.split("[")]
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        key: Any = int(step) if isinstance(place, list) else step
        if following is None:
            place[key] = value
        else:
            place = place[key] if isinstance(place, list) else place.setdefault(key, {})
    return document


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


MARKET_QUEUES = ("technical-analysis.candles", "risk.candles", "execution.candles", "strategy.signals")
QUEUES = (*MARKET_QUEUES, "risk.intents", "execution.orders", "strategy.reports", "risk.reports")

# Path in the spec, another value, and which settings it makes what.
CASES: list[tuple[str, Any, dict[str, Any]]] = [
    ("exchange.receiveWindow", "7s", {"execution.look_up.receive_window": seconds(7)}),
    ("exchange.simulated.latency", "80ms", {"simulated.latency": seconds(0.08)}),
    ("exchange.simulated.slippage", "0.002", {"simulated.slippage": Decimal("0.002")}),
    ("exchange.simulated.participation", "0.5", {"simulated.participation": Decimal("0.5")}),
    ("exchange.simulated.fees.maker", "0.0002", {"simulated.fees.maker": Decimal("0.0002")}),
    ("exchange.simulated.fees.taker", "0.0003", {"simulated.fees.taker": Decimal("0.0003")}),
    ("exchange.simulated.feeCurrency", "quote", {"simulated.fees.currency": "quote"}),
    ("exchange.simulated.rateLimit", 7, {"simulated.rate_limit": 7}),
    ("account.name", "second", {"identity.account": "second", "risk.account": "paper/simulated/second"}),
    ("account.quoteStep", "0.5", {"risk.quote_step": Decimal("0.5")}),
    ("account.paperBalances.USDT", "99", {"simulated.initial_balances.USDT": Decimal("99")}),
    ("symbols", ["ETH/USDT"], {"data_collection.symbols[0]": "ETH/USDT", "risk.symbols[0]": "ETH/USDT"}),
    ("timeframe", "15m", {
        "data_collection.timeframe": "15m", "data_collection.poll_interval": seconds(900),
        "data_collection.stale_after": seconds(900 + 120), "technical_analysis.timeframe": "15m",
        "strategy.decider.time_decay.half_life": seconds(2 * 900), "risk.timeframe": "15m"}),
    ("data.history", 700, {"data_collection.history": 700, "simulated.history": 700}),
    ("data.staleAfter", "10m", {"data_collection.stale_after": seconds(300 + 600)}),
    ("strategy.fusion", "bayesian", {"strategy.decider.method": "bayesian"}),
    ("strategy.indicators[0].id", "mine", {
        "technical_analysis.indicators[0].id": "mine", "strategy.decider.weights.rsi-14": None,
        "strategy.decider.weights.mine": 1.0}),
    ("strategy.indicators[0].weight", "2.5", {"strategy.decider.weights.rsi-14": 2.5}),
    ("strategy.indicators[0].oversold", 20, {"technical_analysis.indicators[0].parameters.oversold": 20}),
    ("strategy.indicators[0].overbought", 80, {"technical_analysis.indicators[0].parameters.overbought": 80}),
    ("strategy.window", 300, {"technical_analysis.window": 300}),
    ("strategy.minConfidence", "0.7", {"strategy.min_confidence": 0.7}),
    ("strategy.signalMaxAge", "3m", {"strategy.signal_max_age": seconds(180)}),
    ("strategy.recallTimeout", "3m", {"strategy.recall_timeout": seconds(180)}),
    ("strategy.signalMemoryCandles", 9, {"strategy.memory": 9, "technical_analysis.warmup_signals": 10}),
    ("strategy.intentTimeToLive", "20s", {"strategy.intent_time_to_live": seconds(20)}),
    ("strategy.sellOnSignal", False, {"strategy.sell_on_signal": False}),
    ("strategy.consensus.minimumAgreement", 1, {"strategy.decider.consensus.minimum_agreement": 1}),
    ("strategy.consensus.threshold", "0.9", {"strategy.decider.consensus.threshold": 0.9}),
    ("strategy.timeDecay.halfLifeCandles", 4, {"strategy.decider.time_decay.half_life": seconds(1200)}),
    ("strategy.timeDecay.threshold", "0.8", {"strategy.decider.time_decay.threshold": 0.8}),
    ("strategy.bayesian.priorAccuracy", "0.6", {"strategy.decider.bayesian.prior_accuracy": 0.6}),
    ("strategy.bayesian.priorStrength", 5, {"strategy.decider.bayesian.prior_strength": 5.0}),
    ("strategy.bayesian.threshold", "0.9", {"strategy.decider.bayesian.threshold": 0.9}),
    ("strategy.hybrid.weights.consensus", "2", {"strategy.decider.hybrid.consensus_weight": 2.0}),
    ("strategy.hybrid.weights.timeDecay", "3", {"strategy.decider.hybrid.time_decay_weight": 3.0}),
    ("strategy.hybrid.weights.bayesian", "4", {"strategy.decider.hybrid.bayesian_weight": 4.0}),
    ("strategy.hybrid.threshold", "0.8", {"strategy.decider.hybrid.threshold": 0.8}),
    ("risk.sizing.method", "kelly", {"risk.sizing.method": "kelly"}),
    ("risk.sizing.fraction", "0.33", {"risk.sizing.fraction": Decimal("0.33")}),
    ("risk.sizing.kelly.cap", "0.11", {"risk.sizing.kelly.cap": Decimal("0.11")}),
    ("risk.sizing.kelly.multiplier", "0.3", {"risk.sizing.kelly.multiplier": Decimal("0.3")}),
    ("risk.sizing.kelly.minimumTrades", 17, {"risk.sizing.kelly.minimum_trades": 17}),
    ("risk.sizing.kelly.lookbackTrades", 321, {"risk.sizing.kelly.lookback_trades": 321}),
    ("risk.sizing.volatility.targetRisk", "0.03", {"risk.sizing.volatility.target_risk": Decimal("0.03")}),
    ("risk.sizing.volatility.atrPeriod", 21, {"technical_analysis.atr_period": 21}),
    ("risk.sizing.volatility.atrMultiple", "4", {"risk.sizing.volatility.atr_multiple": Decimal("4")}),
    ("risk.sizing.caps", [{"below": "50", "cap": "0.4"}, {"below": "60", "cap": "0.3"}, {"cap": "0.2"}], {
        "risk.sizing.caps[0].below": Decimal("50"), "risk.sizing.caps[0].fraction": Decimal("0.4"),
        "risk.sizing.caps[1].below": Decimal("60"), "risk.sizing.caps[2].fraction": Decimal("0.2")}),
    ("risk.approval.order", "firstComeFirstServed", {"risk.approval.order": "firstComeFirstServed"}),
    ("risk.approval.window", "900ms", {"risk.approval.window": seconds(0.9)}),
    ("risk.stopLoss", "0.04", {"risk.stop_loss": Decimal("0.04")}),
    ("risk.takeProfit", "0.20", {"risk.take_profit": Decimal("0.20")}),
    ("risk.trailingStop.distance", "0.015", {"execution.trailing.distance": Decimal("0.015")}),
    ("risk.trailingStop.activateAt", "0.05", {"execution.trailing.activate_at": Decimal("0.05")}),
    ("risk.trailingStop.step", "0.003", {"execution.trailing.step": Decimal("0.003")}),
    ("risk.protections[0].limit", "0.4", {"risk.protections.max_drawdown.limit": Decimal("0.4")}),
    ("risk.protections[0].lookback", "3d", {"risk.protections.max_drawdown.lookback": timedelta(days=3)}),
    ("risk.protections[0].pause", "2d", {"risk.protections.max_drawdown.pause": timedelta(days=2)}),
    ("risk.protections[1].limit", "0.2", {"risk.protections.daily_loss.limit": Decimal("0.2")}),
    ("risk.protections[2].pause", "3h", {"risk.protections.cooldown.pause": timedelta(hours=3)}),
    ("risk.protections[2].perSymbol", False, {"risk.protections.cooldown.per_symbol": False}),
    ("risk.protections[3].count", 8, {"risk.protections.stop_loss_guard.count": 8}),
    ("risk.protections[3].lookback", "2d", {"risk.protections.stop_loss_guard.lookback": timedelta(days=2)}),
    ("risk.protections[3].pause", "5h", {"risk.protections.stop_loss_guard.pause": timedelta(hours=5)}),
    ("risk.protections[3].perSymbol", True, {"risk.protections.stop_loss_guard.per_symbol": True}),
    ("risk.protections[4].count", 2, {"risk.protections.max_open_positions": 2}),
    ("risk.protections[5].share", "0.9", {"risk.protections.max_symbol_share": Decimal("0.9")}),
    ("risk.protections[6].ratio", "1.1", {"risk.protections.min_reward_to_risk": Decimal("1.1")}),
    ("risk.maxPriceAge", "45s", {"risk.price.max_age": seconds(45)}),
    ("risk.worstPriceSlippage", "0.009", {"risk.worst_price_slippage": Decimal("0.009")}),
    ("risk.priceFallback.cacheFor", "1s", {"risk.price.cache_for": seconds(1)}),
    ("risk.priceFallback.tickerTimeout", "7s", {"risk.price.ticker_timeout": seconds(7)}),
    ("risk.priceFallback.alertAfter", 99, {"risk.price.alert_after": 99}),
    ("risk.equityInterval", "3h", {"risk.equity_interval": timedelta(hours=3)}),
    ("risk.valueAtRisk.confidence", "0.99", {"risk.value_at_risk.confidence": Decimal("0.99")}),
    ("risk.valueAtRisk.lookbackCandles", 900, {
        "risk.value_at_risk.lookback_candles": 900, "simulated.history": 900}),
    ("execution.sendLimit", "3s", {"execution.look_up.send_limit": seconds(3)}),
    ("execution.orderTimeLimit", "9s", {"execution.order_time_limit": seconds(9)}),
    ("execution.maxExitAttempts", 3, {"execution.max_exit_attempts": 3}),
    ("execution.exitRetryDelay", "4s", {"execution.exit_retry": seconds(4)}),
    ("execution.exitRetryDelayMaximum", "3m", {"execution.exit_retry_longest": seconds(180)}),
    ("execution.cancelRetryDelay", "5s", {"execution.cancel_retry": seconds(5)}),
    ("execution.stopsOnExchange", False, {"execution.stops_on_exchange": False}),
    ("execution.stopLimitOffset", "0.02", {"execution.stop_limit_offset": Decimal("0.02")}),
    ("execution.lookUpInterval", "3s", {"execution.look_up.spacing": seconds(3)}),
    ("execution.lookUpAttempts", 9, {"execution.look_up.attempts": 9}),
    ("execution.lookUpMargin", "90s", {"execution.look_up.margin": seconds(90)}),
    ("execution.reappearWindow", "2h", {"execution.reappear_window": timedelta(hours=2)}),
    ("execution.feePriceMaxAge", "8m", {"execution.fee_price_max_age": timedelta(minutes=8)}),
    ("runtime.restartDelay", "2s", {"restarts.first": seconds(2)}),
    ("runtime.restartDelayMaximum", "50s", {"restarts.longest": seconds(50), "restarts.calm": seconds(100)}),
    ("runtime.restartAttempts", 3, {"restarts.attempts": 3}),
    ("runtime.ledgerRetryDelay", "6s", {"execution.ledger_retry": seconds(6)}),
    ("messaging.marketTimeToLive", "6m", {f"bus.{queue}.ttl": seconds(360) for queue in MARKET_QUEUES}),
    ("messaging.marketQueueLength", 77, {f"bus.{queue}.max_length": 77 for queue in MARKET_QUEUES}),
    ("messaging.deliveryLimit", 9, {f"bus.{queue}.delivery_limit": 9 for queue in QUEUES}),
]  # fmt: skip

BASE_SETTINGS = settings_of(BASE)

# What only processes of their own are told, on top of that.
LIVE_CASES: list[tuple[str, Any, dict[str, Any]]] = [
    (
        "exchange.pollInterval",
        "40s",
        {"data_collection.poll_interval": seconds(40), "data_collection.ticker_interval": seconds(40)},
    ),
    ("exchange.rulesInterval", "2h", {"execution.rules_interval": seconds(7200)}),
    (
        "data.settleDelay",
        "5s",
        {"data_collection.settle_delay": seconds(5), "data_collection.stale_after": seconds(300 + 5 + 120)},
    ),
    ("data.staleAfter", "10m", {"data_collection.stale_after": seconds(300 + 2 + 600)}),
    ("data.streamSilentAfter", "50s", {"streams.silent_after": seconds(50)}),
    ("execution.exitWatchInterval", "15s", {"execution.watch_interval": seconds(15)}),
    ("execution.inspectInterval", "3m", {"execution.inspect_interval": seconds(180)}),
    ("execution.sweepInterval", "8s", {"execution.sweep_interval": seconds(8)}),
    ("runtime.outboxInterval", "3s", {"risk.outbox_interval": seconds(3)}),
    ("messaging.connectTimeout", "3s", {"messaging.connect_limit": seconds(3)}),
    ("messaging.publishTimeout", "4s", {"messaging.publish_limit": seconds(4)}),
    (
        "messaging.reconnectDelay",
        "1s",
        {"messaging.reconnect.first": seconds(1), "messaging.retry.first": seconds(1)},
    ),
    (
        "messaging.reconnectDelayMaximum",
        "9s",
        {"messaging.reconnect.longest": seconds(9), "messaging.retry.longest": seconds(9)},
    ),
    ("exchange.requestTimeout", "4s", {"exchange.request_timeout": seconds(4)}),
    ("timeSeries.organization", "mine", {"time_series.organization": "mine", "plan.organization": "mine"}),
    ("timeSeries.bucket", "prices", {"time_series.bucket": "prices", "plan.bucket": "prices"}),
    (
        "timeSeries.retention",
        "90d",
        {"time_series.look_back": timedelta(days=90), "plan.retention": timedelta(days=90)},
    ),
    ("timeSeries.hourlyRetention", "800d", {"plan.hourly_retention": timedelta(days=800)}),
    ("timeSeries.hourlyLateness", "5h", {"plan.late": timedelta(hours=5)}),
    ("timeSeries.requestTimeout", "2s", {"time_series.timeout": seconds(2)}),
    ("timeSeries.retryDelay", "7s", {"time_series.retry_after": seconds(7)}),
    ("database.history.events", "9d", {"retention.events": timedelta(days=9)}),
    ("database.history.severeEvents", "9d", {"retention.severe_events": timedelta(days=9)}),
    ("database.history.refusals", "9d", {"retention.refusals": timedelta(days=9)}),
    ("database.history.equity", "9d", {"retention.equity": timedelta(days=9)}),
]


def live_settings_of(document: Mapping[str, Any]) -> dict[str, Any]:
    bot = bot_from(document)
    rooms = {
        "data_collection": live_data_collection_settings(bot),
        "risk": live_risk_settings(bot),
        "execution": live_execution_settings(bot),
        "messaging": messaging_settings(bot, "risk"),
        "time_series": time_series_settings(bot),
        "plan": time_series_plan(bot),
        "exchange": exchange_settings(bot),
        "streams": stream_settings(bot),
        "retention": retention(bot),
    }
    return dict(_flat("", msgspec.to_builtins(rooms, builtin_types=(Decimal, timedelta))))


@pytest.mark.parametrize(("path", "value", "expected"), LIVE_CASES, ids=[path for path, _, _ in LIVE_CASES])
def test_a_field_of_the_spec_changes_its_live_setting_and_nothing_else(
    path: str, value: Any, expected: dict[str, Any]
) -> None:
    before, after = live_settings_of(BASE), live_settings_of(changed_at(path, value))
    assert {name: after[name] for name in after if before.get(name) != after[name]} == expected


def test_on_a_real_exchange_one_look_up_decides_nothing() -> None:
    assert live_settings_of(BASE)["execution.look_up.immediate_not_found"] is False
    assert BASE_SETTINGS["execution.look_up.immediate_not_found"] is True


@pytest.mark.parametrize(("path", "value", "expected"), CASES, ids=[path for path, _, _ in CASES])
def test_a_field_of_the_spec_changes_its_setting_and_nothing_else(
    path: str, value: Any, expected: dict[str, Any]
) -> None:
    after = settings_of(changed_at(path, value))
    different = {
        name: after.get(name)
        for name in {*BASE_SETTINGS, *after}
        if BASE_SETTINGS.get(name, "no such setting") != after.get(name, "no such setting")
    }
    assert different == expected


# Of an indicator each name takes other parameters; one test below goes through all of them.
INDICATOR_PARAMETERS = {
    f"strategy.indicators[].{name}"
    for name in ("name", "fast", "slow", "signal", "period", "stdDev", "multiple", "threshold")
}

# What the run itself reads: it opens files and places with it, or looks at it while running.
READ_BY_THE_RUN = {
    "mode",
    "state",
    "exchange.name",
    "exchange.replay.source",
    "exchange.replay.speed",
    "exchange.replay.startTime",
    "exchange.replay.endTime",
    "exchange.simulated.marketRules",
    "account.quoteCurrency",
    "account.holdingsAtStart",
    "strategy.plugin.path",
    "strategy.plugin.parameters",
    "runtime.specInterval",
    "runtime.logLevel",
}

# What a process of one agent reads itself.
READ_BY_THE_PROCESS = {
    "messaging.deadLetterRetention",
    "runtime.stopLimit",
    "runtime.probeInterval",
    "runtime.stuckAfter",
    "timeSeries.spoolLength",
    "database.statementTimeout",
}

# A replay in lockstep has no use for them: its bars are there when they close, every candle is a look at the stops,
# no message can be lost while the process lives, and its exchange answers at once.
NOT_IN_A_REPLAY = {
    "exchange.endpoint",
    "exchange.feed",
    "exchange.credentialsSecretRef.name",
    "execution.entryTimeInForce",
    "execution.reconcileInterval",
}

# What a cluster is told, and what the audit does. ``run`` on a laptop has its own embedded parts.
OF_A_CLUSTER = (
    "liveConfirmation",
    "updateStrategy",
    "deletionPolicy",
    "messaging.managed",
    "messaging.external",
    "timeSeries.managed",
    "timeSeries.external",
    "database.managed",
    "database.external",
    "realityCheck.",
    "notifications",
    "image",
    "agents.",
)


def leaves(cls: type[msgspec.Struct], path: str = "") -> Iterator[str]:
    for field in fields_of(cls):
        base = field.hint.base
        name = f"{path}{camel(field.name)}"
        inner = [part for part in (take_apart(each).base for each in get_args(base)) if is_struct(part)]
        if is_struct(base):
            yield from leaves(base, f"{name}.")
        elif inner and field.name != "caps":
            yield from leaves(inner[0], f"{name}[].")
        else:
            yield name


def test_every_field_of_the_spec_is_wired_or_is_said_not_to_be() -> None:
    tested = {"".join(ch for ch in path if not ch.isdigit()) for path, _, _ in [*CASES, *LIVE_CASES]}
    tested.add("account.paperBalances")
    tested.add("risk.protections[].name")
    known = tested | INDICATOR_PARAMETERS | READ_BY_THE_RUN | READ_BY_THE_PROCESS | NOT_IN_A_REPLAY
    every = {leaf for leaf in leaves(Spec) if not leaf.startswith(OF_A_CLUSTER)}
    assert every - known == set(), "these fields of the spec reach nothing"
    assert known - every - {"account.paperBalances.USDT"} == set(), "these are no fields of the spec any more"


@pytest.mark.parametrize(
    ("indicator", "parameters"),
    [
        ({"name": "emaCross", "fast": 5, "slow": 9}, {"fast": 5, "slow": 9}),
        ({"name": "macd", "fast": 5, "slow": 9, "signal": 4}, {"fast": 5, "slow": 9, "signal": 4}),
        (
            {"name": "rsi", "period": 9, "oversold": 25, "overbought": 75},
            {"period": 9, "oversold": 25, "overbought": 75},
        ),
        ({"name": "bollinger", "period": 9, "stdDev": "1.5"}, {"period": 9, "std_dev": Decimal("1.5")}),
        ({"name": "atr", "period": 9, "multiple": "1.1"}, {"period": 9, "multiple": Decimal("1.1")}),
        ({"name": "adx", "period": 9, "threshold": 33}, {"period": 9, "threshold": 33}),
        ({"name": "obv", "period": 9}, {"period": 9}),
        ({"name": "vwap", "period": 9, "stdDev": "3"}, {"period": 9, "std_dev": Decimal("3")}),
    ],
    ids=lambda each: each.get("name", ""),
)
def test_an_indicator_is_given_exactly_its_parameters(indicator: dict[str, Any], parameters: dict[str, Any]) -> None:
    bot = bot_of(PAPER, strategy={"indicators": [indicator], "consensus": {"minimumAgreement": 1}})
    (settings,) = technical_analysis_settings(bot).indicators
    assert (settings.name, dict(settings.parameters)) == (indicator["name"], parameters)


def test_protections_that_are_not_wanted_are_not_there() -> None:
    settings = risk_settings(bot_of(PAPER, risk={"protections": []}))
    assert all(getattr(settings.protections, field) is None for field in settings.protections.__struct_fields__)


def test_without_a_trailing_stop_or_a_target_there_is_none() -> None:
    bot = bot_of(PAPER)
    assert execution_settings(bot).trailing is None
    assert risk_settings(bot).take_profit is None


def test_a_plugin_takes_the_place_of_the_fusion() -> None:
    bot = bot_of(PAPER, strategy={"plugin": {"path": "mine.module:Class", "parameters": {"length": "5"}}})
    decider = msgspec.to_builtins(strategy_settings(bot).decider)
    assert decider == {"path": "mine.module:Class", "parameters": {"length": "5"}}


PAPER_LIVE = changed(
    LIVE,
    {
        "mode": "paper",
        "liveConfirmation": REMOVED,
        "exchange.credentialsSecretRef": REMOVED,
        "account.paperBalances": {"USDT": "1000"},
    },
)
"""On a real exchange's market."""


def test_the_account_is_the_one_of_the_spec() -> None:
    assert str(account_key(bot_of(PAPER))) == "paper/simulated/main"


def test_only_the_simulated_exchange_can_be_run_and_the_refusal_says_what_to_write() -> None:
    check_runnable(bot_of(PAPER))
    with pytest.raises(NotRunnable, match=r"spec\.exchange\.name: 'binance'.*use name: simulated"):
        check_runnable(bot_of(LIVE))


def test_agents_in_processes_of_their_own_replay_in_real_time_and_the_refusal_says_so() -> None:
    check_deployable(bot_of(LIVE))
    check_deployable(bot_of(PAPER_LIVE))
    check_deployable(bot_of(PAPER, exchange__replay={"source": "candles", "speed": "1"}))
    check_deployable(bot_of(PAPER, exchange__replay={"source": "candles", "speed": "max"}))
    with pytest.raises(NotRunnable, match=r"^spec\.exchange\.replay\.speed: 60 times real time .*tradingbot run"):
        check_deployable(bot_of(PAPER, exchange__replay={"source": "candles", "speed": "60"}))


def test_what_is_not_beside_the_spec_may_be_what_the_image_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, shared = tmp_path / "specs" / "bot.yaml", tmp_path / "shared"
    monkeypatch.setattr(wiring, "SHARED_FOLDER", shared)
    own = spec.parent / "candles"
    assert wiring.beside(spec, "candles") == own, "the message names where a person would look"
    (shared / "candles").mkdir(parents=True)
    assert wiring.beside(spec, "candles") == shared / "candles"
    own.mkdir(parents=True)
    assert wiring.beside(spec, "candles") == own
    assert wiring.beside(spec, "/elsewhere") == Path("/elsewhere")


def test_the_paper_exchange_is_asked_once_what_it_does_not_have() -> None:
    paper, live = (settings(bot_of(PAPER_LIVE)) for settings in (paper_execution_settings, live_execution_settings))
    assert paper.look_up == msgspec.structs.replace(live.look_up, immediate_not_found=True)
    assert msgspec.structs.replace(paper, look_up=live.look_up) == live
    assert paper.reconcile_interval is None


def test_the_paper_exchange_gives_credit_and_the_replayed_one_none() -> None:
    """Its books are one bot's, and an account may be that of several."""
    assert paper_settings(bot_of(PAPER_LIVE)).credit
    assert not simulated_settings(bot_of(PAPER)).credit


def with_plugin(path: str, **parameters: str) -> TradingBot:
    return bot_of(PAPER, strategy={"plugin": {"path": path, "parameters": parameters}})


class Patient:
    """A strategy that needs a parameter, and never trades."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self.length = int(parameters["length"])

    def decide(self, view: object) -> None: ...


def test_a_plugin_that_can_not_be_used_is_bad_input_and_not_an_agent_that_fails_again_and_again() -> None:
    here = f"{__name__}:Patient"
    check_runnable(with_plugin(here, length="5"))
    with pytest.raises(NotRunnable, match=r"spec\.strategy\.plugin\.path: 'nowhere\.at_all:Class': no module"):
        check_runnable(with_plugin("nowhere.at_all:Class"))
    with pytest.raises(NotRunnable, match=r"spec\.strategy\.plugin\.parameters: .* needs a parameter 'length'"):
        check_runnable(with_plugin(here))


HOLDINGS = {"USDT": Decimal(100), "BTC": Decimal("0.5"), "BNB": Decimal(3), "ETH": Decimal(0)}
PRICES = {"BTC/USDT": Decimal(60000), "ETH/USDT": Decimal(3000)}
SYMBOLS = ["BTC/USDT", "ETH/USDT"]
RULES = {
    symbol: SymbolRules(
        symbol=symbol,
        base=symbol.partition("/")[0],
        quote="USDT",
        amount=Precision(PrecisionMode.DECIMAL_PLACES, Decimal(5)),
        price=Precision(PrecisionMode.DECIMAL_PLACES, Decimal(1)),
        fees=Fees(maker=Decimal("0.001"), taker=Decimal("0.001")),
    )
    for symbol in SYMBOLS
}


def test_holdings_at_start_are_left_alone() -> None:
    bot = bot_of(PAPER, symbols=SYMBOLS, account__holdingsAtStart="ignore")
    balances, adopted = opening(bot, HOLDINGS, PRICES, RULES)
    assert balances == {"USDT": Decimal(100), "BTC": Decimal("0.5"), "BNB": Decimal(3)}
    assert adopted == []


def test_holdings_at_start_become_positions_at_the_opening_price() -> None:
    bot = bot_of(
        PAPER, symbols=SYMBOLS, account__holdingsAtStart="adopt", risk__stopLoss="0.033333", risk__takeProfit="0.10"
    )
    balances, adopted = opening(bot, HOLDINGS, PRICES, RULES)
    assert balances == {"USDT": Decimal(100), "BTC": Decimal("0.5"), "BNB": Decimal(3)}
    assert adopted == [
        Adoption(
            symbol="BTC/USDT",
            amount=Decimal("0.5"),
            price=Decimal(60000),
            stop_price=Decimal("58000.1"),
            target_price=Decimal(66000),
        )
    ], "the stop up to its tick, from 58000.02"


def test_a_holding_without_an_opening_price_is_not_adopted() -> None:
    bot = bot_of(PAPER, symbols=SYMBOLS, account__holdingsAtStart="adopt")
    assert opening(bot, HOLDINGS, {"BTC/USDT": None}, RULES)[1] == []


def test_a_real_account_is_compared_with_the_exchange_and_a_paper_one_is_nobody_elses() -> None:
    real = bot_of(LIVE, execution__reconcileInterval="7m")
    assert live_execution_settings(real).reconcile_interval == timedelta(minutes=7)
    paper = bot_of(PAPER, execution__reconcileInterval="7m")
    assert live_execution_settings(paper).reconcile_interval is None
    assert execution_settings(real).reconcile_interval is None


def test_what_a_bot_is_judged_by_follows_from_how_long_its_agents_try() -> None:
    changes = {
        "execution": {
            "orderTimeLimit": "20s",
            "exitRetryDelayMaximum": "40s",
            "lookUpMargin": "10s",
            "lookUpInterval": "5s",
            "lookUpAttempts": 4,
            "sendLimit": "3s",
            "sweepInterval": "4s",
            "stopsOnExchange": False,
        },
    }
    found = reality_settings(bot_of(LIVE, **changes))
    assert (found.protect_within, found.resolve_within, found.send_within) == (seconds(60), seconds(40), seconds(7))
    assert (found.mode, found.exchange, found.feed, found.fees) == (Mode.LIVE, "binance", "rest", None)
    assert (found.timeframe, found.stops_on_exchange, found.has_stop) == (seconds(300), False, True)


def test_on_paper_the_fee_is_known() -> None:
    assert reality_settings(bot_of(PAPER)).fees == Decimal("0.001")
