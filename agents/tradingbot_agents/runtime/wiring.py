"""From a spec to the agents' settings, and which implementations a run is made of.

The only place that knows both the resource's shape and the rooms. A replay in lockstep needs no backup timers:
no message can be lost while the process lives, and a restart begins with a sweep. So they are left out, and a
candle without a decision costs nothing but its own work. ``live_…`` are the settings of processes of their own, on
real parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from tradingbot_agents.bus.port import QueueSpec
from tradingbot_agents.bus.topology import topology
from tradingbot_agents.data_collection.settings import Settings as DataCollectionSettings
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees, SymbolRules
from tradingbot_agents.domain.values import TIMEFRAMES, ZERO, Mode, split_symbol
from tradingbot_agents.exchange.port import Capabilities
from tradingbot_agents.execution.settings import LookUpSettings, TrailingSettings
from tradingbot_agents.execution.settings import Settings as ExecutionSettings
from tradingbot_agents.ledger.port import Adoption, Retention
from tradingbot_agents.marketdata.plan import TimeSeriesPlan
from tradingbot_agents.risk import settings as risk
from tradingbot_agents.risk.proposal import levels_at
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.runtime.supervisor import Backoff
from tradingbot_agents.strategy import settings as strategy
from tradingbot_agents.strategy.plugin import PluginError, load
from tradingbot_agents.technical_analysis.settings import IndicatorSettings, TechnicalAnalysisSettings
from tradingbot_api import SHARED_FOLDER, Plugin, TradingBot, process_mistakes
from tradingbot_api.defaults import INDICATOR_PARAMETERS
from tradingbot_api.risk import Protection

if TYPE_CHECKING:
    # They cost megabytes that not every agent needs.
    from tradingbot_agents.bus.rabbitmq import RabbitSettings
    from tradingbot_agents.exchange.ccxt_exchange import CcxtSettings
    from tradingbot_agents.exchange.ccxt_streams import StreamSettings
    from tradingbot_agents.exchange.simulated import SimulatedSettings
    from tradingbot_agents.marketdata.influx import InfluxSettings
    from tradingbot_agents.reality.evidence import Settings as RealitySettings

T = TypeVar("T")

BACKLOG = 100
"""Messages that may wait in a queue before it is said that its agent does not keep up: more than an hour's intents of
fifty symbols, and some seconds' work."""


class NotRunnable(Exception):
    """The spec is valid, and this version can not run it here."""


def check_deployable(bot: TradingBot) -> None:
    """Whether agents in processes of their own can run it. Raises ``NotRunnable`` with what to change."""
    mistakes = process_mistakes(bot)
    if mistakes:
        raise NotRunnable("; ".join(map(str, mistakes)))
    _check_plugin(bot)


def check_runnable(bot: TradingBot) -> None:
    """Raises ``NotRunnable`` with what to change, before anything is opened."""
    exchange = bot.spec.exchange
    if exchange.name != "simulated":
        raise NotRunnable(
            f"spec.exchange.name: {exchange.name!r} needs parts of its own: start each agent with 'tradingbot agent',"
            " or use name: simulated with a replay of candles"
        )
    _check_plugin(bot)


def beside(spec_file: Path, path: str) -> Path:
    """Paths in a spec are relative to the spec file. What is not there may be what the image brings: so one spec is
    for a laptop and for a cluster."""
    own, shared = spec_file.parent / path, Path(SHARED_FOLDER) / path
    return shared if not own.exists() and shared.exists() else own


def _check_plugin(bot: TradingBot) -> None:
    if bot.spec.strategy.plugin is not None:
        try:
            load(plugin_settings(bot.spec.strategy.plugin))
        except PluginError as error:
            raise NotRunnable(f"spec.{error}") from error


def bus_queues(bot: TradingBot) -> tuple[QueueSpec, ...]:
    limits = bot.spec.messaging
    return topology(
        market_time_to_live=limits.market_time_to_live,
        market_length=limits.market_queue_length,
        delivery_limit=limits.delivery_limit,
    )


def restarts(bot: TradingBot) -> Backoff:
    runtime = bot.spec.runtime
    return Backoff(
        first=runtime.restart_delay,
        longest=runtime.restart_delay_maximum,
        attempts=runtime.restart_attempts,
        # Longer than any pause, or a slow cause would never count as one.
        calm=2 * runtime.restart_delay_maximum,
    )


def simulated_settings(bot: TradingBot) -> SimulatedSettings:
    from tradingbot_agents.exchange.simulated import SimulatedSettings

    spec = bot.spec
    simulated = spec.exchange.simulated
    assert simulated is not None, "a valid paper spec has them"
    # A buy's fee in what it receives is ``get``; a fee in quote is the same for both sides.
    currency = FeeCurrency.GET if simulated.fee_currency == "base" else FeeCurrency.QUOTE
    return SimulatedSettings(
        initial_balances=spec.account.paper_balances or {},
        fees=Fees(maker=simulated.fees.maker, taker=simulated.fees.taker, currency=currency),
        slippage=simulated.slippage,
        latency=simulated.latency,
        participation=simulated.participation,
        rate_limit=simulated.rate_limit,
        rate_window=timedelta(minutes=1),
        lost_calls=ZERO,
        history=max(spec.history, spec.risk.value_at_risk.lookback_candles),
        capabilities=Capabilities(stop_market=True, stop_limit=True, client_order_ids=True),
    )


def simulated_rules(bot: TradingBot, spec_file: Path) -> Mapping[str, SymbolRules]:
    """The market rules that a replay has: those of the package, and of the spec's own file. Raises
    ``MarketRulesInvalid``."""
    from tradingbot_agents.exchange.market_rules import load_market_rules

    simulated = bot.spec.exchange.simulated
    own = None if simulated is None else simulated.market_rules
    return load_market_rules(None if own is None else beside(spec_file, own))


def paper_settings(bot: TradingBot) -> SimulatedSettings:
    """Of the exchange that execution has in a process of its own. Bots that share a paper account have one each, and
    the ledger alone knows what the account has."""
    return msgspec.structs.replace(simulated_settings(bot), credit=True)


def opening(
    bot: TradingBot,
    holdings: Mapping[str, Decimal],
    prices: Mapping[str, Decimal | None],
    rules: Mapping[str, SymbolRules],
) -> tuple[dict[str, Decimal], list[Adoption]]:
    """The opening snapshot of ``holdings``, and which of them become positions at ``prices`` (by symbol), with
    the stop and the target that an entry at that price would have. ``rules``: of each symbol with a price."""
    balances = {asset: amount for asset, amount in holdings.items() if amount > ZERO}
    adopted = []
    if bot.spec.account.holdings_at_start == "adopt":
        for symbol in bot.spec.symbols:
            base, _ = split_symbol(symbol)
            price = prices.get(symbol)
            if base in balances and price is not None:
                levels = levels_at(price, rules[symbol], risk_settings(bot))
                adopted.append(
                    Adoption(
                        symbol=symbol,
                        amount=balances[base],
                        price=price,
                        stop_price=levels.stop,
                        target_price=levels.target,
                    )
                )
    return balances, adopted


def data_collection_settings(bot: TradingBot) -> DataCollectionSettings:
    spec = bot.spec
    bar = TIMEFRAMES[spec.timeframe]
    return DataCollectionSettings(
        symbols=spec.symbols,
        timeframe=spec.timeframe,
        # In a replay a bar is there the moment it closes, or never.
        poll_interval=bar,
        ticker_interval=None,
        settle_delay=timedelta(0),
        stale_after=bar + spec.data.stale_after,
        history=spec.history,
    )


def live_data_collection_settings(bot: TradingBot) -> DataCollectionSettings:
    spec = bot.spec
    return msgspec.structs.replace(
        data_collection_settings(bot),
        poll_interval=spec.exchange.poll_interval,
        ticker_interval=spec.exchange.poll_interval,
        settle_delay=spec.data.settle_delay,
        stale_after=TIMEFRAMES[spec.timeframe] + spec.data.settle_delay + spec.data.stale_after,
    )


def strategy_settings(bot: TradingBot) -> strategy.StrategySettings:
    spec = bot.spec.strategy
    return strategy.StrategySettings(
        decider=_fusion(bot) if spec.plugin is None else plugin_settings(spec.plugin),
        memory=spec.signal_memory_candles,
        min_confidence=float(spec.min_confidence),
        signal_max_age=spec.signal_max_age,
        recall_timeout=spec.recall_timeout,
        intent_time_to_live=spec.intent_time_to_live,
        sell_on_signal=spec.sell_on_signal,
    )


def plugin_settings(plugin: Plugin) -> strategy.PluginSettings:
    return strategy.PluginSettings(path=plugin.path, parameters=plugin.parameters)


def _fusion(bot: TradingBot) -> strategy.FusionSettings:
    """Confidences and weights become floats here: they say how sure, never how much."""
    spec = bot.spec.strategy
    assert spec.fusion is not None, "a valid spec has a fusion or a plugin"
    return strategy.FusionSettings(
        method=strategy.FusionMethod(spec.fusion),
        weights={indicator.id: float(indicator.weight) for indicator in spec.indicators},
        consensus=strategy.ConsensusSettings(
            minimum_agreement=spec.consensus.minimum_agreement, threshold=float(spec.consensus.threshold)
        ),
        time_decay=strategy.TimeDecaySettings(
            half_life=spec.time_decay.half_life_candles * TIMEFRAMES[bot.spec.timeframe],
            threshold=float(spec.time_decay.threshold),
        ),
        bayesian=strategy.BayesianSettings(
            prior_accuracy=float(spec.bayesian.prior_accuracy),
            prior_strength=float(spec.bayesian.prior_strength),
            threshold=float(spec.bayesian.threshold),
        ),
        hybrid=strategy.HybridSettings(
            consensus_weight=float(spec.hybrid.weights.consensus),
            time_decay_weight=float(spec.hybrid.weights.time_decay),
            bayesian_weight=float(spec.hybrid.weights.bayesian),
            threshold=float(spec.hybrid.threshold),
        ),
    )


def technical_analysis_settings(bot: TradingBot) -> TechnicalAnalysisSettings:
    spec = bot.spec
    return TechnicalAnalysisSettings(
        timeframe=spec.timeframe,
        window=spec.strategy.window,
        indicators=tuple(
            IndicatorSettings(
                id=indicator.id,
                name=indicator.name,
                parameters={name: getattr(indicator, name) for name in INDICATOR_PARAMETERS[indicator.name]},
            )
            for indicator in spec.strategy.indicators
        ),
        atr_period=spec.risk.sizing.volatility.atr_period,
        warmup_signals=spec.strategy.signal_memory_candles + 1,
    )


def risk_settings(bot: TradingBot) -> risk.Settings:
    spec = bot.spec
    sizing = spec.risk.sizing
    return risk.Settings(
        account=str(account_key(bot)),
        quote_currency=spec.account.quote_currency,
        quote_step=spec.account.quote_step,
        symbols=spec.symbols,
        timeframe=spec.timeframe,
        sizing=risk.SizingSettings(
            method=risk.SizingMethod(sizing.method),
            fraction=sizing.fraction,
            kelly=risk.KellySettings(
                cap=sizing.kelly.cap,
                multiplier=sizing.kelly.multiplier,
                minimum_trades=sizing.kelly.minimum_trades,
                lookback_trades=sizing.kelly.lookback_trades,
            ),
            volatility=risk.VolatilitySettings(
                target_risk=sizing.volatility.target_risk, atr_multiple=sizing.volatility.atr_multiple
            ),
            caps=tuple(risk.SizeCap(below=cap.below, fraction=cap.cap) for cap in sizing.caps),
        ),
        approval=risk.ApprovalSettings(
            order=risk.ApprovalOrder(spec.risk.approval.order), window=spec.risk.approval.window
        ),
        stop_loss=spec.risk.stop_loss,
        take_profit=spec.risk.take_profit,
        worst_price_slippage=spec.risk.worst_price_slippage,
        protections=_protections(spec.risk.protections),
        price=risk.PriceSettings(
            max_age=spec.risk.max_price_age,
            cache_for=spec.risk.price_fallback.cache_for,
            ticker_timeout=spec.risk.price_fallback.ticker_timeout,
            alert_after=spec.risk.price_fallback.alert_after,
        ),
        value_at_risk=risk.ValueAtRiskSettings(
            confidence=spec.risk.value_at_risk.confidence,
            lookback_candles=spec.risk.value_at_risk.lookback_candles,
        ),
        equity_interval=spec.risk.equity_interval,
        outbox_interval=None,
    )


def live_risk_settings(bot: TradingBot) -> risk.Settings:
    return msgspec.structs.replace(risk_settings(bot), outbox_interval=bot.spec.runtime.outbox_interval)


def _protections(wanted: Sequence[Protection]) -> risk.Protections:
    by_name: dict[str, Protection] = {protection.name: protection for protection in wanted}

    def parameters(name: str, into: type[T], *fields: str) -> T | None:
        """The rule's own settings; the spec's types give every parameter that a rule takes a value."""
        protection = by_name.get(name)
        return None if protection is None else into(**{field: getattr(protection, field) for field in fields})

    open_positions, share, reward = (
        by_name.get(name) for name in ("maxOpenPositions", "maxSymbolShare", "minRewardToRisk")
    )
    return risk.Protections(
        max_drawdown=parameters("maxDrawdown", risk.MaxDrawdown, "limit", "lookback", "pause"),
        daily_loss=parameters("dailyLoss", risk.DailyLoss, "limit"),
        cooldown=parameters("cooldown", risk.Cooldown, "pause", "per_symbol"),
        stop_loss_guard=parameters("stopLossGuard", risk.StopLossGuard, "count", "lookback", "pause", "per_symbol"),
        max_open_positions=None if open_positions is None else open_positions.count,
        max_symbol_share=None if share is None else share.share,
        min_reward_to_risk=None if reward is None else reward.ratio,
    )


def execution_settings(bot: TradingBot) -> ExecutionSettings:
    spec = bot.spec
    execution = spec.execution
    trailing = spec.risk.trailing_stop
    return ExecutionSettings(
        look_up=LookUpSettings(
            send_limit=execution.send_limit,
            receive_window=spec.exchange.receive_window,
            attempts=execution.look_up_attempts,
            margin=execution.look_up_margin,
            spacing=execution.look_up_interval,
            immediate_not_found=True,
        ),
        order_time_limit=execution.order_time_limit,
        cancel_retry=execution.cancel_retry_delay,
        watch_interval=None,
        sweep_interval=None,
        inspect_interval=None,
        reconcile_interval=None,
        rules_interval=None,
        reappear_window=execution.reappear_window,
        stops_on_exchange=execution.stops_on_exchange,
        stop_limit_offset=execution.stop_limit_offset,
        trailing=None
        if trailing is None
        else TrailingSettings(distance=trailing.distance, activate_at=trailing.activate_at, step=trailing.step),
        exit_retry=execution.exit_retry_delay,
        exit_retry_longest=execution.exit_retry_delay_maximum,
        max_exit_attempts=execution.max_exit_attempts,
        ledger_retry=spec.runtime.ledger_retry_delay,
        fee_price_max_age=execution.fee_price_max_age,
    )


def live_execution_settings(bot: TradingBot) -> ExecutionSettings:
    replay = execution_settings(bot)
    execution = bot.spec.execution
    return msgspec.structs.replace(
        replay,
        look_up=msgspec.structs.replace(replay.look_up, immediate_not_found=False),
        watch_interval=execution.exit_watch_interval,
        sweep_interval=execution.sweep_interval,
        inspect_interval=execution.inspect_interval,
        # A paper account is nobody else's.
        reconcile_interval=None if bot.spec.mode == "paper" else execution.reconcile_interval,
        rules_interval=bot.spec.exchange.rules_interval,
    )


def paper_execution_settings(bot: TradingBot) -> ExecutionSettings:
    """Live, on the paper exchange: it is in the same process, so nothing is under way to it once that has ended."""
    live = live_execution_settings(bot)
    return msgspec.structs.replace(live, look_up=msgspec.structs.replace(live.look_up, immediate_not_found=True))


def retention(bot: TradingBot) -> Retention:
    """What ``prune`` keeps. A protection sees every point of the equity as far as it looks back, in any case."""

    history = bot.spec.database.history
    looks_back = [protection.lookback for protection in bot.spec.risk.protections if protection.lookback is not None]
    return Retention(
        events=history.events,
        severe_events=history.severe_events,
        refusals=history.refusals,
        equity=max(history.equity, *looks_back, timedelta(days=1)),
        reports=bot.spec.reality_check.retention,
    )


def reality_settings(bot: TradingBot) -> RealitySettings:
    """What the bot is judged by. How long something may take follows from how long its agents try."""
    from tradingbot_agents.reality.evidence import Settings as RealitySettings

    spec = bot.spec
    execution = spec.execution
    simulated = spec.exchange.simulated
    look_ups = max(execution.look_up_margin, execution.look_up_attempts * execution.look_up_interval)
    return RealitySettings(
        bot=bot.metadata.name,
        mode=Mode(spec.mode),
        exchange=spec.exchange.name,
        symbols=spec.symbols,
        quote=spec.account.quote_currency,
        timeframe=TIMEFRAMES[spec.timeframe],
        poll_interval=spec.exchange.poll_interval,
        feed=spec.exchange.feed,
        maximum_price_age=spec.risk.max_price_age,
        rules_interval=spec.exchange.rules_interval,
        reconcile_interval=execution.reconcile_interval,
        protect_within=execution.order_time_limit + execution.exit_retry_delay_maximum,
        resolve_within=execution.order_time_limit + look_ups,
        send_within=execution.send_limit + execution.sweep_interval,
        slippage=spec.risk.worst_price_slippage,
        has_stop=spec.risk.stop_loss > ZERO,
        stops_on_exchange=execution.stops_on_exchange,
        fees=simulated.fees.taker if spec.mode == "paper" and simulated is not None else None,
        backlog=BACKLOG,
    )


def time_series_plan(bot: TradingBot) -> TimeSeriesPlan:
    series = bot.spec.time_series
    return TimeSeriesPlan(
        organization=series.organization,
        bucket=series.bucket,
        retention=series.retention,
        hourly_retention=series.hourly_retention,
        timeframe=bot.spec.timeframe,
        late=series.hourly_lateness,
    )


def messaging_settings(bot: TradingBot, agent: str) -> RabbitSettings:
    from tradingbot_agents.bus.rabbitmq import Pauses, RabbitSettings

    messaging = bot.spec.messaging
    return RabbitSettings(
        bot=bot.metadata.name,
        agent=agent,
        connect_limit=messaging.connect_timeout,
        publish_limit=messaging.publish_timeout,
        reconnect=Pauses(messaging.reconnect_delay, messaging.reconnect_delay_maximum),
        retry=Pauses(messaging.reconnect_delay, messaging.reconnect_delay_maximum),
    )


def time_series_settings(bot: TradingBot) -> InfluxSettings:
    from tradingbot_agents.marketdata.influx import InfluxSettings

    series = bot.spec.time_series
    return InfluxSettings(
        organization=series.organization,
        bucket=series.bucket,
        timeout=series.request_timeout,
        retry_after=series.retry_delay,
        look_back=series.retention,
    )


def exchange_settings(bot: TradingBot) -> CcxtSettings:
    from tradingbot_agents.exchange.ccxt_exchange import CcxtSettings

    exchange = bot.spec.exchange
    return CcxtSettings(
        exchange=exchange.name,
        symbols=bot.spec.symbols,
        endpoint=exchange.endpoint,
        testnet=bot.spec.mode == "testnet",
        request_timeout=exchange.request_timeout,
        receive_window=exchange.receive_window,
    )


def stream_settings(bot: TradingBot) -> StreamSettings:
    from tradingbot_agents.exchange.ccxt_streams import StreamSettings

    spec = bot.spec
    return StreamSettings(
        symbols=spec.symbols,
        timeframe=spec.timeframe,
        silent_after=spec.data.stream_silent_after,
        retry=spec.runtime.restart_delay,
    )
