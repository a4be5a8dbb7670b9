"""A cluster for each module of tests, and the mesh of a mode in it, with debug pods."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from chaos.cluster.providers import open_cluster
from chaos.engine.features.context import CheckContext, check_context
from chaos.kube.client import Cluster
from chaos.mesh import manifests
from chaos.mesh.install import Mesh


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    name = request.module.__name__.rpartition("_")[2]
    with open_cluster("embedded", name=f"{name}{os.getpid()}", nodes=2) as found:
        yield found


@pytest.fixture(scope="module")
def where(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[CheckContext]:
    """The mode that the parameter names, deployed with the reference tenants."""
    mesh = Mesh(cluster, request.param, run=f"feat-{request.param}", mutable=True)
    try:
        mesh.start(manifests.reference(*sorted(n["metadata"]["name"] for n in cluster.list("Node"))))
        with check_context(mesh) as found:
            yield found
    finally:
        mesh.uninstall()
