"""Builds an agent from the parts of its process: the same five agents on embedded parts and on real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict, TypeVar

import msgspec

from tradingbot_agents.bus import Bus
from tradingbot_agents.bus.topology import DATA_COLLECTION, EXECUTION, RISK, STRATEGY, TECHNICAL_ANALYSIS
from tradingbot_agents.clock import Clock, Timers
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.exchange.port import MarketFeed, TradingVenue
from tradingbot_agents.ledger.port import Ledger
from tradingbot_agents.marketdata import CandleStore
from tradingbot_agents.runtime import wiring
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.runtime.supervisor import Agent
from tradingbot_agents.telemetry import Sink
from tradingbot_api import TradingBot

T = TypeVar("T")


class Kit(msgspec.Struct, kw_only=True):
    """What agents are made of. Parts that no agent of the process needs are ``None``."""

    bot: TradingBot
    clock: Clock
    timers: Timers
    bus: Bus
    sink: Sink
    state: Callable[[], BotState]
    store: CandleStore | None = None
    ledger: Ledger | None = None
    rules: Mapping[str, SymbolRules] | None = None
    feed: MarketFeed | None = None
    venue: TradingVenue | None = None


def build(name: str, kit: Kit, *, live: bool) -> Agent:
    """One agent, not started. ``live``: on real parts and real time, and not in a replay in lockstep."""
    return _BUILDERS[name](kit, live)


class _Shared(TypedDict):
    bot: str
    clock: Clock
    timers: Timers
    bus: Bus
    sink: Sink


def _shared(kit: Kit) -> _Shared:
    """What every agent is given."""
    return {"bot": kit.bot.metadata.name, "clock": kit.clock, "timers": kit.timers, "bus": kit.bus, "sink": kit.sink}


# Each imports its own agent: no process pays for the libraries of another's.


def _data_collection(kit: Kit, live: bool) -> Agent:
    from tradingbot_agents.data_collection.agent import DataCollection

    settings = wiring.live_data_collection_settings if live else wiring.data_collection_settings
    return DataCollection(
        **_shared(kit),
        settings=settings(kit.bot),
        feed=_needed(kit.feed),
        store=_needed(kit.store),
    )


def _technical_analysis(kit: Kit, live: bool) -> Agent:
    from tradingbot_agents.technical_analysis.agent import TechnicalAnalysisAgent

    return TechnicalAnalysisAgent(
        **_shared(kit),
        settings=wiring.technical_analysis_settings(kit.bot),
        store=_needed(kit.store),
    )


def _strategy(kit: Kit, live: bool) -> Agent:
    from tradingbot_agents.strategy.agent import StrategyAgent

    return StrategyAgent(
        **_shared(kit),
        settings=wiring.strategy_settings(kit.bot),
        ledger=_needed(kit.ledger),
    )


def _risk(kit: Kit, live: bool) -> Agent:
    from tradingbot_agents.risk.agent import RiskAgent

    settings = wiring.live_risk_settings if live else wiring.risk_settings
    return RiskAgent(
        **_shared(kit),
        settings=settings(kit.bot),
        ledger=_needed(kit.ledger),
        store=_needed(kit.store),
        rules=_needed(kit.rules),
        state=kit.state,
    )


def _execution(kit: Kit, live: bool) -> Agent:
    from tradingbot_agents.execution.agent import ExecutionAgent

    settings = wiring.execution_settings
    if live:
        paper = kit.bot.spec.mode == "paper"
        settings = wiring.paper_execution_settings if paper else wiring.live_execution_settings
    return ExecutionAgent(
        **_shared(kit),
        account=str(account_key(kit.bot)),
        symbols=kit.bot.spec.symbols,
        settings=settings(kit.bot),
        ledger=_needed(kit.ledger),
        venue=_needed(kit.venue),
        state=kit.state,
    )


_BUILDERS: Mapping[str, Callable[[Kit, bool], Agent]] = {
    DATA_COLLECTION: _data_collection,
    TECHNICAL_ANALYSIS: _technical_analysis,
    STRATEGY: _strategy,
    RISK: _risk,
    EXECUTION: _execution,
}


def _needed(part: T | None) -> T:
    assert part is not None, "whoever builds an agent gives it what it needs"
    return part
