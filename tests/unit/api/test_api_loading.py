"""Reading a spec: every mistake at once, each with its place, its value and what to do."""

import re
from pathlib import Path

import pytest

from support.specs import LIVE, PAPER, bot_of, changed, mistakes_of, spec_text
from tradingbot_api import Mistake, SpecInvalid, defaults, load_file, load_object, load_text, resolved


def only(text: str) -> Mistake:
    mistakes = mistakes_of(text)
    assert len(mistakes) == 1, [str(mistake) for mistake in mistakes]
    return mistakes[0]


def test_a_small_spec_has_every_default() -> None:
    spec = bot_of(PAPER).spec
    assert spec.exchange.poll_interval == defaults.POLL_INTERVAL
    assert spec.risk.stop_loss == defaults.STOP_LOSS
    assert spec.risk.sizing.fraction == defaults.SIZING_FRACTION
    assert spec.exchange.replay is not None
    assert spec.exchange.replay.speed == defaults.REPLAY_SPEED
    assert spec.exchange.simulated is not None
    assert [indicator.name for indicator in spec.strategy.indicators] == list(defaults.INDICATORS)
    assert spec.messaging.managed is not None


def test_defaults_that_depend_on_other_fields() -> None:
    assert str(bot_of(PAPER).spec.account.quote_step) == "0.01"
    in_bitcoin = {"name": "a", "quoteCurrency": "BTC", "paperBalances": {"BTC": "1"}}
    assert str(bot_of(PAPER, account=in_bitcoin, symbols=["ETH/BTC"]).spec.account.quote_step) == "1E-8"
    long = bot_of(
        PAPER,
        strategy={
            "indicators": [{"name": "emaCross", "fast": 50, "slow": 200}],
            "consensus": {"minimumAgreement": 1},
        },
    ).spec
    assert long.strategy.window == 200 + 1 + 700
    assert long.history == long.strategy.window + long.strategy.signal_memory_candles + 1
    assert bot_of(PAPER).spec.history == defaults.HISTORY
    assert bot_of(PAPER, strategy={"plugin": {"path": "a.b:C"}}).spec.strategy.fusion is None
    assert bot_of(LIVE).spec.exchange.simulated is None
    external = {"external": {"urlSecretRef": {"name": "postgres"}}}
    assert bot_of(PAPER, database=external).spec.database.managed is None


def test_indicators_have_readable_ids_and_only_their_own_parameters() -> None:
    names = [
        {"name": "emaCross"},
        {"name": "macd"},
        {"name": "rsi", "period": 21},
        {"name": "bollinger", "stdDev": "2.50"},
        {"name": "adx", "id": "strength"},
    ]
    indicators = bot_of(PAPER, strategy={"indicators": names}).spec.strategy.indicators
    assert [indicator.id for indicator in indicators] == [
        "emaCross-12-26",
        "macd-12-26-9",
        "rsi-21",
        "bollinger-20-2.5",
        "strength",
    ]
    assert (indicators[2].oversold, indicators[2].fast) == (30, None)


TEN = """\
apiVersion: tradingbot.dev/v1alpha1
kind: TradingBot
metadata: {name: My_Bot}
spec:
  mode: papr
  exchange:
    name: simulated
    replay: {source: candles}
    pollIntervall: 30s
  account:
    name: main
    quoteCurrency: USDT
    paperBalances: {USDT: 84.54}
  symbols: [BTC/USDT, btc-usdt]
  timeframe: 5min
  strategy:
    indicators: [{name: rsi, period: 14.5}, {name: emaCross, fast: 30}]
  risk:
    stopLoss: 0.05
    trailingStop: {}
"""

TEN_MESSAGES = """\
ten.yaml: 10 mistakes
  line 3   metadata.name: My_Bot is not a DNS name; use only a-z, 0-9 and hyphens, with a letter or digit first and \
last, such as my-bot
  line 5   spec.mode: papr is not one of paper, testnet, live; did you mean paper?
  line 9   spec.exchange.pollIntervall: is not a known field; did you mean pollInterval?
  line 13  spec.account.paperBalances.USDT: 84.54 is a bare number; write it in quotes: "84.54"
  line 14  spec.symbols[1]: btc-usdt is not written as a symbol; write BTC/USDT
  line 15  spec.timeframe: 5min is not one of 1m, 3m, 5m, 15m, 30m, 1h, 2h, 4h, 6h, 8h, 12h, 1d; did you mean 5m?
  line 17  spec.strategy.indicators[0].period: 14.5 is not a whole number; write plain digits, such as 14
  line 17  spec.strategy.indicators[1].fast: 30 is not below slow (26); write a larger slow or a smaller fast
  line 19  spec.risk.stopLoss: 0.05 is a bare number; write it in quotes: "0.05"
  line 20  spec.risk.trailingStop.distance: is missing; add it: fraction below the highest price at which it stands, \
such as "0.05\""""


def test_ten_mistakes_get_ten_messages() -> None:
    with pytest.raises(SpecInvalid) as caught:
        load_text(TEN, "ten.yaml")
    assert str(caught.value) == TEN_MESSAGES
    assert len(caught.value.mistakes) == 10


def test_a_mistake_has_place_value_and_remedy() -> None:
    text = spec_text(PAPER, risk={"stopLoss": 0.05})
    mistake = only(text)
    assert mistake.path == "spec.risk.stopLoss"
    assert mistake.value == "0.05"
    assert mistake.line == 1 + text.splitlines().index("    stopLoss: 0.05")
    assert str(mistake) == 'spec.risk.stopLoss: 0.05 is a bare number; write it in quotes: "0.05"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty; write a TradingBot"),
        ("# nothing\n", "is empty; write a TradingBot"),
        ("---\n---\n", "is empty; write a TradingBot"),
        ("- a\n- b\n", "a list of 2 is not an object; write its fields below it: apiVersion, kind, metadata, spec"),
        ("just text", "just text is not an object"),
        ("~", "has no value"),
        ("a: 1\n---\nb: 1\n", "line 3  holds 2 documents, separated by ---; keep one TradingBot in a file"),
        ("a:\n\tb: 1\n", "line 2  is not YAML: found character '\\t'"),
        ("a:\n\tb: 1\n", "indent with spaces"),
        ("a: [1,\n", "is not YAML"),
        ("a: b: c\n", 'put text that holds ": " in quotes'),
        ("a: */30 * * * *\n", "put text that begins with * in quotes"),
        ("a: *b\n", "undefined alias 'b'; put text that begins with * in quotes"),
        ("a: @b\n", "put text that begins with this character in quotes"),
        ("a: 'b\n", "check indentation, brackets and quotes"),
        ("a: \x07\n", "line 1  holds a character that no text file has"),
        ("a: &a [*a]\n", "line 1  is nested too deeply or holds too many values"),
        ("[" * 2000, "is nested too deeply"),
        ("a: " + "x" * 1_000_001, "is larger than 1,000,000 bytes"),
    ],
)
def test_text_that_is_no_document_has_one_clear_message(text: str, expected: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        load_text(text)
    assert len(caught.value.mistakes) == 1
    assert expected in str(caught.value)


def test_anchors_that_multiply_are_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "too many values" in only("\n".join(lines)).problem


def test_an_anchor_may_be_used() -> None:
    text = spec_text(PAPER).replace("source: candles", "source: &name main").replace("name: main", "name: *name")
    bot = load_text(text)
    assert bot.spec.account.name == "main"


def test_an_empty_document_at_the_end_is_none() -> None:
    assert load_text("---\n" + spec_text(PAPER) + "---\n") == bot_of(PAPER)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing, folder, latin, bom = (tmp_path / name for name in ("none.yaml", "folder", "latin.yaml", "bom.yaml"))
    folder.mkdir()
    latin.write_bytes(b"a: 1\nb: \xe4\n")
    bom.write_bytes(b"\xef\xbb\xbf" + spec_text(PAPER).encode())
    for path, expected in [
        (missing, f"{missing}: there is no such file; check the path"),
        (folder, f"{folder}: is a folder; name the file in it"),
        (Path(f"{bom}/below"), "cannot be read"),
        (Path("a\0b"), "cannot be read"),
        (latin, "line 2  is not UTF-8; save it as UTF-8"),
    ]:
        with pytest.raises(SpecInvalid) as caught:
            load_file(path)
        assert expected in str(caught.value)
    assert load_file(bom) == load_file(str(bom)) == bot_of(PAPER)


def test_a_key_given_twice_is_refused() -> None:
    text = spec_text(PAPER, risk={"stopLoss": "0.05", "takeProfit": "0.1"})
    mistake = only(text.replace("takeProfit: '0.1'", "stopLoss: '0.06'"))
    assert mistake.path == "spec.risk.stopLoss"
    assert re.match(r"is given twice, in line [0-9]+ too", mistake.problem)


@pytest.mark.parametrize(
    ("field", "written", "expected"),
    [
        ("risk.stopLoss", "0.05", '0.05 is a bare number; write it in quotes: "0.05"'),
        ("risk.stopLoss", "5", "5 is a bare number, and is not a fraction above 0 and below 1"),
        ("risk.stopLoss", "5e-2", '5e-2 is a bare number, and is not written in plain digits; write "0.05"'),
        ("risk.stopLoss", "'5e-2'", '5e-2 is not written in plain digits; write "0.05"'),
        ("risk.stopLoss", "", "has no value; write one, or remove the line"),
        ("risk.stopLoss", "~", "has no value; write one, or remove the line"),
        ("risk.stopLoss", "[1]", "a list of 1 is not a fraction above 0, below 1"),
        ("risk.maxPriceAge", "90", "90 is a bare number, and has no unit; write the unit: 90s"),
        ("risk.maxPriceAge", "1:30", "1:30 is a bare number"),
        ("strategy.window", "'300'", "300 is text; write it without quotes: 300"),
        ("strategy.window", "300.0", "300.0 is not a whole number"),
        ("strategy.window", "3_000", "3_000 is not a whole number"),
        ("strategy.window", "0300", "0300 is not a whole number"),
        ("strategy.window", "5", "5 is too small; write 10 or more"),
        ("strategy.window", "50000", "50000 is too large; write 20000 or less"),
        ("strategy.sellOnSignal", "yes", "yes is neither true nor false; write true or false"),
        ("strategy.sellOnSignal", "on", "on is neither true nor false; write true or false"),
        ("strategy.sellOnSignal", "'true'", "true is text; write it without quotes: true"),
        ("exchange.feed", "on", "on is not one of rest, websocket; write one of them"),
        ("exchange.feed", "REST", "REST is not one of rest, websocket; did you mean rest?"),
        ("exchange.feed", "{a: b}", "{a} is not one of rest, websocket"),
        ("exchange.replay.startTime", "2024-01-01", "2024-01-01 is a bare date, and is a date without a time"),
        ("exchange.replay.speed", "60", '60 is a bare number; write it in quotes: "60"'),
        ("exchange.replay.source", "2024", '2024 is a bare number; write it in quotes: "2024"'),
        ("exchange.replay.source", "1e3", '1e3 is a bare number; write it in quotes: "1e3"'),
        ("exchange.replay.source", "no", 'no is a yes-or-no value; write it in quotes: "no"'),
        ("exchange.replay", "candles", "candles is not an object; write its fields below it: source, speed"),
        ("symbols", "BTC/USDT", "BTC/USDT is not a list; write it as a list: [BTC/USDT]"),
        ("symbols", "[]", "is an empty list; write at least 1"),
        ("account.paperBalances", "84.54", "84.54 is not an object; write names and values"),
        ("account.paperBalances", "{usdt: '1', USDT: '1'}", "usdt is not written as a currency; write USDT"),
        (
            "account.paperBalances",
            "{NO: '1', USDT: '1'}",
            "NO as a key is a yes-or-no value to YAML; write it in quotes",
        ),
        ("agents.risk.nodeSelector", "{disk: on}", 'on is a yes-or-no value; write it in quotes: "on"'),
        ("agents.risk.nodeSelector", "{disk: [a]}", "a list of 1 is not text; write it as one text"),
        ("agents.risk.affinity", "[a]", "a list of 1 is not an object; write it as Kubernetes has it"),
        ("risk.stopLoss", "!!python/name:os.system x", "is a tag that specs do not have; remove it"),
        ("account.paperBalances", "{<<: {USDT: '1'}, USDT: '1'}", "<< is a merge, which specs do not have"),
        ("account.paperBalances", "{? [a] : '1', USDT: '1'}", "has an object or list as a key; keys are text"),
    ],
)
def test_what_yaml_makes_of_a_value(field: str, written: str, expected: str) -> None:
    text = spec_text(PAPER, **{field.replace(".", "__"): "HERE"}).replace("HERE", written)
    assert expected in str(only(text))


@pytest.mark.parametrize(
    ("path", "problem", "remedy"),
    [
        ("exchange.pollintervall", "is not a known field", "did you mean pollInterval?"),
        ("risk.stop_loss", "is not a known field", "did you mean stopLoss?"),
        ("risk.pollInterval", "is not a field of this object", "move it to spec.exchange.pollInterval"),
        ("stopLoss", "is not a field of this object", "move it to spec.risk.stopLoss"),
        ("exchange.replay.zebra", "is not a known field", "remove it; there are source, speed, startTime, endTime"),
    ],
)
def test_unknown_fields_are_refused_with_what_was_meant(path: str, problem: str, remedy: str) -> None:
    mistake = only(spec_text(PAPER, **{path.replace(".", "__"): "1h"}))
    assert mistake.path == f"spec.{path}"
    assert (mistake.problem, mistake.remedy) == (problem, remedy)


def test_a_misspelt_required_field_is_one_mistake() -> None:
    mistake = only(spec_text(PAPER).replace("quoteCurrency", "qouteCurrency"))
    assert mistake.remedy == "did you mean quoteCurrency?"


def test_missing_fields_are_named_with_what_they_are() -> None:
    mistakes = mistakes_of("apiVersion: tradingbot.dev/v1alpha1\nkind: TradingBot\nmetadata: {}\nspec: {}\n")
    assert [str(mistake) for mistake in mistakes] == [
        'metadata.name: is missing; add it: name of the bot, a DNS label of up to 40 characters, such as "majors"',
        "spec.account: is missing; add it: whose balance is used",
        "spec.exchange: is missing; add it: where candles come from and orders go",
        "spec.mode: is missing; add it: one of paper, testnet, live",
        "spec.symbols: is missing; add it: what is traded, as BASE/QUOTE; all quoted in account.quoteCurrency",
    ]


def test_another_version_or_kind_is_told() -> None:
    text = spec_text(PAPER)
    assert only(text.replace("v1alpha1", "v2")).remedy == "write tradingbot.dev/v1alpha1"
    assert only(text.replace("kind: TradingBot", "kind: Deployment")).remedy == "write TradingBot"


def test_what_the_api_server_adds_is_passed_over() -> None:
    body = changed(PAPER, {"risk.stopLoss": "0.04"})
    body["metadata"] |= {
        "uid": "1",
        "resourceVersion": "7",
        "generation": 2,
        "managedFields": [{}],
        "namespace": "default",
    }
    body["status"] = {"conditions": []}
    bot = load_object(body)
    assert str(bot.spec.risk.stop_loss) == "0.04"
    assert bot.metadata.namespace == "default"


def test_mistakes_of_an_object_have_no_lines() -> None:
    body = changed(PAPER, {"risk.stopLoss": 0.05, "strategy.sellOnSignal": True, "data.history": 7, "image": None})
    with pytest.raises(SpecInvalid) as caught:
        load_object(body, "default/paper")
    assert str(caught.value).splitlines() == [
        "default/paper: 2 mistakes",
        "  spec.image: has no value; write one, or remove the line",
        '  spec.risk.stopLoss: 0.05 is a bare number; write it in quotes: "0.05"',
    ]


def test_an_object_holds_only_what_json_has() -> None:
    with pytest.raises(TypeError, match="cannot hold a set"):
        load_object(changed(PAPER, {"symbols": {"BTC/USDT"}}))


def test_affinity_is_passed_on_as_it_is() -> None:
    affinity = {"nodeAffinity": {"weight": 1, "keys": ["a", True, None], "text": "x"}}
    bot = bot_of(PAPER, agents__risk__affinity=affinity)
    assert resolved(bot)["spec"]["agents"]["risk"]["affinity"] == affinity


def test_long_and_odd_values_stay_on_one_line() -> None:
    mistake = only(
        spec_text(PAPER, exchange__endpoint="x" * 500, exchange__name="binance", exchange__replay=None).replace(
            "replay: null", "feed: rest"
        )
    )
    assert len(str(mistake)) < 200
    odd = only(spec_text(PAPER, risk__stopLoss="a\nb"))
    assert str(odd).startswith("spec.risk.stopLoss: 'a\\nb' is not a decimal number")
