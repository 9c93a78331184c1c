"""The spec's risk: how large, how protected, and when not at all."""

from typing import Annotated, Literal

import msgspec

from . import defaults
from .decimals import Fraction, FractionBelowOne, PositiveDecimal
from .durations import Duration, DurationOrZero
from .model import NEVER_DEFAULTED, Model, doc, keyed

ApprovalOrder = Literal["byConfidence", "firstComeFirstServed"]
SizingMethod = Literal["fixedFractional", "kelly", "volatility", "hybrid"]
ProtectionName = Literal[
    "maxDrawdown",
    "dailyLoss",
    "cooldown",
    "stopLossGuard",
    "maxOpenPositions",
    "maxSymbolShare",
    "minRewardToRisk",
]

_Trades = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Kelly(Model, frozen=True, kw_only=True):
    """Size by the win rate and payoff of past trades."""

    cap: Annotated[Fraction, NEVER_DEFAULTED, doc("Largest share of equity, whatever the formula says.")] = (
        defaults.KELLY_CAP
    )
    multiplier: Annotated[Fraction, doc("Share of the formula's answer that is used; 0.5 is half Kelly.")] = (
        defaults.KELLY_MULTIPLIER
    )
    minimum_trades: Annotated[
        _Trades, doc("Closed trades below which `sizing.fraction`, at most the cap, is used instead.")
    ] = defaults.KELLY_MINIMUM_TRADES
    lookback_trades: Annotated[_Trades, doc("Closed trades that count, the latest ones.")] = defaults.KELLY_LOOKBACK


class Volatility(Model, frozen=True, kw_only=True):
    """Size by the average true range: the wilder, the smaller."""

    target_risk: Annotated[
        Fraction,
        NEVER_DEFAULTED,
        doc("Share of equity lost when the price moves atrMultiple ranges against the position."),
    ] = defaults.VOLATILITY_TARGET_RISK
    atr_period: Annotated[
        Annotated[int, msgspec.Meta(ge=2, le=1000)], doc("Period of the average true range, in candles.")
    ] = defaults.VOLATILITY_ATR_PERIOD
    atr_multiple: Annotated[PositiveDecimal, doc("Ranges that the price is taken to move.")] = (
        defaults.VOLATILITY_ATR_MULTIPLE
    )


class SizeCap(Model, frozen=True, kw_only=True):
    """Largest position of an account of a certain size."""

    below: Annotated[
        PositiveDecimal | None,
        doc("Equity, in quote currency, below which this holds; the last one has none and holds above."),
    ] = None
    cap: Annotated[Fraction, doc("Largest share of equity for one position.")]


def _default_caps() -> tuple[SizeCap, ...]:
    return tuple(SizeCap(below=below, cap=cap) for below, cap in defaults.SIZE_CAPS)


class Sizing(Model, frozen=True, kw_only=True):
    """How large a position is, as a share of the account's equity. Never shrunk to what is left."""

    method: Annotated[
        SizingMethod,
        NEVER_DEFAULTED,
        doc("fixedFractional, kelly, volatility, or hybrid: the smallest of the three."),
    ] = defaults.SIZING_METHOD
    fraction: Annotated[
        Fraction, NEVER_DEFAULTED, doc("Share of equity for one position, for fixedFractional and hybrid.")
    ] = defaults.SIZING_FRACTION
    kelly: Annotated[Kelly, doc("Settings of kelly, also within hybrid.")] = msgspec.field(default_factory=Kelly)
    volatility: Annotated[Volatility, doc("Settings of volatility, also within hybrid.")] = msgspec.field(
        default_factory=Volatility
    )
    caps: Annotated[
        Annotated[tuple[SizeCap, ...], msgspec.Meta(min_length=1, max_length=20)],
        doc(
            "Largest share of equity for one position by the account's size, from small to large; binds every method."
        ),
    ] = msgspec.field(default_factory=_default_caps)


class Approval(Model, frozen=True, kw_only=True):
    """Who gets the balance when it does not suffice for all."""

    order: Annotated[ApprovalOrder, doc("Rank the intents of a window by confidence, or take them as they come.")] = (
        defaults.APPROVAL_ORDER
    )
    window: Annotated[DurationOrZero, doc("How long intents are collected to be ranked; for byConfidence.")] = (
        defaults.APPROVAL_WINDOW
    )


class TrailingStop(Model, frozen=True, kw_only=True):
    """A stop that follows the highest price since the entry."""

    distance: Annotated[FractionBelowOne, doc("Fraction below the highest price at which it stands.")]
    activate_at: Annotated[
        PositiveDecimal | None,
        doc("Gain, as a fraction of the entry price, from which it follows; by default at once."),
    ] = None
    step: Annotated[FractionBelowOne, doc("Fraction of the price that it moves at least.")] = defaults.TRAILING_STEP


class Protection(Model, frozen=True, kw_only=True):
    """A rule that stops new entries. Parameters that its name does not take are None, all others have a value."""

    name: Annotated[ProtectionName, doc("Which rule; each at most once.")]
    limit: Annotated[
        Fraction | None,
        NEVER_DEFAULTED,
        doc("maxDrawdown, dailyLoss: loss as a fraction of equity from which it holds."),
    ] = None
    lookback: Annotated[Duration | None, doc("maxDrawdown, stopLossGuard: how far back it looks.")] = None
    pause: Annotated[Duration | None, doc("maxDrawdown, cooldown, stopLossGuard: how long it holds.")] = None
    count: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=1000)] | None,
        doc("stopLossGuard: stop-losses from which it holds. maxOpenPositions: the most positions at once."),
    ] = None
    share: Annotated[Fraction | None, doc("maxSymbolShare: largest share of equity in one symbol.")] = None
    ratio: Annotated[
        PositiveDecimal | None, doc("minRewardToRisk: target's distance over stop's distance, at least.")
    ] = None
    per_symbol: Annotated[
        bool | None, doc("cooldown, stopLossGuard: whether it holds for the symbol concerned only, or for all.")
    ] = None

    def __post_init__(self) -> None:
        for parameter, value in defaults.PROTECTION_PARAMETERS[self.name].items():
            if getattr(self, parameter) is None:
                msgspec.structs.force_setattr(self, parameter, value)


def _default_protections() -> tuple[Protection, ...]:
    return tuple(Protection(name=name) for name in defaults.PROTECTIONS)


class ValueAtRisk(Model, frozen=True, kw_only=True):
    """The reported value at risk and expected shortfall. They refuse nothing."""

    confidence: Annotated[FractionBelowOne, doc("Share of outcomes that are no worse.")] = (
        defaults.VALUE_AT_RISK_CONFIDENCE
    )
    lookback_candles: Annotated[
        Annotated[int, msgspec.Meta(ge=20, le=100_000)], doc("Candles whose returns are counted.")
    ] = defaults.VALUE_AT_RISK_LOOKBACK


class PriceFallback(Model, frozen=True, kw_only=True):
    """The chain of prices below a fresh one of the time series."""

    cache_for: Annotated[DurationOrZero, doc("How long one answer of the time series serves a symbol.")] = (
        defaults.PRICE_CACHE
    )
    ticker_timeout: Annotated[Duration, doc("Longest wait for the exchange's ticker, asked over the bus.")] = (
        defaults.TICKER_TIMEOUT
    )
    alert_after: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=10_000)], doc("Fallbacks in a row after which an alert is raised.")
    ] = defaults.PRICE_FALLBACK_ALERT_AFTER


class Risk(Model, frozen=True, kw_only=True):
    """What the risk agent allows. Testnet and live must write out sizing, stopLoss and a maxDrawdown limit."""

    sizing: Annotated[Sizing, NEVER_DEFAULTED, doc("How large a position is.")] = msgspec.field(
        default_factory=Sizing
    )
    approval: Annotated[Approval, doc("Who gets the balance when it is short.")] = msgspec.field(
        default_factory=Approval
    )
    stop_loss: Annotated[
        FractionBelowOne, NEVER_DEFAULTED, doc("Fraction below the entry price at which it is sold.")
    ] = defaults.STOP_LOSS
    take_profit: Annotated[
        PositiveDecimal | None,
        doc("Gain, as a fraction of the entry price, at which it is sold; by default no target."),
    ] = None
    trailing_stop: Annotated[TrailingStop | None, doc("A stop that follows the price; by default none.")] = None
    protections: Annotated[
        Annotated[tuple[Protection, ...], msgspec.Meta(max_length=20), keyed("name")],
        NEVER_DEFAULTED,
        doc("Rules that stop new entries; exits always work."),
    ] = msgspec.field(default_factory=_default_protections)
    max_price_age: Annotated[
        Duration, doc("A price older than this is not fresh, and without a fresh one nothing is bought.")
    ] = defaults.MAX_PRICE_AGE
    worst_price_slippage: Annotated[
        FractionBelowOne,
        doc("Fraction above the price at which an entry's limit stands; what it could cost is reserved."),
    ] = defaults.WORST_PRICE_SLIPPAGE
    price_fallback: Annotated[PriceFallback, doc("What happens without a fresh price of the time series.")] = (
        msgspec.field(default_factory=PriceFallback)
    )
    equity_interval: Annotated[Duration, doc("Between two records of the equity, from which drawdown is read.")] = (
        defaults.EQUITY_INTERVAL
    )
    value_at_risk: Annotated[ValueAtRisk, doc("The reported value at risk and expected shortfall.")] = msgspec.field(
        default_factory=ValueAtRisk
    )
