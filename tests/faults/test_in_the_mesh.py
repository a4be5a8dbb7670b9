"""Faults of the mesh itself, on real Envoys: the control plane, the certificates, a sidecar."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.faults.certificates import ExpireCertificates, newest
from chaos.faults.control_plane import ControlPlane
from chaos.faults.injection import injected
from chaos.faults.network.partition import Partition
from chaos.faults.network.reset import Reset
from chaos.faults.scale import Scale
from chaos.faults.selection import Selector, select
from chaos.names import SYSTEM_NAMESPACE
from tests.faults.worlds import RUN, World, small_world

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with small_world("faults-mesh", "sidecar") as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_left(world: World) -> Iterator[None]:
    yield
    world.nothing_left()


def test_a_tenants_sidecars_are_found_by_layer_and_cut_off(world: World) -> None:
    found = select(world.cluster, frozenset({"container"}), Selector(layer="l7", tenant="a", labels="app=server"))
    assert [(one.namespace, one.container) for one in found] == [("tenant-a", "proxy")]
    with injected(world.cluster, Partition(), found[0], run=RUN):
        world.ill()
    world.well()


def test_a_control_plane_that_refuses_loses_its_proxies_and_no_traffic(world: World) -> None:
    with injected(world.cluster, ControlPlane(), world.workload("control-plane", SYSTEM_NAMESPACE), run=RUN) as (receipt,):
        assert receipt.evidence["proxies"] == 0
        assert world.shares().ok > 0.9
    assert len(world.mesh.control_plane()["proxies"]) == 2


def test_a_slow_control_plane_says_so_and_is_quick_again(world: World) -> None:
    with injected(world.cluster, ControlPlane(answer="slow", delay=3), world.workload("control-plane", SYSTEM_NAMESPACE), run=RUN):
        assert world.mesh.control_plane()["trouble"]["delay"] == 3
    assert world.mesh.control_plane()["trouble"]["delay"] == 0


def test_a_stopped_control_plane_is_gone_and_comes_back(world: World) -> None:
    with injected(world.cluster, Scale(), world.workload("control-plane", SYSTEM_NAMESPACE), run=RUN):
        assert world.shares().ok > 0.9  # what runs goes on
        world.cluster.wait("its pod gone", lambda: not world.cluster.list("Pod", SYSTEM_NAMESPACE, labels="app=control-plane"), seconds=20)
    assert world.mesh.control_plane("/readyz")["ready"]


def test_with_expired_certificates_no_new_connection_is_made(world: World) -> None:
    plane = world.workload("control-plane", SYSTEM_NAMESPACE)
    world.cluster.wait("certificates handed out", lambda: len(newest(world.mesh.control_plane())) >= 2, seconds=60)
    with injected(world.cluster, ExpireCertificates(life=1), plane, run=RUN) as (receipt,):
        assert receipt.evidence["certificates"] >= 2
        with injected(world.cluster, Reset(ports=(15006,)), world.server("proxy"), run=RUN):
            world.ill()  # connections that stood are reset
        world.ill()  # and no new one is accepted
    world.well()
