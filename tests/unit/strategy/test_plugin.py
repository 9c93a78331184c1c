from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from support.analysis import a_signal
from tradingbot_agents.domain.values import Side
from tradingbot_agents.strategy import plugin
from tradingbot_agents.strategy.plugin import PluginError, load, plugin_thinker
from tradingbot_agents.strategy.settings import PluginSettings
from tradingbot_agents.strategy.view import NoTrade, View, Wish

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module that can be imported in this test."""
    monkeypatch.syspath_prepend(tmp_path)

    def module(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))

    return module


def documented_example() -> str:
    """The module in the docstring: what is indented there."""
    text = plugin.__doc__ or ""
    begin = text.index("    from tradingbot_agents")
    return text[begin : text.index("\nIn the spec:")]


def settings_of(path: str, **parameters: str) -> PluginSettings:
    return PluginSettings(path=path, parameters=parameters)


class TestTheDocumentedExample:
    @pytest.fixture
    def think(self, write: Write) -> Callable[[View], Wish | NoTrade]:
        write("plugin_rebound", documented_example())
        return plugin_thinker(settings_of("plugin_rebound:Rebound", indicator="rsi-14", confidence="0.6"))

    @pytest.mark.parametrize(
        ("before", "now", "side"),
        [(0.3, 0.0, Side.BUY), (-0.3, 0.0, Side.SELL), (0.3, 0.3, None), (0.0, 0.0, None), (0.0, 0.3, None)],
    )
    def test_decides(
        self, think: Callable[[View], Wish | NoTrade], before: float, now: float, side: Side | None
    ) -> None:
        signals = a_signal(0, **{"rsi-14": before}), a_signal(1, **{"rsi-14": now})
        expected = side and Wish(side=side, confidence=0.6, reason="rebound", indicators=("rsi-14",))
        assert think(View(signals, {})) == (expected or NoTrade.NO_WISH)

    def test_works_without_its_indicator(self, think: Callable[[View], Wish | NoTrade]) -> None:
        assert think(View((a_signal(0), a_signal(1)), {})) is NoTrade.NO_WISH


class TestLoading:
    @pytest.mark.parametrize("path", ["", "module", "module:", ":Class"])
    def test_the_path_must_name_both(self, path: str) -> None:
        with pytest.raises(PluginError, match=r"strategy\.plugin\.path: .* write module:Class"):
            load(settings_of(path))

    def test_the_module_must_be_there(self) -> None:
        with pytest.raises(PluginError, match="no module 'plugin_nowhere' can be imported: install it"):
            load(settings_of("plugin_nowhere:Mine"))

    def test_what_the_module_itself_misses_is_named(self, write: Write) -> None:
        write("plugin_needy", "import plugin_missing_part")
        with pytest.raises(PluginError, match="no module 'plugin_missing_part'"):
            load(settings_of("plugin_needy:Mine"))

    def test_a_broken_module(self, write: Write) -> None:
        write("plugin_broken", "1 / 0")
        with pytest.raises(PluginError, match="importing plugin_broken failed with ZeroDivisionError"):
            load(settings_of("plugin_broken:Mine"))

    def test_the_class_must_be_there(self, write: Write) -> None:
        write("plugin_other", "class Yours: ...")
        with pytest.raises(PluginError, match="has no class Mine: name one of Yours"):
            load(settings_of("plugin_other:Mine"))

    def test_a_module_without_classes(self, write: Write) -> None:
        write("plugin_empty", "Mine = 3")
        with pytest.raises(PluginError, match="has no class Mine: define it there"):
            load(settings_of("plugin_empty:Mine"))

    def test_a_parameter_is_missing(self, write: Write) -> None:
        write(
            "plugin_picky",
            """
            class Mine:
                def __init__(self, parameters):
                    self.period = int(parameters["period"])

                def decide(self, view):
                    return None
            """,
        )
        with pytest.raises(PluginError, match=r"strategy\.plugin\.parameters: .* needs a parameter 'period': add it"):
            load(settings_of("plugin_picky:Mine"))
        with pytest.raises(PluginError, match=r"refused them with ValueError: .*'ten'"):
            load(settings_of("plugin_picky:Mine", period="ten"))
        assert callable(load(settings_of("plugin_picky:Mine", period="10")).decide)

    def test_the_class_must_take_its_parameters(self, write: Write) -> None:
        write("plugin_bare", "class Mine:\n    def decide(self, view): return None")
        with pytest.raises(PluginError, match="refused them with TypeError"):
            load(settings_of("plugin_bare:Mine"))

    def test_the_class_must_decide(self, write: Write) -> None:
        write("plugin_idle", "class Mine:\n    def __init__(self, parameters): ...")
        with pytest.raises(PluginError, match=r"has no method decide\(view\): add it"):
            load(settings_of("plugin_idle:Mine"))

    def test_a_decision_waits_for_nothing(self, write: Write) -> None:
        write(
            "plugin_waiting",
            "class Mine:\n    def __init__(self, parameters): ...\n    async def decide(self, view): ...",
        )
        with pytest.raises(PluginError, match="decide is async: make it a plain function"):
            load(settings_of("plugin_waiting:Mine"))


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("'buy'", "decide returned 'buy': return a Wish or None"),
        ("Wish(side='buy', confidence=0.6, reason='', indicators=())", "side is 'buy': use Side.BUY"),
        ("Wish(side=Side.BUY, confidence=1.1, reason='', indicators=())", "confidence is 1.1: give a number in 0..1"),
        ("Wish(side=Side.BUY, confidence=float('nan'), reason='', indicators=())", "confidence is nan"),
        ("Wish(side=Side.BUY, confidence='0.6', reason='', indicators=())", "confidence is '0.6'"),
        ("Wish(side=Side.BUY, confidence=0.6, reason='', indicators='rsi')", "indicators are 'rsi': give a tuple"),
    ],
)
def test_what_is_no_wish_is_refused_with_its_candle(write: Write, expression: str, problem: str) -> None:
    name = "plugin_wrong_" + "".join(one for one in expression if one.isalnum())
    write(
        name,
        f"""
        from tradingbot_agents.domain.values import Side
        from tradingbot_agents.strategy import Wish

        class Mine:
            def __init__(self, parameters): ...

            def decide(self, view):
                return {expression}
        """,
    )
    think = plugin_thinker(settings_of(f"{name}:Mine"))
    signal = a_signal(7)
    with pytest.raises(PluginError) as caught:
        think(View((signal,), {}))
    assert problem in str(caught.value)
    assert signal.candle_id in str(caught.value)
