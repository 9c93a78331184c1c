"""The world around the agents, in one thread and without an event loop: it runs them, and kills, freezes and
overtakes them at any await.

Nothing here ever waits: under virtual time a handler runs to its end when it is sent one ``None``.

- A *killed* process is dead at once, as by ``kill -9``: whatever its ``finally`` blocks still call raises again
  without an effect, its message was not acknowledged, and its timers are gone.
- A *frozen* process stops in the middle of a call. It loses its connection (its message comes to another one), a new
  process starts and fences it off, and then it goes on where it was, with its timers.

A step where nothing goes wrong costs a counter: faults are drawn ahead, as the number of calls until the next one.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

from support.simulation.account import SummedAccount, SummedLedger
from support.simulation.exchange import SimulatedVenue
from support.simulation.faults import CRASHES, ENDED, NO_ORDER, OLD_ONES, Fault
from support.simulation.process import Abandoned, Killed, Process
from tradingbot_agents.bus import DependencyUnavailable, HandlerFailed
from tradingbot_agents.bus.embedded import EmbeddedBus
from tradingbot_agents.bus.port import QueueSpec
from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.clock import VirtualClock, VirtualTimers
from tradingbot_agents.clock.virtual import TimerFailed
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import Event
from tradingbot_agents.domain.messages import OrderApproved, TradeIntent
from tradingbot_agents.domain.orders import IllegalTransition, OrderState
from tradingbot_agents.domain.values import BotState, Leg
from tradingbot_agents.exchange.port import ExchangeError, OrderRequest
from tradingbot_agents.ledger.port import Epoch, LedgerError, LedgerUnavailable, Role
from tradingbot_agents.marketdata import CandleStoreUnavailable
from tradingbot_agents.marketdata.memory import MemoryCandleStore
from tradingbot_agents.runtime.supervisor import START_ORDER

WORLD = "world"
"""Owner of the timers that are no agent's."""

NEVER = 1 << 60

MOST_AT_ONCE = 1000
"""Timers that fire while time stands still, after which somebody is said to spin."""

EXPECTED = (LedgerUnavailable, DependencyUnavailable, CandleStoreUnavailable, ExchangeError)
"""What an agent may end with when what it depends on is away. It is started again; anything else is a bug."""

DOWN = (0.0, 0.2, 0.2, 1.0, 1.0, 5.0, 5.0, 75.0)
"""Seconds until a new process is there after a kill. The longest: its machine is gone, it moves to another one."""

BY_ITSELF = (
    Fault.CLOCK_FORWARD,
    Fault.CLOCK_SKEWED,
    Fault.STORE_OUTAGE,
    Fault.LEDGER_OUTAGE,
    *OLD_ONES.values(),
    *CRASHES.values(),
)
"""Faults that need no call to happen in."""
AGENT_OF = {fault: name for faults_of in (CRASHES, OLD_ONES) for name, fault in faults_of.items()}

USUAL_CHANCE = 0.005
CHANCES = {"approved": 0.45, "submitting": 0.1, "cancelling": 0.3, "unresolved": 0.016}
"""That one of them happens at a look, by the state of the newest unfinished order."""

CALLS = {
    "sends": 12,
    "looks": 90,
    "tells": 22,
    "market": 400,
    "writes": 60,
    "reads": 450,
    "talk": 25,
    "data": 250,
    "stores": 250,
}
"""Calls between two faults, on average, by what is called: orders and cancels; look-ups; lists of orders, trades and
balances; the exchange's market data; the ledger's changes and questions; intents, orders and reports; candles and
signals; the candle store. What is called seldom and matters much fails often."""

OUTDATED = (LedgerError, IllegalTransition)
"""What a process may end with, besides, when a newer one has fenced it off: it wakes up in books that went on. That
it changed nothing is checked at each of its calls."""

MONEY = frozenset({"reserve", "reserve_many", "book", "submit_leg", "acknowledge", "mark_dust", "settle_outside"})
"""Calls after which holds and totals may have changed."""


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("something waited where nothing may wait")


class Countdown:
    """Calls of one kind until the next fault."""

    __slots__ = ("dice", "left", "mean")

    def __init__(self, mean: float, dice: Random) -> None:
        self.mean = mean
        self.dice = dice
        self.left = self.draw()

    def draw(self) -> int:
        return 1 + int(self.dice.expovariate(1.0) * self.mean)


class World:
    """``factories`` make an agent from its process. ``impossible`` faults are never drawn; ``storm`` is how much more
    often than usual something goes wrong. ``entries_wait`` for the first comparison with the exchange: one that was
    announced meanwhile is taken up by a sweep."""

    def __init__(
        self,
        *,
        bot: str,
        clock: VirtualClock,
        queues: Sequence[QueueSpec],
        account: SummedAccount,
        dice: Random,
        storm: float,
        impossible: frozenset[Fault],
        entries_wait: bool,
    ) -> None:
        self.bot = bot
        self.clock = clock
        self.timers = VirtualTimers(clock)
        self.bus = EmbeddedBus(clock, queues)
        self.account = account
        self.ledger = SummedLedger(account, bot)
        self.store = MemoryCandleStore(capacity=200)
        self.venue: SimulatedVenue
        self.factories: dict[str, Callable[[Process], Any]] = {}
        self.checks: Callable[[str], None] = lambda call: None
        self.dice = dice
        self.impossible = impossible
        self.entries_wait = entries_wait
        self.skews = dict.fromkeys(AGENTS, timedelta(0))
        self.state = BotState.RUNNING
        self.ledger_back = self.store_back = clock.now()
        self.spool: list[Candle] = []
        self.current: dict[str, Process] = {}
        """Those that are connected, by the agent's name."""
        self.owners: dict[str, Process] = {}
        """All that ever were."""
        self.newest = dict.fromkeys(Role, 0)
        self.frozen = 0
        self.violations: list[str] = []
        self.lines: list[str] = []
        self.tally: Counter[tuple[Fault, str]] = Counter()
        self.events: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()
        self._began = clock.now()
        self.calls = {kind: Countdown(mean / storm, dice) for kind, mean in CALLS.items()}

    # --- what was done ---------------------------------------------------------------------------------

    def note(self, *words: str) -> None:
        self.lines.append(f"{(self.clock.now() - self._began).total_seconds():.3f} {' '.join(words)}")

    def heard(self, process: Process, event: Event) -> None:
        self.events[event.name] += 1
        self.note("event", process.owner, event.name, str(event.fields()))

    def violate(self, what: str) -> None:
        self.note("VIOLATION", what)
        self.violations.append(what)

    # --- faults ----------------------------------------------------------------------------------------

    def draw(
        self,
        kind: Countdown,
        process: Process,
        place: str,
        args: tuple[Any, ...],
        choices: tuple[Fault, ...],
        frozen: bool = True,
    ) -> tuple[Fault, bool]:
        """The fault of this call, told and counted; and whether it comes after the call had its effect."""
        kind.left = kind.draw()
        possible = [fault for fault in choices if fault not in self.impossible]
        fault = self.dice.choice((*possible, CRASHES[process.name]))
        after = fault is Fault.LEDGER_AWAY_AFTER
        if fault in (Fault.OLD_RISK, Fault.OLD_EXECUTION) or fault is CRASHES[process.name]:
            after = self.dice.random() < 0.5
            if fault is not CRASHES[process.name] and not frozen:
                after = False
        self.told(fault, f"{process.owner} {place} {'after' if after else 'before'}", args)
        if fault in (Fault.OLD_RISK, Fault.OLD_EXECUTION):
            self._freeze(process)
        return fault, after

    def told(self, fault: Fault, place: str, args: tuple[Any, ...] = ()) -> None:
        state = self._state_met(args)
        self.tally[fault, state] += 1
        self.note("FAULT", fault.value, "at", place, "order", state)

    def _state_met(self, args: tuple[Any, ...]) -> str:
        orders = self.account.orders
        for argument in args:
            name = argument if isinstance(argument, str) else getattr(argument, "client_order_id", None)
            order = orders.get(name) if isinstance(name, str) else None
            if order is None and isinstance(argument, str):
                shown = self.venue.orders.get(argument)
                order = None if shown is None else orders.get(shown.client_order_id or "")
            if order is not None:
                return ENDED if order.state.is_final else order.state.value
        for order in reversed(orders.unfinished.values()):
            return order.state.value
        return NO_ORDER

    def later(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        self.timers.at(WORLD, self.clock.now() + timedelta(seconds=seconds), what)

    def lose_ledger(self) -> None:
        self.ledger_back = self.clock.now() + timedelta(seconds=self.dice.choice((0.3, 2, 8, 20)))

    def lose_store(self) -> None:
        self.store_back = self.clock.now() + timedelta(seconds=self.dice.choice((1, 30, 100, 300)))

    # --- processes -------------------------------------------------------------------------------------

    def enter(self, process: Process) -> None:
        if not process.alive:
            raise Killed

    def start_all(self) -> None:
        for name in START_ORDER:
            self.start(name)

    def start(self, name: str) -> None:
        """A new process of the agent. One that is there goes on without its connection."""
        run(self.bus.detach(name))
        self._numbers[name] += 1
        process = self.current[name] = Process(self, name, self._numbers[name])
        self.owners[process.owner] = process
        self.note("start", process.owner)
        try:
            process.agent = self.factories[name](process)
            self.drive(process, process.agent.start())
            process.started = True
        except Killed:
            return
        except Exception as error:
            self.failed(process, error)

    def kill(self, process: Process) -> None:
        process.alive = False
        self.timers.cancel_all(process.owner)
        if self.current.get(process.name) is process:
            del self.current[process.name]
            run(self.bus.detach(process.name))
            self._start_later(process.name, self.dice.choice(DOWN))

    def failed(self, process: Process, error: BaseException) -> None:
        """It ended loudly. The supervisor starts another, unless a newer one is there."""
        self.note("failed", process.owner, type(error).__name__)
        is_current = self.current.get(process.name) is process
        expected = EXPECTED if is_current else (*EXPECTED, *OUTDATED)
        if not isinstance(error, expected):
            self.violate(f"{process.owner} ended with {type(error).__name__}: {error}")
        process.alive = False
        self.timers.cancel_all(process.owner)
        if is_current:
            del self.current[process.name]
            run(self.bus.detach(process.name))
            self._start_later(process.name, 1.0)

    def _start_later(self, name: str, seconds: float) -> None:
        async def again() -> None:
            if name not in self.current:
                self.start(name)

        self.later(seconds, again)

    def drive(self, process: Process, work: Awaitable[None]) -> None:
        """Run a handler to its end. Raises ``Abandoned`` when it froze on the way."""
        assert isinstance(work, Coroutine)
        try:
            work.send(None)
        except StopIteration:
            return
        process.frozen = work
        self.frozen += 1
        raise Abandoned

    def _freeze(self, process: Process) -> None:
        """It loses its connection; a new one starts, and then it goes on."""
        seconds = self.dice.choice((0.2, 2.0, 6.0, 20.0, 50.0))
        name = process.name
        del self.current[name]
        # The bus may be in the middle of a delivery to it: it takes the message back.
        run(self.bus.detach(name))
        self._start_later(name, seconds * self.dice.choice((0.0, 0.5)))

        async def go_on() -> None:
            self._thaw(process)

        self.later(seconds, go_on)

    def _thaw(self, process: Process) -> None:
        work, process.frozen = process.frozen, None
        if work is None:
            return
        self.frozen -= 1
        missed, process.missed = process.missed, []
        self.note("goes on", process.owner)
        try:
            self._resume(work)
            for handler in missed:
                if process.alive:
                    self.drive(process, handler())
        except (Killed, Abandoned):
            return
        except Exception as error:
            self.failed(process, error)

    @staticmethod
    def _resume(work: Coroutine[Any, Any, Any]) -> None:
        try:
            work.send(None)
        except StopIteration:
            return
        raise RuntimeError("a process froze twice in one call")

    # --- what must be true at each step ----------------------------------------------------------------

    def sending(self, process: Process, request: OrderRequest) -> None:
        order = self.account.orders.get(request.client_order_id)
        name = request.client_order_id
        if order is None or order.state is not OrderState.SUBMITTING:
            self.violate(f"order {name} was sent and is {order and order.state.value} in the books")
        elif order.expires_at is not None and process.clock.now() > order.expires_at:
            self.violate(f"entry {name} was sent after its expiry")
        if process.epoch is None or process.epoch.number < self.newest[Role.EXECUTION]:
            self.violate(f"order {name} was sent by {process.owner}, which is fenced off")
        if not (self.state.allows_entries if order and order.leg is Leg.ENTRY else self.state.allows_exits):
            self.violate(f"order {name} was sent while the bot is {self.state.value}")

    def accepted(self, request: OrderRequest) -> None:
        """The exchange has it, sooner or later."""
        name = request.client_order_id
        order = self.account.orders.get(name)
        if order is None or order.state.is_final:
            self.violate(f"order {name} reached the exchange and is {order and order.state.value} in the books")

    def committed(
        self, process: Process, name: str, args: tuple[Any, ...], result: Any, before: dict[Role, int]
    ) -> None:
        first = args[0] if args else None
        if name == "raise_epoch":
            process.epoch = result
            self.newest[result.role] = result.number
        elif isinstance(first, Epoch) and first.number < before[first.role]:
            self.violate(f"{process.owner} did {name} with epoch {first.number}, {before[first.role]} is current")
        if name in MONEY:
            self.checks(name)

    def acknowledged(self, messages: Sequence[Any]) -> None:
        """Whoever took it has dealt with it: it will not come again."""
        for message in messages:
            if isinstance(message, TradeIntent):
                if message.id not in self.account.bots[self.bot].decisions:
                    self.violate(f"intent {message.id} was acknowledged and never decided")
            elif isinstance(message, OrderApproved) and message.client_order_id is not None:
                order = self.account.orders.get(message.client_order_id)
                if order is None or (order.state is OrderState.APPROVED and not self.entries_wait):
                    self.violate(f"order {message.client_order_id} was acknowledged and not taken up")

    # --- driving ---------------------------------------------------------------------------------------

    def run_until(self, end: datetime) -> None:
        """Let time pass, one message or timer at a time, until ``end`` or the first violation."""
        fired, since = 0, self.clock.now()
        while not self.violations:
            self._deliver()
            fired += 1
            if self.clock.now() > since:
                fired, since = 0, self.clock.now()
            elif fired > MOST_AT_ONCE:
                self.violate(f"timers fire for ever: {self.lines[-1]}")
                break
            dues = [due for due in (self.timers.next_due(), self.bus.next_due()) if due is not None]
            due = min(dues, default=end)
            if due >= end:
                break
            self.clock.advance_to(due)
            try:
                run(self.timers.fire_next())
            except (Killed, Abandoned):
                continue
            except TimerFailed as failure:
                self._ended(failure)
        self.clock.advance_to(end)

    def _deliver(self) -> None:
        while not self.violations:
            try:
                if not run(self.bus.step()):
                    return
            except (Killed, Abandoned):
                continue
            except HandlerFailed as failure:
                process = self.current.get(failure.owner)
                if process is not None:
                    self.failed(process, failure.__cause__ or failure)

    def _ended(self, failure: TimerFailed) -> None:
        name, _, _ = failure.owner.partition("#")
        cause = failure.__cause__ or failure
        if name == WORLD:
            raise cause
        self.failed(self.owners[failure.owner], cause)

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        for kind in self.calls.values():
            kind.left = NEVER
        self.ledger_back = self.store_back = self.clock.now()
        self.state = BotState.RUNNING
        self.venue.calm = True

    def disturb(self, storm: float) -> None:
        """What goes wrong between two steps, by itself. Rare states of orders do not last: it is likelier in them."""
        state = self._state_met(())
        if self.dice.random() >= storm * CHANCES.get(state, USUAL_CHANCE):
            return
        fault = self.dice.choice(BY_ITSELF)
        if fault in self.impossible:
            return
        name = AGENT_OF.get(fault)
        process = None if name is None else self.current.get(name)
        if name is not None and (process is None or not process.started):
            return
        self.told(fault, WORLD)
        match fault:
            case Fault.CLOCK_FORWARD:
                self.clock.advance_to(self.clock.now() + timedelta(seconds=self.dice.choice((2, 7, 30, 90))))
            case Fault.CLOCK_SKEWED:
                skew = timedelta(milliseconds=self.dice.choice((-1500, -300, 0, 300, 1500)))
                self.skews[self.dice.choice(AGENTS)] = skew
            case Fault.STORE_OUTAGE:
                self.lose_store()
            case Fault.LEDGER_OUTAGE:
                self.lose_ledger()
            case Fault.OLD_RISK | Fault.OLD_EXECUTION:
                assert name is not None
                self.start(name)
            case _:
                assert process is not None
                self.kill(process)

    def close(self) -> None:
        """What is frozen still, after a violation, ends here."""
        for process in self.owners.values():
            process.alive = False
            if process.frozen is not None:
                with contextlib.suppress(Killed):
                    process.frozen.close()
