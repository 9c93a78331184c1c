'''Strategies of one's own, in place of a fusion.

A strategy is a class that takes its parameters as text and answers one question: given the last signals of a symbol,
is there a trade to wish for? It must be a pure function of the view. Whatever else it kept would be lost with a
restart, and the bot would not decide the same again. It is asked once for each fresh candle, after the checks that
all strategies share (history, duplicates, age), and its wish must still reach ``minConfidence``.

Put the class where the strategy agent can import it, and name it in the spec as ``module:Class``. A whole one, that
buys when the RSI leaves its oversold zone and sells when it leaves the overbought one::

    from tradingbot_agents.domain.messages import Direction
    from tradingbot_agents.domain.values import Side
    from tradingbot_agents.strategy import View, Wish


    class Rebound:
        """Trades the candle with which an indicator falls silent again."""

        def __init__(self, parameters):
            self.indicator = parameters["indicator"]
            self.confidence = float(parameters["confidence"])

        def decide(self, view: View) -> Wish | None:
            before, now = (self.direction(signal) for signal in view.signals[-2:])
            if now is not Direction.NEUTRAL or before is Direction.NEUTRAL:
                return None
            return Wish(
                side=Side.BUY if before is Direction.UP else Side.SELL,
                confidence=self.confidence,
                reason="rebound",
                indicators=(self.indicator,),
            )

        def direction(self, signal):
            found = [reading for reading in signal.readings if reading.indicator == self.indicator]
            return found[0].direction if found else Direction.NEUTRAL

In the spec: ``plugin: {path: "my_package.rebound:Rebound", parameters: {indicator: rsi-14, confidence: "0.6"}}``.
'''

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from tradingbot_agents.domain.values import Side
from tradingbot_agents.strategy.decide import Thinker
from tradingbot_agents.strategy.settings import PluginSettings
from tradingbot_agents.strategy.view import NoTrade, View, Wish

PATH = "strategy.plugin.path"
PARAMETERS = "strategy.plugin.parameters"


class Strategy(Protocol):
    """What a plug-in's class offers. It is made once, with ``Class(parameters)``."""

    def decide(self, view: View) -> Wish | None:
        """The trade to wish for on the view's last candle. Pure: no clock, no network, no memory."""
        ...


class PluginError(ValueError):
    """A plug-in can not be used. The message names the field, its value and the remedy."""


def load(settings: PluginSettings) -> Strategy:
    """Import the class and make it. Raises ``PluginError``."""
    path = settings.path
    module_name, _, class_name = path.partition(":")
    if not module_name or not class_name:
        raise PluginError(f"{PATH}: {path!r} is not the place of a class: write module:Class")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise PluginError(
            f"{PATH}: {path!r}: no module {error.name!r} can be imported: install it, or put its folder on PYTHONPATH"
        ) from error
    except Exception as error:
        raise PluginError(
            f"{PATH}: {path!r}: importing {module_name} failed with {_said(error)}: mend the module"
        ) from error
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        classes = [
            name for name, one in vars(module).items() if inspect.isclass(one) and one.__module__ == module_name
        ]
        raise PluginError(
            f"{PATH}: {path!r}: {module_name} has no class {class_name}: "
            + (f"name one of {', '.join(classes)}" if classes else "define it there")
        )
    strategy = _make(found, path, settings.parameters)
    if not callable(getattr(strategy, "decide", None)):
        raise PluginError(f"{PATH}: {path!r} has no method decide(view): add it, returning a Wish or None")
    if inspect.iscoroutinefunction(strategy.decide):
        raise PluginError(
            f"{PATH}: {path!r}: decide is async: make it a plain function, for a decision waits for nothing"
        )
    return strategy


def _make(found: type[Any], path: str, parameters: Mapping[str, str]) -> Strategy:
    given = dict(parameters)
    try:
        strategy: Strategy = found(given)
    except KeyError as error:
        raise PluginError(f"{PARAMETERS}: {given!r}: {path} needs a parameter {error}: add it") from error
    except Exception as error:
        raise PluginError(
            f"{PARAMETERS}: {given!r}: {path} refused them with {_said(error)}: change them, or let the class take"
            " them as its one argument"
        ) from error
    return strategy


def plugin_thinker(settings: PluginSettings) -> Thinker:
    """Decides by plug-in, and refuses what is no wish. Raises ``PluginError``, now or when it thinks."""
    strategy = load(settings)
    path = settings.path

    def think(view: View) -> Wish | NoTrade:
        wish = strategy.decide(view)
        if wish is None:
            return NoTrade.NO_WISH
        problem = _problem(wish)
        if problem is not None:
            raise PluginError(f"{PATH}: {path!r} on {view.signals[-1].candle_id}: {problem}")
        return wish

    return think


def _problem(wish: object) -> str | None:
    if not isinstance(wish, Wish):
        return f"decide returned {wish!r}: return a Wish or None"
    if not isinstance(wish.side, Side):
        return f"the wish's side is {wish.side!r}: use Side.BUY or Side.SELL"
    if not isinstance(wish.confidence, int | float) or not 0 <= wish.confidence <= 1:
        return f"the wish's confidence is {wish.confidence!r}: give a number in 0..1"
    if not isinstance(wish.indicators, tuple) or not all(isinstance(one, str) for one in wish.indicators):
        return f"the wish's indicators are {wish.indicators!r}: give a tuple of the indicators' ids"
    return None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
