"""Each scenario is seen to fail a mesh that is wrong: one that lies about who shares, or that breaks more than it says.

Where the mesh's proxies are what they say, the wrong is done beside the fault: a mesh whose node proxies restart
whenever an application rolls out, say, is one where the roll-out deletes them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from chaos.engine.catalogue import scenario_names
from chaos.engine.progress import Silent
from chaos.engine.run import Run
from chaos.engine.scenario import SCENARIOS
from chaos.engine.settings import Settings
from chaos.engine.trial import TrialFailed, TrialInconclusive
from chaos.faults.kill import Kill
from chaos.faults.model import Evidence, Receipt
from chaos.faults.network.partition import Partition
from chaos.faults.overload import Overload
from chaos.faults.restart import Restart
from chaos.kube.client import Cluster
from chaos.load.client import ServerClient
from chaos.mesh.install import Mesh
from chaos.names import LABEL_ROLE, SYSTEM_NAMESPACE
from tests.wrong_meshes import ClassicSidecar, Generous, NativeSidecar, SecretlySharedSidecar, Unbounded

pytestmark = pytest.mark.privileged

LYING: list[tuple[str, str, type[Mesh]]] = [
    ("job-completes", "native-sidecar", ClassicSidecar),
    ("job-completes", "sidecar", NativeSidecar),
    ("job-proxy-killed", "native-sidecar", ClassicSidecar),
    ("job-starts-before-proxy", "native-sidecar", ClassicSidecar),
    ("proxy-killed", "sidecar", SecretlySharedSidecar),
    ("proxy-paused", "sidecar", SecretlySharedSidecar),
    ("proxy-crash-loop", "sidecar", SecretlySharedSidecar),
    ("noisy-neighbour", "sidecar", SecretlySharedSidecar),
    ("noisy-handshakes", "sidecar", SecretlySharedSidecar),
    ("noisy-bodies", "sidecar", SecretlySharedSidecar),
    ("identities-exposed", "sidecar", Generous),
    ("footprint", "sidecar", Unbounded),
    ("saturation", "sidecar", Unbounded),
]
# What every test run shows: one of each kind of lie. The others take ten minutes.
QUICK = {
    ("job-completes", ClassicSidecar),
    ("proxy-paused", SecretlySharedSidecar),
    ("identities-exposed", Generous),
    ("waypoint-killed", "Kill"),
}


def marks(scenario: str, lie: object) -> list[pytest.MarkDecorator]:
    return [] if (scenario, lie) in QUICK else [pytest.mark.slow]


def attempt(scenario: str, mode: str, out: Path, mesh: type[Mesh] = Mesh) -> None:
    scenario_names()  # registers them
    with Run(Settings(out=out, modes=(mode,), seed=11), progress=Silent(), mesh=mesh) as run:
        run.attempt(mode, SCENARIOS[scenario])


@pytest.mark.parametrize(
    ("scenario", "mode", "mesh"),
    [pytest.param(*row, marks=marks(row[0], row[2]), id=f"{row[0]}-{row[2].__name__}") for row in LYING],
)
def test_a_mesh_that_lies_about_its_proxies_fails(scenario: str, mode: str, mesh: type[Mesh], tmp_path: Path) -> None:
    with pytest.raises(TrialFailed):
        attempt(scenario, mode, tmp_path / "out", mesh)


def take_node_proxies_along(cluster: Cluster) -> None:
    for pod in cluster.list("Pod", SYSTEM_NAMESPACE, labels=f"{LABEL_ROLE}=proxy"):
        if pod["metadata"]["name"].startswith("node-proxy"):
            cluster.delete("Pod", pod["metadata"]["name"], SYSTEM_NAMESPACE)


def take_a_neighbour_along(cluster: Cluster) -> None:
    pod, *_ = cluster.list("Pod", "tenant-b", labels=f"{LABEL_ROLE}=server")
    cluster.delete("Pod", pod["metadata"]["name"], "tenant-b")


SPREADING: list[tuple[str, str, str, Callable[[Cluster], None]]] = [
    ("app-rolled-out", "node", "Restart", take_node_proxies_along),
    ("control-plane-down", "node", "Scale", take_node_proxies_along),
    ("proxy-partitioned", "sidecar", "Partition", take_a_neighbour_along),
    ("proxy-throttled", "sidecar", "Throttle", take_a_neighbour_along),
    ("proxy-out-of-memory", "sidecar", "OutOfMemory", take_a_neighbour_along),
    ("waypoint-killed", "ambient-namespace", "Kill", take_node_proxies_along),
    ("proxy-upgraded", "node", "Restart", take_a_neighbour_along),
    ("proxy-recreated", "node", "Recreate", take_a_neighbour_along),
    ("noisy-slow-readers", "node", "Overload", take_a_neighbour_along),
]


@pytest.mark.parametrize(
    ("scenario", "mode", "fault", "also"),
    [pytest.param(*row, marks=marks(row[0], row[2]), id=row[0]) for row in SPREADING],
)
def test_a_mesh_that_breaks_more_than_it_says_fails(
    scenario: str,
    mode: str,
    fault: str,
    also: Callable[[Cluster], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario_names()
    module = import_module(SCENARIOS[scenario].run.__module__)
    sound = getattr(module, fault)

    class Spreading(sound):  # type: ignore[misc,valid-type]
        def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
            seen: Evidence = super().inject(cluster, receipt)
            also(cluster)
            return seen

    monkeypatch.setattr(module, fault, Spreading)
    with pytest.raises(TrialFailed):
        attempt(scenario, mode, tmp_path / "out")


def test_every_scenario_has_a_mesh_that_it_fails() -> None:
    shown_elsewhere = {"features"}  # tests/engine/features/test_broken.py: a defect for each of its checks
    rows: list[tuple[Any, ...]] = [*LYING, *SPREADING]
    assert {row[0] for row in rows} | shown_elsewhere == set(scenario_names())


# Faults and meshes that lie about what they did: red, or inconclusive; never green.


def put_in_place(
    monkeypatch: pytest.MonkeyPatch, scenario: str, fault: str, make: Callable[[type[Any]], type[Any]]
) -> None:
    """Another fault in place of one of a scenario's, for its injection and, which starts from the receipt, its undo."""
    scenario_names()
    module = import_module(SCENARIOS[scenario].run.__module__)
    sound = getattr(module, fault)
    lying = make(sound)
    monkeypatch.setattr(module, fault, lying)
    monkeypatch.setattr(import_module(sound.__module__), sound.__name__, lying)


class IdleKill(Kill):
    """Says that it killed, and that its successor serves; does nothing."""

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"phase": "injected"})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"phase": "recovered"})


class IdlePartition(Partition):
    """Says that it cut the proxy off; does nothing."""

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"phase": "injected"})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"phase": "recovered"})


class IdleOverload(Overload):
    """Says that it saturated the path; does nothing."""

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"phase": "hold", "why": "slow"})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"stopped": True})


class IdleRestart(Restart):
    """Says that it rolled out; does nothing."""

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"generation": 2})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"ready": 2})


@pytest.mark.parametrize(
    ("scenario", "mode", "fault", "idle"),
    [
        pytest.param("proxy-killed", "none", "Kill", IdleKill, id="kill"),
        pytest.param("proxy-partitioned", "none", "Partition", IdlePartition, id="partition", marks=pytest.mark.slow),
        pytest.param("noisy-neighbour", "none", "Overload", IdleOverload, id="overload", marks=pytest.mark.slow),
        pytest.param("app-rolled-out", "none", "Restart", IdleRestart, id="restart", marks=pytest.mark.slow),
    ],
)
def test_a_fault_that_does_nothing_and_says_it_did_is_never_passed(
    scenario: str, mode: str, fault: str, idle: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(monkeypatch, scenario, fault, lambda sound: idle)
    with pytest.raises(TrialInconclusive, match="not seen to act"):
        attempt(scenario, mode, tmp_path / "out")


def half_dead(cluster: Cluster, tenant: str, share: float) -> None:
    """A tenant's servers answer a share of their requests with an error, from now on."""
    for pod in cluster.list("Pod", tenant, labels=f"{LABEL_ROLE}=server"):
        ServerClient.of(cluster, tenant, pod["metadata"]["name"]).misbehave({"error_share": share, "seconds": 120})


def lying_after(sound: type[Any], harm: Callable[[Cluster], None], *, seconds: float | None) -> type[Any]:
    """A fault whose undo (`seconds` None), or whose course after so many seconds, brings harm with it."""

    class Lying(sound):  # type: ignore[misc]
        def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
            seen: Evidence = super().inject(cluster, receipt)
            if seconds is not None:
                timer = threading.Timer(seconds, harm, args=(cluster,))
                timer.daemon = True
                timer.start()
            return seen

        def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
            seen: Evidence = super().recover(cluster, receipt)
            if seconds is None:
                harm(cluster)
            return seen

    return Lying


@pytest.mark.parametrize(
    ("scenario", "mode", "fault", "harm", "seconds", "sentence"),
    [
        pytest.param(
            "proxy-killed", "node", "Kill", ("tenant-a", 0.82), None, "did not recover", id="a victim stays broken"
        ),
        pytest.param(
            "proxy-killed",
            "node",
            "Kill",
            ("tenant-c", 0.5),
            None,
            "hurt by the undo",
            id="a bystander is hurt by it",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "proxy-paused",
            "node",
            "Pause",
            ("tenant-c", 1.0),
            5.0,
            "tenant-c/server was hurt",
            id="late harm",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_harm_that_comes_with_the_undo_or_late_in_the_fault_fails(
    scenario: str,
    mode: str,
    fault: str,
    harm: tuple[str, float],
    seconds: float | None,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_in_place(
        monkeypatch,
        scenario,
        fault,
        lambda sound: lying_after(sound, lambda cluster: half_dead(cluster, *harm), seconds=seconds),
    )
    with pytest.raises(TrialFailed, match=sentence):
        attempt(scenario, mode, tmp_path / "out")


@pytest.mark.slow
def test_a_tenant_whose_requests_another_tenants_servers_answer_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_another(cluster: Cluster) -> None:
        """Tenant c's Service leads to tenant a's servers: endpoints by hand, in the selector's place."""
        addresses = [pod["status"]["podIP"] for pod in cluster.list("Pod", "tenant-a", labels=f"{LABEL_ROLE}=server")]
        for tenant in ("tenant-c",):
            cluster.patch("Service", "server", {"spec": {"selector": None}}, tenant)
            for piece in cluster.list("EndpointSlice", tenant, labels="kubernetes.io/service-name=server"):
                endpoints = [{"addresses": [one], "conditions": {"ready": True}} for one in addresses]
                cluster.patch("EndpointSlice", piece["metadata"]["name"], {"endpoints": endpoints}, tenant)

    put_in_place(monkeypatch, "proxy-killed", "Kill", lambda sound: lying_after(sound, to_another, seconds=None))
    with pytest.raises((TrialFailed, TrialInconclusive)):
        attempt("proxy-killed", "none", tmp_path / "out")


@pytest.mark.slow
def test_a_restart_of_another_container_in_the_targets_pod_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_the_application(cluster: Cluster) -> None:
        pod, *_ = cluster.list("Pod", "tenant-a", labels=f"{LABEL_ROLE}=client")
        done = cluster.exec("tenant-a", pod["metadata"]["name"], ["sh", "-c", "kill -TERM 1"], container="client")
        assert done.code == 0, done.stderr

    put_in_place(
        monkeypatch, "proxy-killed", "Kill", lambda sound: lying_after(sound, with_the_application, seconds=None)
    )
    with pytest.raises(TrialFailed, match=r"\[client\] restarted"):
        attempt("proxy-killed", "sidecar", tmp_path / "out")
