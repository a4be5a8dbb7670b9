"""Recorded scenarios on our own nodes, network and controllers, in this process and without an API server.

What the recording's user did (apply, delete, kill -9, exec, a node's power, kubelet or link) is done again, as long
after what came before; what the store then sees is written in the recordings' form, for `compare.py`. `record.py` does
the same from outside, through kubectl; this needs neither, can pull a node's plug, and says where the two differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from chaos.embedded.api.admission import admit_create
from chaos.embedded.api.auth import User
from chaos.embedded.api.calls import Call, Reply
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.rest import Rest
from chaos.embedded.api.subresources import evict
from chaos.embedded.clock import SystemClock
from chaos.embedded.controllers import run_controllers
from chaos.embedded.deletion import delete
from chaos.embedded.kubelet import Node
from chaos.embedded.kubelet.images import ALIASES, Images
from chaos.embedded.kubelet.node_machine import SHARED
from chaos.embedded.network import ClusterNetwork
from chaos.embedded.provider import claimed
from chaos.embedded.resources import EVENT, NAMESPACE, NODE, POD, SERVICE_ACCOUNT, Object, Resource
from chaos.embedded.store import NotFound, Store
from tests.parity.compare import SUMMARY, compare
from tests.parity.replay import KINDS, Row, applied, rows

IMAGE = "docker.io/library/python-demo:local"
RECORDED_STATE = "/tmp/rig/state"
WATCHED = (
    "Pod",
    "Service",
    "Job",
    "Deployment",
    "ReplicaSet",
    "DaemonSet",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
    "EndpointSlice",
)
MOMENT = 1.5  # seconds: what comes of a last step, such as its Events, has come by then
Steps = dict[tuple[str, int], list[tuple[float, Any]]]


def recorded_seconds(folder: Path) -> float:
    """How long a scenario was watched; at least so long that what should not come would have come."""
    moments = [row["rel"] for row in rows(folder / "watch.jsonl") if row["kind"] != "Node"]
    return float(max(8.0, *moments, *(action["rel"] for action in rows(folder / "actions.jsonl"))))


def recorded_second(action: Row) -> float:
    """The second of its minute in which the recording began."""
    return (datetime.fromisoformat(action["t"]).timestamp() - float(action["rel"])) % 60


def names_in_daemon_order(folder: Path) -> dict[str, str]:
    """Names for our nodes, by the recorded nodes' names, whose order is that in which the DaemonSet's pods were made.

    Kubernetes makes them in an order of chance, `compare.py` counts pods in order of creation; ours are made in order
    of names.
    """
    created = [row["object"] for row in rows(folder / "watch.jsonl") if row["kind"] == "Pod" and row["type"] == "ADDED"]
    wanted = [_daemon_node(pod) for pod in created if _daemon_node(pod)]
    return {node: f"m{number}" for number, node in enumerate(wanted, start=1)}


def _daemon_node(pod: Object) -> str:
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", ())
    return next((str(field["values"][0]) for term in terms for field in term.get("matchFields", ())), "")


def moments(found: Sequence[Row]) -> Steps:
    """When each Pod and Job, in order of creation, came to each of its summaries (`compare.py`'s `sequences`, with the
    moments).
    """
    names: dict[str, tuple[str, int]] = {}
    out: Steps = {}
    for row in found:
        if row["kind"] not in SUMMARY:
            continue
        uid = row["object"]["metadata"]["uid"]
        if uid not in names:
            names[uid] = (row["kind"], sum(kind == row["kind"] for kind, _ in names.values()))
        steps = out.setdefault(names[uid], [])
        summary = "gone" if row["type"] == "DELETED" else SUMMARY[row["kind"]](row["object"])
        if not steps or steps[-1][1] != summary:
            steps.append((row["rel"], summary))
    return out


def came_as_far(ours: Steps, recorded: Steps) -> float | None:
    """The moment at which all of ours had come (last) to where the recorded ones ended; None when some have not."""
    came = [
        max((at for at, summary in ours.get(key, ()) if summary == steps[-1][1]), default=None)
        for key, steps in recorded.items()
    ]
    return None if None in came else max(at for at in came if at is not None)


class Bench:
    """Three nodes n1 n2 n3, their network and the controllers."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self.store = Store()
        self.nodes: dict[str, Node] = {}
        self.network = ClusterNetwork()


@contextlib.asynccontextmanager
async def bench(nodes: Sequence[str] = ("n1", "n2", "n3")) -> AsyncIterator[Bench]:
    """A running Bench; nothing is left of it afterwards, and what a killed one left, `sharedfate clean` finds."""
    os.environ[ALIASES] = IMAGE
    shared = Path(tempfile.mkdtemp(prefix="parity-"))
    os.environ[SHARED] = str(shared)
    try:
        with claimed(f"parity-{uuid.uuid4().hex[:8]}") as run_dir:
            async with _assembled(Bench(shared), run_dir, nodes) as found:
                yield found
    finally:
        for name in (SHARED, ALIASES):
            os.environ.pop(name, None)
        shutil.rmtree(shared, ignore_errors=True)


@contextlib.asynccontextmanager
async def _assembled(found: Bench, run_dir: Path, nodes: Sequence[str]) -> AsyncIterator[Bench]:
    for name in ("default", "kube-node-lease"):
        found.store.create(
            NAMESPACE,
            {"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
        )
    await found.network.start()
    images = Images(run_dir / "images")
    for name in nodes:
        found.nodes[name] = Node(
            found.store,
            name,
            run_dir=run_dir,
            network=found.network,
            images=images,
            tokens=lambda pod, *, audiences, seconds: "none",
        )
    controllers = asyncio.create_task(run_controllers(found.store, root_ca="none"))
    try:
        await asyncio.gather(*(node.start() for node in found.nodes.values()))
        yield found
    finally:
        controllers.cancel()
        await asyncio.gather(controllers, return_exceptions=True)
        await asyncio.gather(*(node.stop() for node in found.nodes.values()), return_exceptions=True)
        await found.network.stop()


class Drive:
    """One scenario on a bench."""

    def __init__(
        self, on: Bench, folder: Path, out: Path, *, nodes: Mapping[str, str] | None = None, number: int = 1
    ) -> None:
        self.node_names = nodes or {}
        self.bench, self.store, self.folder, self.out = on, on.store, folder, out
        self.namespace = folder.name[:50].rstrip("-") + (f"-{number}" if number > 1 else "")
        self.actions = rows(folder / "actions.jsonl")
        self.recorded = rows(folder / "watch.jsonl")
        self.names: list[str] = []  # recorded pods in order of creation
        for row in self.recorded:
            if row["kind"] == "Pod" and row["type"] == "ADDED":
                self.names.append(row["object"]["metadata"]["name"])
        self.watch: list[Row] = []
        self.events: list[Row] = []
        self.began = 0.0
        self.problems: list[str] = []  # of what was asked

    async def run(self) -> list[str]:
        """Do it; all differences from the recording."""
        self.store.create(
            NAMESPACE,
            {
                "metadata": {"name": self.namespace},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            },
        )
        await self._until(lambda: self.store.find(SERVICE_ACCOUNT, self.namespace, "default"), 5)
        if any(obj["kind"] == "CronJob" for step in applied(self.folder) for obj in step):
            await asyncio.sleep((recorded_second(self.actions[0]) - time.time()) % 60)  # its schedule is the clock's
        self.began = time.monotonic()
        watches = [asyncio.create_task(self._watch(KINDS[kind])) for kind in WATCHED] + [
            asyncio.create_task(self._watch(EVENT))
        ]
        await asyncio.sleep(0)
        try:
            await self._act()
            await self._end()
        finally:
            for task in watches:
                task.cancel()
            self._write()
            delete(self.store, NAMESPACE, "", self.namespace)
        return [*self.problems, *compare(self.folder, self.out)]

    def _now(self) -> float:
        return time.monotonic() - self.began

    @staticmethod
    async def _until(check: Callable[[], Any], seconds: float) -> Any:
        end = time.monotonic() + seconds
        while not (found := check()) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return found

    async def _watch(self, resource: Resource) -> None:
        with self.store.watch(resource, self.namespace) as watch:
            async for event in watch:
                into = self.events if resource is EVENT else self.watch
                into.append({"rel": self._now(), "kind": resource.kind, "type": event.type, "object": event.object})

    def _write(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        for name, found in (("watch", self.watch), ("events", self.events)):
            (self.out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))

    async def _act(self) -> None:
        steps = iter(applied(self.folder))
        before = 0.0
        drains: list[asyncio.Task[None]] = []
        for action in self.actions:
            await asyncio.sleep(max(0.0, action["rel"] - before))
            before = action["rel"]
            what = action["action"]
            if what.startswith("apply"):
                for obj in next(steps):
                    self._apply(KINDS[obj["kind"]], obj)
                    await asyncio.sleep(0.05)  # kubectl applies one after the other
            elif what.startswith("delete"):
                pod = await self._pod(action)
                delete(self.store, POD, self.namespace, pod["metadata"]["name"], grace=0 if "0" in what else None)
            elif what == "kill -9":
                await self._kill(action)
            elif what.startswith("exec "):
                await self._exec(action)
            elif what == "evict":
                pod = await self._pod(action)
                await self._evict(pod["metadata"]["name"])
            elif what == "patch":
                await self._patch(action)
            elif what == "drain":
                drains.append(asyncio.create_task(self._drain(action["selector"])))
            elif what == "uncordon":
                await asyncio.gather(*drains)
                self._cordon(action["node"], unschedulable=False)
            elif what.startswith("rig "):
                node = self.bench.nodes[self.node_names.get(what.split()[-1], what.split()[-1])]
                await {"kubelet-stop": node.stop_kubelet, "node-stop": node.power_off, "node-start": node.power_on}[
                    what.split()[1]
                ]()

    async def _ask(
        self, verb: str, resource: Resource, name: str, subresource: str, body: Object, kind: str = "application/json"
    ) -> Reply:
        """One request, as the API server answers it to a cluster's administrator."""
        call = Call(
            User("admin", ("system:masters",)),
            verb,
            resource,
            self.namespace,
            name,
            subresource,
            content_type=kind,
            body=json.dumps(body).encode(),
        )
        rest = Rest(self.store, SystemClock())
        if verb == "patch":
            return await rest.patch(call)
        return await evict(rest, call)

    async def _evict(self, name: str) -> None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.namespace}}
        await self._ask("create", POD, name, "eviction", body)

    async def _patch(self, action: Row) -> None:
        """Refused when it was refused then, with the same code."""
        answers = [row["code"] for row in self.actions if row["action"] == "answer" and row["rel"] > action["rel"]]
        kind = f"application/{action['type']}-patch+json"
        try:
            asked = KINDS[action["kind"]], action["name"], action["subresource"], action["patch"]
            got = (await self._ask("patch", *asked, kind)).code
        except StatusError as error:
            got = error.code
        if got != answers[0]:
            self.problems.append(f"{action}: answered {got}, real {answers[0]}")

    def _cordon(self, node: str, *, unschedulable: bool) -> None:
        def change(new: dict[str, Any]) -> None:
            if unschedulable:
                new["spec"]["unschedulable"] = True
            else:
                new["spec"].pop("unschedulable", None)

        self.store.mutate(NODE, "", node, change)

    async def _drain(self, selector: str) -> None:
        """`kubectl drain`: cordon, then evict every pod, again after five seconds where a budget forbids it."""
        label, _, value = selector.partition("=")
        chosen = [
            pod for pod in self.store.list(POD, self.namespace) if pod["metadata"].get("labels", {}).get(label) == value
        ]
        self._cordon(chosen[0]["spec"]["nodeName"], unschedulable=True)
        for pod in chosen:
            while True:
                try:
                    await self._evict(pod["metadata"]["name"])
                    break
                except StatusError as error:
                    if (error.code, error.retry_after) != (429, None):
                        raise
                    await asyncio.sleep(5)

    def _apply(self, resource: Resource, obj: Object) -> None:
        state = self.bench.shared / self.namespace  # what the recording shared between its nodes
        state.mkdir(exist_ok=True)
        text = json.dumps(obj).replace(f"{RECORDED_STATE}/{self.folder.name}", str(state))
        for recorded, ours in self.node_names.items():
            text = text.replace(f'"{recorded}"', f'"{ours}"')
        new = json.loads(text)
        new["metadata"]["namespace"] = self.namespace
        admitted = admit_create(self.store, resource, new)
        held = self.store.find(resource, self.namespace, new["metadata"]["name"])
        if held is None:
            self.store.create(resource, admitted)
        elif held["spec"] != admitted["spec"]:
            meta = {**held["metadata"], "generation": held["metadata"].get("generation", 1) + 1}
            self.store.update(resource, {**held, "spec": admitted["spec"], "metadata": meta})

    async def _pod(self, action: Row, container: str | None = None) -> Object:
        """Our pod for the recorded one of an action: as many were created before it; with its container running."""
        name = action.get("pod")
        nth = self.names.index(name) if name in self.names and name != "d-0" else 0

        def find() -> Object | None:
            created = [row["object"] for row in self.watch if row["kind"] == "Pod" and row["type"] == "ADDED"]
            pod = self.store.find(POD, self.namespace, name) if name == "d-0" else None
            if pod is None and len(created) > nth:
                pod = self.store.find(POD, self.namespace, created[nth]["metadata"]["name"])
            running = pod is not None and (
                container is None or "running" in (_status(pod, container).get("state") or {})
            )
            return pod if running else None

        found: Object | None = await self._until(find, 60)
        if found is None:
            raise NotFound(f"no pod for {action}")
        return found

    async def _kill(self, action: Row) -> None:
        pod = await self._pod(action, action["container"])
        identity = _status(pod, action["container"])["containerID"].split("//")[1]
        procs = [
            Path(root, "cgroup.procs")
            for root, _, files in os.walk("/sys/fs/cgroup")
            if identity in root and pod["metadata"]["uid"] in root and "cgroup.procs" in files
        ]
        os.kill(min(int(pid) for path in procs for pid in path.read_text().split()), signal.SIGKILL)

    async def _exec(self, action: Row) -> None:
        pod = await self._pod(action, action["container"])
        node = self.bench.nodes[pod["spec"]["nodeName"]]
        session = await node.exec(
            self.namespace,
            pod["metadata"]["name"],
            action["container"],
            action["action"].split()[1:],
            stdin=False,
            tty=False,
        )
        await session.wait()

    async def _end(self) -> None:
        """Watch for as long after the last step as the recording did: back-off is jittered, and adds up."""
        recorded = moments(self.recorded)
        length = recorded_seconds(self.folder)
        rest = max(MOMENT, length - max(steps[-1][0] for steps in recorded.values()))
        await asyncio.sleep(max(0.0, length - self._now()))
        latest = time.monotonic() + 0.5 * length + 5
        while (came := came_as_far(moments(self.watch), recorded)) is None and time.monotonic() < latest:
            await asyncio.sleep(0.2)
        if came is not None:
            await asyncio.sleep(max(0.0, came + rest - self._now()))
            for found in (self.watch, self.events):
                found[:] = [row for row in found if row["rel"] <= came + rest]


def _status(pod: Object, container: str) -> Any:
    return next(
        (
            status
            for part in ("containerStatuses", "initContainerStatuses")
            for status in pod.get("status", {}).get(part, [])
            if status["name"] == container
        ),
        {},
    )
