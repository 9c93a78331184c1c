"""Fixtures for the chart: the real Helm, on a real Kubernetes API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.chart import Release
from support.fake_kubelet import FakeKubelet
from support.kubernetes import Cluster, control_plane, controllers, helm, kubectl, namespace

__all__ = ["control_plane", "controllers", "helm", "kubectl", "namespace"]


@pytest.fixture
def release(control_plane: Cluster, namespace: str) -> Iterator[Release]:
    """Not installed yet. At its end nothing of it is left but the CRD."""
    release = Release(control_plane, namespace)
    try:
        yield release
    finally:
        release.remove()


@pytest.fixture
def kubelet(
    controllers: None, control_plane: Cluster, namespace: str, release: Release, tmp_path: Path
) -> Iterator[FakeKubelet]:
    """A node for the release's pods."""
    kubelet = FakeKubelet(control_plane, namespace, tmp_path)
    kubelet.start()
    yield kubelet
    kubelet.stop()
