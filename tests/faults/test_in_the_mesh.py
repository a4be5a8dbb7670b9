"""Faults of the mesh itself, on real Envoys: the control plane, the certificates, a sidecar."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from chaos.engine.witness import SecondWitness
from chaos.errors import Misuse
from chaos.faults.api_trouble import ApiTrouble
from chaos.faults.certificates import ExpireCertificates, newest
from chaos.faults.control_plane import ControlPlane
from chaos.faults.injection import injected
from chaos.faults.kill import Kill
from chaos.faults.misanswer import Misanswer
from chaos.faults.model import Fault, Receipt
from chaos.faults.network.partition import Partition
from chaos.faults.scale import Scale
from chaos.faults.selection import Selector, select
from chaos.faults.wrong_push import WrongPush
from chaos.names import SYSTEM_NAMESPACE
from tests.faults.small_world import RUN, World, small_world

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with small_world("faults-mesh", "sidecar") as made:
        yield made
        made.nothing_left()


@pytest.fixture(autouse=True)
def nothing_is_held(world: World) -> Iterator[None]:
    yield
    world.nothing_held()


def test_a_tenants_sidecars_are_found_by_layer_and_cut_off(world: World) -> None:
    found = select(world.cluster, frozenset({"container"}), Selector(layer="l7", tenant="a", labels="app=server"))
    assert [(one.namespace, one.container) for one in found] == [("tenant-a", "proxy")]
    with injected(world.cluster, Partition(), found[0], run=RUN):
        world.ill()
    world.well()


def test_a_control_plane_that_refuses_loses_its_proxies_and_no_traffic(world: World) -> None:
    with injected(world.cluster, ControlPlane(), world.workload("control-plane", SYSTEM_NAMESPACE), run=RUN) as (
        receipt,
    ):
        assert receipt.evidence["proxies"] == 0
        world.well()
    assert len(world.mesh.control_plane()["proxies"]) == 2


def test_a_slow_control_plane_says_so_and_is_quick_again(world: World) -> None:
    with injected(
        world.cluster, ControlPlane(answer="slow", delay=3), world.workload("control-plane", SYSTEM_NAMESPACE), run=RUN
    ):
        assert world.mesh.control_plane()["injected_failures"]["delay"] == 3
    assert world.mesh.control_plane()["injected_failures"]["delay"] == 0


def test_a_wrong_push_breaks_every_call_until_it_is_withdrawn(world: World) -> None:
    with injected(world.cluster, WrongPush(), world.workload("control-plane", SYSTEM_NAMESPACE), run=RUN) as (receipt,):
        assert receipt.evidence["taken_by"] == 2
        world.ill("kept")
        world.ill("fresh")
    world.well("kept")
    world.well("fresh")


def test_a_proxy_that_misanswers_a_share_does_so_to_that_share(world: World) -> None:
    target = world.server("proxy")
    fault = Misanswer(errors=0.4)
    witness = SecondWitness(world.cluster, fault, target)
    witness.before()
    with injected(world.cluster, fault, target, run=RUN) as (receipt,):
        for flow in ("kept", "fresh"):  # those that stand are made anew within a second
            world.until(lambda found: 0.3 < found.ok < 0.85, "a share is misanswered", flow=flow)
        witness.during(receipt)
    assert not witness.doubt()
    world.well("kept")


def test_who_knows_no_requests_cannot_misanswer_them(world: World) -> None:
    with (
        pytest.raises(Misuse, match="no proxy that is connected"),
        injected(world.cluster, Misanswer(), world.server(), run=RUN),
    ):
        pass


def test_a_stopped_control_plane_is_gone_and_comes_back(world: World) -> None:
    with injected(world.cluster, Scale(), world.workload("control-plane", SYSTEM_NAMESPACE), run=RUN):
        world.well()  # what runs goes on
        world.cluster.wait(
            "its pod gone",
            lambda: not world.cluster.list("Pod", SYSTEM_NAMESPACE, labels="app=control-plane"),
            seconds=20,
        )
    assert world.mesh.control_plane("/readyz")["ready"]


TROUBLES: tuple[Fault, ...] = (
    ControlPlane(),
    ControlPlane(answer="slow", delay=6),
    ExpireCertificates(life=1),
    WrongPush(),
    ApiTrouble(code=503),
    ApiTrouble(code=503, share=0.3),
    ApiTrouble(delay=1.0),
    ApiTrouble(silent=True),
)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(one, marks=[] if number == 0 else pytest.mark.slow) for number, one in enumerate(TROUBLES)],
    ids=["errors", "slow", "certificates", "wrong-push", "api-503", "api-503-in-three", "api-late", "api-silent"],
)
def test_trouble_of_the_control_plane_is_seen_by_others_and_idle_trouble_is_not(world: World, fault: Fault) -> None:
    if isinstance(fault, ApiTrouble):
        world.needs_embedded()
    certificates(world)
    target = world.workload("control-plane", SYSTEM_NAMESPACE)
    true, idle = SecondWitness(world.cluster, fault, target), SecondWitness(world.cluster, fault, target)
    idle.before()
    idle.during(Receipt("none", RUN, fault.name, {}, target, 0))  # nothing was done
    assert idle.doubt()
    assert not idle.failures
    true.before()
    with injected(world.cluster, fault, target, run=RUN) as (receipt,):
        if isinstance(fault, WrongPush):
            world.ill()  # it is seen by the calls that fail
        true.during(receipt)
    assert not true.doubt()


def certificates(world: World) -> dict[tuple[str, str], float]:
    """When those that are held end, once both proxies hold one."""

    def held() -> dict[tuple[str, str], float]:
        found = newest(world.mesh.control_plane())
        return found if len(found) >= 2 else {}

    found: dict[tuple[str, str], float] = world.cluster.wait("certificates handed out", held, seconds=60)
    return found


def test_every_certificate_expires_and_is_issued_anew(world: World) -> None:
    assert min(certificates(world).values()) > time.time() + 30
    with injected(
        world.cluster, ExpireCertificates(life=1), world.workload("control-plane", SYSTEM_NAMESPACE), run=RUN
    ) as (receipt,):
        assert receipt.evidence["certificates"] >= 2
        assert max(certificates(world).values()) < time.time()
    assert min(certificates(world).values()) > time.time() + 30
    world.well()


@pytest.mark.slow
def test_with_expired_certificates_a_proxy_that_starts_again_is_not_spoken_to(world: World) -> None:
    certificates(world)
    with injected(
        world.cluster, ExpireCertificates(life=1), world.workload("control-plane", SYSTEM_NAMESPACE), run=RUN
    ):
        # Connections that stand go on, and a TLS session that was begun in time can be resumed: a new process knows of
        # neither.
        with injected(world.cluster, Kill(), world.server("proxy"), run=RUN):
            pass
        world.ill()
    world.well()
