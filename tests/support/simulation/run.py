"""One seed, one run: what the seed decides, how the world is put together, and what comes out."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from random import Random
from typing import Any

import msgspec
import structlog

from support.simulation import eager
from support.simulation.account import SummedAccount
from support.simulation.checks import StepChecks, in_the_end
from support.simulation.exchange import SimulatedVenue
from support.simulation.faults import Fault
from support.simulation.market import BAR, COIN, QUOTE, SYMBOLS, TIMEFRAME, Market
from support.simulation.process import Process
from support.simulation.world import WORLD, World, run
from support.specs import PAPER, changed
from tradingbot_agents.bus.topology import DATA_COLLECTION, EXECUTION, RISK, STRATEGY, TECHNICAL_ANALYSIS
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.data_collection.agent import DataCollection
from tradingbot_agents.domain.symbol_rules import FeeCurrency
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.exchange.port import Capabilities
from tradingbot_agents.execution.agent import ExecutionAgent
from tradingbot_agents.risk.agent import RiskAgent
from tradingbot_agents.runtime import wiring
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.strategy.agent import StrategyAgent
from tradingbot_agents.technical_analysis.agent import TechnicalAnalysisAgent
from tradingbot_api import TradingBot, load_object

OPENING = {QUOTE: Decimal(1000)}
SETTLE = timedelta(minutes=4)
"""Virtual time without trouble in which all that was begun becomes final: several times the margin over which an
order is looked for."""

RECONCILE_INTERVAL = timedelta(minutes=3)
BEAT = timedelta(seconds=5.3)
"""Between two looks whether something goes wrong by itself."""


class Variant(msgspec.Struct, frozen=True):
    """What kind of bot a seed runs."""

    authoritative: bool
    """The exchange's look-ups are never late, and nothing is under way once a call has ended, as with the simulated
    one. There is then one process of execution at a time, too."""
    stops_on_exchange: bool
    stop_market: bool
    trailing: bool
    target: bool
    by_confidence: bool
    fees: FeeCurrency
    restless: bool
    """A person changes the bot's state now and then."""
    storm: float
    reconciles: bool
    """The account is compared with the exchange, as in testnet and live."""

    @classmethod
    def drawn(cls, dice: Random) -> Variant:
        authoritative = dice.random() < 0.2
        return cls(
            authoritative=authoritative,
            stops_on_exchange=dice.random() < 0.8,
            stop_market=dice.random() < 0.8,
            trailing=dice.random() < 0.5,
            target=dice.random() < 0.7,
            by_confidence=dice.random() < 0.6,
            fees=dice.choice((FeeCurrency.GET, FeeCurrency.GET, FeeCurrency.QUOTE, FeeCurrency.OTHER)),
            restless=dice.random() < 0.3,
            storm=dice.choice((0.7, 1.0, 1.0, 2.0)),
            reconciles=dice.random() < 0.7 and not authoritative,
        )


ONLY_LATE = frozenset({Fault.REQUEST_LATE, Fault.ORDER_NOT_SHOWN, Fault.OLD_EXECUTION, Fault.FILL_LATE})
"""What an exchange with authoritative look-ups does not do."""


class Result(msgspec.Struct):
    seed: int
    violations: list[str]
    digest: str
    """Of every step: two runs of a seed have the same."""
    candles: int
    orders: int
    """In the ledger."""
    fills: int
    faults: int
    tally: Counter[tuple[Fault, str]]
    lines: list[str]
    """The steps, when they were asked for."""


@cache
def spec_of(trailing: bool, target: bool, by_confidence: bool, stops_on_exchange: bool) -> TradingBot:
    """A bot with tight stops, so that positions change often, and more wishes than money."""
    changes: dict[str, Any] = {
        "exchange.simulated": {},
        "account.paperBalances": {asset: str(amount) for asset, amount in OPENING.items()},
        "symbols": list(SYMBOLS),
        "timeframe": TIMEFRAME,
        "data.history": 18,
        "strategy.plugin": {"path": eager.PATH, "parameters": {"salt": "0", "buy": "0", "sell": "0"}},
        "strategy.minConfidence": "0.30",
        "strategy.window": 16,
        "strategy.signalMemoryCandles": 1,
        "strategy.indicators": [{"name": "rsi", "period": 5}],
        "risk.sizing": {"method": "fixedFractional", "fraction": "0.45"},
        "risk.stopLoss": "0.006",
        "risk.equityInterval": "15m",
        "risk.approval": {"order": "byConfidence" if by_confidence else "firstComeFirstServed"},
        "risk.protections": [{"name": "maxDrawdown", "limit": "0.5"}],
        "execution.stopsOnExchange": stops_on_exchange,
        "execution.exitWatchInterval": "30s",
        "execution.sweepInterval": "20s",
        "runtime.outboxInterval": "30s",
    }
    if target:
        changes["risk.takeProfit"] = "0.012"
    if trailing:
        changes["risk.trailingStop"] = {"distance": "0.004", "activateAt": "0.003"}
    return load_object(changed(PAPER, changes))


class Simulation:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        drawn = Random(f"{seed} variant")
        self.variant = variant = Variant.drawn(drawn)
        bot = spec_of(variant.trailing, variant.target, variant.by_confidence, variant.stops_on_exchange)
        self.market = Market(Random(f"{seed} market"))
        clock = VirtualClock(self.market.starts)
        opening = dict(OPENING)
        if variant.fees is FeeCurrency.OTHER:
            opening[COIN] = Decimal(5)
        key = account_key(bot)
        self.world = world = World(
            bot=bot.metadata.name,
            clock=clock,
            queues=wiring.bus_queues(bot),
            account=SummedAccount(key),
            dice=Random(f"{seed} faults"),
            storm=variant.storm,
            impossible=ONLY_LATE if variant.authoritative else frozenset(),
            entries_wait=variant.reconciles,
        )
        capabilities = Capabilities(stop_market=variant.stop_market, stop_limit=True, client_order_ids=True)
        world.venue = SimulatedVenue(
            self.market, clock, Random(f"{seed} exchange"), opening, variant.fees, capabilities, world.accepted
        )
        world.checks = self.steps = StepChecks(world)
        self._opening = opening
        self._calm = False
        execution = wiring.live_execution_settings(bot)
        if variant.authoritative:
            look_up = msgspec.structs.replace(execution.look_up, immediate_not_found=True)
            execution = msgspec.structs.replace(execution, look_up=look_up)
        if variant.reconciles:
            execution = msgspec.structs.replace(execution, reconcile_interval=RECONCILE_INTERVAL)
        strategy = wiring.strategy_settings(bot)
        wishes = {"salt": str(seed), "buy": "90", "sell": "30"}
        strategy = msgspec.structs.replace(
            strategy, decider=msgspec.structs.replace(strategy.decider, parameters=wishes)
        )
        data = wiring.live_data_collection_settings(bot)
        analysis = wiring.technical_analysis_settings(bot)
        risk = wiring.live_risk_settings(bot)

        def common(process: Process) -> dict[str, Any]:
            return {
                "bot": world.bot,
                "clock": process.clock,
                "timers": process.timers,
                "bus": process.bus,
                "sink": process,
            }

        world.factories = {
            DATA_COLLECTION: lambda process: DataCollection(
                **common(process), settings=data, feed=process.venue, store=process.store
            ),
            TECHNICAL_ANALYSIS: lambda process: TechnicalAnalysisAgent(
                **common(process), settings=analysis, store=process.store
            ),
            STRATEGY: lambda process: StrategyAgent(**common(process), settings=strategy, ledger=process.ledger),
            RISK: lambda process: RiskAgent(
                **common(process),
                settings=risk,
                ledger=process.ledger,
                store=process.store,
                rules=world.venue.rules,
                state=lambda: world.state,
            ),
            EXECUTION: lambda process: ExecutionAgent(
                **common(process),
                account=str(key),
                symbols=SYMBOLS,
                settings=execution,
                ledger=process.ledger,
                venue=process.venue,
                state=lambda: world.state,
            ),
        }

    def run(self) -> None:
        world = self.world
        run(world.ledger.open_account(self._opening, (), world.clock.now(), quote=QUOTE))
        world.venue.play()
        world.timers.every(WORLD, BAR, self._change_state, world.clock.now() + BAR / 2)
        world.timers.every(WORLD, BEAT, self._disturb)
        world.start_all()
        # The last bar sets off its trades before the trouble ends.
        world.run_until(self.market.ends + BAR / 2)
        world.calm()
        self._calm = True
        world.run_until(world.clock.now() + SETTLE)
        if not world.violations:
            for violation in in_the_end(world, self.steps, self.variant.stops_on_exchange):
                world.violate(violation)
        world.close()
        self._tell_books()

    async def _disturb(self) -> None:
        if not self._calm:
            self.world.disturb(self.variant.storm)

    async def _change_state(self) -> None:
        world = self.world
        if self._calm or not self.variant.restless:
            return
        if world.state is not BotState.RUNNING and world.dice.random() < 0.5:
            world.state = BotState.RUNNING
        elif world.dice.random() < 0.08:
            world.state = world.dice.choice(tuple(BotState))
        world.note("state", world.state.value)

    def _tell_books(self) -> None:
        """The books are a part of what must be the same each time."""
        world = self.world
        for order in world.account.orders.values():
            world.lines.append(f"order {order.client_order_id} {order.leg} {order.state} {order.filled} {order.cost}")
        for asset, balance in run(world.ledger.balances()).items():
            world.lines.append(f"balance {asset} {balance.total} {balance.reserved}")
        for symbol, position in run(world.ledger.positions()).items():
            world.lines.append(f"position {symbol} {position.state} {position.amount} {position.cost}")

    def result(self, keep_lines: bool) -> Result:
        world = self.world
        digest = blake2b("\n".join(world.lines).encode(), digest_size=16).hexdigest()
        return Result(
            seed=self.seed,
            violations=list(world.violations),
            digest=digest,
            candles=sum(len(bars) for bars in self.market.candles.values()),
            orders=len(world.account.orders),
            fills=len(world.venue.done),
            faults=sum(world.tally.values()),
            tally=world.tally,
            lines=world.lines if keep_lines else [],
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the agents' log lines, which go to the terminal by default."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def simulate(seed: int, *, keep_lines: bool = False) -> Result:
    """Run one seed. The result has its violations; none is raised."""
    with quiet():
        simulation = Simulation(seed)
        simulation.run()
        return simulation.result(keep_lines)
