"""Renders a mode without a cluster: what `sharedfate render` prints, for kubectl or GitOps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from chaos.kube.client import Cluster
from chaos.mesh import manifests
from chaos.mesh.budget import Budget
from chaos.mesh.install import Mesh


def render_mode(mode: str, objects: Iterable[dict[str, Any]], *, run: str, budget: Budget | None = None) -> str:
    """Multi-document YAML: the mesh's parts, then the objects patched for the mode. Raises Misuse for an unknown mode.

    Args:
        budget: CPU and memory of all proxies together, divided over the reference placement; None: the default.
    """
    own = list(objects)
    manifests.check(own, source="the manifests given")
    return Mesh(cast(Cluster, None), mode, run=run, budget=budget).render(own)
