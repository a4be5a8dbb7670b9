"""Runners killed at random moments, and what else dies while a fault is held: after the deadline no fault remains.

With SHAREDFATE_PROOF_LOG naming a file, every test adds a line to it: what ended, and how long the way back took;
`python -m proof.faults` runs them so, and makes the page of results.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product

import pytest

from chaos.faults import receipts
from chaos.faults.api_trouble import ApiTrouble
from chaos.faults.certificates import ExpireCertificates
from chaos.faults.control_plane import ControlPlane
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.cut_node import CutNode
from chaos.faults.delete_pod import DeletePod
from chaos.faults.drain import Drain
from chaos.faults.full_files import FullFiles
from chaos.faults.hog import Hog
from chaos.faults.injection import injected
from chaos.faults.kill import Kill
from chaos.faults.misanswer import Misanswer
from chaos.faults.model import Fault, Target
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
from chaos.faults.selection import Selector, select
from chaos.faults.stop_kubelet import StopKubelet
from chaos.faults.stop_node import StopNode
from chaos.faults.throttle import Throttle
from chaos.faults.upgrade import Upgrade
from chaos.faults.wrong_push import WrongPush
from chaos.model.modes import MODES
from chaos.names import SYSTEM_NAMESPACE
from tests.faults.runner import spawn
from tests.faults.small_world import World, small_world

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

TENANTS = ("a", "b", "c", "d")
DEADLINE = 3.0  # seconds of each fault
KILLED_UNTIL = 4.5  # seconds after a runner's start: before, while and after it injects, and after its deadline
PARTS = 3  # of twelve runners, in each of seven modes: 252 in all
SEED = 20260601

Make = Callable[[World, str], tuple[Fault, Target]]
LOG = "SHAREDFATE_PROOF_LOG"

# What one tenant's server can suffer while the others suffer something else.
OF_TENANTS: dict[str, Make] = {
    "kill": lambda w, t: (Kill(), w.server(tenant=t)),
    "terminate": lambda w, t: (Kill(signal=15), w.server(tenant=t)),
    "crash-loop": lambda w, t: (CrashLoop(), w.server(tenant=t)),
    "pause": lambda w, t: (Pause(), w.server(tenant=t)),
    "out-of-memory": lambda w, t: (OutOfMemory(), w.server(tenant=t)),
    "throttle": lambda w, t: (Throttle(millicores=10), w.server(tenant=t)),
    "hog": lambda w, t: (Hog(cores=1), w.server(tenant=t)),
    "overload": lambda w, t: (
        Overload(server=f"tenant-{t}/server", start_rate=200, max_rate=400, seconds=8),
        w.client(tenant=t),
    ),
    "full-files": lambda w, t: (FullFiles(), w.server(tenant=t)),
    "delete-pod": lambda w, t: (DeletePod(grace=0), w.server(tenant=t)),
    "restart": lambda w, t: (Restart(), w.workload(namespace=f"tenant-{t}")),
    "recreate": lambda w, t: (Recreate(), w.workload(namespace=f"tenant-{t}")),
    "upgrade": lambda w, t: (Upgrade(env={"VERSION": "2"}), w.workload(namespace=f"tenant-{t}")),
    "scale": lambda w, t: (Scale(), w.workload(namespace=f"tenant-{t}")),
    "partition": lambda w, t: (Partition(), w.server(tenant=t)),
    "drop": lambda w, t: (Drop(direction="in"), w.server(tenant=t)),
    "reset": lambda w, t: (Reset(), w.server(tenant=t)),
    "mute": lambda w, t: (Mute(), w.server(tenant=t)),
    "full-connections": lambda w, t: (FullConnections(), w.server(tenant=t)),
    "degrade": lambda w, t: (Degrade(delay_ms=600), w.server(tenant=t)),
    "dns": lambda w, t: (Dns(), w.client(tenant=t)),
}
# What everybody suffers: one at a time.
OF_ALL: dict[str, Make] = {
    "proxy-kill": lambda w, t: (Kill(), some_proxy(w, t)),
    "proxy-pause": lambda w, t: (Pause(), some_proxy(w, t)),
    "proxy-partition": lambda w, t: (Partition(), some_proxy(w, t)),
    "proxy-throttle": lambda w, t: (Throttle(millicores=20), some_proxy(w, t)),
    "proxy-full-files": lambda w, t: (FullFiles(), some_proxy(w, t)),
    "control-plane": lambda w, t: (ControlPlane(), w.workload("control-plane", SYSTEM_NAMESPACE)),
    "api-trouble": lambda w, t: (ApiTrouble(code=503), w.workload("control-plane", SYSTEM_NAMESPACE)),
    "drain": lambda w, t: (Drain(), w.node(1)),
    "stop-node": lambda w, t: (StopNode(), w.node(1)),
    "cut-node": lambda w, t: (CutNode(), w.node(1)),
    "stop-kubelet": lambda w, t: (StopKubelet(), w.node(1)),
}

# Where there are proxies to suffer it.
OF_MESH: dict[str, Make] = {
    "misanswer": lambda w, t: (Misanswer(errors=0.9), some_proxy(w, t)),
    "wrong-push": lambda w, t: (WrongPush(), w.workload("control-plane", SYSTEM_NAMESPACE)),
    "expire-certificates": lambda w, t: (ExpireCertificates(life=1), w.workload("control-plane", SYSTEM_NAMESPACE)),
}
EVERY: dict[str, Make] = {**OF_TENANTS, **OF_ALL, **OF_MESH}


def some_proxy(world: World, tenant: str) -> Target:
    if not world.mesh.mode.hops:
        return world.proxy(1)
    return select(world.cluster, frozenset({"container"}), Selector(layer="l7", tenant=tenant))[0]


@pytest.fixture(scope="module", params=MODES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with small_world(f"killed-{request.param}", request.param, tenants=TENANTS) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Kills:
    """How runners ended."""

    ran: int  # killed while they ran
    held: int  # of these: while their fault was held; the others before it was, or in between

    def __add__(self, other: Kills) -> Kills:
        return Kills(self.ran + other.ran, self.held + other.held)


def end_at(process: subprocess.Popen[str], seconds: float) -> Kills:
    """SIGKILL at that moment of its life, if it lives so long."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    said, _ = process.communicate()
    killed = process.returncode == -signal.SIGKILL
    return Kills(int(killed), int(killed and "held" in said))


def all_is_well(world: World, before: dict[str, object], story: str) -> float:
    """Wait until no fault is left, all tenants' traffic is well and everything is as it was; the seconds that it
    took.
    """
    began = time.monotonic()
    try:
        world.nothing_left(seconds=120)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pair: world.well(pair[0], tenant=pair[1]), product(("kept", "fresh"), world.tenants)))
        world.cluster.wait("everything as it was", lambda: world.picture() == before, seconds=30)
    except Exception as error:
        held = f"open: {receipts.open_receipts(world.cluster)}; helpers: {world.helpers()}"
        error.add_note(f"{story}; {held}; picture {world.picture()}")
        raise
    return round(time.monotonic() - began, 1)


def kill_them(world: World, made: list[tuple[tuple[Fault, Target], float]]) -> Kills:
    """Start a runner for each at once, and kill each at its moment."""
    processes = [(spawn(world, fault, target, DEADLINE), moment) for (fault, target), moment in made]
    with ThreadPoolExecutor(len(processes)) as pool:
        kills = sum(pool.map(lambda pair: end_at(*pair), processes), Kills(0, 0))
    time.sleep(0.3)  # what a killed runner had sent is on its way
    return kills


@pytest.mark.parametrize("part", range(PARTS))
def test_runners_killed_at_random_moments_leave_no_fault(world: World, part: int) -> None:
    before, chance = world.picture(), random.Random(f"{SEED}/{world.mesh.mode.name}/{part}")
    everybody = {**OF_ALL, **OF_MESH} if world.mesh.mode.hops else OF_ALL
    groups: list[list[tuple[Callable[..., tuple[Fault, Target]], str, str, float]]] = [
        [(everybody[name], name, "a", chance.uniform(0.3, KILLED_UNTIL))]
        for name in chance.sample(sorted(everybody), 4)
    ]
    for _ in range(2):
        groups.append(
            [
                (OF_TENANTS[name], name, tenant, chance.uniform(0.3, KILLED_UNTIL))
                for name, tenant in zip(chance.sample(sorted(OF_TENANTS), 4), TENANTS, strict=True)
            ]
        )
    kills, seconds = Kills(0, 0), []
    for group in groups:
        kills += kill_them(world, [(make(world, tenant), moment) for make, _, tenant, moment in group])
        story = ", ".join(
            f"{name} on tenant {tenant}, killed after {moment:.2f} s" for _, name, tenant, moment in group
        )
        seconds.append(all_is_well(world, before, f"mode {world.mesh.mode.name}, part {part}: {story}"))
    assert kills.ran >= 6
    record(world, "runner", [name for group in groups for _, name, _, _ in group], kills, seconds)


def record(world: World, killed: str, faults: list[str], kills: Kills, seconds: list[float]) -> None:
    """A line for `proof.faults`: what ended while which faults were held, and the seconds until all was well, of each
    group.
    """
    if path := os.environ.get(LOG):
        line = {"mode": world.mesh.mode.name, "killed": killed, "faults": faults, **asdict(kills), "seconds": seconds}
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture
def orphan(world: World) -> Callable[[Fault, Target], None]:
    """Holds a fault and kills its runner."""

    def hold(fault: Fault, target: Target) -> None:
        process = spawn(world, fault, target, DEADLINE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
        finally:
            process.kill()
            process.communicate()

    return hold


@pytest.fixture
def undone(world: World) -> Callable[[str, str], None]:
    """Says that all is as it was, and records it: `undone(what ended, the fault that was held)`."""
    before = world.picture()

    def look(killed: str, fault: str) -> None:
        seconds = all_is_well(world, before, f"mode {world.mesh.mode.name}: {killed} killed")
        record(world, killed, [fault], Kills(1, 1), [seconds])

    return look


Orphan = Callable[[Fault, Target], None]
Undone = Callable[[str, str], None]


@pytest.mark.parametrize("name", EVERY)
def test_a_runner_killed_while_it_holds_leaves_no_fault(
    world: World, undone: Undone, orphan: Orphan, name: str
) -> None:
    if name in OF_MESH and not world.mesh.mode.hops:
        pytest.skip("this mode has no proxy")
    orphan(*EVERY[name](world, "a"))
    undone("runner", name)


def test_the_watchdogs_killed_as_well_leave_no_fault(world: World, undone: Undone, orphan: Orphan) -> None:
    orphan(Pause(seconds=300), world.server())
    for pod in world.cluster.list("Pod", SYSTEM_NAMESPACE, labels="app=watchdog"):
        world.cluster.delete("Pod", pod["metadata"]["name"], SYSTEM_NAMESPACE, grace=0)
    undone("both watchdogs", "pause")


def test_the_target_killed_as_well_leaves_no_fault(world: World, undone: Undone, orphan: Orphan) -> None:
    target = world.server()
    orphan(Partition(), target)
    world.cluster.delete("Pod", target.name, target.namespace, grace=0)
    undone("target", "partition")


def test_an_api_server_that_is_silent_as_well_leaves_no_fault(world: World, undone: Undone, orphan: Orphan) -> None:
    """Silent for longer than the deadline: it takes connections and answers nothing, to anybody."""
    orphan(Degrade(delay_ms=600), world.server())
    world.cluster.request("POST", "/embedded/trouble/silence", {"silent": True, "seconds": 8})
    undone("API server (silent for 8 s)", "degrade")


def test_a_node_agent_killed_as_well_leaves_no_fault(world: World, undone: Undone, orphan: Orphan) -> None:
    if world.mesh.mode.in_pod or world.mesh.mode.name == "none":
        pytest.skip("this mode has no node agent")
    orphan(Pause(seconds=300), some_proxy(world, "a"))
    agent = select(world.cluster, frozenset({"container"}), Selector(layer="node-agent", node=world.nodes[1]))[0]
    with injected(world.cluster, Kill(), agent, run="faults"):
        pass
    undone("node agent", "pause")
