"""The checks over real meshes: all hold in every mode, and each is seen to catch the mesh that is broken on purpose."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from chaos.cluster.client import Cluster
from chaos.cluster.providers import open_cluster
from chaos.engine.features.balancing import check_balancing
from chaos.engine.features.catalogue import check_features
from chaos.engine.features.check import Check
from chaos.engine.features.identities import check_identities, check_refusals
from chaos.engine.features.leaving import check_leaving
from chaos.engine.features.metrics import check_metrics
from chaos.engine.features.outliers import check_outliers
from chaos.engine.features.plain import check_plain
from chaos.engine.features.policy import check_policy
from chaos.engine.features.retries import check_retries, check_timeouts
from chaos.engine.features.site import Site, site
from chaos.engine.features.tracing import check_tracing
from chaos.engine.features.tunnels import check_tunnels
from chaos.engine.features.wire import check_wire
from chaos.mesh import manifests
from chaos.mesh.envoy.defects import Defect
from chaos.mesh.install import Mesh
from chaos.mesh.modes import MODES
from chaos.verdict import Verdict

pytestmark = pytest.mark.privileged

QUICK = "sidecar"
CAUGHT: list[tuple[str, Defect, Callable[[Site], list[Check]], str]] = [
    ("sidecar", Defect.PLAIN_TEXT_HOP, check_wire, "TLS on the wire, two nodes"),
    ("sidecar", Defect.UNBALANCED, check_balancing, "requests of one kept connection are spread over all servers"),
    ("sidecar", Defect.OVER_GENEROUS, check_identities, "private keys in memory are those that the model says"),
    ("sidecar", Defect.OVER_GENEROUS, check_refusals, "asked for another's identity, the control plane refuses and logs it"),
    ("sidecar", Defect.RETRY_ALL, check_retries, "a request that is not idempotent is never retried"),
    ("node", Defect.PLAIN_TEXT_HOP, check_wire, "TLS on the wire, one node"),
    ("node", Defect.UNHASHED_IDENTITY, check_metrics, "tenants' identities never cross"),
    ("node", Defect.OVER_GENEROUS, check_identities, "identities handed out are those that the model says"),
    ("node", Defect.PINNED, check_leaving, "a pod that goes leaves nothing"),
    ("node", Defect.PLAIN_TEXT_HOP, check_plain, "plain text into a meshed pod is refused"),
    ("node", Defect.NO_RETRIES, check_retries, "killed connections are retried where allowed"),
    ("node", Defect.NO_TIMEOUT, check_timeouts, "timeouts hold"),
    ("node", Defect.NO_EJECTION, check_outliers, "a server that only fails is left out"),
    ("node", Defect.NO_POLICY, check_policy, "wrong identity, method or path is refused at L7"),
    ("node", Defect.UNTRACED, check_tracing, "trace context goes through"),
    ("ambient-namespace", Defect.NO_POLICY, check_policy, "wrong identity is refused at L4"),
    ("ambient-namespace", Defect.OPEN_CONNECT, check_tunnels, "a CONNECT to anywhere else is refused"),
    ("ambient-namespace", Defect.ANY_PEER, check_tunnels, "a destination that has a waypoint accepts only that waypoint"),
    ("ambient-namespace", Defect.UNBALANCED, check_balancing, "calls of one gRPC connection are spread over all servers"),
    ("ambient-namespace", Defect.OVER_GENEROUS, check_identities, "private keys in memory are those that the model says"),
]


def slow_unless(mode: str) -> list[pytest.MarkDecorator]:
    return [] if mode == QUICK else [pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_cluster("embedded", name=f"mfeat{os.getpid()}", nodes=2) as found:
        yield found


@contextmanager
def running(mesh: Mesh) -> Iterator[Site]:
    try:
        mesh.start(manifests.reference(*sorted(n["metadata"]["name"] for n in mesh.cluster.list("Node"))))
        with site(mesh) as found:
            yield found
    finally:
        mesh.uninstall()


@pytest.fixture(scope="module")
def where(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Site]:
    with running(Mesh(cluster, request.param, run=f"feat-{request.param}")) as found:
        yield found


@pytest.mark.parametrize("where", [pytest.param(mode, marks=slow_unless(mode)) for mode in MODES], indirect=True, scope="module")
def test_every_feature_of_the_mode_is_shown(where: Site) -> None:
    checks = list(check_features(where))
    assert [str(check) for check in checks if check.verdict is not Verdict.PASS] == []
    assert len(checks) >= 7


@pytest.mark.parametrize(("where", "defect", "check", "claim"), [
    pytest.param(*row, marks=slow_unless(row[0]), id=f"{row[0]}-{row[1]}-{row[2].__name__}") for row in CAUGHT],
    indirect=["where"], scope="module")
def test_a_mesh_that_is_broken_on_purpose_is_caught(where: Site, defect: Defect, check: Callable[[Site], list[Check]],
                                                    claim: str) -> None:
    where.mesh.set_defects({defect})
    try:
        found = {one.name: one for one in check(where)}
    finally:
        where.mesh.set_defects(())
    assert found[claim].verdict is Verdict.FAIL, found[claim]
