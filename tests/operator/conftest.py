"""Fixtures for the real Kubernetes API."""

from support.kubernetes import control_plane, controllers, helm, kubectl, namespace

__all__ = ["control_plane", "controllers", "helm", "kubectl", "namespace"]
