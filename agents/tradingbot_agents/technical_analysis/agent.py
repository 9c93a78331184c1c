"""The shell: keeps a window per symbol, and raises a signal for every candle that has a full one.

A candle can be missing here though it is in the store: dropped from a full queue, or delivered to an instance that
has ended. It is noticed by the time of the next one, and read from the store before that one is signalled. The same
path fills the window of a new instance in the middle of a run.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

from tradingbot_agents.bus import Bus, DependencyUnavailable, Reject
from tradingbot_agents.bus.topology import TECHNICAL_ANALYSIS
from tradingbot_agents.clock import Clock, Timers
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.messages import CandleClosed, RecentSignals, RecentSignalsRequest, SignalRaised
from tradingbot_agents.domain.values import TIMEFRAMES
from tradingbot_agents.marketdata import CandleStore, CandleStoreRefused, CandleStoreUnavailable
from tradingbot_agents.technical_analysis.indicators import bind, read_all
from tradingbot_agents.technical_analysis.settings import TechnicalAnalysisSettings
from tradingbot_agents.technical_analysis.signal import average_true_range, majority
from tradingbot_agents.technical_analysis.window import RollingWindow
from tradingbot_agents.telemetry import Sink


class _Track:
    __slots__ = ("newest", "said", "window")

    def __init__(self, window: RollingWindow, memory: int) -> None:
        self.window = window
        self.said: deque[SignalRaised] = deque(maxlen=memory)
        """The last signals, for a strategy that starts anew."""
        self.newest: datetime | None = None
        """Open time of the newest candle in the window."""

    def append(self, candle: Candle) -> None:
        self.window.append(candle)
        self.newest = candle.open_time


class TechnicalAnalysisAgent:
    """All that it remembers are the windows and what it said last, and the store has the candles of both: nothing is
    recovered at the start.

    It can not know which history (``backfill``) is the last before the first fresh candle, so it signals all of it
    once the window is full; the signals carry the flag on, and nobody trades on them.
    """

    name = TECHNICAL_ANALYSIS

    def __init__(
        self,
        *,
        bot: str,
        settings: TechnicalAnalysisSettings,
        clock: Clock,
        timers: Timers,
        bus: Bus,
        sink: Sink,
        store: CandleStore,
    ) -> None:
        """``timers`` and ``sink`` are what every agent is given; this one acts on candles only, and says signals."""
        self._bot = bot
        self._settings = settings
        self._bar = TIMEFRAMES[settings.timeframe]
        self._indicators = bind(settings.indicators, settings.window)
        self._new_window()  # Refuses one that is too short now, not at the first candle.
        self._clock = clock
        self._bus = bus
        self._store = store
        self._tracks: dict[str, _Track] = {}

    async def start(self) -> None:
        await self._bus.respond(self.name, RecentSignalsRequest.topic, self._answer_recent)
        await self._bus.consume("technical-analysis.candles", self._on_candle)

    async def stop(self) -> None:
        await self._bus.detach(self.name)

    def _new_window(self) -> RollingWindow:
        return RollingWindow(self._settings.window, self._settings.atr_period)

    async def _on_candle(self, message: CandleClosed) -> None:
        candle = message.candle
        if candle.timeframe != self._settings.timeframe:
            raise Reject(
                f"candle {candle.id} is not of timeframe {self._settings.timeframe}:"
                " let data collection and technical analysis run from the same spec"
            )
        track = self._tracks.get(candle.symbol)
        if track is None:
            track = self._tracks[candle.symbol] = _Track(self._new_window(), self._settings.warmup_signals)
        elif track.newest is not None and candle.open_time <= track.newest:
            return
        try:
            if track.newest is None or candle.open_time - track.newest > self._bar:
                await self._catch_up(track, candle)
            track.append(candle)
            if track.window.full:
                await self._raise(track, candle, message.id, message.correlation_id, message.backfill)
        except BaseException as error:
            # The candle comes again, and would be taken for one that is done: begin anew, from the store.
            del self._tracks[candle.symbol]
            # Refused too: the candle is good, and a person mends the token or the bucket.
            if isinstance(error, CandleStoreUnavailable | CandleStoreRefused):
                raise DependencyUnavailable(str(error)) from error
            raise

    async def _catch_up(self, track: _Track, candle: Candle) -> None:
        """Read what lies between the newest candle of the window (or enough to fill it) and this one. The last of
        it is signalled as history, so that the strategy's memory has no hole either."""
        settings = self._settings
        wanted = settings.window + settings.warmup_signals
        between = None if track.newest is None else (candle.open_time - track.newest) // self._bar - 1
        if between is not None:
            wanted = min(wanted, between)
        # The store answers with its newest, which may be newer than this candle.
        behind = max((self._clock.now() - candle.open_time) // self._bar + 1, 1)
        found = await self._store.latest(candle.symbol, settings.timeframe, wanted + behind)
        missed = [one for one in found if one.open_time < candle.open_time][-wanted:]
        if track.newest is not None:
            # What the store has not either was never there: data collection has told that gap.
            missed = [one for one in missed if one.open_time > track.newest]
        for index, one in enumerate(missed):
            track.append(one)
            if track.window.full and len(missed) - index <= settings.warmup_signals:
                await self._raise(track, one, one.id, one.id, backfill=True)

    async def _raise(
        self, track: _Track, candle: Candle, candle_id: str, correlation_id: str, backfill: bool
    ) -> None:
        """``candle_id`` is also the id of the candle's message: making it again takes as long as an indicator."""
        bars = track.window.bars()
        readings = read_all(self._indicators, bars)
        direction, confidence = majority(readings)
        signal = SignalRaised(
            id=f"signal.{candle_id}",
            correlation_id=correlation_id,
            causation_id=candle_id,
            bot=self._bot,
            producer=self.name,
            at=self._clock.now(),
            symbol=candle.symbol,
            timeframe=candle.timeframe,
            candle_id=candle_id,
            candle_closed_at=candle.open_time + self._bar,
            close=candle.close,
            direction=direction,
            confidence=confidence,
            readings=readings,
            atr=average_true_range(bars.unit),
            backfill=backfill,
        )
        await self._bus.publish(signal)
        track.said.append(signal)

    async def _answer_recent(self, request: RecentSignalsRequest) -> RecentSignals:
        return RecentSignals(
            id="recent." + request.id,
            correlation_id=request.correlation_id,
            causation_id=request.id,
            bot=self._bot,
            producer=self.name,
            at=self._clock.now(),
            signals=tuple(signal for track in self._tracks.values() for signal in track.said),
        )
