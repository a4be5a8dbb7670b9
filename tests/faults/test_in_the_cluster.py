"""Every fault, on one cluster: it acts (a lower bound), it ends, and what it took away is there again."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cli import main
from chaos.engine.usage import Key, Meters, digits_of
from chaos.errors import GuardTripped, NoEffect, RecoveryFailed, Stopped, TargetVanished
from chaos.faults import helper_pod, receipts
from chaos.faults.api_trouble import ApiTrouble
from chaos.faults.catalogue import FAULTS, fault_class
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.cut_node import CutNode
from chaos.faults.delete_pod import DeletePod
from chaos.faults.drain import Drain
from chaos.faults.dry_run import dry_run
from chaos.faults.full_files import FullFiles
from chaos.faults.guards import Guard
from chaos.faults.helper_pod import LABEL_HELPED
from chaos.faults.hog import Hog
from chaos.faults.injection import inject_all, injected, undo_overdue
from chaos.faults.kill import Kill
from chaos.faults.model import Fault, Receipt, Target
from chaos.faults.needs import Need, missing
from chaos.faults.network.degrade import Degrade
from chaos.faults.network.dns import Dns
from chaos.faults.network.drop import Drop
from chaos.faults.network.full_connections import FullConnections
from chaos.faults.network.mute import Mute
from chaos.faults.network.partition import Partition
from chaos.faults.network.reset import Reset
from chaos.faults.out_of_memory import OutOfMemory
from chaos.faults.overload import Overload
from chaos.faults.pause import Pause
from chaos.faults.recreate import Recreate
from chaos.faults.restart import Restart
from chaos.faults.scale import Scale
from chaos.faults.stop_kubelet import StopKubelet
from chaos.faults.stop_node import StopNode
from chaos.faults.stop_signal import StopSignal
from chaos.faults.throttle import Throttle
from chaos.faults.upgrade import Upgrade
from chaos.kube.objects import containers_seen
from chaos.names import SYSTEM_NAMESPACE
from tests.faults.runner import spawn
from tests.faults.small_world import RUN, World, small_world

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with small_world(f"faults-{os.getpid()}") as made:
        yield made
        made.nothing_left()


@pytest.fixture(autouse=True)
def nothing_is_held(world: World) -> Iterator[None]:
    yield
    world.nothing_held()


def closed(world: World, fault: Fault, target: Target) -> Receipt:
    """Inject and recover; the receipt as it was closed."""
    last: list[Receipt] = []
    with injected(world.cluster, fault, target, run=RUN, on_phase=lambda phase, receipt: last.append(receipt)):
        pass
    return last[-1]


@pytest.mark.parametrize("number", [9, 15])
def test_a_killed_container_is_replaced(world: World, number: int) -> None:
    target = world.proxy(0 if number == 9 else 1)
    receipt = closed(world, Kill(signal=number), target)
    assert receipt.evidence["gone_after_ms"] >= 0
    assert receipt.evidence["recovery"]["container_id"] != target.container_id
    assert receipt.injected_at < receipt.recovered_at


def test_a_paused_server_answers_nobody_and_then_everybody(world: World) -> None:
    with injected(world.cluster, Pause(), world.server(), run=RUN):
        world.ill("kept")
    world.well("kept")


@pytest.mark.parametrize(
    "fault",
    [Partition(), Drop(ports=(8080,)), pytest.param(Drop(direction="in"), marks=pytest.mark.slow), Reset()],
    ids=["partition", "drop-port", "drop-in", "reset"],
)
def test_packets_that_are_lost_are_missed(world: World, fault: Fault) -> None:
    with injected(world.cluster, fault, world.server(), run=RUN):
        world.ill("kept")
    world.well("kept")


def test_a_mute_server_takes_connections_and_answers_none(world: World) -> None:
    with injected(world.cluster, Mute(), world.server(), run=RUN):
        world.ill("kept")
        server = world.server()  # its readiness probe does not notice
        address = world.cluster.get("Pod", server.name, "tenant-a")["status"]["podIP"]
        code = f"import socket; print(bool(socket.create_connection(({address!r}, 8080), timeout=5)))"
        client = world.client().name
        assert world.cluster.exec("tenant-a", client, ["python", "-c", code]).stdout.strip() == "True"
    world.well("kept")


def test_a_full_connection_table_refuses_the_new_and_carries_the_old(world: World) -> None:
    with injected(world.cluster, FullConnections(), world.server(), run=RUN):
        world.ill("fresh")
        world.well("kept")
    world.well("fresh")


def test_a_server_without_a_file_descriptor_takes_no_connection_until_it_has_some(world: World) -> None:
    with injected(world.cluster, FullFiles(), world.server(), run=RUN) as (receipt,):
        world.ill("fresh")
        assert all(one["spare"] == 0 for one in receipt.evidence["files"])
    world.well("fresh")


def test_packets_of_another_peer_are_not_lost(world: World) -> None:
    with injected(world.cluster, Drop(peers=("192.0.2.0/24",)), world.server(), run=RUN):
        world.well("kept")


def test_a_degraded_link_is_slow(world: World) -> None:
    with injected(world.cluster, Degrade(delay_ms=600), world.server(), run=RUN) as (receipt,):
        world.ill("kept")  # later than the loader's patience
        assert receipt.evidence["means"]
    world.well("kept")


@pytest.mark.parametrize("answer", ["servfail", pytest.param("silence", marks=pytest.mark.slow), "lie"])
def test_names_fail_or_lie(world: World, answer: str) -> None:
    client = world.client()
    code = "import socket; print(socket.gethostbyname('server.tenant-a.svc.cluster.local'))"
    look = ["env", "RES_OPTIONS=timeout:1 attempts:1 ndots:1", "python", "-c", code]

    def resolved() -> str:
        return world.cluster.exec("tenant-a", client.name, look, container="client").stdout.strip()

    right = resolved()
    assert right
    with injected(world.cluster, Dns(answer=answer), client, run=RUN):  # type: ignore[arg-type]
        assert resolved() == ("192.0.2.1" if answer == "lie" else "")
    assert resolved() == right


def test_only_the_names_that_are_meant_lie(world: World) -> None:
    client = world.client()
    code = (
        "import socket; print(*("
        "socket.gethostbyname(n + '.svc.cluster.local') for n in ('server.tenant-a', 'kubernetes.default')))"
    )
    with injected(world.cluster, Dns(answer="lie", names=("server.tenant-a.svc.cluster.local",)), client, run=RUN):
        lied, right = world.cluster.exec("tenant-a", client.name, ["python", "-c", code]).stdout.split()
    assert (lied, right) == ("192.0.2.1", "10.96.0.1")


def test_a_throttled_proxy_gets_its_budget_back(world: World) -> None:
    receipt = closed(world, Throttle(millicores=20), world.proxy())
    assert (receipt.evidence["limit"], receipt.evidence["recovery"]["limit"]) == ("20m", "600m")


def test_a_deleted_pod_has_a_successor(world: World) -> None:
    receipt = closed(world, DeletePod(grace=0), world.server())
    assert receipt.evidence["recovery"]["replacement"]
    world.well()


def test_a_crash_loop_backs_off_and_ends(world: World) -> None:
    receipt = closed(world, CrashLoop(), world.server())  # its pod is young, its back-off short
    assert receipt.evidence["waiting"] in ("CrashLoopBackOff", "terminated")
    assert receipt.evidence["restarts"] > receipt.facts["restarts"]
    assert receipt.evidence["recovery"]["restarts"] > receipt.evidence["restarts"]


def test_a_hog_eats_beside_its_target(world: World) -> None:
    target = world.server()
    with injected(world.cluster, Hog(cores=1, memory_mib=64), target, run=RUN) as (receipt,):
        assert receipt.evidence["cores"] > 0.05
        assert receipt.evidence["resident_mib"] >= 64
        pods = [pod for pod in world.helpers() if pod["metadata"]["labels"][LABEL_HELPED] == receipt.id]
        assert [pod["spec"]["nodeName"] for pod in pods] == [target.node]


def test_meters_on_the_nodes_read_what_a_hog_eats(world: World) -> None:
    def running() -> dict[str, Key]:
        return {
            digits_of(seen.container_id): (seen.namespace, seen.pod, name)
            for pod in world.cluster.list("Pod", SYSTEM_NAMESPACE)
            for name, seen in containers_seen(pod).items()
            if seen.container_id
        }

    with injected(world.cluster, Hog(cores=1, memory_mib=64), world.server(), run=RUN) as (receipt,):
        name = helper_pod.pod_name(receipt, "hog")
        meters = Meters(world.cluster, RUN, world.nodes, running)

        def seen() -> dict[str, float]:
            return next((one["containers"]["helper"] for one in meters.read() if one["pod"] == name), {})

        used = world.cluster.wait("a reading of the hog", seen, seconds=60)
        assert used["cores"] > 0.05
        assert used["bytes"] > 64 * 2**20
    for pod in world.helpers():
        world.cluster.delete("Pod", pod["metadata"]["name"], SYSTEM_NAMESPACE, grace=0)


@pytest.mark.parametrize("fault", [Restart(), Recreate()], ids=["restart", "recreate"])
def test_a_workload_comes_back_with_other_pods(world: World, fault: Fault) -> None:
    before = world.server().uid
    receipt = closed(world, fault, world.workload())
    assert receipt.evidence["recovery"]["ready"] == 1
    assert world.server().uid != before
    world.well()


def test_a_container_that_runs_out_of_memory_is_killed_by_the_kernel(world: World) -> None:
    receipt = closed(world, OutOfMemory(), world.server())  # young again
    assert receipt.evidence["reason"] in ("OOMKilled", "Error"), "a runtime may report the end before its cause"
    assert receipt.evidence["exit_code"] == 137
    assert receipt.evidence["oom_kills"] >= 1
    assert receipt.evidence["recovery"]["restarts"] >= 1


def test_an_upgrade_is_rolled_out_and_exactly_taken_back(world: World) -> None:
    template = world.cluster.get("Deployment", "server", "tenant-a")["spec"]["template"]
    with injected(world.cluster, Upgrade(env={"VERSION": "2"}), world.workload(), run=RUN):
        container = world.pod("tenant-a", "server")["spec"]["containers"][0]
        assert {"name": "VERSION", "value": "2"} in container["env"]
    assert world.cluster.get("Deployment", "server", "tenant-a")["spec"]["template"] == template
    world.well()


def test_a_workload_scaled_to_nothing_is_missed(world: World) -> None:
    with injected(world.cluster, Scale(), world.workload(), run=RUN):
        world.ill()
    world.well()


def test_a_drained_node_takes_its_pods_again(world: World) -> None:
    world.needs_embedded()
    with injected(world.cluster, Drain(), world.node(1), run=RUN) as (receipt,):
        assert receipt.evidence["evicted"] >= 1
        assert world.cluster.get("Node", world.nodes[1])["spec"]["unschedulable"]
        world.ill()
    assert "unschedulable" not in world.cluster.get("Node", world.nodes[1])["spec"]
    world.well()


@pytest.mark.parametrize("fault", [StopNode(), CutNode()], ids=["stop", "cut"])
def test_a_node_that_is_gone_is_missed_and_comes_back(world: World, fault: Fault) -> None:
    world.needs_embedded()
    with injected(world.cluster, fault, world.node(1), run=RUN):
        world.ill()
    world.well()


def test_without_its_kubelet_a_node_goes_on_and_restarts_nothing(world: World) -> None:
    world.needs_embedded()
    with injected(world.cluster, StopKubelet(), world.node(1), run=RUN) as (receipt,):
        assert receipt.evidence["kubelet"] is False
        world.well()
    world.well()


def test_the_api_server_fails_one_workload_alone(world: World) -> None:
    world.needs_embedded()
    closed(world, ApiTrouble(silent=True), world.workload("control-plane", SYSTEM_NAMESPACE))
    world.cluster.wait("the control plane watches again", lambda: world.mesh.control_plane("/readyz"), seconds=30)
    with injected(world.cluster, ApiTrouble(code=503), world.workload("watchdog", SYSTEM_NAMESPACE), run=RUN) as (
        receipt,
    ):
        shown = world.cluster.wait("a request met it", lambda: world.trouble(receipt.id)["met"], seconds=20)
        assert shown >= 1
        assert world.cluster.list("Node")  # we are not meant
    assert world.trouble(receipt.id) == {}


@pytest.mark.parametrize("profile", ["handshakes", "bodies", "slow-readers"])
def test_an_overload_takes_effect_and_ends(world: World, profile: str) -> None:
    name = f"aggressor-{profile}"

    def sent() -> dict[str, int]:
        return next((flow for flow in world.ask("/state")["flows"] if flow["name"] == name), {"sent": 0, "opened": 0})

    fault = Overload(server="tenant-a/server", profile=profile, start_rate=60, max_rate=120)
    with injected(world.cluster, fault, world.client(), run=RUN):
        world.cluster.wait("60 requests of the aggressor", lambda: sent()["sent"] > 60, seconds=20)
    last = sent()
    if profile == "handshakes":
        assert last["opened"] >= last["sent"] / 2  # a connection for each request, but for those cut off by the end
    world.well()
    last = sent()
    world.shares()  # as long as the load needs for some requests more
    assert sent() == last


# ---- the life of a fault


def test_two_faults_are_held_at_once(world: World) -> None:
    with inject_all(
        world.cluster, [(Throttle(millicores=50), world.proxy()), (Pause(), world.server())], run=RUN
    ) as receipts:
        assert [receipt.fault for receipt in receipts] == ["throttle", "pause"]
        world.ill("kept")
    world.well("kept")


def test_a_target_that_vanished_is_its_own_error(world: World) -> None:
    stale = dataclasses.replace(world.server(), uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(TargetVanished, match="no such pod"), injected(world.cluster, Pause(), stale, run=RUN):
        pytest.fail("the block must not run")


def test_a_target_that_vanishes_while_it_is_broken_is_said_so(world: World) -> None:
    target = world.server()

    def course() -> None:
        with injected(world.cluster, Pause(), target, run=RUN):
            world.cluster.delete("Pod", target.name, target.namespace, grace=0)
            world.cluster.wait(
                "the pod gone", lambda: world.cluster.find("Pod", target.name, target.namespace) is None, seconds=20
            )

    with pytest.raises(TargetVanished, match="while the fault was held"):
        course()
    world.well()


def test_a_fault_without_effect_is_its_own_error_and_is_taken_back(world: World) -> None:
    fault = Upgrade(image="nowhere.example/nothing:1", seconds=2)
    with pytest.raises(NoEffect, match="not rolled out"), injected(world.cluster, fault, world.workload(), run=RUN):
        pytest.fail("the block must not run")
    world.well()


def test_a_recovery_that_fails_is_its_own_error_and_is_tried_again(world: World) -> None:
    target = world.server()  # its pod is young: no back-off, which would have to pass before its successor can come
    with pytest.raises(ExceptionGroup) as caught, injected(world.cluster, Kill(restart_seconds=0.2), target, run=RUN):
        pass
    assert caught.group_contains(RecoveryFailed)
    assert receipts.open_receipts(world.cluster)

    def undone() -> list[Receipt]:  # once its successor is ready, the same undo has what it waits for
        try:
            return undo_overdue(world.cluster, now=0, everything=True)
        except ExceptionGroup:
            return []

    assert [one.fault for one in world.cluster.wait("undone", undone, seconds=90)] == ["kill"]


def test_a_guard_ends_the_fault_at_once(world: World) -> None:
    def error_share() -> float:
        return 1 - world.shares("kept", requests=10).ok

    def course() -> None:
        with injected(world.cluster, Pause(), world.server(), run=RUN, guards=[Guard("errors", error_share, 0.3)]):
            world.cluster.wait("undone within the block", lambda: not receipts.open_receipts(world.cluster), seconds=30)
            world.well("kept")

    with pytest.raises(GuardTripped, match="errors is"):
        course()


def test_the_stop_file_ends_everything_and_lets_nothing_begin(world: World, tmp_path: Path) -> None:
    file = tmp_path / "stop"
    button = StopSignal(world.cluster, file=str(file))

    def course() -> None:
        with injected(world.cluster, Pause(), world.server(), run=RUN, stop=button):
            file.touch()
            world.cluster.wait("undone within the block", lambda: not receipts.open_receipts(world.cluster), seconds=30)

    with pytest.raises(Stopped, match="the file"):
        course()
    with (
        pytest.raises(Stopped, match="before anything"),
        injected(world.cluster, Pause(), world.server(), run=RUN, stop=button),
    ):
        pytest.fail("the block must not run")


def test_a_dry_run_names_every_write_and_makes_none(world: World) -> None:
    target = world.proxy()
    lines = dry_run(
        world.cluster, [(Throttle(millicores=20), target), (Pause(), world.server())], run=RUN, seconds=60, now=0
    )
    text = "\n".join(lines)
    assert '"cpu": "20m"' in text
    assert '"cpu": "600m"' in text  # the way back
    assert "chaos.inpod.process_helper pause --uid" in text
    assert not receipts.open_receipts(world.cluster)
    world.well("kept")


def test_the_command_injects_holds_and_undoes(world: World) -> None:
    arguments = [
        "inject",
        "pause",
        "--cluster",
        world.option,
        "--layer",
        "app",
        "--tenant",
        "a",
        "--labels",
        "app=server",
        "--for",
        "1s",
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()] == ["receipt", "injected", "recovered"]
    refused = CliRunner().invoke(main, ["inject", "pause", "--cluster", world.option, "--tenant", "z"])
    assert (refused.exit_code, "nothing matches" in refused.output) == (1, True)


def test_the_cluster_says_which_faults_it_allows(world: World) -> None:
    ours = {Need.NODE_POWER, Need.API_TROUBLE}  # which no cluster but the embedded one offers
    expected = set() if world.embedded else {name for name in FAULTS if ours & set(fault_class(name).needs)}
    assert {name for name in FAULTS if missing(world.cluster, fault_class(name).needs)} == expected


def test_a_fault_whose_runner_is_killed_is_over_after_its_deadline(world: World) -> None:
    process = spawn(world, Pause(seconds=300), world.server(), 3)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
    finally:
        process.kill()
        process.communicate()
    world.ill("kept")  # held still: nobody has undone it
    world.well("kept")  # the watchdog has


def test_the_same_fault_from_a_second_process_is_refused_and_the_first_gives_the_limit_back(world: World) -> None:
    target = world.proxy()
    pod = world.cluster.get("Pod", target.name, target.namespace)
    process = spawn(world, Throttle(millicores=20), target, 300)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        arguments = ["--namespace", target.namespace, "--pod", target.name, "--container", target.container]
        done = CliRunner().invoke(main, ["inject", "throttle", "--cluster", world.option, *arguments, "--for", "1s"])
        assert (done.exit_code, f"process {process.pid} on" in done.output, "run faults" in done.output) == (
            4,
            True,
            True,
        )
        CliRunner().invoke(main, ["stop", "--cluster", world.option])
        process.wait(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert world.cluster.get("Pod", target.name, target.namespace)["spec"]["containers"] == pod["spec"]["containers"]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_undoes_before_it_ends(world: World, number: int) -> None:
    command = [
        sys.executable,
        "-m",
        "chaos.cli",
        "inject",
        "pause",
        "--cluster",
        world.option,
        "--labels",
        "app=server",
        "--for",
        "5m",
    ]
    # In a shell's background a process inherits that SIGINT is ignored; Ctrl-C reaches only a process that it does not.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)
    )
    try:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("injected"):
            assert process.poll() is None
        process.send_signal(number)
        assert "recovered" in process.communicate(timeout=60)[0]
    finally:
        process.kill()
        process.communicate()
    assert not receipts.open_receipts(world.cluster)


def test_the_stop_command_undoes_what_another_holds(world: World) -> None:
    process = spawn(world, Pause(), world.server(), 300)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        done = CliRunner().invoke(main, ["stop", "--cluster", world.option])
        assert "undone: pause on tenant-a/" in done.output
        assert process.wait(timeout=60) != 0  # the runner is told, and is not green
    finally:
        process.kill()
        process.communicate()
        CliRunner().invoke(main, ["stop", "--cluster", world.option, "--lift"])
    world.well("kept")
