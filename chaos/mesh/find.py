"""Which mesh of ours a cluster has: read from the settings that the installation put there."""

from __future__ import annotations

import json
from dataclasses import dataclass

from chaos.kube.client import Cluster
from chaos.mesh.modes import mode_named
from chaos.model.modes import ProxyMode
from chaos.names import MESH_CONFIG, SYSTEM_NAMESPACE


@dataclass(frozen=True, slots=True)
class FoundMesh:
    """The mode, and the run that installed it."""

    mode: ProxyMode
    run: str


def find_mesh(cluster: Cluster) -> FoundMesh | None:
    """Return the reference mesh that is installed; None where there is none."""
    settings = cluster.find("ConfigMap", MESH_CONFIG, SYSTEM_NAMESPACE)
    if settings is None:
        return None
    found = json.loads(settings["data"]["mesh.json"])
    return FoundMesh(mode_named(found["mode"]), found["run"])
