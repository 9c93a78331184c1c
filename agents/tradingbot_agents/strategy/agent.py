"""The shell: keeps the last signals of each symbol and the indicators' record, and publishes intents.

The record is read at the start and after each trade that closed, so a signal that makes no decision costs no
question to the ledger.
"""

from __future__ import annotations

from collections import deque

from tradingbot_agents.bus import Bus, DependencyUnavailable, RequestTimedOut
from tradingbot_agents.bus.topology import STRATEGY
from tradingbot_agents.clock import Clock, Timers
from tradingbot_agents.domain.messages import ExecutionReport, RecentSignals, RecentSignalsRequest, SignalRaised
from tradingbot_agents.ledger.port import Ledger, LedgerUnavailable
from tradingbot_agents.strategy.decide import Thinker, decide, fusion_thinker, intent
from tradingbot_agents.strategy.plugin import plugin_thinker
from tradingbot_agents.strategy.record import Record
from tradingbot_agents.strategy.settings import PluginSettings, StrategySettings
from tradingbot_agents.strategy.view import View, Wish
from tradingbot_agents.telemetry import Sink


class StrategyAgent:
    """A new instance asks technical analysis what it said last. Where nobody answers, as when all start together, it
    fills its memory from the signals that come, history or not. It decides from the first fresh one on that finds the
    memory full."""

    name = STRATEGY

    def __init__(
        self,
        *,
        bot: str,
        settings: StrategySettings,
        clock: Clock,
        timers: Timers,
        bus: Bus,
        sink: Sink,
        ledger: Ledger,
    ) -> None:
        """``timers`` and ``sink`` are what every agent is given; this one acts on messages only, and what it decides
        is a message. Raises ``PluginError``."""
        self._bot = bot
        self._settings = settings
        self._think = _thinker(settings)
        self._clock = clock
        self._bus = bus
        self._ledger = ledger
        self._record = Record({}, ())
        self._signals: dict[str, deque[SignalRaised]] = {}
        self._decided: dict[str, str] = {}
        """The candle of each symbol's last intent."""

    async def start(self) -> None:
        await self._read_record()
        await self._recall()
        await self._bus.consume("strategy.signals", self._on_signal)
        await self._bus.consume("strategy.reports", self._on_report)

    async def stop(self) -> None:
        await self._bus.detach(self.name)

    async def _recall(self) -> None:
        now = self._clock.now()
        request_id = f"recall.{self._bot}.{now.isoformat()}"
        request = RecentSignalsRequest(
            id=request_id,
            correlation_id=request_id,
            causation_id=request_id,
            bot=self._bot,
            producer=self.name,
            at=now,
        )
        try:
            recent = await self._bus.request(request, self._settings.recall_timeout)
        except RequestTimedOut:
            return
        if isinstance(recent, RecentSignals):
            for signal in recent.signals:
                self._remember(signal)

    def _remember(self, signal: SignalRaised) -> deque[SignalRaised] | None:
        """The symbol's signals with this one as the newest; ``None`` when it is older than what is known."""
        signals = self._signals.get(signal.symbol)
        if signals is None:
            signals = self._signals[signal.symbol] = deque(maxlen=self._settings.memory + 1)
        if not signals or signal.candle_closed_at > signals[-1].candle_closed_at:
            signals.append(signal)
        elif signal.candle_id == signals[-1].candle_id:
            # Once more the newest, after a failure or fresh after history: it is decided on if it was not yet.
            signals[-1] = signal
        else:
            return None
        return signals

    async def _on_signal(self, signal: SignalRaised) -> None:
        signals = self._remember(signal)
        if signals is None or signal.backfill:
            return
        now = self._clock.now()
        view = View(tuple(signals), self._record.as_of(signal.candle_closed_at))
        outcome = decide(view, self._think, self._settings, now, self._decided.get(signal.symbol))
        if isinstance(outcome, Wish):
            await self._bus.publish(
                intent(outcome, signal, self._bot, self.name, self._settings.intent_time_to_live, now)
            )
            self._decided[signal.symbol] = signal.candle_id

    async def _on_report(self, report: ExecutionReport) -> None:
        if report.closed_trade is None:
            return
        try:
            await self._read_record()
        except LedgerUnavailable as error:
            raise DependencyUnavailable(str(error)) from error

    async def _read_record(self) -> None:
        # The trades first: one that closes between the two questions then counts at once, and is not taken off twice.
        recent = await self._ledger.trades(since=self._clock.now() - self._settings.signal_max_age)
        performance = await self._ledger.performance()
        self._record = Record(performance, tuple(recent))


def _thinker(settings: StrategySettings) -> Thinker:
    decider = settings.decider
    if isinstance(decider, PluginSettings):
        return plugin_thinker(decider)
    return fusion_thinker(decider, settings.memory, settings.min_confidence)
