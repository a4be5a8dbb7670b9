"""Our controllers against a recorded kubelet: the recording's pods live as they did, and what we make of them is
recorded.

The nth pod that our controllers create goes through what the nth recorded pod went through: as long after its creation,
and, once deleted, as long after its deletion. The result is written in the recordings' own form, for `compare.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from chaos.embedded.api.admission import admit_create
from chaos.embedded.controllers import run_controllers
from chaos.embedded.deletion import delete
from chaos.embedded.resources import EVENT, LEASE, NAMESPACE, NODE, POD, RESOURCES, SERVICE_ACCOUNT, Object, Resource
from chaos.embedded.store import NotFound, Store, copy
from tests.parity.warp import WarpLoop, run_warped

KINDS = {resource.kind: resource for resource in RESOURCES if resource is not EVENT}
OURS = {
    "job-controller",
    "daemonset-controller",
    "statefulset-controller",
    "replicaset-controller",
    "deployment-controller",
}
Row = dict[str, Any]


def rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: `no` is a word."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def applied(folder: Path) -> list[list[Object]]:
    """The manifests of each `apply`, in order."""
    steps = (folder / "manifest.yaml").read_text().split("# -- ")[1:]
    return [[obj for obj in yaml.load_all(step.partition("\n")[2], _Loader) if obj] for step in steps]


class Replay:
    def __init__(self, folder: Path, loop: WarpLoop) -> None:
        self.folder = folder
        self.loop = loop
        self.store = Store()
        self.namespace = folder.name[:50].rstrip("-")
        self.watch, self.actions = rows(folder / "watch.jsonl"), rows(folder / "actions.jsonl")
        self.out: list[Row] = []
        self.events: list[Row] = []
        lives: dict[str, list[Row]] = {}
        for row in self.watch:
            if row["kind"] == "Pod":
                lives.setdefault(row["object"]["metadata"]["uid"], []).append(row)
        self.lives = list(lives.values())
        self.nth: dict[str, int] = {}

    async def run(self) -> None:
        for name in ("n1", "n2", "n3"):
            self.store.create(
                NODE,
                {
                    "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                    "spec": {},
                    "status": {
                        "allocatable": {"cpu": "2", "memory": "8Gi", "pods": "110"},
                        "conditions": [{"type": "Ready", "status": "True"}],
                    },
                },
            )
        self.store.create(NAMESPACE, {"metadata": {"name": self.namespace}, "spec": {"finalizers": ["kubernetes"]}})
        self.store.create(SERVICE_ACCOUNT, {"metadata": {"name": "default", "namespace": self.namespace}})
        tasks = [
            asyncio.create_task(self._record(resource)) for resource in (*KINDS.values(), EVENT) if resource.namespaced
        ]
        tasks += [
            asyncio.create_task(run_controllers(self.store, self.loop)),
            asyncio.create_task(self._live()),
            asyncio.create_task(self._beat()),
        ]
        await self._act()
        await asyncio.sleep(max(row["rel"] for row in self.watch) + 1.5 - self.loop.time())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self) -> None:
        """Keep the nodes alive."""
        for name in ("n1", "n2", "n3"):
            self.store.create(LEASE, {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {}})
        while True:
            for name in ("n1", "n2", "n3"):
                self.store.mutate(
                    LEASE, "kube-node-lease", name, lambda new: new["spec"].update(renewTime=self.loop.time())
                )
            await asyncio.sleep(10)

    async def _act(self) -> None:
        """What the user did, when it reached the API."""
        steps = iter(applied(self.folder))
        for action in self.actions:
            if not action["action"].startswith("apply"):
                continue
            objects = next(steps)
            at = min(
                (
                    row["rel"]
                    for row in self.watch
                    if row["rel"] > action["rel"] and row["kind"] in {obj["kind"] for obj in objects}
                ),
                default=action["rel"],
            )
            await asyncio.sleep(max(0.0, at - self.loop.time()))
            for obj in objects:
                self._apply(KINDS[obj["kind"]], obj)

    def _apply(self, resource: Resource, obj: Object) -> None:
        new = copy(obj)
        new["metadata"]["namespace"] = self.namespace
        held = self.store.find(resource, self.namespace, new["metadata"]["name"])
        admitted = admit_create(self.store, resource, new)
        if held is None:
            self.store.create(resource, admitted)
        elif held["spec"] != admitted["spec"]:
            generation = held["metadata"].get("generation", 1) + 1
            self.store.update(
                resource, {**held, "spec": admitted["spec"], "metadata": {**held["metadata"], "generation": generation}}
            )

    async def _record(self, resource: Resource) -> None:
        with self.store.watch(resource) as watch:
            async for event in watch:
                into = self.events if resource is EVENT else self.out
                into.append(
                    {"rel": self.loop.time(), "kind": resource.kind, "type": event.type, "object": event.object}
                )

    async def _live(self) -> None:
        """Be the kubelet that was recorded."""
        with self.store.watch(POD) as watch:
            async for event in watch:
                pod = event.object
                uid = pod["metadata"]["uid"]
                if event.type == "ADDED":
                    self.nth[uid] = len(self.nth)
                    self._follow(pod, deleted=False)
                elif (
                    event.type == "MODIFIED"
                    and "deletionTimestamp" in pod["metadata"]
                    and event.before is not None
                    and "deletionTimestamp" not in event.before["metadata"]
                ):
                    self._follow(pod, deleted=True)

    def _follow(self, pod: Object, *, deleted: bool) -> None:
        for after, row in self._steps(self.nth[pod["metadata"]["uid"]], deleted=deleted):
            self.loop.call_later(after, self._replay, pod, row)

    def _steps(self, nth: int, *, deleted: bool) -> Iterator[tuple[float, Row]]:
        """(seconds after creation or deletion, row) of a recorded life's first or second part."""
        if nth >= len(self.lives):
            return
        life = self.lives[nth]
        cut = next((i for i, row in enumerate(life) if "deletionTimestamp" in row["object"]["metadata"]), len(life))
        name = life[0]["object"]["metadata"]["name"]
        by_user = any(
            action.get("pod") == name and action["action"].startswith(("delete", "evict")) for action in self.actions
        )
        part = life[cut + 1 :] if deleted else life[1 : cut + 1 if by_user else cut]
        zero = life[cut if deleted else 0]["rel"]
        for row in part:
            yield row["rel"] - zero, row

    def _replay(self, pod: Object, row: Row) -> None:
        meta, recorded = pod["metadata"], row["object"]
        key = meta["namespace"], meta["name"]
        held = self.store.find(POD, *key)
        if held is None or held["metadata"]["uid"] != meta["uid"]:
            return
        with contextlib.suppress(NotFound):
            if row["type"] == "DELETED" or recorded["metadata"].get("deletionGracePeriodSeconds") == 0:
                delete(self.store, POD, *key, grace=0, clock=self.loop)
            elif "deletionTimestamp" in recorded["metadata"] and "deletionTimestamp" not in held["metadata"]:
                delete(self.store, POD, *key, grace=recorded["metadata"]["deletionGracePeriodSeconds"], clock=self.loop)
            elif recorded["spec"].get("nodeName") and recorded.get("status", {}).get("containerStatuses"):
                shift = self.loop.time() - row["rel"]
                self.store.mutate(
                    POD, *key, lambda new: new.__setitem__("status", self._shifted(recorded["status"], shift))
                )

    def _shifted(self, status: Any, shift: float) -> Any:
        """The recorded status with its times moved to ours (back-off reads them)."""
        recorded_zero = datetime.fromisoformat(self.watch[0]["t"]) - timedelta(seconds=self.watch[0]["rel"])
        ours_zero = self.loop.now() - timedelta(seconds=self.loop.time())

        def move(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: move(v) for k, v in value.items()}
            if isinstance(value, list):
                return [move(v) for v in value]
            if isinstance(value, str) and len(value) == 20 and value.endswith("Z") and value[10] == "T":
                at = datetime.fromisoformat(value) - recorded_zero + ours_zero + timedelta(seconds=shift)
                return at.strftime("%Y-%m-%dT%H:%M:%SZ")
            return value

        return move(status)


def write(folder: Path, watch: list[Row], events: list[Row]) -> Path:
    """A recording for `compare.py`, with only the Events of the controllers."""
    folder.mkdir(parents=True)
    ours = [row for row in events if row["object"].get("reportingComponent") in OURS]
    for name, found in (("watch", watch), ("events", ours)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return folder


def replay(folder: Path, out: Path) -> tuple[Path, Path]:
    """(the recording, ours), both reduced to what controllers do."""
    loop = WarpLoop()
    run = Replay(folder, loop)
    run_warped(run.run(), loop)
    return write(out / "real", run.watch, rows(folder / "events.jsonl")), write(out / "ours", run.out, run.events)
