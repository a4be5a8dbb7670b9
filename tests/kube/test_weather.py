"""A mesh goes up and down through an API server that is busy, breaks off and loses answers."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from chaos.embedded.provider import down, up
from chaos.kube.client import Cluster
from chaos.mesh import manifests
from chaos.mesh.install import Mesh
from chaos.model.fate import path
from chaos.names import LABEL_RUN
from tests.kube.weather import Climate, bad_weather

CLIMATE = Climate(busy=0.08, unavailable=0.05, broken=0.05, lost_before=0.05, lost_after=0.05)


@pytest.mark.privileged
def test_a_mesh_goes_up_and_down_although_every_fourth_request_fails(tmp_path: Path) -> None:
    name = f"weather-{uuid.uuid4().hex[:6]}"
    cluster = Cluster(up(name), kind="embedded", name=name)
    try:
        with bad_weather(cluster, CLIMATE, tmp_path, seed=7) as (weather, kubeconfig):
            poor = Cluster(kubeconfig, name="weather")
            mesh = Mesh(poor, "sidecar", run="weather")
            mesh.start(manifests.tenant("a", client_nodes=["node-1"], server_nodes=["node-1"]), seconds=120)
            placement = mesh.placement()
            assert placement.pairs()
            assert all(path(placement, pair) for pair in placement.pairs())
            mesh.uninstall(seconds=120)
            poor.close()
        for kind in ("Namespace", "ClusterRole", "ClusterRoleBinding", "Pod"):
            assert cluster.list(kind, labels=LABEL_RUN) == [], kind
        assert all(weather.seen[kind] for kind in ("busy", "unavailable", "broken", "lost_before", "lost_after")), (
            weather.seen
        )
    finally:
        cluster.close()
        down(name)
