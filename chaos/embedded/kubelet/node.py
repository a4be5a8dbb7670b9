"""A node: its machine, its kubelet, its Node object and Lease. One per emulated node, all on one event loop.

`cluster_process` makes and starts nodes; the API server uses them through node_api.Kubelet; node faults use
`power_off`, `power_on`, `stop_kubelet`, `start_kubelet` and the network's link. A node writes to the API through the
store, and only while its kubelet runs and its link is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import platform
import random
import shutil
import socket
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from chaos.embedded import claims
from chaos.embedded.beneath import Beneath
from chaos.embedded.clock import Clock, SystemClock, micro_stamp, stamp
from chaos.embedded.deletion import delete
from chaos.embedded.events import EventRecorder
from chaos.embedded.kubelet import cgroups, cni
from chaos.embedded.kubelet.container_records import Backoff, Record
from chaos.embedded.kubelet.containers import Containers
from chaos.embedded.kubelet.execs import attach, run_command, start_exec
from chaos.embedded.kubelet.images import Images
from chaos.embedded.kubelet.logs import read_log
from chaos.embedded.kubelet.node_machine import Exit, Machine, MachineDown, find_runc
from chaos.embedded.kubelet.probes import ProbeFailed, RunCommand
from chaos.embedded.kubelet.sandbox import Sandbox
from chaos.embedded.kubelet.volumes import IssueToken
from chaos.embedded.kubelet.worker import PodWorker
from chaos.embedded.network import ClusterNetwork
from chaos.embedded.network.addresses import FABRIC_ADDRESS
from chaos.embedded.node_api import ContainerUsage, ExecSession, LogOptions
from chaos.embedded.quantity import qos_class
from chaos.embedded.resources import LEASE, NODE, PERSISTENT_VOLUME, POD, Object
from chaos.embedded.store import Conflict, NotFound, Store

VERSION: Final = "v1.36.2"
LOOK: Final = 1.0  # seconds between looks at containers' states
SCRAPE_SECONDS: Final = 0.95  # between two readings of containers' usage
RENEW: Final = 10.0  # seconds between renewals of the node's Lease
LEASE_NAMESPACE: Final = "kube-node-lease"
PODS: Final = 110
MOST_IMAGES: Final = 50  # in a Node's status, as a kubelet's nodeStatusMaxImages
RESERVED: Final = 100 << 20  # bytes kept from pods
_log = logging.getLogger(__name__)


def _let_go(volume: dict[str, Any]) -> None:
    held = volume["metadata"].get("finalizers") or []
    volume["metadata"]["finalizers"] = [one for one in held if one != claims.PROVISIONER_FINALIZER]


class Node:
    """A node; implements node_api.Kubelet."""

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        run_dir: Path,
        network: ClusterNetwork,
        images: Images,
        tokens: IssueToken,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.store = store
        self.address = network.node_ip(name)
        self.backoff = Backoff()
        self.run_dir = run_dir / "nodes" / name
        self._files = Beneath(self.run_dir / "kubelet")
        self.cgroup_root = f"{cgroups.ROOT}/{run_dir.name}/{name}"
        self._network = network
        self._images = images
        self._tokens = tokens
        self._clock = clock or SystemClock()
        self._chance = chance or random.Random(name)
        self._labels = dict(labels or {})
        self._pulls = Backoff()
        self._recorder = EventRecorder(store, "kubelet", name, clock=self._clock)
        self._workers: dict[str, PodWorker] = {}
        self._machine: Machine | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._kubelet_up = False
        self._looked = asyncio.Event()
        self._boot = ""
        self._usage: dict[str, tuple[float, float]] = {}
        self._scraped: list[ContainerUsage] = []
        self._scraped_at = -math.inf
        self._memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._facts = {
            "name": name,
            "ip": self.address,
            "cpu": str(os.cpu_count() or 1),
            "memory": str(self._memory),
            "memory_bytes": str(self._memory),
            "ephemeral-storage": str(shutil.disk_usage("/").total),
        }

    # life

    async def start(self) -> None:
        """Power on, join the network, register, and run pods. Raises EnvironmentUnfit."""
        find_runc()
        await self.power_on()

    async def stop(self) -> None:
        """Power off for good: only files in the run directory remain."""
        await self.power_off()
        for worker in self._workers.values():
            worker.sandbox.lost()
        self._workers.clear()
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._files.remove, "pods")
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._files.remove, "claims")

    async def power_on(self) -> None:
        """Start the machine and the kubelet. The node's pods run again, in new sandboxes."""
        if self._machine is not None and self._machine.up:
            return
        self._boot = str(uuid.uuid4())
        self.run_dir.mkdir(parents=True, exist_ok=True)
        files = {
            "/etc/hostname": f"{self.name}\n",
            "/etc/resolv.conf": f"nameserver {FABRIC_ADDRESS}\n",
            f"{cni.DIRECTORY}/10-sharedfate.conflist": cni.DEFAULT,
            "/etc/hosts": f"127.0.0.1\tlocalhost\n{self.address}\t{self.name}\n",
        }
        self._machine = Machine(
            self.name,
            self.run_dir,
            self._images.directory,
            self.cgroup_root,
            files=files,
            on_exit=self._on_exit,
            on_sandbox_lost=self._on_sandbox_lost,
        )
        await self._machine.start()
        await self._network.add_node(self.name, f"/proc/{self._machine.pid}/ns/net")
        await self.start_kubelet()

    async def power_off(self) -> None:
        """Kill every process of the node, without a word to the API, as a power cut does."""
        await self.stop_kubelet()
        if self._machine is not None:
            machine, self._machine = self._machine, None
            await machine.stop()
            await self._network.remove_node(self.name)
        for backoff in (self.backoff, self._pulls):
            backoff.forget(lambda _: True)  # a kubelet's memory does not outlive its node
        for worker in self._workers.values():
            worker.sandbox.lost()
            worker.containers.lose_all()
            worker.state.sandbox_ready = False
            worker.state.address = ""

    async def start_kubelet(self) -> None:
        """Register, and resume the node's pods as they are."""
        if self._kubelet_up or self._machine is None:
            return
        self._kubelet_up = True
        if self.reachable():
            self.register()
        for worker in self._workers.values():
            worker.resume()
        loops = (self._watch(), self._look(), self._heartbeat(), self._reclaim())
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def stop_kubelet(self) -> None:
        """Stop the kubelet: containers run on unwatched, and the Lease expires."""
        if not self._kubelet_up:
            return
        self._kubelet_up = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await asyncio.gather(*(worker.pause() for worker in self._workers.values()))

    # what workers need

    def machine(self) -> Machine:
        if self._machine is None:
            raise MachineDown(f"node {self.name} is off")
        return self._machine

    def jitter(self, seconds: float) -> float:
        """Multiply by 1 to 1.5, as the kubelet spreads its delays."""
        return seconds * (1 + 0.5 * self._chance.random())

    def reachable(self) -> bool:
        """Whether the kubelet can reach the API."""
        return self._kubelet_up and self._network.link_up(self.name)

    def power_state(self) -> dict[str, bool]:
        """Whether its machine, its kubelet and its link are up."""
        return {
            "power": self._machine is not None,
            "kubelet": self._kubelet_up,
            "link": self._network.link_up(self.name),
        }

    def event(self, obj: Object, kind: str, reason: str, message: str, field_path: str = "") -> None:
        if self.reachable():
            self._recorder.event(obj, kind, reason, message, field_path)

    def facts(self) -> Mapping[str, str]:
        return self._facts

    async def next_look(self) -> None:
        await self._looked.wait()

    def finished(self, uid: str) -> None:
        self._workers.pop(uid, None)
        self._weigh()

    # loops

    async def _watch(self) -> None:
        """Watch the node's pods; list them again when the watch fell too far behind."""
        while True:
            await self._follow()

    async def _follow(self) -> None:
        """Follow one watch. While the API is unreachable changes queue up, as behind a cut link."""
        with self.store.watch(POD) as watch:
            known = set(self._workers)
            for pod in self.store.list(POD):
                if pod["spec"].get("nodeName") == self.name:
                    known.discard(pod["metadata"]["uid"])
                    self._on_pod(pod)
            for uid in known:  # removed while nobody looked
                self._workers[uid].remove(self._workers[uid].pod)
            async for event in watch:
                while not self.reachable():
                    await self._looked.wait()
                if event.object["spec"].get("nodeName") != self.name:
                    continue
                if event.type == "DELETED":
                    worker = self._workers.get(event.object["metadata"]["uid"])
                    if worker is not None:
                        worker.remove(event.object)
                else:
                    self._on_pod(event.object)

    def _on_pod(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
            return
        held = self.store.find(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
        if held is None or held["metadata"]["uid"] != uid:
            return  # an old event of a pod that has gone since
        sandbox = Sandbox(
            pod,
            self.name,
            self.run_dir,
            self.machine,
            self._network,
            self.store,
            self._tokens,
            cgroup_root=self.cgroup_root,
            resolv=f"nameserver {FABRIC_ADDRESS}\n",
        )
        containers = Containers(
            sandbox,
            machine=self.machine,
            images=self._images,
            store=self.store,
            backoff=self.backoff,
            pulls=self._pulls,
            event=self.event,
            facts=self.facts,
            make_socket=self._probe_socket,
            command=self._command,
            cgroup_root=self.cgroup_root,
        )
        worker = self._workers[uid] = PodWorker(self, pod, sandbox, containers)
        worker.start()
        self._weigh()

    def _probe_socket(self) -> socket.socket:
        return self._network.socket(self.name)

    def _command(self, container: str) -> RunCommand:
        async def run(command: list[str], timeout: float) -> tuple[int, str]:
            try:
                return await run_command(self.machine(), container, command, timeout)
            except (LookupError, MachineDown) as error:
                raise ProbeFailed(str(error)) from error

        return run

    async def _look(self) -> None:
        """Relist containers once a second, as the kubelet does, to learn of their ends."""
        spoke = self.reachable()
        while True:
            await asyncio.sleep(LOOK)
            speaks = self.reachable()
            for worker in tuple(self._workers.values()):
                worker.relist()
                if speaks and not spoke:
                    worker.wake()  # what could not be said meanwhile is said now
            spoke = speaks
            looked, self._looked = self._looked, asyncio.Event()
            looked.set()

    async def _heartbeat(self) -> None:
        while True:
            if self.reachable():
                try:
                    if self.store.find(NODE, "", self.name) is None:
                        self.register()
                    self._renew_lease()
                    self._report()
                except Exception:  # whatever a user made of the Node or its Lease: the next one may be better
                    _log.exception("node %s: a heartbeat failed", self.name)
            await asyncio.sleep(RENEW)

    async def _reclaim(self) -> None:
        """Remove the directories of deleted claims, then their volumes."""
        while True:
            with self.store.watch(PERSISTENT_VOLUME) as watch:
                for volume in self.store.list(PERSISTENT_VOLUME):
                    await self._reclaim_one(volume)
                async for event in watch:
                    while not self.reachable():
                        await self._looked.wait()
                    if event.type != "DELETED":
                        await self._reclaim_one(event.object)

    async def _reclaim_one(self, volume: Object) -> None:
        name = volume["metadata"]["name"]
        if claims.annotations_of(volume).get(claims.SELECTED_NODE) != self.name:
            return
        if not claims.is_to_be_reclaimed(volume):
            return
        try:
            await asyncio.to_thread(self._files.remove, f"claims/{claims.directory_of(volume)}")
        except OSError as error:  # a pod writes into it for as long as this was tried: it goes with the cluster
            self.event(volume, "Warning", "VolumeFailedDelete", f"cannot remove its directory: {error}")
            return
        uid = volume["metadata"]["uid"]
        with contextlib.suppress(NotFound, Conflict):
            self.store.mutate(PERSISTENT_VOLUME, "", name, _let_go, uid=uid)
            delete(self.store, PERSISTENT_VOLUME, "", name, uid=uid, clock=self._clock)

    def _on_exit(self, end: Exit) -> None:
        for worker in self._workers.values():
            if worker.containers.on_exit(end):
                return

    def _on_sandbox_lost(self, uid: str) -> None:
        if uid in self._workers:
            self._workers[uid].sandbox_lost = True  # found at the next look, like a container's end

    def _weigh(self) -> None:
        """Set CPU shares of the QoS tiers: burstable pods' summed requests, the minimum for best-effort pods."""
        pods = [w.pod for w in self._workers.values() if qos_class(w.pod) == "Burstable" and not w.state.stopped]
        total = sum(cgroups.pod_limits(pod).shares for pod in pods)
        for tier, shares in (("burstable", max(cgroups.MIN_SHARES, total)), ("besteffort", cgroups.MIN_SHARES)):
            with contextlib.suppress(FileNotFoundError):  # made with its first pod
                cgroups.apply_limits(f"{self.cgroup_root}/kubepods/{tier}", cgroups.Limits(shares))

    # the Node object

    def register(self) -> None:
        """Create or update the Node object, as Ready."""
        cidr = self._network.pod_cidr(self.name)
        labels = {
            "beta.kubernetes.io/arch": _arch(),
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/arch": _arch(),
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            **self._labels,
        }
        if self.store.find(NODE, "", self.name) is None:
            self.store.create(
                NODE,
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {
                        "name": self.name,
                        "labels": labels,
                        "annotations": {
                            "node.alpha.kubernetes.io/ttl": "0",
                            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
                        },
                    },
                    "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
                    "status": self._status({}),
                },
            )
            node = self.store.get(NODE, "", self.name)
            self._recorder.event(node, "Normal", "Starting", "Starting kubelet.")
            for reason in ("NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"):
                self._recorder.event(node, "Normal", reason, f"Node {self.name} status is now: {reason}")
        else:
            self._report()
        self._renew_lease()

    def _report(self) -> None:
        def change(node: dict[str, Any]) -> None:
            node["status"] = self._status(node.get("status", {}))

        with contextlib.suppress(NotFound, Conflict):
            self.store.mutate(NODE, "", self.name, change)

    def _status(self, old: Mapping[str, Any]) -> dict[str, Any]:
        now = stamp(self._clock.now())
        before = {c["type"]: c for c in old.get("conditions", [])}
        conditions = []
        for kind, status, reason, message in (
            ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ):
            was = before.get(kind)
            since = was["lastTransitionTime"] if was and was["status"] == status else now
            conditions.append(
                {
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": since,
                    "message": message,
                    "reason": reason,
                    "status": status,
                    "type": kind,
                }
            )
        disk = int(self._facts["ephemeral-storage"])
        capacity = {
            "cpu": self._facts["cpu"],
            "ephemeral-storage": f"{disk >> 10}Ki",
            "hugepages-1Gi": "0",
            "hugepages-2Mi": "0",
            "memory": f"{self._memory >> 10}Ki",
            "pods": str(PODS),
        }
        machine_id = uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.run_dir}").hex
        return {
            "addresses": [{"address": self.address, "type": "InternalIP"}, {"address": self.name, "type": "Hostname"}],
            "allocatable": _extended(old.get("allocatable"))
            | capacity
            | {"memory": f"{(self._memory - RESERVED) >> 10}Ki", "ephemeral-storage": str(disk * 9 // 10)},
            "capacity": _extended(old.get("capacity")) | capacity,
            "conditions": conditions,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": [{"names": [name], "sizeBytes": size} for name, size in self._images.largest(MOST_IMAGES)],
            "nodeInfo": {
                "architecture": _arch(),
                "bootID": self._boot,
                "containerRuntimeVersion": "sharedfate-runc://1",
                "kernelVersion": platform.release(),
                "kubeProxyVersion": "",
                "kubeletVersion": VERSION,
                "machineID": machine_id,
                "operatingSystem": "linux",
                "osImage": _os_name(),
                "systemUUID": machine_id,
            },
        }

    def _renew_lease(self) -> None:
        now = micro_stamp(self._clock.now())
        try:
            self.store.mutate(LEASE, LEASE_NAMESPACE, self.name, lambda lease: lease["spec"].update(renewTime=now))
        except NotFound:
            node = self.store.find(NODE, "", self.name)
            owner = (
                [{"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": node["metadata"]["uid"]}]
                if node
                else []
            )
            self.store.create(
                LEASE,
                {
                    "metadata": {"name": self.name, "namespace": LEASE_NAMESPACE, "ownerReferences": owner},
                    "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now},
                },
            )

    # node_api.Kubelet

    def _worker(self, namespace: str, pod: str) -> PodWorker:
        for worker in self._workers.values():
            meta = worker.pod["metadata"]
            if meta["name"] == pod and meta["namespace"] == namespace and not worker.removed:
                return worker
        raise LookupError(f'pod "{pod}" is not on node {self.name}')

    def _running(self, namespace: str, pod: str, container: str) -> Record:
        record = self._worker(namespace, pod).state.latest(container)
        if record is None or record.state != "running":
            raise LookupError(f'container "{container}" of pod "{pod}" is not running')
        return record

    def runs(self, namespace: str, pod: str, container: str) -> bool:
        """Whether the container runs."""
        try:
            return bool(self._running(namespace, pod, container))
        except LookupError:
            return False

    async def logs(self, namespace: str, pod: str, container: str, options: LogOptions) -> AsyncIterator[bytes]:
        """Read a log as chunks of whole lines. Raises LookupError."""
        worker = self._worker(namespace, pod)
        records = worker.state.records.get(container, [])
        if options.previous:
            records = records[:-1]
            if not records:
                raise LookupError(f'previous terminated container "{container}" in pod "{pod}" not found')
        if not records:
            raise LookupError(f'container "{container}" in pod "{pod}" is waiting to start: ContainerCreating')
        record = records[-1]
        directory = worker.sandbox.directory
        chunks = read_log(directory, record.log, options, lambda: record.state == "exited" or record.unseen is not None)
        async with contextlib.aclosing(chunks):  # its files are closed when nobody reads on
            async for chunk in chunks:
                yield chunk

    async def exec(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> ExecSession:
        """Start a process in the running container; raises LookupError when it is not running."""
        record = self._running(namespace, pod, container)
        return await start_exec(self.machine(), record.id, command, stdin=stdin, tty=tty)

    async def attach(self, namespace: str, pod: str, container: str, *, stdin: bool) -> ExecSession:
        """Attach to the running container's own process; raises LookupError when it is not running."""
        record = self._running(namespace, pod, container)
        return await attach(self.machine(), record.id, record.spec, stdin=stdin)

    async def connect(self, namespace: str, pod: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP connection inside the pod, to 127.0.0.1. Raises LookupError without a sandbox, OSError when
        refused.
        """
        sandbox = self._worker(namespace, pod).sandbox
        if sandbox.namespace is None:
            raise LookupError(f'pod "{pod}" has no sandbox')
        sock = sandbox.namespace.socket()
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    def usage(self) -> list[ContainerUsage]:
        """Usage of all running containers, measured at most once a second: a rate over the milliseconds between two
        callers would be noise.
        """
        now = time.monotonic()
        if now - self._scraped_at < SCRAPE_SECONDS:
            return list(self._scraped)
        result = []
        at = micro_stamp(self._clock.now())
        seen: dict[str, tuple[float, float]] = {}
        for worker in self._workers.values():
            meta = worker.pod["metadata"]
            for record, path in worker.usage_paths():
                figures = cgroups.usage(path)
                if figures is None:
                    continue
                seconds, memory = figures
                before_at, before = self._usage.get(record.id, (now - max(0.001, time.time() - record.started_at), 0.0))
                seen[record.id] = (now, seconds)
                rate = int(max(0.0, seconds - before) / max(0.001, now - before_at) * 1e9)
                result.append(ContainerUsage(meta["namespace"], meta["name"], record.name, seconds, rate, memory, at))
        self._usage, self._scraped, self._scraped_at = seen, result, now
        return list(result)


def _extended(amounts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Extended resources that others added to the node, such as `example.com/dongle`; updates preserve them."""
    return {name: amount for name, amount in (amounts or {}).items() if "/" in name}


def _arch() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
