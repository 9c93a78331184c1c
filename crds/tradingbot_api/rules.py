"""What a spec must keep beyond the type of each field: one small function a rule.

A rule belongs to the object that holds all it looks at, as a CEL rule of the CRD will. It is given that object, which
may be a `Partial` when fields of it are wrong: asking for a field that is not there ends the rule, never the check.
`place.given(...)` says whether a field was written, which a default hides.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, get_type_hints

import msgspec

from . import defaults
from .backends import Database, Messaging, TimeSeries
from .building import Built, NotReadable
from .decimals import format_decimal
from .durations import format_duration
from .exchange import SIMULATED, Exchange, Replay
from .execution import Execution, Runtime
from .indicators import Indicator, minimum_candles
from .mistakes import Mistake, Path, write_path
from .model import camel
from .pods import AgentOverrides, EnvVar, Resources
from .risk import Protection, Risk, Sizing, TrailingStop
from .strategy import Hybrid, Strategy
from .symbols import parse_symbol
from .timeframes import timeframe_length
from .tree import Leaf, Node, locate
from .types import Spec

_Object = TypeVar("_Object", bound=msgspec.Struct)
_Rule = Callable[[Any, "Place"], Iterator[Mistake]]

RULES: list[tuple[type[msgspec.Struct], _Rule]] = []
"""Every rule with the type of object that it is for, in the order of this module."""


class Place:
    """Where an object stands in the spec: what of it was written, and how to name a mistake in it."""

    def __init__(self, tree: Node, path: Path) -> None:
        self._tree = tree
        self._path = path

    def given(self, *path: str | int) -> bool:
        """Whether a field below this object was written."""
        return locate(self._tree, (*self._path, *path))[0] is not None

    def mistake(self, *path: str | int, problem: str, remedy: str, default: str | None = None) -> Mistake:
        """A mistake at a field below this object. Its value is shown if it is a simple one that was written, and
        otherwise `default`, if the rule is about a value that nobody wrote."""
        whole = (*self._path, *path)
        node, line = locate(self._tree, whole)
        value = node.text if isinstance(node, Leaf) else None
        if node is None and default is not None:
            value = f"{default} (the default)"
        return Mistake(path=write_path(whole), line=line, value=value, problem=problem, remedy=remedy)


def check(objects: Iterable[Built], tree: Node) -> list[Mistake]:
    """The mistakes that the rules find in the objects of a spec."""
    mistakes: list[Mistake] = []
    for built in objects:
        for cls, rule in RULES:
            if built.cls is not cls:
                continue
            try:
                for mistake in rule(built.value, Place(tree, built.path)):
                    mistakes.append(mistake)  # noqa: PERF402 - what comes before NotReadable counts
            except NotReadable:
                # What the rule needs has a mistake of its own, which is in the list already.
                continue
    return mistakes


def _rule(function: Callable[[_Object, Place], Iterator[Mistake]]) -> Callable[[_Object, Place], Iterator[Mistake]]:
    """Registers a rule for the type of its first argument."""
    RULES.append((next(iter(get_type_hints(function).values())), function))
    return function


# ------------------------------------------------------------------------------------------------ real money


@_rule
def real_orders_need_credentials(spec: Spec, place: Place) -> Iterator[Mistake]:
    real = spec.mode != "paper" and spec.exchange.name != SIMULATED
    if real and spec.exchange.credentials_secret_ref is None:
        yield place.mistake(
            "exchange",
            "credentialsSecretRef",
            problem=f"is missing: mode {spec.mode} sends orders to the exchange",
            remedy="name a Secret with apiKey and secret, such as credentialsSecretRef: {name: binance-keys}",
        )


@_rule
def only_paper_has_paper_balances(spec: Spec, place: Place) -> Iterator[Mistake]:
    if spec.mode != "paper" and spec.account.paper_balances is not None:
        yield place.mistake(
            "account",
            "paperBalances",
            problem=f"is for mode paper, and this is {spec.mode}",
            remedy="remove it: the balances come from the exchange",
        )


@_rule
def only_paper_has_simulated_fills(spec: Spec, place: Place) -> Iterator[Mistake]:
    if spec.mode != "paper" and spec.exchange.simulated is not None:
        yield place.mistake(
            "exchange",
            "simulated",
            problem=f"is for mode paper, and this is {spec.mode}",
            remedy="remove it: the exchange itself fills the orders",
        )


@_rule
def simulated_exchange_is_paper(spec: Spec, place: Place) -> Iterator[Mistake]:
    if spec.mode != "paper" and spec.exchange.name == SIMULATED:
        yield place.mistake(
            "exchange",
            "name",
            problem=f"has no {spec.mode} mode",
            remedy="set mode: paper, or name a real exchange",
        )


@_rule
def real_orders_need_a_written_stop(spec: Spec, place: Place) -> Iterator[Mistake]:
    if spec.mode != "paper" and spec.risk and not place.given("risk", "stopLoss"):
        yield place.mistake(
            "risk",
            "stopLoss",
            problem=f"is missing: mode {spec.mode} takes no default for it",
            remedy=f'write it out, such as stopLoss: "{format_decimal(defaults.STOP_LOSS)}"',
        )


@_rule
def real_orders_need_a_written_size(spec: Spec, place: Place) -> Iterator[Mistake]:
    if spec.mode == "paper":
        return
    needed: dict[str, tuple[tuple[str, ...], ...]] = {
        "fixedFractional": (("fraction",),),
        "kelly": (("kelly", "cap"), ("fraction",)),
        "volatility": (("volatility", "targetRisk"),),
        "hybrid": (("fraction",), ("kelly", "cap"), ("volatility", "targetRisk")),
    }
    sizing = ("risk", "sizing")
    missing = [("method",), *needed[spec.risk.sizing.method]]
    for path in [path for path in missing if not place.given(*sizing, *path)]:
        yield place.mistake(
            *sizing,
            *path,
            problem=f"is missing: mode {spec.mode} takes no default for the size of a position",
            remedy="write it out: it decides how much money one trade uses",
        )


@_rule
def real_orders_need_a_drawdown_limit(spec: Spec, place: Place) -> Iterator[Mistake]:
    if spec.mode == "paper":
        return
    names = [protection.name for protection in spec.risk.protections] if place.given("risk", "protections") else []
    if "maxDrawdown" not in names:
        yield place.mistake(
            "risk",
            "protections",
            problem=f"has no maxDrawdown: mode {spec.mode} takes no default for it",
            remedy='add {name: maxDrawdown, limit: "0.15"} with the loss at which to stop',
        )
    elif not place.given("risk", "protections", names.index("maxDrawdown"), "limit"):
        yield place.mistake(
            "risk",
            "protections",
            names.index("maxDrawdown"),
            "limit",
            problem=f"is missing: mode {spec.mode} takes no default for it",
            remedy='write the loss at which to stop, such as limit: "0.15"',
        )


@_rule
def live_needs_its_confirmation(spec: Spec, place: Place) -> Iterator[Mistake]:
    expected = f"trade real money on {spec.exchange.name}/{spec.account.name}"
    if spec.mode == "live" and spec.exchange.name != SIMULATED and spec.live_confirmation != expected:
        problem = "is missing" if spec.live_confirmation is None else "does not name this exchange and account"
        yield place.mistake(
            "liveConfirmation", problem=problem, remedy=f'if that is what you want, write "{expected}"'
        )


# --------------------------------------------------------------------------------- exchange, account, symbols


@_rule
def paper_needs_a_balance(spec: Spec, place: Place) -> Iterator[Mistake]:
    if spec.mode != "paper":
        return
    quote = spec.account.quote_currency
    balances = spec.account.paper_balances
    example = f'{quote}: "1000"'
    if balances is None:
        yield place.mistake(
            "account",
            "paperBalances",
            problem="is missing: mode paper has no exchange to ask",
            remedy=f"say what the account holds at the start, such as paperBalances: {{{example}}}",
        )
    elif not balances.get(quote):
        yield place.mistake(
            "account",
            "paperBalances",
            problem=f"holds no {quote}, so nothing could be bought",
            remedy=f"add the quote currency, such as {example}",
        )


@_rule
def symbols_are_unique(spec: Spec, place: Place) -> Iterator[Mistake]:
    for index, symbol in enumerate(spec.symbols):
        first = spec.symbols.index(symbol)
        if first != index:
            yield place.mistake("symbols", index, problem=f"is given twice, at [{first}] too", remedy="remove one")


@_rule
def symbols_are_quoted_in_the_account_currency(spec: Spec, place: Place) -> Iterator[Mistake]:
    currency = spec.account.quote_currency
    for index, symbol in enumerate(spec.symbols):
        base, quote = parse_symbol(symbol)
        if quote != currency:
            yield place.mistake(
                "symbols",
                index,
                problem=f"is quoted in {quote}, and account.quoteCurrency is {currency}",
                remedy=f"write {base}/{currency}, or give {quote} a bot of its own",
            )
        elif base == quote:
            yield place.mistake("symbols", index, problem="trades a currency against itself", remedy="remove it")


@_rule
def replay_is_for_the_simulated_exchange(exchange: Exchange, place: Place) -> Iterator[Mistake]:
    if exchange.name == SIMULATED and exchange.replay is None:
        yield place.mistake(
            "replay",
            problem="is missing: the simulated exchange needs candles",
            remedy="say which, such as replay: {source: candles, speed: max}",
        )
    if exchange.name != SIMULATED and exchange.replay is not None:
        yield place.mistake(
            "replay",
            problem=f"is for the simulated exchange, and this is {exchange.name}",
            remedy=f"remove it, or write name: {SIMULATED}",
        )


@_rule
def simulated_exchange_has_no_address(exchange: Exchange, place: Place) -> Iterator[Mistake]:
    if exchange.name == SIMULATED and exchange.endpoint is not None:
        yield place.mistake(
            "endpoint", problem="is an address, and the simulated exchange has none", remedy="remove it"
        )


@_rule
def simulated_exchange_has_no_websocket(exchange: Exchange, place: Place) -> Iterator[Mistake]:
    if exchange.name == SIMULATED and exchange.feed == "websocket":
        yield place.mistake(
            "feed", problem="is not what the simulated exchange has", remedy="remove it, or write rest"
        )


@_rule
def polling_is_not_too_fast(exchange: Exchange, place: Place) -> Iterator[Mistake]:
    if exchange.poll_interval < timedelta(seconds=1):
        yield place.mistake(
            "pollInterval",
            problem="polls so often that exchanges refuse it",
            remedy="write 1s or more; feed: websocket is faster than any polling",
        )


@_rule
def replay_ends_after_its_start(replay: Replay, place: Place) -> Iterator[Mistake]:
    if replay.start_time is not None and replay.end_time is not None and replay.end_time <= replay.start_time:
        yield place.mistake(
            "endTime", problem="is not after startTime, so there is nothing to replay", remedy="swap or change them"
        )


# -------------------------------------------------------------------------------------- intervals that depend


@_rule
def polling_is_faster_than_candles(spec: Spec, place: Place) -> Iterator[Mistake]:
    length = timeframe_length(spec.timeframe)
    if spec.exchange.poll_interval >= length:
        yield place.mistake(
            "exchange",
            "pollInterval",
            default=format_duration(spec.exchange.poll_interval),
            problem=f"is not shorter than the timeframe {spec.timeframe}, so candles would be seen a whole one late",
            remedy=f"write less than {format_duration(length)}",
        )


@_rule
def prices_can_be_fresh(spec: Spec, place: Place) -> Iterator[Mistake]:
    poll = spec.exchange.poll_interval
    if spec.risk.max_price_age < poll:
        yield place.mistake(
            "risk",
            "maxPriceAge",
            default=format_duration(spec.risk.max_price_age),
            problem=f"is shorter than exchange.pollInterval ({format_duration(poll)}): hardly a price is fresh",
            remedy=f"write {format_duration(3 * poll)}, three polls, or poll more often",
        )


@_rule
def signals_can_be_fresh(spec: Spec, place: Place) -> Iterator[Mistake]:
    poll = spec.exchange.poll_interval
    if spec.strategy.signal_max_age < poll:
        yield place.mistake(
            "strategy",
            "signalMaxAge",
            default=format_duration(spec.strategy.signal_max_age),
            problem=f"is shorter than exchange.pollInterval ({format_duration(poll)}): "
            "most signals would be stale when they are made",
            remedy=f"write {format_duration(4 * poll)}, or poll more often",
        )


@_rule
def feed_is_not_stale_between_polls(spec: Spec, place: Place) -> Iterator[Mistake]:
    poll = spec.exchange.poll_interval
    if spec.data.stale_after < 2 * poll:
        yield place.mistake(
            "data",
            "staleAfter",
            default=format_duration(spec.data.stale_after),
            problem=f"is less than two of exchange.pollInterval ({format_duration(poll)}): "
            "one missed poll would be an alarm",
            remedy=f"write {format_duration(4 * poll)}, or poll more often",
        )


@_rule
def intents_do_not_outlive_their_candle(spec: Spec, place: Place) -> Iterator[Mistake]:
    length = timeframe_length(spec.timeframe)
    if spec.strategy.intent_time_to_live > length:
        yield place.mistake(
            "strategy",
            "intentTimeToLive",
            default=format_duration(spec.strategy.intent_time_to_live),
            problem=f"is longer than the timeframe {spec.timeframe}: an intent would meet the next candle's",
            remedy=f"write {format_duration(length)} or less",
        )


@_rule
def intents_outlive_their_approval(spec: Spec, place: Place) -> Iterator[Mistake]:
    if spec.risk.approval.window >= spec.strategy.intent_time_to_live:
        yield place.mistake(
            "risk",
            "approval",
            "window",
            default=format_duration(spec.risk.approval.window),
            problem="is not shorter than strategy.intentTimeToLive "
            f"({format_duration(spec.strategy.intent_time_to_live)}): every intent would be stale when it is ranked",
            remedy=f"write less, such as {format_duration(defaults.APPROVAL_WINDOW)}",
        )


@_rule
def look_ups_outlast_the_receive_window(spec: Spec, place: Place) -> Iterator[Mistake]:
    window = spec.exchange.receive_window
    if spec.execution.look_up_margin <= window:
        yield place.mistake(
            "execution",
            "lookUpMargin",
            default=format_duration(spec.execution.look_up_margin),
            problem=f"is not longer than exchange.receiveWindow ({format_duration(window)}): "
            "an order could still arrive after it was given up",
            remedy=f"write {format_duration(max(defaults.LOOK_UP_MARGIN, 2 * window))}",
        )


@_rule
def restarts_back_off(runtime: Runtime, place: Place) -> Iterator[Mistake]:
    if runtime.restart_delay > runtime.restart_delay_maximum:
        yield place.mistake(
            "restartDelayMaximum",
            default=format_duration(runtime.restart_delay_maximum),
            problem=f"is shorter than restartDelay ({format_duration(runtime.restart_delay)})",
            remedy=f"write {format_duration(runtime.restart_delay)} or more",
        )


@_rule
def exits_back_off(execution: Execution, place: Place) -> Iterator[Mistake]:
    if execution.exit_retry_delay > execution.exit_retry_delay_maximum:
        yield place.mistake(
            "exitRetryDelayMaximum",
            default=format_duration(execution.exit_retry_delay_maximum),
            problem=f"is shorter than exitRetryDelay ({format_duration(execution.exit_retry_delay)})",
            remedy=f"write {format_duration(execution.exit_retry_delay)} or more",
        )


@_rule
def state_is_obeyed_in_time(runtime: Runtime, place: Place) -> Iterator[Mistake]:
    if runtime.spec_interval > timedelta(seconds=5):
        yield place.mistake(
            "specInterval",
            problem="is too long: a changed state must be obeyed within 5 s",
            remedy=f"write 5s or less, such as {format_duration(defaults.SPEC_INTERVAL)}",
        )


# --------------------------------------------------------------------------------------------------- strategy


@_rule
def plugin_excludes_fusion(strategy: Strategy, place: Place) -> Iterator[Mistake]:
    if strategy.plugin is not None and place.given("fusion"):
        yield place.mistake(
            "fusion", problem="is given together with plugin, and only one can decide", remedy="remove one of them"
        )


@_rule
def indicator_ids_are_unique(strategy: Strategy, place: Place) -> Iterator[Mistake]:
    ids = [indicator.id for indicator in strategy.indicators]
    for index, identifier in enumerate(ids):
        first = ids.index(identifier)
        if first != index:
            yield place.mistake(
                "indicators",
                index,
                problem=f"has the id {identifier} of [{first}]",
                remedy=f"remove one, or give it an id of its own, such as id: {identifier}-b",
            )


@_rule
def agreement_is_possible(strategy: Strategy, place: Place) -> Iterator[Mistake]:
    count = len(strategy.indicators)
    needed = strategy.consensus.minimum_agreement
    if strategy.fusion in ("consensus", "hybrid") and needed > count:
        yield place.mistake(
            "consensus",
            "minimumAgreement",
            problem=f"asks {needed} indicators to agree, and there are {count}",
            remedy=f"write minimumAgreement: {count} or less, or add indicators",
        )


@_rule
def window_holds_the_indicators(strategy: Strategy, place: Place) -> Iterator[Mistake]:
    longest = max(strategy.indicators, key=minimum_candles)
    if strategy.window < minimum_candles(longest):
        yield place.mistake(
            "window",
            problem=f"is too short: {longest.id} needs {minimum_candles(longest)} candles",
            remedy=f"write {minimum_candles(longest)} or more, or leave it out to have what settles every indicator",
        )


@_rule
def hybrid_has_weight(hybrid: Hybrid, place: Place) -> Iterator[Mistake]:
    weights = hybrid.weights
    if not weights.consensus + weights.time_decay + weights.bayesian:
        yield place.mistake("weights", problem="are all zero", remedy="give at least one method a weight")


def _parameters_belong(
    thing: msgspec.Struct, name: str, catalogue: dict[str, dict[str, Any]], place: Place
) -> Iterator[Mistake]:
    takes = catalogue[name]
    for parameter in sorted({key for known in catalogue.values() for key in known} - set(takes)):
        if getattr(thing, parameter) is not None:
            yield place.mistake(
                camel(parameter),
                problem=f"is no parameter of {name}",
                remedy=f"remove it; {name} takes {', '.join(map(camel, takes))}",
            )


@_rule
def indicator_takes_its_parameters(indicator: Indicator, place: Place) -> Iterator[Mistake]:
    yield from _parameters_belong(indicator, indicator.name, defaults.INDICATOR_PARAMETERS, place)


@_rule
def fast_is_faster_than_slow(indicator: Indicator, place: Place) -> Iterator[Mistake]:
    yield from _ordered(place, ("fast", indicator.fast), ("slow", indicator.slow))


@_rule
def oversold_is_below_overbought(indicator: Indicator, place: Place) -> Iterator[Mistake]:
    yield from _ordered(place, ("oversold", indicator.oversold), ("overbought", indicator.overbought))


def _ordered(place: Place, low: tuple[str, int | None], high: tuple[str, int | None]) -> Iterator[Mistake]:
    if low[1] is None or high[1] is None or low[1] < high[1]:
        return
    remedy = f"write a larger {high[0]} or a smaller {low[0]}"
    if place.given(low[0]):
        yield place.mistake(low[0], problem=f"is not below {high[0]} ({high[1]})", remedy=remedy)
    else:
        yield place.mistake(high[0], problem=f"is not above {low[0]} ({low[1]}, the default)", remedy=remedy)


# ------------------------------------------------------------------------------------------------------- risk


@_rule
def caps_ascend(sizing: Sizing, place: Place) -> Iterator[Mistake]:
    last = len(sizing.caps) - 1
    for index, cap in enumerate(sizing.caps):
        if index == last:
            if cap.below is not None:
                yield place.mistake(
                    "caps",
                    index,
                    "below",
                    problem="leaves larger accounts without a cap",
                    remedy="end the list with a cap that has no below",
                )
        elif cap.below is None:
            yield place.mistake(
                "caps",
                index,
                problem="has no below, and only the last cap may have none",
                remedy="write up to which equity it holds",
            )
        elif index and (before := sizing.caps[index - 1].below) is not None and cap.below <= before:
            yield place.mistake(
                "caps",
                index,
                "below",
                problem=f"is not above the one before it ({format_decimal(before)})",
                remedy="order the caps from small accounts to large ones",
            )


@_rule
def kelly_looks_back_far_enough(sizing: Sizing, place: Place) -> Iterator[Mistake]:
    kelly = sizing.kelly
    if kelly.lookback_trades < kelly.minimum_trades:
        yield place.mistake(
            "kelly",
            "lookbackTrades",
            default=str(kelly.lookback_trades),
            problem=f"is less than minimumTrades ({kelly.minimum_trades}), so Kelly would never be used",
            remedy=f"write {kelly.minimum_trades} or more",
        )


@_rule
def entry_limit_is_above_the_stop(risk: Risk, place: Place) -> Iterator[Mistake]:
    if risk.worst_price_slippage >= risk.stop_loss:
        yield place.mistake(
            "worstPriceSlippage",
            default=format_decimal(risk.worst_price_slippage),
            problem=f"is not below stopLoss ({format_decimal(risk.stop_loss)}): an entry could be bought at a loss "
            "that its own stop would sell",
            remedy=f'write less, such as "{format_decimal(defaults.WORST_PRICE_SLIPPAGE)}"',
        )


@_rule
def trailing_starts_before_the_target(risk: Risk, place: Place) -> Iterator[Mistake]:
    trailing: TrailingStop | None = risk.trailing_stop
    if trailing is None or trailing.activate_at is None or risk.take_profit is None:
        return
    if trailing.activate_at >= risk.take_profit:
        yield place.mistake(
            "trailingStop",
            "activateAt",
            problem=f"is not below takeProfit ({format_decimal(risk.take_profit)}): the target always comes first",
            remedy="lower activateAt, or raise or remove takeProfit",
        )


@_rule
def protections_are_unique(risk: Risk, place: Place) -> Iterator[Mistake]:
    names = [protection.name for protection in risk.protections]
    for index, name in enumerate(names):
        if names.index(name) != index:
            yield place.mistake(
                "protections",
                index,
                problem=f"is {name} again, as [{names.index(name)}]",
                remedy="keep one, with the stricter values",
            )


@_rule
def reward_to_risk_is_possible(risk: Risk, place: Place) -> Iterator[Mistake]:
    for index, protection in enumerate(risk.protections):
        if protection.name != "minRewardToRisk" or protection.ratio is None:
            continue
        if risk.take_profit is None:
            yield place.mistake(
                "protections",
                index,
                problem="is minRewardToRisk, which needs a target to compare with",
                remedy="write takeProfit, or remove this protection",
            )
        elif risk.take_profit < protection.ratio * risk.stop_loss:
            least = format_decimal(protection.ratio * risk.stop_loss)
            yield place.mistake(
                "protections",
                index,
                "ratio",
                default=format_decimal(protection.ratio),
                problem=f"is never reached by takeProfit {format_decimal(risk.take_profit)} over stopLoss "
                f"{format_decimal(risk.stop_loss)}: nothing would be bought",
                remedy=f'lower the ratio, or write takeProfit: "{least}" or more',
            )


@_rule
def protection_takes_its_parameters(protection: Protection, place: Place) -> Iterator[Mistake]:
    yield from _parameters_belong(protection, protection.name, defaults.PROTECTION_PARAMETERS, place)


# ----------------------------------------------------------------------------------- managed, external, pods


def _not_both(part: Messaging | TimeSeries | Database, place: Place) -> Iterator[Mistake]:
    if part.external is not None and place.given("managed"):
        yield place.mistake(
            "managed",
            problem="is given together with external, and only one can be used",
            remedy="remove one of them",
        )


@_rule
def messaging_is_managed_or_external(messaging: Messaging, place: Place) -> Iterator[Mistake]:
    yield from _not_both(messaging, place)


@_rule
def time_series_is_managed_or_external(time_series: TimeSeries, place: Place) -> Iterator[Mistake]:
    yield from _not_both(time_series, place)


@_rule
def database_is_managed_or_external(database: Database, place: Place) -> Iterator[Mistake]:
    yield from _not_both(database, place)


@_rule
def refusals_outlive_their_intents(spec: Spec, place: Place) -> Iterator[Mistake]:
    least = max(defaults.HISTORY_REFUSALS_MINIMUM, spec.strategy.intent_time_to_live)
    if spec.database.history.refusals < least:
        yield place.mistake(
            "database",
            "history",
            "refusals",
            default=format_duration(spec.database.history.refusals),
            problem="is so short that a refused intent could come again and be decided anew",
            remedy=f"write {format_duration(least)} or more",
        )


@_rule
def notification_names_are_unique(spec: Spec, place: Place) -> Iterator[Mistake]:
    names = [notification.name for notification in spec.notifications]
    for index, name in enumerate(names):
        if names.index(name) != index:
            yield place.mistake(
                "notifications",
                index,
                "name",
                problem=f"is the name of [{names.index(name)}] too",
                remedy="give each its own name",
            )


@_rule
def variable_has_one_source(variable: EnvVar, place: Place) -> Iterator[Mistake]:
    if (variable.value is None) == (variable.value_from_secret is None):
        yield place.mistake(
            problem="needs exactly one of value and valueFromSecret", remedy="write the one, remove the other"
        )


@_rule
def variables_are_unique(overrides: AgentOverrides, place: Place) -> Iterator[Mistake]:
    names = [variable.name for variable in overrides.env]
    for index, name in enumerate(names):
        if names.index(name) != index:
            yield place.mistake(
                "env", index, "name", problem=f"is given twice, at [{names.index(name)}] too", remedy="remove one"
            )


@_rule
def requests_are_within_limits(resources: Resources, place: Place) -> Iterator[Mistake]:
    if resources.requests is None or resources.limits is None:
        return
    for name in ("cpu", "memory"):
        request, limit = getattr(resources.requests, name), getattr(resources.limits, name)
        if request is not None and limit is not None and request > limit:
            yield place.mistake(
                "requests", name, problem="is above its limit", remedy="lower the request or raise the limit"
            )
