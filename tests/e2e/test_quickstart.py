"""The quick start on Kubernetes, as its page has it: each command is run, and prints what the page shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.kubernetes import Cluster
from support.on_a_node import SYSTEM
from support.process import REPOSITORY
from support.walkthrough import is_as_shown, steps

pytestmark = [pytest.mark.e2e, pytest.mark.short, pytest.mark.timeout(900)]

PAGE = REPOSITORY / "docs" / "quickstart-kubernetes.md"


@pytest.fixture
def clean(cluster: Cluster) -> Iterator[Cluster]:
    yield cluster
    # Of a walk that ended halfway; the bot first, for without the operator nobody lets it go.
    cluster.kubectl("delete", "tradingbots", "--all", "-n", "trading", "--timeout=60s", check=False)
    cluster.helm("uninstall", "tradingbot-operator", "--namespace", SYSTEM, "--wait", check=False)
    cluster.kubectl("delete", "namespace", "trading", SYSTEM, "--ignore-not-found", "--timeout=100s")


def test_the_page_leads_from_nothing_to_a_bot_and_back(clean: Cluster) -> None:
    for step in steps(PAGE.read_text()):
        printed = clean.shell(step.commands, REPOSITORY, limit=700).out
        assert step.prints is None or is_as_shown(step.prints, printed), (
            f"{step.heading}: the page shows\n{step.prints}\nand this is printed:\n{printed}"
        )
    # As docs/uninstall.md says: the CRD stays, for with it all TradingBots would go.
    made = "-l", "app.kubernetes.io/name=tradingbot-operator", "-o", "name"
    kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
    assert clean.kubectl("get", kinds, *made).out.split() == []
    assert clean.kubectl("get", "customresourcedefinition", "tradingbots.tradingbot.dev", "-o", "name").out.strip()
