"""What a container takes, from what the kubelet counts."""

from __future__ import annotations

import pytest

from support.usage import Sample, amount, uses


@pytest.mark.parametrize(("quantity", "told"), [("64Mi", 64 * 2**20), ("25m", 0.025), ("2", 2), ("1Gi", 2**30)])
def test_an_amount(quantity: str, told: float) -> None:
    assert amount(quantity) == pytest.approx(told)


def test_the_most_memory_and_the_processor_s_time_in_between() -> None:
    resources = {"requests": {"memory": "64Mi", "cpu": "50m"}, "limits": {"memory": "128Mi"}}
    pods = [
        {"metadata": {"name": name}, "spec": {"containers": [{"name": "risk", "resources": resources}]}}
        for name in ("there", "new")
    ]
    samples = [
        {("there", "risk"): Sample(60 * 2**20, 1.0, 100.0)},
        {("there", "risk"): Sample(70 * 2**20, 1.5, 105.0), ("new", "risk"): Sample(1, 0, 105.0)},
        {("there", "risk"): Sample(65 * 2**20, 2.0, 110.0), ("new", "risk"): Sample(1, 0, 110.0)},
    ]
    [use] = uses(samples, pods)
    assert str(use) == "risk: 70 MiB of 64Mi to 128Mi, 100m of 50m"
