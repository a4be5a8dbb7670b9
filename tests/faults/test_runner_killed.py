"""Runners killed at random moments, and what else dies while a fault is held: after the deadline no fault remains."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from chaos.faults.hog import Hog
from chaos.faults.injection import injected
from chaos.faults.kill import Kill
from chaos.faults.model import Fault, Target
from chaos.faults.network.degrade import Degrade
from chaos.faults.network.dns import Dns
from chaos.faults.network.drop import Drop
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
from chaos.names import SYSTEM_NAMESPACE
from tests.faults.runner import spawn
from tests.faults.worlds import World, small_world

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

MODES = ("none", "sidecar", "node", "ambient-namespace")
TENANTS = ("a", "b", "c", "d")
DEADLINE = 3.0  # seconds of each fault
KILLED_UNTIL = 4.5  # seconds after a runner's start: before, while and after it injects, and after its deadline
PARTS = 5  # of twelve runners, in each of four modes: 240 in all
SEED = 20260601

Make = Callable[[World, str], tuple[Fault, Target]]

# What one tenant's server can suffer while the others suffer something else.
OF_TENANTS: dict[str, Make] = {
    "kill": lambda w, t: (Kill(), w.server(tenant=t)),
    "terminate": lambda w, t: (Kill(signal=15), w.server(tenant=t)),
    "crash-loop": lambda w, t: (CrashLoop(), w.server(tenant=t)),
    "pause": lambda w, t: (Pause(), w.server(tenant=t)),
    "out-of-memory": lambda w, t: (OutOfMemory(), w.server(tenant=t)),
    "throttle": lambda w, t: (Throttle(millicores=10), w.server(tenant=t)),
    "hog": lambda w, t: (Hog(cores=1), w.server(tenant=t)),
    "overload": lambda w, t: (Overload(server=f"tenant-{t}/server", start_rate=200, max_rate=400, seconds=8), w.client(tenant=t)),
    "delete-pod": lambda w, t: (DeletePod(grace=0), w.server(tenant=t)),
    "restart": lambda w, t: (Restart(), w.workload(namespace=f"tenant-{t}")),
    "recreate": lambda w, t: (Recreate(), w.workload(namespace=f"tenant-{t}")),
    "upgrade": lambda w, t: (Upgrade(env={"VERSION": "2"}), w.workload(namespace=f"tenant-{t}")),
    "scale": lambda w, t: (Scale(), w.workload(namespace=f"tenant-{t}")),
    "partition": lambda w, t: (Partition(), w.server(tenant=t)),
    "drop": lambda w, t: (Drop(direction="in"), w.server(tenant=t)),
    "reset": lambda w, t: (Reset(), w.server(tenant=t)),
    "degrade": lambda w, t: (Degrade(delay_ms=600), w.server(tenant=t)),
    "dns": lambda w, t: (Dns(), w.client(tenant=t)),
}
# What everybody suffers: one at a time.
OF_ALL: dict[str, Make] = {
    "proxy-kill": lambda w, t: (Kill(), some_proxy(w, t)),
    "proxy-pause": lambda w, t: (Pause(), some_proxy(w, t)),
    "proxy-partition": lambda w, t: (Partition(), some_proxy(w, t)),
    "proxy-throttle": lambda w, t: (Throttle(millicores=20), some_proxy(w, t)),
    "control-plane": lambda w, t: (ControlPlane(), w.workload("control-plane", SYSTEM_NAMESPACE)),
    "api-trouble": lambda w, t: (ApiTrouble(code=503), w.workload("control-plane", SYSTEM_NAMESPACE)),
    "drain": lambda w, t: (Drain(), w.node(1)),
    "stop-node": lambda w, t: (StopNode(), w.node(1)),
    "cut-node": lambda w, t: (CutNode(), w.node(1)),
    "stop-kubelet": lambda w, t: (StopKubelet(), w.node(1)),
}


def some_proxy(world: World, tenant: str) -> Target:
    if world.mesh.mode.name == "none":
        return world.proxy(1)
    return select(world.cluster, frozenset({"container"}), Selector(layer="l7", tenant=tenant))[0]


@pytest.fixture(scope="module", params=MODES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with small_world(f"killed-{request.param}", request.param, tenants=TENANTS) as made:
        yield made


def end_at(process: subprocess.Popen[str], seconds: float) -> None:
    """SIGKILL at that moment of its life, if it lives so long."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()


def all_is_well(world: World, before: dict[str, object], story: str) -> None:
    try:
        world.nothing_left(seconds=120)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pair: world.well(pair[0], tenant=pair[1]), product(("kept", "fresh"), world.tenants)))
        world.cluster.wait("everything as it was", lambda: world.picture() == before, seconds=30)
    except Exception as error:
        error.add_note(f"{story}; open: {receipts.open_receipts(world.cluster)}; picture {world.picture()}")
        raise


def kill_them(world: World, made: list[tuple[tuple[Fault, Target], float]]) -> int:
    """Start a runner for each at once, and kill each at its moment; how many were killed while they ran."""
    processes = [(spawn(world, fault, target, DEADLINE), moment) for (fault, target), moment in made]
    threads = [threading.Thread(target=end_at, args=pair) for pair in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.3)  # what a killed runner had sent is on its way
    return sum(process.returncode == -9 for process, _ in processes)


@pytest.mark.parametrize("part", range(PARTS))
def test_runners_killed_at_random_moments_leave_no_fault(world: World, part: int) -> None:
    before, chance = world.picture(), random.Random(f"{SEED}/{world.mesh.mode.name}/{part}")
    everybody = {**OF_ALL, **({} if world.mesh.mode.name == "none" else {
        "expire-certificates": lambda w, t: (ExpireCertificates(life=1), w.workload("control-plane", SYSTEM_NAMESPACE))})}
    groups = [[(everybody[name], name, "a", chance.uniform(0.3, KILLED_UNTIL))] for name in chance.sample(sorted(everybody), 4)]
    for _ in range(2):
        groups.append([(OF_TENANTS[name], name, tenant, chance.uniform(0.3, KILLED_UNTIL))
                       for name, tenant in zip(chance.sample(sorted(OF_TENANTS), 4), TENANTS, strict=True)])
    killed = 0
    for group in groups:
        killed += kill_them(world, [(make(world, tenant), moment) for make, _, tenant, moment in group])
        story = ", ".join(f"{name} on tenant {tenant}, killed after {moment:.2f} s" for _, name, tenant, moment in group)
        all_is_well(world, before, f"mode {world.mesh.mode.name}, part {part}: {story}")
    print(f"mode {world.mesh.mode.name}, part {part}: 12 runners, {killed} of them killed while they ran")
    assert killed >= 6


@pytest.fixture
def orphan(world: World) -> Iterator[Callable[[Fault, Target], None]]:
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


def test_the_watchdogs_killed_as_well_leave_no_fault(world: World, orphan: Callable[[Fault, Target], None]) -> None:
    before = world.picture()
    orphan(Pause(seconds=300), world.server())
    for pod in world.cluster.list("Pod", SYSTEM_NAMESPACE, labels="app=watchdog"):
        world.cluster.delete("Pod", pod["metadata"]["name"], SYSTEM_NAMESPACE, grace=0)
    all_is_well(world, before, "watchdogs killed")


def test_the_target_killed_as_well_leaves_no_fault(world: World, orphan: Callable[[Fault, Target], None]) -> None:
    before, target = world.picture(), world.server()
    orphan(Partition(), target)
    world.cluster.delete("Pod", target.name, target.namespace, grace=0)
    all_is_well(world, before, "target killed")


def test_an_api_server_that_is_silent_as_well_leaves_no_fault(world: World, orphan: Callable[[Fault, Target], None]) -> None:
    before = world.picture()
    orphan(Degrade(delay_ms=600), world.server())
    world.cluster.request("POST", "/embedded/trouble/silence", {"silent": True, "seconds": 8})
    all_is_well(world, before, "API server silent")


def test_a_node_agent_killed_as_well_leaves_no_fault(world: World, orphan: Callable[[Fault, Target], None]) -> None:
    if world.mesh.mode.in_pod or world.mesh.mode.name == "none":
        pytest.skip("this mode has no node agent")
    before = world.picture()
    orphan(Pause(seconds=300), some_proxy(world, "a"))
    agent = select(world.cluster, frozenset({"container"}), Selector(layer="node-agent", node=world.nodes[1]))[0]
    with injected(world.cluster, Kill(), agent, run="faults"):
        pass
    all_is_well(world, before, "node agent killed")
