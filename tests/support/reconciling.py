"""What tests of the reconciliation share: settings, another bot's half of an account, and what came from outside."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from support.execution import LOOK_UP, SETTINGS, D
from support.execution_rig import ACCOUNT, Rig
from tradingbot_agents.domain.events import Event
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.execution.desk import Desk
from tradingbot_agents.execution.reconciler import Reconciler
from tradingbot_agents.execution.view import View
from tradingbot_agents.ledger.port import Ledger

INTERVAL = timedelta(minutes=5)
RECONCILING = msgspec.structs.replace(SETTINGS, reconcile_interval=INTERVAL)
PERIOD = INTERVAL.total_seconds()
MARGIN = LOOK_UP.margin.total_seconds()


class Comparer:
    """Another bot's reconciler on the rig's account, and the desk that books for it."""

    def __init__(self, rig: Rig, ledger: Ledger, bot: str) -> None:
        """``ledger`` is the account's, as ``bot`` sees it."""
        self.ledger = ledger
        self.reconciler = Reconciler(
            bot=bot,
            settings=RECONCILING,
            clock=rig.clock,
            sink=rig.sink,
            ledger=ledger,
            venue=rig.venue,
            desk=Desk(
                bot=bot,
                account=str(ACCOUNT),
                settings=RECONCILING,
                clock=rig.clock,
                sink=rig.sink,
                ledger=ledger,
                venue=rig.venue,
                view=View(),
                state=lambda: BotState.RUNNING,
            ),
        )


def told(rig: Rig, kind: type[Event]) -> list[Any]:
    return [event for event in rig.sink.events if isinstance(event, kind)]


async def outside(ledger: Ledger) -> list[tuple[str, str, str]]:
    """Kind, asset and amount of what came from outside, oldest first."""
    return [
        (entry.kind, entry.asset, f"{entry.amount.normalize():f}")
        for entry in reversed(await ledger.entries())
        if entry.kind in ("outside", "reversal")
    ]


async def agree(rig: Rig) -> None:
    """The books have exactly what the exchange has."""
    ours = {asset: balance.total for asset, balance in (await rig.ledger.balances()).items() if balance.total}
    assert ours == {asset: total for asset, total in rig.venue.totals().items() if total}


async def half_filled(rig: Rig) -> str:
    """An entry that filled half of it, and was ended."""
    rig.venue.liquidity = D("0.5")
    name = await rig.approve()
    assert (await rig.order(name)).state is OrderState.CANCELLED
    rig.venue.liquidity = None
    return name
