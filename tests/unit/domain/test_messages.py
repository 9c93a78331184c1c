"""The contracts: what is said on the bus, what is told in the log, and that both are published as they are."""

from __future__ import annotations

import importlib.util
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from support.analysis import a_signal
from support.messages import a_candle, a_candle_message, a_ticker_request, an_intent
from tradingbot_agents.domain import events
from tradingbot_agents.domain.events import EVENTS, Event, Reason, Severity, TradeRejected
from tradingbot_agents.domain.messages import (
    AnyMessage,
    Direction,
    ExecutionReport,
    Message,
    OrderApproved,
    Reading,
    RecentSignals,
    RecentSignalsRequest,
    SignalRaised,
    TickerReply,
    decode,
    encode,
    json_schema,
)
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import Leg, OrderType, Side
from tradingbot_agents.telemetry import MemorySink

NOW = datetime(2024, 3, 1, 0, 5, 0, 250_000, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]

ENVELOPE: dict[str, Any] = {
    "id": "id-1",
    "correlation_id": "chain-1",
    "causation_id": "cause-1",
    "bot": "bot",
    "producer": "test",
    "at": NOW,
}
MESSAGES: list[Message] = [
    a_candle_message(a_candle(0, close="121556.65"), backfill=True),
    an_intent(1),
    a_ticker_request(),
    RecentSignalsRequest(**ENVELOPE),
    RecentSignals(**ENVELOPE, signals=(a_signal(1, rsi=0.5),)),
    SignalRaised(
        **ENVELOPE,
        symbol="BTC/USDT",
        timeframe="5m",
        candle_id="candle-1",
        candle_closed_at=NOW,
        close=Decimal("121556.65"),
        direction=Direction.UP,
        confidence=0.75,
        readings=(Reading("rsi", Direction.UP, 0.75, 28.5),),
        atr=Decimal("120.5"),
    ),
    OrderApproved(
        **ENVELOPE,
        symbol="BTC/USDT",
        side=Side.BUY,
        leg=Leg.ENTRY,
        client_order_id="tb1",
        amount=Decimal("0.00055"),
        limit_price=Decimal("122164.43"),
        order_type=OrderType.LIMIT,
    ),
    ExecutionReport(
        **ENVELOPE,
        symbol="BTC/USDT",
        side=Side.SELL,
        leg=Leg.STOP,
        client_order_id="tb1",
        state=OrderState.FILLED,
        filled=Decimal("0.00055"),
        average_price=Decimal("115478.82"),
        closed_trade="trade-1",
        profit=Decimal("-3.4"),
    ),
    TickerReply(**ENVELOPE, symbol="BTC/USDT", price=None, priced_at=None, error="maintenance"),
]
by_type = pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "scripts" / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestMessages:
    def test_every_type_is_tried_here(self) -> None:
        assert {type(message) for message in MESSAGES} == set(Message.__subclasses__()) == set(AnyMessage.__args__)

    @by_type
    def test_it_comes_back_as_it_was_sent(self, message: Message) -> None:
        assert decode(encode(message)) == message

    @by_type
    def test_the_line_names_type_version_and_chain(self, message: Message) -> None:
        line = json.loads(encode(message))
        assert line["version"] == 1
        assert {"type", "id", "correlation_id", "causation_id", "bot", "producer", "at"} <= line.keys()

    @by_type
    def test_order_is_kept_by_symbol(self, message: Message) -> None:
        of_all_symbols = isinstance(message, RecentSignalsRequest | RecentSignals)
        assert message.key == ("bot" if of_all_symbols else "BTC/USDT")

    @by_type
    def test_it_can_not_be_changed(self, message: Message) -> None:
        with pytest.raises(AttributeError):
            message.bot = "another"  # type: ignore[misc]

    def test_money_is_text_and_time_is_utc(self) -> None:
        line = json.loads(encode(MESSAGES[0]))
        assert line["candle"]["close"] == "121556.65"
        assert line["candle"]["open_time"] == "2024-03-01T00:00:00Z"

    def test_trailing_zeros_survive(self) -> None:
        intent = msgspec.structs.replace(an_intent(1), confidence=Decimal("0.7500"))
        decoded = decode(encode(intent))
        assert str(decoded.confidence) == "0.7500"  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"type": "trade.wish"}, "trade.wish"),
            ({"side": "short"}, "short"),
            ({"expected_price": "a lot"}, "expected_price"),
            ({"expires_at": "tomorrow"}, "expires_at"),
        ],
    )
    def test_a_poison_message_is_refused(self, change: dict[str, str], says: str) -> None:
        line = {**json.loads(encode(an_intent(1))), **change}
        with pytest.raises(msgspec.ValidationError, match=says):
            decode(json.dumps(line))

    def test_a_message_without_an_id_is_refused(self) -> None:
        line = json.loads(encode(an_intent(1)))
        del line["id"]
        with pytest.raises(msgspec.ValidationError, match="id"):
            decode(json.dumps(line))

    @pytest.mark.parametrize("body", [b"", b"\xff", b'{"type":"\xff"}', b'{"type":' + b"[" * 100_000])
    def test_what_is_not_a_message_at_all_is_refused_alike(self, body: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            decode(body)

    def test_a_base_message_has_no_order(self) -> None:
        with pytest.raises(TypeError, match="no key"):
            _ = Message(**ENVELOPE).key


class TestEvents:
    def an_event(self) -> TradeRejected:
        return TradeRejected(
            at=NOW,
            agent="risk",
            correlation_id="chain-1",
            symbol="ETH/USDT",
            side=Side.BUY,
            reason=Reason.INSUFFICIENT_AVAILABLE_BALANCE,
            detail="67.63 wanted, 16.91 available",
            confidence=Decimal("0.7000"),
        )

    def test_names_are_unique_and_all_are_listed(self) -> None:
        names = [event.name for event in Event.__subclasses__()]
        assert sorted(names) == sorted(EVENTS) == sorted(set(names))

    def test_its_fields_are_plain_json(self) -> None:
        assert json.loads(json.dumps(self.an_event().fields())) == {
            "at": "2024-03-01T00:05:00.250000Z",
            "agent": "risk",
            "correlation_id": "chain-1",
            "symbol": "ETH/USDT",
            "side": "buy",
            "reason": "insufficient_available_balance",
            "detail": "67.63 wanted, 16.91 available",
            "confidence": "0.7000",
        }

    def test_severe_ones_are_kept(self) -> None:
        assert [
            name for name, event in EVENTS.items() if event.severity is Severity.SEVERE and not event.durable
        ] == []

    def test_a_sink_finds_them_by_name(self) -> None:
        sink = MemorySink()
        sink.emit(self.an_event())
        assert sink.named("trade_rejected") == [self.an_event()]
        assert sink.named("trade_approved") == []


class TestSchemas:
    def test_every_message_is_in_it(self) -> None:
        schema = json_schema()
        assert schema["discriminator"]["mapping"].keys() == {message.topic for message in MESSAGES}
        assert {ref["$ref"].rpartition("/")[2] for ref in schema["anyOf"]} <= schema["$defs"].keys()

    def test_it_says_what_a_message_holds(self) -> None:
        intent = json_schema()["$defs"]["TradeIntent"]
        assert intent["properties"]["confidence"] == {"type": "string", "format": "decimal"}
        assert intent["properties"].keys() == {
            "type",
            *(field.name for field in msgspec.structs.fields(an_intent(1))),
        }
        assert "expires_at" in intent["required"]
        assert "atr" not in intent["required"]

    def test_every_event_is_in_it_with_its_name(self) -> None:
        definitions = events.json_schema()["$defs"]
        for name, event in EVENTS.items():
            definition = definitions[event.__name__]
            assert definition["properties"]["event"] == {"const": name}
            assert definition["properties"].keys() == {"event", *event.__struct_fields__}
            assert definition["x-severity"] == event.severity
            assert definition["x-durable"] is event.durable

    def test_the_published_files_are_current(self, generator: ModuleType) -> None:
        stale = generator.outdated(generator.REFERENCE)
        assert stale == [], "run python scripts/generate_reference.py"

    def test_the_generator_notices_what_is_out_of_date(
        self,
        generator: ModuleType,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(generator, "REFERENCE", tmp_path / "reference")
        assert generator.main(["--check"]) == 1
        assert (
            "messages.schema.json is out of date: run python scripts/generate_reference.py" in capsys.readouterr().err
        )
        assert generator.main([]) == 0
        assert generator.main(["--check"]) == 0
        (tmp_path / "reference" / "events.schema.json").write_text("{}")
        assert generator.main(["--check"]) == 1
        assert "messages" not in capsys.readouterr().err
