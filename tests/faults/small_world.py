"""A small world to break: a cluster in one mode, tenants under load, and their proxies.

An embedded cluster of the test's own; with SHAREDFATE_TEST_CLUSTER (a --cluster option), that cluster, on which what
acts on whole nodes or on the API server is skipped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from chaos.cluster.providers import open_cluster
from chaos.engine.clean import remove_runs
from chaos.faults import notes, receipts
from chaos.faults.model import Target
from chaos.faults.selection import container_target, node_target, workload_target
from chaos.kube.client import Cluster, Object
from chaos.kube.nodes import read_nodes
from chaos.load.client import control_port
from chaos.mesh import manifests
from chaos.mesh.install import Mesh
from chaos.names import MESH_CONFIG, SYSTEM_NAMESPACE

RUN = "faults"
CLUSTER: Final = "SHAREDFATE_TEST_CLUSTER"


@dataclass(frozen=True)
class Shares:
    """What became of the requests that ended in a window."""

    done: int
    ok: float  # share, 0 to 1


class World:
    """The cluster, and questions about it. Each tenant's client lies on the first node, its server on the last."""

    def __init__(
        self, cluster: Cluster, mode: str = "none", *, option: str = "", tenants: Sequence[str] = ("a",), run: str = RUN
    ) -> None:
        self.cluster = cluster
        self.option = option  # as the command line names the cluster
        self.mesh = Mesh(cluster, mode, run=run)
        self.nodes = read_nodes(cluster).names[:2]
        self.tenants = tenants

    def start(self) -> None:
        first, last = self.nodes[0], self.nodes[-1]
        self.mesh.start(
            [
                obj
                for name in self.tenants
                for obj in manifests.tenant(name, client_nodes=[first], server_nodes=[last], servers=1)
            ]
        )
        for tenant in self.tenants:
            base = {"server": f"tenant-{tenant}/server", "target": "server:80", "rate": 60.0, "timeout": 0.4}
            self.ask(
                "/flows", [{**base, "name": "kept"}, {**base, "name": "fresh", "new_connections": True}], tenant=tenant
            )
        for tenant in self.tenants:
            self.well(tenant=tenant)

    @property
    def embedded(self) -> bool:
        return self.cluster.kind == "embedded"

    def needs_embedded(self) -> None:
        """Skip elsewhere: the fault switches whole nodes, or makes the API server misbehave."""
        if not self.embedded:
            pytest.skip("switches whole nodes, or makes the API server misbehave: on the embedded cluster")

    # ---- looking

    def pod(self, namespace: str, app: str, node: str = "") -> Object:
        """A live, ready pod."""

        def ready() -> Object:
            for pod in self.cluster.list("Pod", namespace, labels=f"app={app}"):
                conditions = {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions", [])}
                if (
                    "deletionTimestamp" not in pod["metadata"]
                    and conditions.get("Ready") == "True"
                    and node in ("", pod["spec"]["nodeName"])
                ):
                    return pod
            return {}

        found: dict[str, Any] = self.cluster.wait(f"a ready pod {namespace}/{app}", ready, seconds=90)
        return found

    def server(self, container: str = "server", *, tenant: str = "a") -> Target:
        return container_target(self.pod(f"tenant-{tenant}", "server"), container)

    def client(self, *, tenant: str = "a") -> Target:
        return container_target(self.pod(f"tenant-{tenant}", "client"), "client")

    def proxy(self, number: int = 0) -> Target:
        """Mode none: the placebo on a node."""
        return container_target(self.pod(SYSTEM_NAMESPACE, "placebo", self.nodes[number]), "proxy")

    def workload(self, name: str = "server", namespace: str = "tenant-a", kind: str = "Deployment") -> Target:
        return workload_target(self.cluster.get(kind, name, namespace))

    def node(self, number: int) -> Target:
        return node_target(self.cluster.get("Node", self.nodes[number]))

    def trouble(self, name: str) -> dict[str, Any]:
        """What the API server was asked to do to somebody."""
        return dict(self.cluster.request("GET", "/embedded/trouble").get(name, {}))

    def picture(self) -> dict[str, Any]:
        """All that a fault changes and must put back, but for what only traffic shows."""
        workloads = {
            f"{one['kind']} {one['metadata']['namespace']}/{one['metadata']['name']}": [
                one["spec"].get("replicas"),
                _without_restarts(one["spec"]["template"]),
            ]
            for kind in ("Deployment", "DaemonSet")
            for one in self.cluster.list(kind, labels=f"sharedfate.io/run={self.mesh.run}")
        }
        return {
            "workloads": workloads,
            "cordoned": [
                one["metadata"]["name"] for one in self.cluster.list("Node") if one["spec"].get("unschedulable")
            ],
            "noted": notes.all_noted(self.cluster),
            "nodes": self.cluster.request("GET", "/embedded/nodes") if self.embedded else None,
            "trouble": self.cluster.request("GET", "/embedded/trouble") if self.embedded else None,
            "mesh": sorted(self.cluster.get("ConfigMap", MESH_CONFIG, SYSTEM_NAMESPACE)["data"]),
            "held": [
                one["metadata"]["name"]
                for one in self.cluster.list("Pod")
                if "sharedfate.io/cpu-budget-hold" in one["metadata"].get("annotations", {})
            ],
        }

    def ask(self, path: str, body: Any = None, *, tenant: str = "a") -> Any:
        """Of the loader's control port, which no fault here touches."""
        client = self.pod(f"tenant-{tenant}", "client")["metadata"]["name"]
        exchange = control_port(self.cluster, f"tenant-{tenant}", client)
        return json.loads(exchange(path, None if body is None else json.dumps(body).encode()))

    def shares(self, flow: str = "fresh", *, requests: int = 20, tenant: str = "a") -> Shares:
        """Of the next requests that end."""

        def counts() -> tuple[int, int]:
            found = next(one for one in self.ask("/state", tenant=tenant)["flows"] if one["name"] == flow)
            return found["ok"], found["ok"] + found["failed"] + found["unknown"]

        ok, done = counts()

        def enough() -> Shares | None:
            now_ok, now_done = counts()
            return Shares(now_done - done, (now_ok - ok) / (now_done - done)) if now_done - done >= requests else None

        found: Shares = self.cluster.wait(f"{requests} requests of {flow}", enough, seconds=60, every=0.1)
        return found

    def until(
        self,
        good: Callable[[Shares], bool],
        what: str,
        *,
        flow: str = "fresh",
        seconds: float = 30.0,
        tenant: str = "a",
    ) -> Shares:
        """The first window of which it is true: windows overlap a change, so the first may not be the one."""
        end = time.monotonic() + seconds
        while not good(found := self.shares(flow, tenant=tenant)):
            assert time.monotonic() < end, f"tenant {tenant}: {what}: last seen {found}"
        return found

    def ill(self, flow: str = "fresh", *, tenant: str = "a") -> Shares:
        """Most requests end badly."""
        return self.until(lambda found: found.ok < 0.5, f"{flow} hurt", flow=flow, tenant=tenant)

    def well(self, flow: str = "fresh", *, tenant: str = "a") -> Shares:
        """All but a few requests end well."""
        return self.until(lambda found: found.ok > 0.9, f"{flow} well", flow=flow, seconds=90, tenant=tenant)

    def helpers(self) -> list[Object]:
        """The helper pods that are there."""
        return self.cluster.list("Pod", SYSTEM_NAMESPACE, labels="sharedfate.io/role=helper")

    def nothing_held(self) -> None:
        """No receipt is open, soon, and every helper pod was told to go; when it has gone is the kubelet's affair."""

        def let_go() -> bool:
            staying = [pod for pod in self.helpers() if "deletionTimestamp" not in pod["metadata"]]
            return not staying and not receipts.open_receipts(self.cluster)

        self.cluster.wait("no receipt is open and no helper stays", let_go, seconds=30)

    def nothing_left(self, *, seconds: float = 30.0) -> None:
        """No receipt and no helper pod, soon."""
        self.cluster.wait(
            "no receipt and no helper left",
            lambda: not self.helpers() and not receipts.open_receipts(self.cluster),
            seconds=seconds,
        )


def _without_restarts(template: Object) -> Object:
    """A rolling restart leaves its mark on the template, as kubectl's does."""
    meta = dict(template.get("metadata") or {})
    meta["annotations"] = {
        k: v for k, v in (meta.get("annotations") or {}).items() if k != "sharedfate.io/restarted-by"
    }
    return {**template, "metadata": meta}


@contextmanager
def small_world(name: str, mode: str = "none", *, tenants: Sequence[str] = ("a",)) -> Iterator[World]:
    """Made and taken away."""
    option = os.environ.get(CLUSTER, f"embedded:{name}")
    with open_cluster(option, nodes=2) as cluster:
        world = World(cluster, mode, option=option, tenants=tenants)
        try:
            world.start()
            yield world
        finally:
            if not world.embedded:
                remove_runs(cluster, run=RUN)
