"""Each scenario is seen to fail a mesh that is wrong: one that lies about who shares, or that breaks more than it says.

Where the mesh's proxies are what they say, the wrong is done beside the fault: a mesh whose node proxies restart
whenever an application rolls out, say, is one where the roll-out deletes them.
"""

from __future__ import annotations

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
from chaos.engine.trial import TrialFailed
from chaos.errors import RecoveryFailed
from chaos.faults.model import Evidence, Receipt
from chaos.kube.client import Cluster
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
    with pytest.raises((TrialFailed, ExceptionGroup)) as caught:
        attempt(scenario, mode, tmp_path / "out", mesh)
    if isinstance(caught.value, ExceptionGroup):  # a proxy that was killed, and that nobody brings back
        assert caught.group_contains(RecoveryFailed)


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
