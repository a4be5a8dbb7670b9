"""Writes the control plane's objects to Kubernetes: the proxies' CPU budgets, the trust bundle with the bootstrap in
each meshed namespace, and (where a mode has one waypoint per pod) the waypoints. Pure plans first; `Reconcilers`
carries them out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import urllib3

from chaos.errors import AlreadyExists, SharedfateError
from chaos.kube.client import Cluster
from chaos.kube.placement import recognise_proxy, stands_apart
from chaos.kube.quantity import cpu_quantity
from chaos.mesh import manifests
from chaos.mesh.controlplane.cache import ObjectCache
from chaos.mesh.controlplane.reading import Unreadable, is_live, items, labels_of, mapping, meta_of, text, texts
from chaos.mesh.modes import mode_named
from chaos.mesh.proxyconfig import config_map
from chaos.model.modes import ProxyMode, layer_name
from chaos.model.placement import Proxy
from chaos.names import (
    ANNOTATION_BUDGET_HOLD,
    ANNOTATION_PROXY_CONTAINER,
    LABEL_MODE,
    LABEL_WAYPOINT,
    NO_WAYPOINT,
    PROXY_CONFIG,
    SYSTEM_NAMESPACE,
    WAYPOINT,
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
        """For the pod's subresource `resize`, as a strategic merge patch."""
        limits = {"limits": {"cpu": cpu_quantity(self.millicores)}}
        return {"spec": {self.field: [{"name": self.container, "resources": limits}]}}


class BudgetReconciler:
    """Remembers which proxy containers have been ready once. One that becomes unready later keeps its budget: a
    saturated proxy must not be given more CPU for it.
    """

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}  # pod UID -> container ID

    def plan(self, cache: ObjectCache, mode: ProxyMode, budgets: Mapping[str, int]) -> list[Resize]:
        """Return the limits to change: the budget once ready, a boost while a new process starts. `budgets`: millicores
        by the name of the layers, from the settings; a pod's annotation belongs to its tenant.

        `budgets`: millicores by the name of the layers. It is the settings' word: a pod's annotation is its tenant's.
        """
        homes, alive = cache.homes(), dict[str, str]()

        def plan_one(pod: Object) -> Resize | None:
            annotations = texts(mapping(pod.get("metadata"), "metadata").get("annotations"), "metadata.annotations")
            held = ANNOTATION_BUDGET_HOLD in annotations
            if ANNOTATION_PROXY_CONTAINER not in annotations or held or not is_live(pod):
                return None
            proxy = recognise_proxy(pod, mode, homes)
            budget = budgets.get(layer_name(proxy.layers))
            return None if budget is None else self._plan(pod, proxy, budget, alive)

        resizes = list(cache.read("Pod", plan_one))
        self._ids = alive
        return resizes

    def _plan(self, pod: Object, proxy: Proxy, budget: int, alive: dict[str, str]) -> Resize | None:
        field, container, status = _container(pod, proxy.container)
        limit = mapping(mapping(container.get("resources"), "resources").get("limits"), "limits").get("cpu")
        process = status.get("containerID", "") if "running" in mapping(status.get("state"), "state") else ""
        known = self._ids.get(proxy.uid)
        settled = status.get("ready") or process == known or (known is None and limit == cpu_quantity(budget))
        if process and settled:
            alive[proxy.uid] = process
            wanted: int | None = budget
        else:
            if known is not None:
                alive[proxy.uid] = known
            # Only what runs: the kubelet leaves the pod's own control group alone while a container of it is down,
            # and gives the container's successor the new limit all the same, which cgroup v1 then refuses.
            wanted = BOOST if process and limit is not None else None
        if wanted is None or limit == cpu_quantity(wanted):
            return None
        return Resize(proxy.namespace, proxy.pod, proxy.uid, field, proxy.container, wanted)


def budgets_of(config: Mapping[str, Any], mode: ProxyMode) -> dict[str, int]:
    """Millicores by the name of the layers, from the mesh's settings."""
    values = config.get("values") or {}
    named = {name: f"{name.replace('-', '_')}_cpu" for name in (layer_name(kind.layers) for kind in mode.kinds)}
    return {name: int(values[key]) for name, key in named.items() if key in values}


def _container(pod: Object, name: str) -> tuple[str, Object, Object]:
    spec, said = mapping(pod.get("spec"), "spec"), mapping(pod.get("status"), "status")
    for field, statuses in (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")):
        for container in items(spec.get(field), field):
            if container.get("name") == name:
                found = (one for one in items(said.get(statuses), statuses) if one.get("name") == name)
                return field, container, next(found, {})
    raise Unreadable(f"there is no container {name!r}")


def plan_publications(cache: ObjectCache, data: Mapping[str, str], run: str) -> list[dict[str, Any]]:
    """The ConfigMaps `sharedfate-proxy` that are missing or differ."""

    def published(item: Object) -> tuple[str, Any] | None:
        _, namespace, name = meta_of(item)
        return (namespace, item.get("data")) if name == PROXY_CONFIG else None

    def terminating(namespace: Object) -> str | None:
        return meta_of(namespace)[2] if "deletionTimestamp" in namespace["metadata"] else None

    present = dict(cache.read("ConfigMap", published))
    wanted = {SYSTEM_NAMESPACE, *cache.meshed_namespaces()} - set(cache.read("Namespace", terminating))
    return [config_map(name, data, run) for name in sorted(wanted) if present.get(name) != data]


def plan_waypoints(cache: ObjectCache, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A waypoint for each meshed pod behind a Service that has none, where the mode has a waypoint.yaml."""
    mode = mode_named(config["mode"])
    present = {meta_of(pod)[1:] for pod in cache.objects["Pod"].values()}
    behind = {uid for piece in cache.slices() for uid in piece.uids}

    def plan_one(pod: Object) -> list[dict[str, Any]] | None:
        uid, namespace, name = meta_of(pod)
        labels = labels_of(pod)
        if uid not in behind or LABEL_MODE not in labels or not is_live(pod) or stands_apart(pod, mode):
            return None
        if labels.get(LABEL_WAYPOINT) == NO_WAYPOINT:
            return None
        if (namespace, f"{WAYPOINT}-{name}") in present:
            return None
        return manifests.load(
            f"modes/{mode.name}/waypoint.yaml",
            {
                **config["values"],
                "mode": mode.name,
                "run": config["run"],
                "pod_name": name,
                "pod_uid": uid,
                "namespace": namespace,
                "node": text(mapping(pod.get("spec"), "spec").get("nodeName"), "spec.nodeName"),
            },
        )

    return [made for found in cache.read("Pod", plan_one) for made in found]


class Reconcilers:
    """Carries plans out in threads, one write per object at a time; a failed write is planned again shortly after."""

    def __init__(self, cluster: Cluster, *, published: Callable[[], Mapping[str, str]]) -> None:
        self._cluster = cluster
        self._published = published
        self._budgets = BudgetReconciler()
        self._busy: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._again: Callable[[], None] = lambda: None
        self.failures: list[str] = []

    def on_snapshot(self, cache: ObjectCache, again: Callable[[], None]) -> None:
        """Plan from the cache's present state; `again` is called when a write ended and another look may be due."""
        config = cache.config()
        if config is None:
            return
        self._again = again
        mode = mode_named(config["mode"])
        for resize in self._budgets.plan(cache, mode, budgets_of(config, mode)):
            self._start(("resize", resize.uid), self._resize, resize)
        for item in plan_publications(cache, self._published(), config["run"]):
            self._start(("publish", item["metadata"]["namespace"]), self._cluster.apply, item)
        if config.get("values"):
            for pod in plan_waypoints(cache, config):
                self._start(("waypoint", pod["metadata"]["namespace"], pod["metadata"]["name"]), self._create, pod)

    def _resize(self, resize: Resize) -> None:
        self._cluster.patch("Pod", resize.pod, resize.patch(), resize.namespace, how="strategic", subresource="resize")

    def _create(self, obj: dict[str, Any]) -> None:
        with contextlib.suppress(AlreadyExists):
            self._cluster.create(obj)

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
