"""Each scenario is seen to fail a mesh that is wrong: one that lies about who shares, or that breaks more than it says.

Where the mesh's proxies are what they say, the wrong is done beside the fault: a mesh whose node proxies restart
whenever an application rolls out, say, is one where the roll-out deletes them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Container, Iterable
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from chaos.engine.catalogue import scenario_names
from chaos.engine.designs import REPEATS
from chaos.engine.progress import Silent
from chaos.engine.run import Run
from chaos.engine.scenario import SCENARIOS
from chaos.engine.settings import Inconclusive, Settings
from chaos.engine.trial import TrialFailed, TrialInconclusive
from chaos.errors import SharedfateError
from chaos.faults import helper_pod
from chaos.faults.kill import Kill
from chaos.faults.model import Evidence, Receipt
from chaos.faults.network.partition import Partition
from chaos.faults.overload import Overload
from chaos.faults.pause import Pause
from chaos.faults.restart import Restart
from chaos.faults.throttle import Throttle
from chaos.history.model import Cause, Event, EventKind
from chaos.history.store import HEADER_FILE, History
from chaos.kube.client import Cluster, Object
from chaos.load.client import LoaderClient, ServerClient, control_port
from chaos.load.detail import Detail
from chaos.mesh.install import Mesh
from chaos.model.faulting import FaultPhase
from chaos.model.job_fate import ROUNDS, Trouble
from chaos.names import LABEL_ROLE, SYSTEM_NAMESPACE
from chaos.verdict import Verdict
from tests.lying_loaders import Dropping, Stamping
from tests.wrong_meshes import (
    ClassicSidecar,
    Crossed,
    Generous,
    HalfBypassed,
    Lawless,
    Mindless,
    NativeSidecar,
    Restless,
    SecretlySharedSidecar,
    Unbounded,
    Unshared,
)

pytestmark = pytest.mark.privileged

LYING: list[tuple[str, str, type[Mesh]]] = [
    ("client-shut-down", "native-sidecar", ClassicSidecar),
    ("client-shut-down", "sidecar", NativeSidecar),
    ("client-shut-down-proxy-killed", "native-sidecar", ClassicSidecar),
    ("server-shut-down", "native-sidecar", ClassicSidecar),
    ("server-shut-down", "sidecar", NativeSidecar),
    ("server-shut-down", "node", Mindless),
    ("job-completes", "native-sidecar", ClassicSidecar),
    ("job-completes", "sidecar", NativeSidecar),
    ("cron-job", "native-sidecar", ClassicSidecar),
    ("job-proxy-killed", "native-sidecar", ClassicSidecar),
    ("job-starts-before-proxy", "native-sidecar", ClassicSidecar),
    ("proxy-killed", "sidecar", SecretlySharedSidecar),
    ("proxy-paused", "sidecar", SecretlySharedSidecar),
    ("proxy-crash-loop", "sidecar", SecretlySharedSidecar),
    ("noisy-neighbour", "sidecar", SecretlySharedSidecar),
    ("noisy-handshakes", "sidecar", SecretlySharedSidecar),
    ("noisy-bodies", "sidecar", SecretlySharedSidecar),
    ("noisy-connections", "sidecar", SecretlySharedSidecar),
    ("noisy-bytes", "sidecar", SecretlySharedSidecar),
    ("noisy-tunnel", "node", Crossed),
    ("noisy-tunnel", "ambient-namespace", Unshared),
    ("identities-exposed", "sidecar", Generous),
    ("identities-exposed", "node", Lawless),
    ("footprint", "sidecar", Unbounded),
    ("saturation", "sidecar", Unbounded),
    ("proxy-killed", "sidecar", HalfBypassed),
    ("proxy-paused", "native-sidecar", HalfBypassed),
    ("proxy-reconfigured", "node", Restless),
    ("certificates-rotated", "node", Restless),
    ("waypoint-added", "ambient-namespace", Restless),
    ("waypoint-moved", "ambient-namespace", Restless),
    ("waypoint-removed", "ambient-namespace", Restless),
    ("enrolment-on", "node", Restless),
    ("enrolment-off", "node", Restless),
]
# What every test run shows: one of each kind of lie. The others take ten minutes.
QUICK: dict[tuple[str, object], list[pytest.MarkDecorator]] = {
    ("job-completes", ClassicSidecar): [],
    ("proxy-paused", SecretlySharedSidecar): [pytest.mark.judged],
    ("identities-exposed", Generous): [],
}


def marks(scenario: str, lie: object) -> list[pytest.MarkDecorator]:
    return QUICK.get((scenario, lie), [pytest.mark.slow])


def attempt(scenario: str, mode: str, out: Path, mesh: type[Mesh] = Mesh, **options: Any) -> None:
    scenario_names()  # registers them
    with Run(Settings(out=out, modes=(mode,), seed=11, **options), progress=Silent(), mesh=mesh) as run:
        run.attempt(mode, SCENARIOS[scenario])


@pytest.mark.parametrize(
    ("scenario", "mode", "mesh"),
    [pytest.param(*row, marks=marks(row[0], row[2]), id=f"{row[0]}-{row[2].__name__}") for row in LYING],
)
def test_a_mesh_that_lies_about_its_proxies_fails(scenario: str, mode: str, mesh: type[Mesh], tmp_path: Path) -> None:
    with pytest.raises(TrialFailed):
        attempt(scenario, mode, tmp_path / "out", mesh)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", Trouble)
def test_a_mesh_that_lies_about_its_proxies_fails_by_each_trouble_of_jobs(
    trouble: Trouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole scenario takes six minutes: here each of its troubles by itself."""
    scenario_names()
    rounds = [one for one in ROUNDS if one.trouble is trouble]
    monkeypatch.setattr(import_module(SCENARIOS["job-policies"].run.__module__), "ROUNDS", rounds)
    with pytest.raises(TrialFailed, match=trouble):
        attempt("job-policies", "native-sidecar", tmp_path / "out", ClassicSidecar)


END = """
import os, signal
mine = os.readlink("/proc/self/ns/mnt")
for number in filter(str.isdigit, os.listdir("/proc")):
    try:
        if os.readlink(f"/proc/{number}/ns/mnt") == mine and int(number) != os.getpid():
            os.kill(int(number), signal.SIGTERM)
    except OSError:
        pass
"""


def end(cluster: Cluster, pod: Object) -> None:
    """End the processes of a pod's first container from within, as no third party does: a deletion is told apart."""
    meta, container = pod["metadata"], pod["spec"]["containers"][0]["name"]
    with contextlib.suppress(SharedfateError, OSError):  # it takes the command with it
        cluster.exec(meta["namespace"], meta["name"], ["python", "-c", END], container=container)


def take_node_proxies_along(cluster: Cluster) -> None:
    for pod in cluster.list("Pod", SYSTEM_NAMESPACE, labels=f"{LABEL_ROLE}=proxy"):
        if pod["metadata"]["name"].startswith("node-proxy"):
            end(cluster, pod)


def take_a_neighbour_along(cluster: Cluster) -> None:
    pod, *_ = cluster.list("Pod", "tenant-b", labels=f"{LABEL_ROLE}=server")
    end(cluster, pod)


SPREADING: list[tuple[str, str, str, Callable[[Cluster], None]]] = [
    ("app-rolled-out", "node", "Restart", take_node_proxies_along),
    ("control-plane-down", "node", "Scale", take_node_proxies_along),
    ("proxy-partitioned", "sidecar", "Partition", take_a_neighbour_along),
    ("proxy-throttled", "sidecar", "Throttle", take_a_neighbour_along),
    ("proxy-out-of-memory", "sidecar", "OutOfMemory", take_a_neighbour_along),
    ("waypoint-killed", "ambient-namespace", "Kill", take_node_proxies_along),
    ("proxy-upgraded", "node", "Restart", take_a_neighbour_along),
    ("proxy-recreated", "node", "Recreate", take_a_neighbour_along),
    ("root-rotated", "node", "Restart", take_a_neighbour_along),
    ("waypoint-upgraded", "ambient-namespace", "Restart", take_a_neighbour_along),
    ("control-plane-upgraded", "node", "Restart", take_node_proxies_along),
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
    shown_elsewhere = {
        "features",  # tests/engine/features/test_broken.py: a defect for each of its checks
        "job-policies",  # trouble by trouble, above
    }
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


class IdlePause(Pause):
    """Says that it stopped the proxy; does nothing."""

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"states": ["T"]})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"states": ["S"]})


class IdleThrottle(Throttle):
    """Says that it cut the limit; does nothing."""

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"limit": 0.01})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"limit": 0.4})


class IdleRestart(Restart):
    """Says that it rolled out; does nothing."""

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"generation": 2})

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return Evidence(time.time_ns(), {"ready": 2})


@pytest.mark.parametrize(
    ("scenario", "mode", "fault", "idle"),
    [
        pytest.param("proxy-killed", "none", "Kill", IdleKill, id="kill", marks=pytest.mark.slow),
        pytest.param("proxy-partitioned", "none", "Partition", IdlePartition, id="partition", marks=pytest.mark.slow),
        pytest.param("noisy-neighbour", "none", "Overload", IdleOverload, id="overload", marks=pytest.mark.slow),
        pytest.param("app-rolled-out", "none", "Restart", IdleRestart, id="restart", marks=pytest.mark.slow),
        pytest.param("proxy-paused", "ambient-node", "Pause", IdlePause, id="pause", marks=pytest.mark.slow),
        pytest.param("proxy-throttled", "sidecar", "Throttle", IdleThrottle, id="throttle", marks=pytest.mark.slow),
    ],
)
def test_a_fault_that_does_nothing_and_says_it_did_is_never_passed(
    scenario: str, mode: str, fault: str, idle: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(monkeypatch, scenario, fault, lambda sound: idle)
    with pytest.raises(TrialInconclusive, match="not seen to act"):
        attempt(scenario, mode, tmp_path / "out")


def misbehave(cluster: Cluster, tenant: str, **how: float) -> None:
    """A tenant's servers misbehave from now on."""
    for pod in cluster.list("Pod", tenant, labels=f"{LABEL_ROLE}=server"):
        ServerClient.of(cluster, tenant, pod["metadata"]["name"]).misbehave({"seconds": 120, **how})


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


UNDONE = None
HARM: list[tuple[str, str, str, str, str, dict[str, float], float | None, str]] = [
    ("a victim stays broken", "proxy-killed", "node", "Kill", "tenant-a", {"error_share": 0.82}, UNDONE, "not recover"),
    ("a victim stays slow", "proxy-paused", "sidecar", "Pause", "tenant-a", {"delay_ms": 150}, UNDONE, "not recover"),
    ("the undo hurts", "proxy-killed", "node", "Kill", "tenant-c", {"error_share": 0.5}, UNDONE, "hurt by the undo"),
    (
        "the undo hurts another",
        "proxy-partitioned",
        "sidecar",
        "Partition",
        "tenant-b",
        {"reset_share": 0.3},
        UNDONE,
        "hurt by the undo",
    ),
    ("late harm", "proxy-paused", "node", "Pause", "tenant-c", {"error_share": 1.0}, 5.0, "tenant-c/server was hurt"),
    (
        "later harm",
        "proxy-partitioned",
        "sidecar",
        "Partition",
        "tenant-b",
        {"error_share": 0.6},
        7.0,
        "tenant-b/server was hurt",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "mode", "fault", "tenant", "how", "seconds", "sentence"),
    [pytest.param(*row[1:], id=row[0]) for row in HARM],
)
def test_harm_that_comes_with_the_undo_or_late_in_the_fault_fails(
    scenario: str,
    mode: str,
    fault: str,
    tenant: str,
    how: dict[str, float],
    seconds: float | None,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_in_place(
        monkeypatch,
        scenario,
        fault,
        lambda sound: lying_after(sound, lambda cluster: misbehave(cluster, tenant, **how), seconds=seconds),
    )
    with pytest.raises(TrialFailed, match=sentence):
        attempt(scenario, mode, tmp_path / "out")


def harming(sound: type[Any], tenant: str, share: float, *, kills: Container[int]) -> type[Any]:
    """A kill within whose pulse a part of a tenant's requests fails: from its effect until the successor serves.

    What failed before the effect would be the tenant's own noise.

    Args:
        kills: the numbers of those that bring it, from 1.
    """
    made = count(1)

    class Harming(sound):  # type: ignore[misc]
        def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
            seen: Evidence = super().inject(cluster, receipt)
            if next(made) in kills:
                misbehave(cluster, tenant, error_share=share)
            return seen

        def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
            serves = partial(helper_pod.said, cluster, receipt, self.name, "serving")
            cluster.wait("the killed container's successor serves", serves, seconds=30, every=0.01)
            misbehave(cluster, tenant, seconds=0.001)
            seen: Evidence = super().recover(cluster, receipt)
            return seen

    return Harming


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "share"), [("sidecar", 0.1), ("node", 0.3)])
def test_a_bystander_that_loses_a_part_of_its_requests_within_each_kill_is_never_cleared(
    mode: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(
        monkeypatch, "proxy-killed", "Kill", lambda sound: harming(sound, "tenant-c", share, kills=range(1, 100))
    )
    with pytest.raises((TrialFailed, TrialInconclusive), match="tenant-c"):
        attempt("proxy-killed", mode, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sidecar", "node"])
@pytest.mark.parametrize(
    ("kills", "found"),
    [
        pytest.param(range(1, 100), TrialFailed, id="each kill hurts another"),
        pytest.param({1}, TrialInconclusive, id="a burst of another's own meets one"),
    ],
)
def test_a_kill_that_fails_is_repeated_and_fails_only_by_what_each_of_them_does(
    mode: str, kills: Container[int], found: type[AssertionError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(monkeypatch, "proxy-killed", "Kill", lambda sound: harming(sound, "tenant-c", 1.0, kills=kills))
    with pytest.raises(found, match="tenant-c"):
        attempt("proxy-killed", mode, tmp_path / "out", inconclusive=Inconclusive.FAIL)
    (header,) = (tmp_path / "out").rglob(HEADER_FILE)
    said = verdicts_by_kill(History.load(header.parent).events)
    assert len(said) == REPEATS
    assert said[0] == Verdict.FAIL


def verdicts_by_kill(events: Iterable[Event]) -> list[str]:
    """What the judge said last after each kill of a trial."""
    said: list[str] = []
    for event in sorted(events, key=lambda one: one.at):
        if event.kind is EventKind.FAULT and event.data["phase"] == FaultPhase.INJECTED.word:
            said.append("")
        elif event.kind is EventKind.LOOK:
            said[-1] = event.data["verdict"]
    return said


@pytest.mark.slow
@pytest.mark.parametrize("history", Detail)
@pytest.mark.parametrize(
    ("loader", "sentence"), [(Dropping, "left no sample"), (Stamping, "cannot be trusted")], ids=["drops", "stamps"]
)
def test_a_loader_that_lies_about_what_failed_is_never_believed(
    loader: type[LoaderClient], sentence: str, history: Detail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(cluster: Cluster, namespace: str, pod: str, **key: Any) -> LoaderClient:
        return loader(control_port(cluster, namespace, pod, **key))

    monkeypatch.setattr(LoaderClient, "of", of)
    with pytest.raises((TrialFailed, TrialInconclusive), match=sentence):
        attempt("proxy-killed", "sidecar", tmp_path / "out", history=history)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "fault", "seconds", "of", "to"),
    [
        ("proxy-killed", "Kill", None, "tenant-c", "tenant-a"),
        ("proxy-partitioned", "Partition", 3.0, "tenant-b", "tenant-c"),
    ],
)
def test_a_tenant_whose_requests_another_tenants_servers_answer_fails(
    scenario: str, fault: str, seconds: float | None, of: str, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_another(cluster: Cluster) -> None:
        """The tenant's Service leads to another's servers, by endpoints by hand in the selector's place; its own
        servers cut their connections, for those that stand would stay."""
        addresses = [pod["status"]["podIP"] for pod in cluster.list("Pod", to, labels=f"{LABEL_ROLE}=server")]
        cluster.patch("Service", "server", {"spec": {"selector": None}}, of)
        for piece in cluster.list("EndpointSlice", of, labels="kubernetes.io/service-name=server"):
            endpoints = [{"addresses": [one], "conditions": {"ready": True}} for one in addresses]
            cluster.patch("EndpointSlice", piece["metadata"]["name"], {"endpoints": endpoints}, of)
        misbehave(cluster, of, reset_share=1.0, seconds=0.5)

    put_in_place(monkeypatch, scenario, fault, lambda sound: lying_after(sound, to_another, seconds=seconds))
    with pytest.raises(TrialFailed, match=of):
        attempt(scenario, "none", tmp_path / "out")
    (header,) = (tmp_path / "out").rglob(HEADER_FILE)
    trial = History.load(header.parent)
    misrouted = trial.samples["flow"][trial.samples["cause"] == Cause.MISROUTED]
    assert {trial.flows[number].server for number in misrouted} == {f"{of}/server"}
    assert len(misrouted) > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "mode", "fault", "seconds"),
    [("proxy-killed", "sidecar", "Kill", None), ("proxy-paused", "native-sidecar", "Pause", 4.0)],
)
def test_a_restart_of_another_container_in_the_targets_pod_fails(
    scenario: str, mode: str, fault: str, seconds: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_the_application(cluster: Cluster) -> None:
        pod, *_ = cluster.list("Pod", "tenant-a", labels=f"{LABEL_ROLE}=client")
        done = cluster.exec("tenant-a", pod["metadata"]["name"], ["sh", "-c", "kill -TERM 1"], container="client")
        assert done.code == 0, done.stderr

    put_in_place(monkeypatch, scenario, fault, lambda sound: lying_after(sound, with_the_application, seconds=seconds))
    with pytest.raises(TrialFailed, match=r"\[client\] restarted"):
        attempt(scenario, mode, tmp_path / "out")
