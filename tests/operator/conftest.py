"""Fixtures for the real Kubernetes API, and for the operator on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kubernetes import Cluster, control_plane, controllers, helm, kubectl, namespace
from support.operator_rig import OperatorRig, install_crd, operator_rig

__all__ = ["control_plane", "controllers", "helm", "kubectl", "namespace"]


@pytest.fixture(scope="session")
def tradingbots(control_plane: Cluster) -> None:
    """The API server knows the kind TradingBot."""
    install_crd(control_plane)


@pytest.fixture
def rig(
    tradingbots: None, controllers: None, control_plane: Cluster, namespace: str, tmp_path: Path
) -> Iterator[OperatorRig]:
    """Without an operator yet: the test starts it."""
    with operator_rig(control_plane, namespace, tmp_path) as rig:
        yield rig
