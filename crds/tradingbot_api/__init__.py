"""The TradingBot: its types, its defaults with their reasons, and how a spec is read, checked and written.

    bot = load_file("quickstart.yaml")      # raises SpecInvalid with every mistake of the file
    bot.spec.risk.stop_loss                 # Decimal("0.05")
    bot.spec.exchange.poll_interval         # timedelta(seconds=30)
    dump(bot)                               # the resolved spec as YAML, defaults included

Both sides, the agents and the operator, import from here, and this imports from neither.
"""

from . import defaults
from .backends import (
    Backup,
    Database,
    History,
    ManagedDatabase,
    ManagedMessaging,
    ManagedTimeSeries,
    Messaging,
    TimeSeries,
)
from .decimals import format_decimal, parse_decimal, parse_fraction
from .deployment import SHARED_FOLDER, cluster_mistakes, process_mistakes
from .dumping import dump, resolved, revision
from .durations import format_duration, parse_duration
from .exchange import SIMULATED, Account, Exchange, Fees, Replay, SecretRef, Simulated, UrlSecretRef
from .execution import Data, Execution, Runtime
from .indicators import Indicator, IndicatorName, minimum_candles, settled_candles
from .loading import load_file, load_object, load_text
from .mistakes import Mistake, SpecInvalid
from .pods import AgentOverrides, Agents, EnvVar, ResourceAmounts, Resources, Toleration
from .quantities import format_bytes, format_cpu, parse_bytes, parse_cpu
from .risk import (
    Approval,
    Kelly,
    PriceFallback,
    Protection,
    ProtectionName,
    Risk,
    SizeCap,
    Sizing,
    TrailingStop,
    ValueAtRisk,
    Volatility,
)
from .scalar import ScalarInvalid
from .schedules import parse_schedule
from .strategy import Bayesian, Consensus, Hybrid, HybridWeights, Plugin, Strategy, TimeDecay
from .symbols import format_symbol, parse_symbol
from .timeframes import TIMEFRAMES, Timeframe, timeframe_length
from .timestamps import format_timestamp, parse_timestamp
from .types import (
    API_VERSION,
    KIND,
    DeletionPolicy,
    Metadata,
    Mode,
    Notification,
    RealityCheck,
    Spec,
    State,
    TradingBot,
    UpdateStrategy,
)

__all__ = [
    "API_VERSION",
    "KIND",
    "SHARED_FOLDER",
    "SIMULATED",
    "TIMEFRAMES",
    "Account",
    "AgentOverrides",
    "Agents",
    "Approval",
    "Backup",
    "Bayesian",
    "Consensus",
    "Data",
    "Database",
    "DeletionPolicy",
    "EnvVar",
    "Exchange",
    "Execution",
    "Fees",
    "History",
    "Hybrid",
    "HybridWeights",
    "Indicator",
    "IndicatorName",
    "Kelly",
    "ManagedDatabase",
    "ManagedMessaging",
    "ManagedTimeSeries",
    "Messaging",
    "Metadata",
    "Mistake",
    "Mode",
    "Notification",
    "Plugin",
    "PriceFallback",
    "Protection",
    "ProtectionName",
    "RealityCheck",
    "Replay",
    "ResourceAmounts",
    "Resources",
    "Risk",
    "Runtime",
    "ScalarInvalid",
    "SecretRef",
    "Simulated",
    "SizeCap",
    "Sizing",
    "Spec",
    "SpecInvalid",
    "State",
    "Strategy",
    "TimeDecay",
    "TimeSeries",
    "Timeframe",
    "Toleration",
    "TradingBot",
    "TrailingStop",
    "UpdateStrategy",
    "UrlSecretRef",
    "ValueAtRisk",
    "Volatility",
    "cluster_mistakes",
    "defaults",
    "dump",
    "format_bytes",
    "format_cpu",
    "format_decimal",
    "format_duration",
    "format_symbol",
    "format_timestamp",
    "load_file",
    "load_object",
    "load_text",
    "minimum_candles",
    "parse_bytes",
    "parse_cpu",
    "parse_decimal",
    "parse_duration",
    "parse_fraction",
    "parse_schedule",
    "parse_symbol",
    "parse_timestamp",
    "process_mistakes",
    "resolved",
    "revision",
    "settled_candles",
    "timeframe_length",
]
