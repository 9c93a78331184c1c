"""The rules that the API server keeps by itself, in CEL: those of `rules` that it can say, and what never changes.

Each stands at the same object as its twin in `rules`, and refuses only what its twin refuses too: a spec that the
API server takes may still be refused by the operator, never the other way round. Where CEL cannot be exact it is
mild: decimals are compared as doubles, which keep the order but may see two as equal.

What stays with the operator is in `OPERATOR_ONLY`: durations are texts with a unit, and CEL's own have no days.
Uniqueness within a list is none of these rules: it is the list's type (`AS_SET`, `keyed`).
"""

import re
from typing import Any, Final, Literal

import msgspec

from . import defaults
from .backends import Database, DatabaseStorage, Messaging, MessagingStorage, TimeSeries, TimeSeriesStorage
from .exchange import SIMULATED, Account, Exchange, Replay
from .execution import Runtime
from .indicators import Indicator
from .model import camel
from .names import OBJECT_NAME
from .pods import EnvVar, ResourceAmounts, Resources
from .risk import Protection, Risk, Sizing
from .strategy import Hybrid, Strategy
from .types import Spec, TradingBot

_Reason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


class CelRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule for objects of a type.

    `name` is that of its twin in `rules`, or of its own. In `message` CEL within double braces is put in as text; it
    must be text of bounded length, or the API server refuses the rule for its cost.
    `field` is the path, below the object, at which a mistake is reported; it must be a field of the schema.
    """

    cls: type[msgspec.Struct]
    name: str
    rule: str
    message: str
    field: str | None = None
    reason: _Reason = "FieldValueInvalid"


OPERATOR_ONLY: Final = frozenset(
    {
        "polling_is_faster_than_candles",
        "prices_can_be_fresh",
        "signals_can_be_fresh",
        "feed_is_not_stale_between_polls",
        "intents_do_not_outlive_their_candle",
        "intents_outlive_their_approval",
        "look_ups_outlast_the_receive_window",
        "restarts_back_off",
        "exits_back_off",
        "refusals_outlive_their_intents",
    }
)
"""Rules that compare durations."""

BY_LIST_TYPE: Final = frozenset(
    {
        "symbols_are_unique",
        "protections_are_unique",
        "notification_names_are_unique",
        "variables_are_unique",
    }
)
"""Rules that the type of a list keeps."""


def rules_of(cls: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """`x-kubernetes-validations` of an object, as JSON has it."""
    return [_written(rule) for rule in CEL_RULES if rule.cls is cls]


def _written(rule: CelRule) -> dict[str, Any]:
    written: dict[str, Any] = {"rule": rule.rule, **_message(rule.message)}
    if rule.reason != "FieldValueInvalid":
        written["reason"] = rule.reason
    if rule.field is not None:
        written["fieldPath"] = f".{rule.field}"
    return written


def _message(message: str) -> dict[str, str]:
    """`message`, or `messageExpression` where there is something to put in."""
    parts = re.split(r"\{\{(.+?)\}\}", message)
    if len(parts) == 1:
        return {"message": message}
    texts = [part if index % 2 else f"'{_escaped(part)}'" for index, part in enumerate(parts) if part]
    return {"messageExpression": " + ".join(texts)}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


# ------------------------------------------------------------------------------------------- parts of expressions

_REAL = f"(self.mode != 'paper' && self.exchange.name != '{SIMULATED}')"
_SIMULATED = f"self.name == '{SIMULATED}'"
_QUOTE = "self.account.quoteCurrency"
_SIZING = "self.risk.sizing"
_MORE_THAN_NOTHING = "matches('[1-9]')"
_IS_NUMBER = "matches('^[0-9]+([.][0-9]+)?$')"
_RATIO = f"(has(p.ratio) ? p.ratio : '{defaults.PROTECTION_PARAMETERS['minRewardToRisk']['ratio']}')"
_STOP_LOSS = f"(has(self.stopLoss) ? self.stopLoss : '{defaults.STOP_LOSS}')"


def _or_default(value: str, default: object) -> str:
    """A field, or what it is when it is not written."""
    return f"(has({value}) ? {value} : {default})"


def _numbers(*texts: str) -> str:
    """That all are numbers: a rule on one that is none would end in an error, which hides what to write."""
    return "(" + " && ".join(f"{text}.{_IS_NUMBER}" for text in texts) + ")"


def _below(low: str, high: str) -> str:
    """That a decimal text is below another, as far as doubles can tell. Equal texts are not."""
    return f"(!{_numbers(low, high)} || ({low} != {high} && double({low}) <= double({high})))"


def _names(names: list[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


def _parameter(thing: str, parameter: str) -> str:
    """A parameter of an indicator, or the default that its name gives it."""
    known = {name: value for name, takes in defaults.INDICATOR_PARAMETERS.items() if (value := takes.get(parameter))}
    expression = "0"
    for name, value in known.items():
        expression = f"({thing}.name == '{name}' ? {value} : {expression})"
    return _or_default(f"{thing}.{parameter}", expression)


def _minimum_candles(thing: str) -> str:
    """`minimum_candles` of an indicator."""
    slow, signal, period = (_parameter(thing, name) for name in ("slow", "signal", "period"))
    return (
        f"({thing}.name == 'emaCross' ? {slow} + 1 : {thing}.name == 'macd' ? {slow} + {signal} : "
        f"{thing}.name in ['rsi', 'atr'] ? {period} + 2 : {thing}.name == 'adx' ? 2 * {period} + 1 : {period} + 1)"
    )


def _parameters_belong(
    cls: type[msgspec.Struct], name: str, catalogue: dict[str, dict[str, Any]]
) -> tuple[CelRule, ...]:
    parameters = sorted({key for takes in catalogue.values() for key in takes})
    rules = []
    for parameter in parameters:
        owners = [owner for owner, takes in catalogue.items() if parameter in takes]
        key = camel(parameter)
        rules.append(
            CelRule(
                cls=cls,
                name=name,
                rule=f"!has(self.{key}) || self.name in {_names(owners)}",
                message=f"is no parameter of {{{{self.name}}}}; remove it, it belongs to {', '.join(owners)}",
                field=key,
                reason="FieldValueForbidden",
            )
        )
    return tuple(rules)


def _not_both(cls: type[msgspec.Struct], name: str) -> CelRule:
    return CelRule(
        cls=cls,
        name=name,
        rule="!has(self.managed) || !has(self.external)",
        message="is given together with external, and only one can be used; remove one of them",
        field="managed",
        reason="FieldValueForbidden",
    )


def _never_changes(
    cls: type[msgspec.Struct], field: str, why: str, remedy: str = "make a new TradingBot with a name of its own"
) -> CelRule:
    """Set and unset count as changes."""
    new, old = f"self.{field}", f"oldSelf.{field}"
    return CelRule(
        cls=cls,
        name="immutable",
        rule=f"has({new}) ? has({old}) && {new} == {old} : !has({old})",
        message=f"cannot be changed: {why}; {remedy}",
        field=field,
        reason="FieldValueForbidden",
    )


def _within(resource: str) -> CelRule:
    request, limit = f"self.requests.{resource}", f"self.limits.{resource}"
    return CelRule(
        cls=Resources,
        name="requests_are_within_limits",
        rule=(
            f"!has(self.requests) || !has({request}) || !has(self.limits) || !has({limit}) || "
            f"!isQuantity({request}) || !isQuantity({limit}) || "
            f"quantity({request}).compareTo(quantity({limit})) <= 0"
        ),
        message=f"{{{{{request}}}}} is above its limit of {{{{{limit}}}}}; lower the request or raise the limit",
        field=f"requests.{resource}",
    )


# ---------------------------------------------------------------------------------------------------------- rules

CEL_RULES: Final[tuple[CelRule, ...]] = (
    CelRule(
        cls=TradingBot,
        name="object_name",
        rule=f"self.metadata.name.matches(r'{OBJECT_NAME.pattern}')",
        message="metadata.name is too long or has dots: use up to 40 of a-z, 0-9 and hyphens, because the names of "
        "the bot's pods are made of it",
    ),
    # --- what never changes
    _never_changes(Spec, "mode", "paper and real money are never one bot's books"),
    _never_changes(Exchange, "name", "the bot's books are those of one exchange"),
    _never_changes(Exchange, "endpoint", "the bot's books are those of one exchange"),
    _never_changes(Account, "name", "the bot's positions belong to this account"),
    _never_changes(Account, "quoteCurrency", "the bot's books are kept in it"),
    *(
        _never_changes(storage, field, "the volume exists", remedy)
        for storage in (MessagingStorage, TimeSeriesStorage, DatabaseStorage)
        for field, remedy in (
            ("size", "edit the size of its PersistentVolumeClaim, if its storage class lets volumes grow"),
            ("className", "a volume stays where it was made"),
        )
    ),
    # --- real money
    CelRule(
        cls=Spec,
        name="real_orders_need_credentials",
        rule=f"!{_REAL} || has(self.exchange.credentialsSecretRef)",
        message="is missing: mode {{self.mode}} sends orders to the exchange; name a Secret with apiKey and secret, "
        "such as credentialsSecretRef: {name: binance-keys}",
        field="exchange.credentialsSecretRef",
        reason="FieldValueRequired",
    ),
    CelRule(
        cls=Spec,
        name="only_paper_has_paper_balances",
        rule="self.mode == 'paper' || !has(self.account.paperBalances)",
        message="is for mode paper, and this is {{self.mode}}; remove it: the balances come from the exchange",
        field="account.paperBalances",
        reason="FieldValueForbidden",
    ),
    CelRule(
        cls=Spec,
        name="only_paper_has_simulated_fills",
        rule="self.mode == 'paper' || !has(self.exchange.simulated)",
        message="is for mode paper, and this is {{self.mode}}; remove it: the exchange itself fills the orders",
        field="exchange.simulated",
        reason="FieldValueForbidden",
    ),
    CelRule(
        cls=Spec,
        name="simulated_exchange_is_paper",
        rule=f"self.mode == 'paper' || self.exchange.name != '{SIMULATED}'",
        message=f"{SIMULATED} has no {{{{self.mode}}}} mode; set mode: paper, or name a real exchange",
        field="exchange.name",
    ),
    CelRule(
        cls=Spec,
        name="real_orders_need_a_written_stop",
        rule="self.mode == 'paper' || has(self.risk.stopLoss)",
        message="is missing: mode {{self.mode}} takes no default for it; write it out, such as stopLoss: "
        f'"{defaults.STOP_LOSS}"',
        field="risk.stopLoss",
        reason="FieldValueRequired",
    ),
    CelRule(
        cls=Spec,
        name="real_orders_need_a_written_size",
        rule=f"self.mode == 'paper' || (has({_SIZING}) && has({_SIZING}.method))",
        message="is missing: mode {{self.mode}} takes no default for the size of a position; write it out, such as "
        "method: fixedFractional, with the size that it needs",
        field="risk.sizing.method",
        reason="FieldValueRequired",
    ),
    *(
        CelRule(
            cls=Spec,
            name="real_orders_need_a_written_size",
            rule=f"self.mode == 'paper' || !has({_SIZING}) || !has({_SIZING}.method) || "
            f"!({_SIZING}.method in {_names(methods)}) || has({_SIZING}.{size})",
            message=f"is missing: mode {{{{self.mode}}}} takes no default for the size of a position; method "
            f"{{{{{_SIZING}.method}}}} needs it: it decides how much money one trade uses, so write it out",
            field=f"risk.sizing.{size}",
            reason="FieldValueRequired",
        )
        for size, methods in (
            ("fraction", ["fixedFractional", "hybrid"]),
            ("kelly.cap", ["kelly", "hybrid"]),
            ("volatility.targetRisk", ["volatility", "hybrid"]),
        )
    ),
    CelRule(
        cls=Spec,
        name="real_orders_need_a_drawdown_limit",
        rule="self.mode == 'paper' || (has(self.risk.protections) && "
        "self.risk.protections.exists(p, p.name == 'maxDrawdown'))",
        message="has no maxDrawdown: mode {{self.mode}} takes no default for it; "
        'add {name: maxDrawdown, limit: "0.15"} with the loss at which to stop',
        field="risk.protections",
        reason="FieldValueRequired",
    ),
    CelRule(
        cls=Spec,
        name="real_orders_need_a_drawdown_limit",
        rule="self.mode == 'paper' || !has(self.risk.protections) || "
        "self.risk.protections.all(p, p.name != 'maxDrawdown' || has(p.limit))",
        message="has a maxDrawdown without a limit: mode {{self.mode}} takes no default for it; "
        'write the loss at which to stop, such as limit: "0.15"',
        field="risk.protections",
        reason="FieldValueRequired",
    ),
    CelRule(
        cls=Spec,
        name="live_needs_its_confirmation",
        rule=f"self.mode != 'live' || self.exchange.name == '{SIMULATED}' || (has(self.liveConfirmation) && "
        "self.liveConfirmation == 'trade real money on ' + self.exchange.name + '/' + self.account.name)",
        message="is missing or does not name this exchange and account; if that is what you want, write "
        '"trade real money on {{self.exchange.name}}/{{self.account.name}}"',
        field="liveConfirmation",
        reason="FieldValueRequired",
    ),
    # --- exchange, account, symbols
    CelRule(
        cls=Spec,
        name="paper_needs_a_balance",
        rule="self.mode != 'paper' || has(self.account.paperBalances)",
        message="is missing: mode paper has no exchange to ask; say what the account holds at the start, such as "
        f'{{{{{_QUOTE}}}}}: "1000"',
        field="account.paperBalances",
        reason="FieldValueRequired",
    ),
    CelRule(
        cls=Spec,
        name="paper_needs_a_balance",
        rule=f"self.mode != 'paper' || !has(self.account.paperBalances) || ({_QUOTE} in self.account.paperBalances "
        f"&& self.account.paperBalances[{_QUOTE}].{_MORE_THAN_NOTHING})",
        message=f"holds no {{{{{_QUOTE}}}}}, so nothing could be bought; add the quote currency, such as "
        f'{{{{{_QUOTE}}}}}: "1000"',
        field="account.paperBalances",
    ),
    CelRule(
        cls=Spec,
        name="symbols_are_quoted_in_the_account_currency",
        rule=f"self.symbols.all(s, s.endsWith('/' + {_QUOTE}))",
        message=f"{{{{self.symbols.filter(s, !s.endsWith('/' + {_QUOTE}))[0]}}}} is not quoted in "
        f"account.quoteCurrency, {{{{{_QUOTE}}}}}; write such as BTC/{{{{{_QUOTE}}}}}, or make another bot for it",
        field="symbols",
    ),
    CelRule(
        cls=Spec,
        name="symbols_are_quoted_in_the_account_currency",
        rule=f"!(({_QUOTE} + '/' + {_QUOTE}) in self.symbols)",
        message=f"{{{{{_QUOTE}}}}}/{{{{{_QUOTE}}}}} trades a currency against itself; remove it",
        field="symbols",
    ),
    CelRule(
        cls=Exchange,
        name="replay_is_for_the_simulated_exchange",
        rule=f"!({_SIMULATED}) || has(self.replay)",
        message="is missing: the simulated exchange needs candles; say which, such as replay: "
        "{source: candles, speed: max}",
        field="replay",
        reason="FieldValueRequired",
    ),
    CelRule(
        cls=Exchange,
        name="replay_is_for_the_simulated_exchange",
        rule=f"{_SIMULATED} || !has(self.replay)",
        message="is for the simulated exchange, and this is {{self.name}}; remove it, or write "
        f"exchange.name: {SIMULATED}",
        field="replay",
        reason="FieldValueForbidden",
    ),
    CelRule(
        cls=Exchange,
        name="simulated_exchange_has_no_address",
        rule=f"!({_SIMULATED}) || !has(self.endpoint)",
        message="is an address, and the simulated exchange has none; remove it",
        field="endpoint",
        reason="FieldValueForbidden",
    ),
    CelRule(
        cls=Exchange,
        name="simulated_exchange_has_no_websocket",
        rule=f"!({_SIMULATED}) || self.feed != 'websocket'",
        message="is not what the simulated exchange has; remove it, or write rest",
        field="feed",
    ),
    CelRule(
        cls=Exchange,
        name="polling_is_not_too_fast",
        # A number without zeros before it: from 1000ms on it has six characters.
        rule="!self.pollInterval.endsWith('ms') || self.pollInterval.size() >= 6",
        message="polls so often that exchanges refuse it; write 1s or more; feed: websocket is faster",
        field="pollInterval",
    ),
    CelRule(
        cls=Replay,
        name="replay_ends_after_its_start",
        rule="!has(self.startTime) || !has(self.endTime) || self.endTime > self.startTime",
        message="is not after startTime, so there is nothing to replay; swap or change them",
        field="endTime",
    ),
    CelRule(
        cls=Runtime,
        name="state_is_obeyed_in_time",
        rule="self.specInterval.matches('^([1-5]s|[1-9][0-9]{0,2}ms|[1-4][0-9]{3}ms|5000ms)$')",
        message="is too long: a changed state must be obeyed within 5 s; write 5s or less, such as 1s",
        field="specInterval",
    ),
    # --- strategy
    CelRule(
        cls=Strategy,
        name="plugin_excludes_fusion",
        rule="!has(self.plugin) || !has(self.fusion)",
        message="is given together with plugin, and only one can decide; remove one of them",
        field="fusion",
        reason="FieldValueForbidden",
    ),
    CelRule(
        # Those that are written: a derived id is not known here.
        cls=Strategy,
        name="indicator_ids_are_unique",
        rule="self.indicators.all(i, !has(i.id) || self.indicators.exists_one(j, has(j.id) && j.id == i.id))",
        message="have the same id twice; give each an id of its own, or leave them out",
        field="indicators",
    ),
    CelRule(
        cls=Strategy,
        name="agreement_is_possible",
        rule="has(self.plugin) || (has(self.fusion) && !(self.fusion in ['consensus', 'hybrid'])) || "
        "self.consensus.minimumAgreement <= self.indicators.size()",
        message="asks more indicators to agree than there are; write less, or add indicators",
        field="consensus.minimumAgreement",
    ),
    CelRule(
        cls=Strategy,
        name="window_holds_the_indicators",
        rule=f"!has(self.window) || self.indicators.all(i, self.window >= {_minimum_candles('i')})",
        message="is too short for an indicator's periods; write more, or leave it out to have what settles every "
        "indicator",
        field="window",
    ),
    CelRule(
        cls=Hybrid,
        name="hybrid_has_weight",
        rule="[self.weights.consensus, self.weights.timeDecay, self.weights.bayesian]"
        f".exists(weight, weight.{_MORE_THAN_NOTHING})",
        message="are all zero; give at least one method a weight",
        field="weights",
    ),
    *_parameters_belong(Indicator, "indicator_takes_its_parameters", defaults.INDICATOR_PARAMETERS),
    CelRule(
        cls=Indicator,
        name="fast_is_faster_than_slow",
        rule=f"!(self.name in ['emaCross', 'macd']) || {_parameter('self', 'fast')} < {_parameter('self', 'slow')}",
        message="is not below slow; write a larger slow or a smaller fast",
        field="fast",
    ),
    CelRule(
        cls=Indicator,
        name="oversold_is_below_overbought",
        rule=f"self.name != 'rsi' || {_parameter('self', 'oversold')} < {_parameter('self', 'overbought')}",
        message="is not below overbought; write a larger overbought or a smaller oversold",
        field="oversold",
    ),
    # --- risk
    CelRule(
        cls=Sizing,
        name="caps_ascend",
        rule="!has(self.caps[self.caps.size() - 1].below)",
        message="end with a below, which leaves larger accounts without a cap; end the list with a cap that has none",
        field="caps",
    ),
    CelRule(
        cls=Sizing,
        name="caps_ascend",
        rule="self.caps.filter(c, !has(c.below)).size() <= 1",
        message="have one without a below that is not the last; write up to which equity it holds",
        field="caps",
    ),
    CelRule(
        cls=Sizing,
        name="caps_ascend",
        rule=f"self.caps.filter(c, has(c.below) && c.below.{_IS_NUMBER}).map(c, double(c.below)).isSorted() && "
        "self.caps.all(c, "
        "!has(c.below) || self.caps.exists_one(d, has(d.below) && d.below == c.below))",
        message="have a below that is not above the one before it; order them from small accounts to large ones",
        field="caps",
    ),
    CelRule(
        cls=Sizing,
        name="kelly_looks_back_far_enough",
        rule="self.kelly.lookbackTrades >= self.kelly.minimumTrades",
        message="is less than minimumTrades, so Kelly would never be used; write as many or more",
        field="kelly.lookbackTrades",
    ),
    CelRule(
        cls=Risk,
        name="entry_limit_is_above_the_stop",
        rule=_below("self.worstPriceSlippage", _STOP_LOSS),
        message=f"is not below stopLoss ({{{{{_STOP_LOSS}}}}}): an "
        "entry could be bought at a loss that its own stop would sell; write less, or a larger stopLoss",
        field="worstPriceSlippage",
    ),
    CelRule(
        cls=Risk,
        name="trailing_starts_before_the_target",
        rule="!has(self.trailingStop) || !has(self.trailingStop.activateAt) || !has(self.takeProfit) || "
        + _below("self.trailingStop.activateAt", "self.takeProfit"),
        message="is not below takeProfit ({{self.takeProfit}}): the target always comes first; lower activateAt, or "
        "raise or remove takeProfit",
        field="trailingStop.activateAt",
    ),
    CelRule(
        cls=Risk,
        name="reward_to_risk_is_possible",
        rule="!has(self.protections) || has(self.takeProfit) || self.protections.all(p, p.name != 'minRewardToRisk')",
        message="is missing: minRewardToRisk needs a target to compare with; write takeProfit, or remove this "
        "protection",
        field="takeProfit",
        reason="FieldValueRequired",
    ),
    CelRule(
        cls=Risk,
        name="reward_to_risk_is_possible",
        # A hair of tolerance, for a product of doubles is not that of the decimals.
        rule="!has(self.protections) || !has(self.takeProfit) || self.protections.all(p, "
        f"p.name != 'minRewardToRisk' || !{_numbers('self.takeProfit', _STOP_LOSS, _RATIO)} || "
        f"double(self.takeProfit) * 1.000000001 >= double({_RATIO}) * double({_STOP_LOSS}))",
        message="is less than minRewardToRisk's ratio times stopLoss: nothing would be bought; lower the ratio, or "
        "raise takeProfit",
        field="takeProfit",
    ),
    *_parameters_belong(Protection, "protection_takes_its_parameters", defaults.PROTECTION_PARAMETERS),
    # --- managed, external, pods
    _not_both(Messaging, "messaging_is_managed_or_external"),
    _not_both(TimeSeries, "time_series_is_managed_or_external"),
    _not_both(Database, "database_is_managed_or_external"),
    CelRule(
        cls=EnvVar,
        name="variable_has_one_source",
        rule="has(self.value) != has(self.valueFromSecret)",
        message="needs exactly one of value and valueFromSecret; write the one, remove the other",
    ),
    _within("cpu"),
    _within("memory"),
    CelRule(
        cls=ResourceAmounts,
        name="some_cpu",
        rule=f"!has(self.cpu) || self.cpu.{_MORE_THAN_NOTHING}",
        message="is no CPU at all; write at least 1m",
        field="cpu",
    ),
)
"""Every rule, in the order in which `rules` has them."""
