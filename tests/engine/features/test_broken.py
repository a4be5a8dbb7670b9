"""Each check is seen to catch the mesh that is broken on purpose.

Apart from the tests that all is well: what an over-generous control plane gave away stays in its log and in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from chaos.engine.features.balancing import check_balancing
from chaos.engine.features.context import CheckContext
from chaos.engine.features.forged import check_forged
from chaos.engine.features.identities import check_identities, check_refusals
from chaos.engine.features.metrics import check_metrics
from chaos.engine.features.outliers import check_outliers
from chaos.engine.features.plaintext import PROBES, check_plaintext
from chaos.engine.features.pod_removal import LEAVES, SERVED, check_pod_removal
from chaos.engine.features.policy import check_policy
from chaos.engine.features.retries import check_retries, check_timeouts
from chaos.engine.features.stolen import OPENED, check_stolen
from chaos.engine.features.tls_on_wire import check_tls_on_wire
from chaos.engine.features.tracing import check_tracing
from chaos.engine.features.tunnels import check_tunnels
from chaos.faults.control_plane import ControlPlane
from chaos.faults.injection import injected
from chaos.faults.selection import workload_target
from chaos.mesh.mutations import Defect
from chaos.model.placement import Pod
from chaos.names import CONTROL_PLANE, PORT_HTTP, SYSTEM_NAMESPACE
from chaos.verdict import Verdict
from chaos.verdict.check import Check

pytestmark = pytest.mark.privileged

QUICK = "sidecar"
CAUGHT: list[tuple[str, Defect, Callable[[CheckContext], list[Check]], str]] = [
    ("sidecar", Defect.PLAIN_TEXT_HOP, check_tls_on_wire, "TLS on the wire, two nodes"),
    ("sidecar", Defect.UNBALANCED, check_balancing, "requests of one kept connection are spread over all servers"),
    ("sidecar", Defect.NO_POLICY, check_stolen, OPENED),  # before any proxy holds every key, of which each is tried
    ("sidecar", Defect.OVER_GENEROUS, check_identities, "private keys in memory are those that the model says"),
    (
        "sidecar",
        Defect.OVER_GENEROUS,
        check_refusals,
        "asked for another's identity, the control plane refuses and logs it",
    ),
    ("sidecar", Defect.OVER_GENEROUS, check_stolen, OPENED),
    ("sidecar", Defect.RETRY_ALL, check_retries, "a request that is not idempotent is never retried"),
    ("sidecar", Defect.COUNTED_TWICE, check_metrics, "metrics agree with the loader's counts"),
    ("node", Defect.PLAIN_TEXT_HOP, check_tls_on_wire, "TLS on the wire, one node"),
    ("node", Defect.UNHASHED_IDENTITY, check_metrics, "tenants' identities never cross"),
    ("node", Defect.OVER_GENEROUS, check_identities, "identities handed out are those that the model says"),
    ("node", Defect.PINNED, check_pod_removal, "a pod that goes leaves nothing"),
    ("node", Defect.PLAIN_TEXT_HOP, check_plaintext, "plain text into a meshed pod is refused"),
    ("node", Defect.NO_RETRIES, check_retries, "killed connections are retried where allowed"),
    ("node", Defect.NO_TIMEOUT, check_timeouts, "timeouts hold"),
    ("node", Defect.NO_EJECTION, check_outliers, "a server that only fails is left out"),
    ("node", Defect.NO_POLICY, check_policy, "wrong identity, method or path is refused at L7"),
    ("node", Defect.UNTRACED, check_tracing, "trace context goes through"),
    ("ambient-node", Defect.BELIEVED_LABELS, check_forged, "a forged l7 per-node proxy gets no traffic"),
    ("ambient-namespace", Defect.NO_POLICY, check_policy, "wrong identity is refused at L4"),
    ("ambient-namespace", Defect.OPEN_CONNECT, check_tunnels, "a CONNECT to anywhere else is refused"),
    ("ambient-namespace", Defect.ANY_PEER, check_stolen, OPENED),
    (
        "ambient-namespace",
        Defect.ANY_PEER,
        check_tunnels,
        "a destination that has a waypoint accepts only that waypoint",
    ),
    (
        "ambient-namespace",
        Defect.UNBALANCED,
        check_balancing,
        "calls of one gRPC connection are spread over all servers",
    ),
    (
        "ambient-namespace",
        Defect.OVER_GENEROUS,
        check_identities,
        "private keys in memory are those that the model says",
    ),
]


def slow_unless(mode: str) -> list[pytest.MarkDecorator]:
    return [] if mode == QUICK else [pytest.mark.slow]


@pytest.mark.parametrize(
    ("where", "defect", "check", "claim"),
    [pytest.param(*row, marks=slow_unless(row[0]), id=f"{row[0]}-{row[1]}-{row[2].__name__}") for row in CAUGHT],
    indirect=["where"],
    scope="module",
)
def test_a_mesh_that_is_broken_on_purpose_is_caught(
    where: CheckContext, defect: Defect, check: Callable[[CheckContext], list[Check]], claim: str
) -> None:
    where.reference_mesh.set_defects({defect})
    try:
        found = {one.name: one for one in check(where)}
    finally:
        where.reference_mesh.set_defects(())
    assert found[claim].verdict is Verdict.FAIL, found[claim]


CAPTURE = """
import sys
from pathlib import Path
from chaos.inpod.process_helper import processes
from chaos.mesh import capture
pid = processes(sys.argv[1], "")[0]
node, probed = capture.node_addresses([], Path(f"/proc/{pid}/net")), [int(port) for port in sys.argv[2:]]
rules = capture.plan_capture(inbound=capture.Inbound.REDIRECT, node=node, probed=probed)
capture.apply_rules(rules, netns=f"/proc/{pid}/ns/net")
"""


@contextmanager
def captured_but(where: CheckContext, *ports: int) -> Iterator[None]:
    """The client's servers are captured by rules that let whatever has the node's address pass to those ports."""

    def capture(server: Pod, *ports: int) -> None:
        done = where.cluster.exec(
            SYSTEM_NAMESPACE, where.debug_pods[server.node], ["python", "-c", CAPTURE, server.uid, *map(str, ports)]
        )
        assert done.code == 0, done.stderr

    for server in where.servers:
        capture(server, *ports)
    try:
        yield
    finally:
        for server in where.servers:
            capture(server)


@pytest.mark.parametrize("where", [QUICK], indirect=True, scope="module")
def test_capture_that_takes_the_nodes_address_for_its_kubelet_is_caught(where: CheckContext) -> None:
    with captured_but(where, PORT_HTTP):
        found = {one.name: one for one in check_plaintext(where)}
    assert found[PROBES].verdict is Verdict.FAIL
    assert {one.name: one.verdict for one in check_plaintext(where)} == dict.fromkeys(found, Verdict.PASS)


@pytest.mark.slow
@pytest.mark.parametrize("where", [QUICK], indirect=True, scope="module")
def test_a_mesh_that_serves_no_pod_more_is_caught(where: CheckContext) -> None:
    control_plane = workload_target(where.cluster.get("Deployment", CONTROL_PLANE, SYSTEM_NAMESPACE))
    with injected(where.cluster, ControlPlane(), control_plane, run=where.mesh.run):
        found = {one.name: one for one in check_pod_removal(where, ready_seconds=5)}
    assert (found[SERVED].verdict, found[LEAVES].verdict) == (Verdict.FAIL, Verdict.INCONCLUSIVE), found[SERVED]
    assert {one.name: one.verdict for one in check_pod_removal(where)} == {SERVED: Verdict.PASS, LEAVES: Verdict.PASS}
