"""An operator that is there before the kind TradingBot: Deployment and definition may come in either order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.chart import CRD_NAME, CRDS
from support.kubernetes import until
from support.operator_rig import CRD, EXTERNAL, OperatorRig, RunningOperator, install_crd
from support.specs import PAPER, changed

pytestmark = [pytest.mark.kubernetes, pytest.mark.minutes]

SMALL = changed(PAPER, EXTERNAL)


@pytest.fixture
def undefined(rig: OperatorRig) -> Iterator[None]:
    """There is no kind TradingBot. All tests share it, so that it is there again afterwards."""
    rig.api.delete(CRDS, None, CRD_NAME)
    until(lambda: rig.api.find(CRDS, None, CRD_NAME) is None, "the definition is gone")
    yield
    install_crd(rig.cluster)


def waiting(rig: OperatorRig) -> RunningOperator:
    """An operator that has found out that it knows of no bots, and has tried again."""
    operator = rig.start(wait=False)
    until(lambda: len(operator.named("bots_unknown")) > 1, "it says that it waits")
    return operator


@pytest.mark.usefixtures("undefined")
def test_it_waits_for_the_definition_alive_and_takes_the_bots_that_come_with_it(rig: OperatorRig) -> None:
    rig.give_external()
    operator = waiting(rig)
    assert operator.named("bots_unknown")[0]["remedy"] == "is the CRD installed?"
    # It is not to be restarted for that, and it is not to be taken for one that works.
    assert operator.page("/live")[0] == 200
    status, why = operator.page("/ready")
    assert (status, why.strip()) == (503, "it has not seen everything yet")
    assert operator.is_running

    install_crd(rig.cluster)
    # It pauses between its looks, so that most often its first list has it already.
    rig.apply(SMALL)
    operator.wait_until_ready()
    rig.until_ready("paper")
    assert operator.is_running
    assert len(rig.operators) == 1


@pytest.mark.usefixtures("undefined")
def test_it_hears_of_bots_that_come_after_the_definition(rig: OperatorRig) -> None:
    """The list that has found the definition is one thing, the watch that begins then another."""
    rig.give_external()
    operator = waiting(rig)
    # Without waiting until it is served: it may look at that very moment.
    rig.cluster.kubectl("apply", "--server-side", "-f", CRD)
    operator.wait_until_ready()
    rig.apply(SMALL)
    rig.until_ready("paper")
    rig.edit("paper", state="Paused")
    until(lambda: rig.status("paper").get("wantedState") == "Paused", "it hears of changes")
    rig.delete("paper")
    until(lambda: rig.bot("paper") is None, "it hears of its end")
