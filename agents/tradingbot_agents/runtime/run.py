"""``tradingbot run``: from a spec file to a report, with everything in between started and stopped in order.

Read ``run`` from top to bottom: each step either succeeds or ends with one clear error, and nothing is written
before the spec and the candles are known to be good.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from tradingbot_agents.bus.embedded import EmbeddedBus
from tradingbot_agents.bus.port import DeadLetter
from tradingbot_agents.clock import VirtualClock, VirtualTimers
from tradingbot_agents.domain.events import CandleGap, MessageDeadLettered, RunEnded, RunStarted
from tradingbot_agents.exchange.candle_files import CandleFileInvalid
from tradingbot_agents.exchange.candle_source import CandleSource, find_candles
from tradingbot_agents.exchange.simulated import SimulatedExchange
from tradingbot_agents.exchange.state import ExchangeStateError, StateStore
from tradingbot_agents.ledger.datadir import DataDir, read_identity
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.migrate import migrate
from tradingbot_agents.ledger.port import Ledger
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.marketdata.memory import MemoryCandleStore
from tradingbot_agents.runtime import report as reporting
from tradingbot_agents.runtime.building import Kit, build
from tradingbot_agents.runtime.control import StateControl
from tradingbot_agents.runtime.driver import Ending, ReplayDriver, wait_until_set
from tradingbot_agents.runtime.event_rows import EventRows
from tradingbot_agents.runtime.identity import account_key, default_data_dir, identity_of
from tradingbot_agents.runtime.inspection import Inspection
from tradingbot_agents.runtime.stopping import Stop, asked_by_signals
from tradingbot_agents.runtime.supervisor import START_ORDER, Agent, Supervisor
from tradingbot_agents.runtime.view import Dashboard, LiveView
from tradingbot_agents.runtime.wiring import (
    beside,
    bus_queues,
    check_runnable,
    opening,
    restarts,
    simulated_rules,
    simulated_settings,
)
from tradingbot_agents.telemetry import FanOut, LogSink, Sink, configure_logging
from tradingbot_api import TradingBot, load_file, revision

DEFAULT_SEED = 1

GARBAGE_THRESHOLD = 50_000
"""New containers between two looks for reference cycles. Messages and candles have none and are many: at Python's own
700, a third of a replay's time went into looking. Measured: `benchmarks/replay.py`."""

EXCHANGE_FOLDER = "exchange"

OK = 0
INVARIANT_VIOLATED = 6
INTERRUPTED = 130


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    spec: Path
    candles: Path | None
    speed: Decimal | None
    seed: int | None
    data_dir: Path | None
    until: datetime | None
    output: Literal["text", "json"] | None
    report: Path | None


async def run(options: RunOptions) -> int:
    """Run the bot of a spec until its candles end or it is stopped; returns the exit code."""
    bot = load_file(options.spec)
    check_runnable(bot)
    source = _candles(bot, options)
    rules = simulated_rules(bot, options.spec)
    data_dir = options.data_dir or default_data_dir(bot)
    seed = _seed(options.seed, data_dir)
    if not StateStore.exists(data_dir / EXCHANGE_FOLDER):
        source.check()
    output = options.output or ("text" if sys.stdout.isatty() else "json")
    live_view = output == "text" and sys.stdout.isatty()
    stop = Stop()

    async with AsyncExitStack() as stack:
        stack.enter_context(asked_by_signals(stop))
        stack.enter_context(
            DataDir.open(data_dir, now=datetime.now(UTC), identity=identity_of(bot, seed, source.fingerprint))
        )
        server = EmbeddedPostgres(data_dir)
        dsn = await server.start()
        stack.push_async_callback(server.stop)
        await migrate(dsn)
        ledger = await PostgresLedger.connect(dsn, account_key(bot), bot.metadata.name, recover=server.ensure_running)
        stack.push_async_callback(ledger.close)

        clock = VirtualClock(source.start_time)
        exchange = SimulatedExchange.open(
            data_dir / EXCHANGE_FOLDER,
            source=source,
            rules=rules,
            clock=clock,
            seed=seed,
            settings=simulated_settings(bot),
        )
        stack.callback(exchange.close)
        clock.advance_to(exchange.place)
        inspection = Inspection(bot=bot, seed=seed, start=source.start_time, exchange=exchange, ledger=ledger)
        session = Session(
            bot=bot,
            options=options,
            source=source,
            exchange=exchange,
            ledger=ledger,
            clock=clock,
            inspection=inspection,
        )
        await session.open_account()

        ending = Ending.FINISHED
        if not exchange.finished:
            ending = await session.trade(server, stop, live_view=live_view, log_output=output)
            if ending is Ending.FINISHED:
                exchange.finish()
        report = await inspection.report()
        left = await inspection.left() if ending is Ending.STOPPED else None

    _print_report(report, options, ending, left)
    if report.invariants.violated:
        return INVARIANT_VIOLATED
    return INTERRUPTED if ending is Ending.STOPPED and stop.by is signal.SIGINT else OK


class Session:
    """One run over opened parts."""

    def __init__(
        self,
        *,
        bot: TradingBot,
        options: RunOptions,
        source: CandleSource,
        exchange: SimulatedExchange,
        ledger: PostgresLedger,
        clock: VirtualClock,
        inspection: Inspection,
    ) -> None:
        self._bot = bot
        self._options = options
        self._source = source
        self._exchange = exchange
        self._ledger = ledger
        self._clock = clock
        self._inspection = inspection

    async def open_account(self) -> None:
        """Write the opening snapshot, the first time."""
        holdings = {asset: balance.total for asset, balance in (await self._exchange.balances()).items()}
        prices = {symbol: self._exchange.opening_price(symbol) for symbol in self._bot.spec.symbols}
        rules = await self._exchange.market_rules(self._bot.spec.symbols)
        balances, adopted = opening(self._bot, holdings, prices, rules)
        await self._ledger.open_account(
            balances, adopted, self._source.start_time, quote=self._bot.spec.account.quote_currency
        )

    async def trade(
        self,
        server: EmbeddedPostgres,
        stop: Stop,
        *,
        live_view: bool,
        log_output: Literal["text", "json"],
    ) -> Ending:
        spec = self._bot.spec
        dashboard = Dashboard()
        rows = EventRows()
        sinks: list[Sink] = [dashboard, rows]
        if not live_view:
            configure_logging(log_output, spec.runtime.log_level)
            sinks.append(LogSink(self._bot.metadata.name, on_lost=stop.event.set))
        sink = FanOut(sinks)
        timers = VirtualTimers(self._clock)
        bus = EmbeddedBus(self._clock, bus_queues(self._bot), on_dead_letter=_dead_letters_to(sink, self._clock))
        control = StateControl(self._bot, self._options.spec, self._ledger, self._clock, sink)
        await control.refresh()

        async def restore() -> None:
            await server.ensure_running()

        supervisor = Supervisor(
            self._factories(timers=timers, bus=bus, sink=sink, control=control),
            bus=bus,
            timers=timers,
            clock=self._clock,
            sink=sink,
            backoff=restarts(self._bot),
            restore=restore,
            # The simulated exchange answers nothing more.
            fatal=(ExchangeStateError, CandleFileInvalid),
            # A stop that is asked for meanwhile does not wait for the end of a pause.
            sleep=lambda seconds: wait_until_set(stop.event, seconds),
        )
        began, played_before = time.monotonic(), self._tell_start(sink, control)
        self._tell_gaps(sink)
        with contextlib.ExitStack() as stack:
            view = stack.enter_context(LiveView(dashboard)) if live_view else None
            housekeeping = _Housekeeping(
                inspection=self._inspection,
                exchange=self._exchange,
                ledger=self._ledger,
                clock=self._clock,
                control=control,
                rows=rows,
                view=view,
                spec_interval=spec.runtime.spec_interval.total_seconds(),
            )
            driver = ReplayDriver(
                clock=self._clock,
                timers=timers,
                bus=bus,
                supervisor=supervisor,
                end=self._exchange.end_time,
                until=self._options.until,
                next_close=self._exchange.next_close,
                speed=self._speed(),
                housekeeping=housekeeping,
                stop=stop.event,
            )
            await supervisor.start()
            # What is there by now stays until the end: do not look at it again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GARBAGE_THRESHOLD)
            try:
                ending = await driver.run()
            except BaseException as error:
                # What fails now fails because of it, and must not hide it.
                for tidy in (supervisor.stop, lambda: rows.write(self._ledger)):
                    try:
                        await tidy()
                    except Exception as another:
                        error.add_note(f"and then: {type(another).__name__}: {another}")
                raise
            await supervisor.stop()
            self._tell_end(sink, ending, self._exchange.progress[0] - played_before, time.monotonic() - began)
            await rows.write(self._ledger)
            if view is not None:
                view.update(await self._inspection.snapshot(control, self._clock.now(), housekeeping.rate))
        return ending

    def _factories(
        self, *, timers: VirtualTimers, bus: EmbeddedBus, sink: Sink, control: StateControl
    ) -> Mapping[str, Callable[[], Agent]]:
        kit = Kit(
            bot=self._bot,
            clock=self._clock,
            timers=timers,
            bus=bus,
            sink=sink,
            state=control,
            store=MemoryCandleStore(capacity=self._bot.spec.history),
            ledger=self._ledger,
            rules=self._exchange.rules,
            feed=self._exchange,
            venue=self._exchange,
        )
        return {name: partial(build, name, kit, live=False) for name in START_ORDER}

    def _speed(self) -> float | None:
        replay = self._bot.spec.exchange.replay
        assert replay is not None
        speed = self._options.speed if self._options.speed is not None else replay.speed
        return float(speed) if speed.is_finite() else None

    def _tell_start(self, sink: Sink, control: StateControl) -> int:
        """Returns how many candles earlier runs have played."""
        spec = self._bot.spec
        played, in_all = self._exchange.progress
        sink.emit(
            RunStarted(
                at=self._clock.now(),
                agent="supervisor",
                mode=spec.mode,
                exchange=spec.exchange.name,
                account=spec.account.name,
                symbols=spec.symbols,
                state=control().value,
                candles_left=in_all - played,
                revision=revision(self._bot),
            )
        )
        return played

    def _tell_end(self, sink: Sink, ending: Ending, candles: int, seconds: float) -> None:
        sink.emit(
            RunEnded(
                at=self._clock.now(),
                agent="supervisor",
                ending=ending.value,
                candles=candles,
                seconds=round(seconds, 3),
                candles_per_second=round(candles / seconds, 1),
            )
        )

    def _tell_gaps(self, sink: Sink) -> None:
        """What the candle files lack is known before the run; data collection tells it again as it comes."""
        if self._exchange.place > self._source.start_time:
            return
        for found in self._exchange.reports:
            for gap in found.gaps:
                sink.emit(
                    CandleGap(
                        at=self._clock.now(),
                        agent="supervisor",
                        symbol=found.symbol,
                        after=gap.after,
                        before=gap.before,
                        missing=gap.missing,
                    )
                )


class _Housekeeping:
    """What happens between two steps of the replay, each at its own interval of real time."""

    VIEW_INTERVAL = 0.2

    def __init__(
        self,
        *,
        inspection: Inspection,
        exchange: SimulatedExchange,
        ledger: Ledger,
        clock: VirtualClock,
        control: StateControl,
        rows: EventRows,
        view: LiveView | None,
        spec_interval: float,
    ) -> None:
        self._inspection = inspection
        self._exchange = exchange
        self._ledger = ledger
        self._clock = clock
        self._control = control
        self._rows = rows
        self._view = view
        self._spec_interval = spec_interval
        self._looked = self._drawn = time.monotonic()
        self._counted = (time.monotonic(), exchange.progress[0])
        self.rate = 0.0

    async def __call__(self) -> None:
        now = time.monotonic()
        await self._rows.write(self._ledger)
        if now - self._looked >= self._spec_interval:
            self._looked = now
            await self._control.refresh()
        if self._view is not None and now - self._drawn >= self.VIEW_INTERVAL:
            self._drawn = now
            self._count(now)
            self._view.update(await self._inspection.snapshot(self._control, self._clock.now(), self.rate))

    def _count(self, now: float) -> None:
        before, played_before = self._counted
        played = self._exchange.progress[0]
        if now - before >= 1:
            self.rate = (played - played_before) / (now - before)
            self._counted = (now, played)


def _candles(bot: TradingBot, options: RunOptions) -> CandleSource:
    replay = bot.spec.exchange.replay
    assert replay is not None, "a valid spec of the simulated exchange has a replay"
    return find_candles(
        options.candles or beside(options.spec, replay.source),
        bot.spec.symbols,
        bot.spec.timeframe,
        opens_from=replay.start_time,
        opens_before=replay.end_time,
    )


def _seed(given: int | None, data_dir: Path) -> int:
    if given is not None:
        return given
    identity = read_identity(data_dir) if data_dir.is_dir() else None
    return int(identity["seed"]) if identity and "seed" in identity else DEFAULT_SEED


def _dead_letters_to(sink: Sink, clock: VirtualClock) -> Callable[[DeadLetter], None]:
    def tell(letter: DeadLetter) -> None:
        sink.emit(
            MessageDeadLettered(
                at=clock.now(),
                agent="bus",
                correlation_id=letter.message.correlation_id,
                queue=letter.queue,
                message_id=letter.message.id,
                why=letter.reason,
            )
        )

    return tell


def _print_report(report: reporting.Report, options: RunOptions, ending: Ending, left: str | None) -> None:
    """``left``: what a stopped run leaves behind, in words."""
    if options.report is not None:
        options.report.write_text(reporting.to_json(report) + "\n")
    if options.output == "json":
        print(
            msgspec.json.encode(
                {"event": "report", "ending": ending.value, "report": reporting.as_data(report)}
            ).decode()
        )
        return
    print(reporting.to_text(report))
    if left is not None:
        print(f"\n{left}\nStopped; what was in flight is finished. The same command goes on from here.")
