from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from support.analysis import analysis_settings, random_candles
from support.away_store import AwayStore
from support.messages import a_candle_message
from support.queues import BOT_QUEUES
from tradingbot_agents.bus import DependencyUnavailable, EmbeddedBus
from tradingbot_agents.clock import VirtualClock, VirtualTimers
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.messages import Message, RecentSignals, RecentSignalsRequest, SignalRaised
from tradingbot_agents.marketdata import CandleStoreRefused, CandleStoreUnavailable, MemoryCandleStore
from tradingbot_agents.technical_analysis.agent import TechnicalAnalysisAgent
from tradingbot_agents.technical_analysis.indicators import bind, read_all
from tradingbot_agents.technical_analysis.settings import TechnicalAnalysisSettings
from tradingbot_agents.technical_analysis.window import RollingWindow
from tradingbot_agents.telemetry import MemorySink

WINDOW = 60


class Room:
    """The agent with a real bus and store; ``signals`` is what the strategy would get."""

    def __init__(self, settings: TechnicalAnalysisSettings | None = None, **parts: Any) -> None:
        self.settings = settings or analysis_settings(WINDOW)
        self.clock: VirtualClock = parts.get("clock") or VirtualClock(random_candles(1)[0].open_time)
        self.bus: EmbeddedBus = parts.get("bus") or EmbeddedBus(self.clock, BOT_QUEUES)
        self.store: MemoryCandleStore = parts.get("store") or MemoryCandleStore(1000)
        self.sink = MemorySink()
        self.signals: list[SignalRaised] = []
        self.agent = self.new_agent()

    def new_agent(self) -> TechnicalAnalysisAgent:
        return TechnicalAnalysisAgent(
            bot="bot",
            settings=self.settings,
            clock=self.clock,
            timers=VirtualTimers(self.clock),
            bus=self.bus,
            sink=self.sink,
            store=self.store,
        )

    async def start(self) -> Room:
        async def collect(signal: SignalRaised) -> None:
            self.signals.append(signal)

        await self.bus.consume("strategy.signals", collect)
        await self.agent.start()
        return self

    async def feed(self, candles: Sequence[Candle], backfill: bool = False) -> None:
        """As data collection does: to the store first, then on the bus, at the close."""
        for candle in candles:
            await self.store.write([candle])
            await self.publish(candle, backfill)

    async def publish(self, candle: Candle, backfill: bool = False) -> None:
        self.clock.advance_to(candle.close_time)
        await self.bus.publish(a_candle_message(candle, backfill))
        while await self.bus.step():
            pass


CANDLES = random_candles(120)


async def test_signals_begin_with_a_full_window_and_say_where_they_come_from() -> None:
    room = await Room().start()
    await room.feed(CANDLES[: WINDOW - 1])
    assert room.signals == []
    await room.feed(CANDLES[WINDOW - 1 : WINDOW])
    (signal,) = room.signals
    candle = CANDLES[WINDOW - 1]
    assert signal.id == f"signal.{candle.id}"
    assert signal.correlation_id == signal.causation_id == signal.candle_id == candle.id
    assert (signal.bot, signal.producer, signal.at) == ("bot", "technical-analysis", candle.close_time)
    assert (signal.symbol, signal.timeframe, signal.close) == (candle.symbol, "5m", candle.close)
    assert signal.candle_closed_at == candle.close_time
    assert signal.backfill is False
    assert [reading.indicator for reading in signal.readings] == [one.id for one in room.settings.indicators]
    assert signal.atr is not None
    assert float(signal.atr) == pytest.approx(
        next(reading.value for reading in signal.readings if reading.indicator == "atr"), rel=1e-9
    )


async def test_a_signal_has_the_readings_of_exactly_the_last_candles() -> None:
    room = await Room().start()
    await room.feed(CANDLES)
    window = RollingWindow(WINDOW, 14)
    for candle in CANDLES[-WINDOW:]:
        window.append(candle)
    assert room.signals[-1].readings == read_all(bind(room.settings.indicators, WINDOW), window.bars())


async def test_history_is_signalled_as_history() -> None:
    room = await Room().start()
    await room.feed(CANDLES[:70], backfill=True)
    await room.feed(CANDLES[70:72])
    assert [signal.backfill for signal in room.signals] == [True] * 11 + [False] * 2


async def test_symbols_have_windows_of_their_own() -> None:
    room, alone = await Room().start(), await Room().start()
    others = random_candles(80, seed=2, symbol="ETH/USDT")
    for mine, other in zip(CANDLES[:80], others, strict=True):
        await room.feed([mine, other])
        await alone.feed([mine])
    assert [signal for signal in room.signals if signal.symbol == "BTC/USDT"] == alone.signals


async def test_a_candle_that_was_seen_changes_nothing() -> None:
    room, plain = await Room().start(), await Room().start()
    for candle in CANDLES[:70]:
        await plain.feed([candle])
        await room.feed([candle])
        await room.publish(candle)
    await room.publish(CANDLES[20])
    assert room.signals == plain.signals


async def test_missing_candles_are_read_from_the_store_before_the_next_is_signalled() -> None:
    room, plain = await Room().start(), await Room().start()
    await plain.feed(CANDLES[:90])
    await room.feed(CANDLES[:80])
    await room.store.write(CANDLES[80:89])
    await room.feed(CANDLES[89:90])
    assert room.signals[-1].readings == plain.signals[-1].readings
    assert room.signals[-1].backfill is False
    # The last four (``warmup_signals``) of the nine are signalled too, as history, so that the memory has no hole.
    assert [(signal.candle_id, signal.backfill) for signal in room.signals[-5:-1]] == [
        (candle.id, True) for candle in CANDLES[85:89]
    ]
    assert [signal.readings for signal in room.signals[-5:]] == [signal.readings for signal in plain.signals[-5:]]
    assert len(room.signals) == (80 - WINDOW + 1) + 5
    assert room.sink.events == []


async def test_a_gap_that_the_store_has_too_is_passed_over_and_left_to_data_collection_to_tell() -> None:
    room = await Room().start()
    await room.feed(CANDLES[:80])
    await room.store.write(CANDLES[82:84])
    await room.feed(CANDLES[84:85])
    assert room.sink.events == []
    assert room.signals[-1].candle_id == CANDLES[84].id
    # From here on it is as after a restart: the last candles that there are.
    window = RollingWindow(WINDOW, 14)
    for candle in [*CANDLES[:80], *CANDLES[82:85]][-WINDOW:]:
        window.append(candle)
    assert room.signals[-1].readings == read_all(bind(room.settings.indicators, WINDOW), window.bars())


async def test_a_silence_longer_than_the_window_leaves_nothing_of_what_was_before() -> None:
    room = await Room(analysis_settings(40)).start()
    plain = await Room(analysis_settings(40)).start()
    await plain.feed(CANDLES)
    await room.feed(CANDLES[:45])
    await room.store.write(CANDLES[45:119])
    await room.feed(CANDLES[119:])
    assert [signal.readings for signal in room.signals[-5:]] == [signal.readings for signal in plain.signals[-5:]]


async def test_a_new_instance_goes_on_where_the_old_one_ended() -> None:
    room, plain = await Room().start(), await Room().start()
    await plain.feed(CANDLES)
    await room.feed(CANDLES[:100])
    await room.agent.stop()
    room.signals.clear()
    room.agent = room.new_agent()
    await room.start()
    await room.feed(CANDLES[100:])
    fresh = [signal for signal in room.signals if not signal.backfill]
    assert fresh == plain.signals[-20:]


async def test_a_restart_with_only_the_history_of_the_exchange_raises_the_same_signals() -> None:
    plain, restarted = await Room().start(), await Room().start()
    await plain.feed(CANDLES)
    await restarted.feed(CANDLES[119 - WINDOW - 3 : 119], backfill=True)
    await restarted.feed(CANDLES[119:])
    assert [signal.readings for signal in restarted.signals] == [signal.readings for signal in plain.signals[-5:]]
    assert restarted.signals[-1] == plain.signals[-1]


class FailsOnce(EmbeddedBus):
    """Refuses the next signal, as a broker that has gone away does."""

    fail = False

    async def publish(self, message: Message) -> None:
        if self.fail and isinstance(message, SignalRaised):
            self.fail = False
            raise DependencyUnavailable("the broker is away")
        await super().publish(message)


async def test_a_candle_whose_signal_could_not_be_sent_is_signalled_when_it_comes_again() -> None:
    clock = VirtualClock(CANDLES[0].open_time)
    bus = FailsOnce(clock, BOT_QUEUES)
    room, plain = await Room(clock=clock, bus=bus).start(), await Room().start()
    await plain.feed(CANDLES[:90])
    await room.feed(CANDLES[:89])
    bus.fail = True
    await room.feed(CANDLES[89:90])
    assert room.signals[-1].candle_id == CANDLES[88].id
    bus.resume()
    while await bus.step():
        pass
    assert room.signals[-1] == plain.signals[-1]


async def test_a_candle_of_another_timeframe_is_set_aside() -> None:
    room = await Room().start()
    other = Candle("BTC/USDT", "1h", *(getattr(CANDLES[0], name) for name in Candle.__struct_fields__[2:]))
    await room.publish(other)
    (letter,) = room.bus.dead_letters()
    assert "is not of timeframe 5m" in letter.reason


def test_a_window_too_short_for_the_range_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="raise the window to 15"):
        Room(analysis_settings(10, indicators=()))


async def test_a_stopped_agent_takes_nothing_more() -> None:
    room = await Room().start()
    await room.feed(CANDLES[:WINDOW])
    await room.agent.stop()
    await room.feed(CANDLES[WINDOW : WINDOW + 1])
    assert len(room.signals) == 1
    assert room.bus.depths()["technical-analysis.candles"] == 1


async def test_it_tells_what_it_said_last() -> None:
    room = await Room().start()
    candles = random_candles(WINDOW + 10)
    await room.feed(candles)
    request = RecentSignalsRequest(
        id="r", correlation_id="r", causation_id="r", bot="bot", producer="strategy", at=room.clock.now()
    )
    answer = await room.bus.request(request, timedelta(seconds=2))
    assert isinstance(answer, RecentSignals)
    assert list(answer.signals) == room.signals[-room.settings.warmup_signals :]
    assert len(answer.signals) == room.settings.warmup_signals


@pytest.mark.parametrize("trouble", [CandleStoreUnavailable, CandleStoreRefused])
async def test_while_the_store_is_away_or_refuses_the_candle_waits(trouble: type[Exception]) -> None:
    store = AwayStore(1000)
    store.trouble = trouble
    room, plain = await Room(store=store).start(), await Room().start()
    await plain.feed(CANDLES[:82])
    await room.feed(CANDLES[:80])
    store.away = True
    # One was dropped from the queue: the next needs the store.
    await store.write([CANDLES[80]])
    said = len(room.signals)
    await room.feed(CANDLES[81:82])
    assert len(room.signals) == said
    assert room.bus.depths()["technical-analysis.candles"] == 1
    assert isinstance(room.bus.held_up_by, DependencyUnavailable)
    store.away = False
    room.bus.resume()
    while await room.bus.step():
        pass
    assert room.signals[-1].readings == plain.signals[-1].readings
    assert room.bus.dead_letters() == ()
