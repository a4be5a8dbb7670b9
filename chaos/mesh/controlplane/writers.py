"""What the control plane writes to Kubernetes: the proxies' CPU budgets, the trust bundle with the bootstrap in each
meshed namespace, and (where a mode has one waypoint per pod) the waypoints. Pure plans first; `Writers` carries them
out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import urllib3

from chaos.errors import ApiError, SharedfateError
from chaos.kube.client import Cluster
from chaos.mesh import manifests
from chaos.mesh.controlplane.tables import Tables, backing, is_live, labels_of
from chaos.mesh.proxyconfig import config_map
from chaos.names import (
    ANNOTATION_BUDGET,
    ANNOTATION_BUDGET_HOLD,
    ANNOTATION_PROXY_CONTAINER,
    LABEL_MODE,
    LABEL_ROLE,
    PROXY_CONFIG,
    PROXY_CONTAINER,
    SYSTEM_NAMESPACE,
)

log = logging.getLogger(__name__)
Object = Mapping[str, Any]
BOOST: Final = 1000  # millicores while a proxy starts: a limit, once set, can be changed but not taken away
_RETRY: Final = 0.5


@dataclass(frozen=True, slots=True)
class Resize:
    """Set the CPU limit of a pod's proxy."""

    namespace: str
    pod: str
    uid: str
    field: str  # containers | initContainers
    container: str
    millicores: int

    def patch(self) -> dict[str, Any]:
        limits = {"limits": {"cpu": f"{self.millicores}m"}}
        return {"spec": {self.field: [{"name": self.container, "resources": limits}]}}


class Settled:
    """Which proxy containers have been ready once. One that becomes unready later keeps its budget: a proxy that drowns
    must not be given more CPU for it."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}  # pod UID -> container ID

    def plan(self, pods: Iterable[Object]) -> list[Resize]:
        """The limits that are not what they should be: the budget once ready, a boost while a new process starts."""
        resizes, alive = [], {}
        for pod in pods:
            meta = pod["metadata"]
            annotations = meta.get("annotations") or {}
            if ANNOTATION_BUDGET not in annotations or ANNOTATION_BUDGET_HOLD in annotations or not is_live(pod):
                continue
            name = annotations.get(ANNOTATION_PROXY_CONTAINER, PROXY_CONTAINER)
            spot = _container(pod, name)
            if spot is None:
                continue
            field, container, status = spot
            budget = int(annotations[ANNOTATION_BUDGET])
            limit = (container.get("resources") or {}).get("limits", {}).get("cpu")
            current = None if limit is None else millicores(limit)
            process = status.get("containerID", "") if "running" in (status.get("state") or {}) else ""
            known = self._ids.get(meta["uid"])
            if process and (status.get("ready") or process == known or (known is None and current == budget)):
                alive[meta["uid"]] = process
                wanted = budget
            else:
                if known is not None:
                    alive[meta["uid"]] = known
                # Only what runs: the kubelet leaves the pod's own control group alone while a container of it is down,
                # and gives the container's successor the new limit all the same, which cgroup v1 then refuses.
                wanted = BOOST if process and current is not None else None  # type: ignore[assignment]
            if wanted is not None and wanted != current:
                resizes.append(Resize(meta["namespace"], meta["name"], meta["uid"], field, name, wanted))
        self._ids = alive
        return resizes


def _container(pod: Object, name: str) -> tuple[str, Object, Object] | None:
    for field, statuses in (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")):
        for container in pod["spec"].get(field) or []:
            if container["name"] == name:
                found = (s for s in pod.get("status", {}).get(statuses) or [] if s["name"] == name)
                return field, container, next(found, {})
    return None


def millicores(quantity: str | int | float) -> int:
    """Kubernetes' CPU quantity in millicores: "100m", "1", 0.5."""
    text = str(quantity)
    return int(text[:-1]) if text.endswith("m") else int(float(text) * 1000)


def plan_publications(tables: Tables, data: Mapping[str, str], run: str) -> list[dict[str, Any]]:
    """The ConfigMaps `sharedfate-proxy` that are missing or differ."""
    present = {
        item["metadata"]["namespace"]: item.get("data")
        for item in tables.objects["ConfigMap"].values()
        if item["metadata"]["name"] == PROXY_CONFIG
    }
    terminating = {
        n["metadata"]["name"] for n in tables.objects["Namespace"].values() if "deletionTimestamp" in n["metadata"]
    }
    return [
        config_map(namespace, data, run)
        for namespace in sorted({SYSTEM_NAMESPACE, *tables.meshed_namespaces()} - terminating)
        if present.get(namespace) != data
    ]


def plan_waypoints(tables: Tables, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A waypoint for each meshed pod behind a Service that has none, where the mode has a waypoint.yaml."""
    pods = tables.objects["Pod"]
    present = {(p["metadata"]["namespace"], p["metadata"]["name"]) for p in pods.values()}
    behind = backing(tables.objects["EndpointSlice"].values())
    planned = []
    for uid in sorted(behind & pods.keys()):
        meta, spec = pods[uid]["metadata"], pods[uid]["spec"]
        if (
            LABEL_MODE not in labels_of(pods[uid])
            or labels_of(pods[uid]).get(LABEL_ROLE) == "proxy"
            or not is_live(pods[uid])
            or (meta["namespace"], f"waypoint-{meta['name']}") in present
        ):
            continue
        planned += manifests.load(
            f"modes/{config['mode']}/waypoint.yaml",
            {
                **config["values"],
                "mode": config["mode"],
                "run": config["run"],
                "pod_name": meta["name"],
                "pod_uid": uid,
                "namespace": meta["namespace"],
                "node": spec["nodeName"],
            },
        )
    return planned


class Writers:
    """Carries plans out in threads, one write per object at a time; what fails is planned again shortly after."""

    def __init__(self, cluster: Cluster, *, published: Callable[[], Mapping[str, str]]) -> None:
        self._cluster = cluster
        self._published = published
        self._settled = Settled()
        self._busy: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._again: Callable[[], None] = lambda: None
        self.failures: list[str] = []

    def on_world(self, tables: Tables, again: Callable[[], None]) -> None:
        """Plan from the tables as they are; `again` is called when a write ended and another look may be due."""
        config = tables.config()
        if config is None:
            return
        self._again = again
        for resize in self._settled.plan(tables.objects["Pod"].values()):
            self._start(("resize", resize.uid), self._resize, resize)
        for item in plan_publications(tables, self._published(), config["run"]):
            self._start(("publish", item["metadata"]["namespace"]), self._cluster.apply, item)
        if config.get("values"):
            for pod in plan_waypoints(tables, config):
                self._start(("waypoint", pod["metadata"]["namespace"], pod["metadata"]["name"]), self._create, pod)

    def _resize(self, resize: Resize) -> None:
        self._cluster.patch("Pod", resize.pod, resize.patch(), resize.namespace, how="strategic", subresource="resize")

    def _create(self, obj: dict[str, Any]) -> None:
        try:
            self._cluster.create(obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    def _start(self, key: tuple[str, ...], write: Callable[..., Any], *values: Any) -> None:
        if key not in self._busy:
            self._busy[key] = asyncio.create_task(self._run(key, write, *values))

    async def _run(self, key: tuple[str, ...], write: Callable[..., Any], *values: Any) -> None:
        try:
            await asyncio.to_thread(write, *values)
            await asyncio.sleep(0.05)  # the watch brings our own write back before we look again
        except (SharedfateError, urllib3.exceptions.HTTPError, OSError) as error:
            text = f"{' '.join(key)}: {error}"
            self.failures = [*self.failures[-99:], text]
            log.warning("could not write %s", text)
            await asyncio.sleep(_RETRY)
        finally:
            self._busy.pop(key, None)
        self._again()
