"""`Mesh`: one proxy mode in one cluster, from manifests to ready and back to nothing.

What is applied is what `render` prints. Everything carries the run's label, and only that is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from chaos.errors import Misuse, NotReady
from chaos.kube.applying import (
    Object,
    apply_all,
    delete_all,
    delete_helpers,
    delete_running,
    delete_system,
    empty_namespaces,
    in_parallel,
    namespaces_of_run,
    pods_of_run,
    unmark_namespaces,
    wait_all_ready,
    wait_emptied,
    wait_namespaces_gone,
)
from chaos.kube.client import Cluster
from chaos.kube.control_key import opened_http, stored_key
from chaos.kube.nodes import NodeChoice
from chaos.kube.objects import is_ready_pod
from chaos.kube.placement import describe, is_captured, read_placement
from chaos.mesh import manifests
from chaos.mesh.authority import plane_authority
from chaos.mesh.budget import Budget, Reference, divide
from chaos.mesh.handle import NewPod, PlanePart
from chaos.mesh.inject import told_digests
from chaos.mesh.modes import mode_named
from chaos.mesh.mutations import Defect
from chaos.mesh.proxyconfig import config_map, proxy_config
from chaos.mesh.render import MeshPlan
from chaos.mesh.snapshot import Features
from chaos.model.fate import is_whole
from chaos.model.modes import ProxyMode
from chaos.model.placement import Placement
from chaos.names import (
    AUTHORITY_SECRET,
    CONTROL_PLANE,
    CONTROL_SECRET,
    LABEL_MESH,
    LABEL_MODE,
    MESH_CONFIG,
    PORT_XDS_STATUS,
    PROXY_CONFIG,
    SYSTEM_NAMESPACE,
)

OTHER_TIMEOUT: Final = 15.0  # seconds: of a configuration that no request of a tenant notices


class Mesh:
    """A proxy mode in a cluster.

    Args:
        cluster: where.
        mode: a ProxyMode, or its name.
        run: value of the label on all that is created.
        budget: for all proxies together; `reference`: what it is divided over.
        features: of the L7 proxies; can be changed while running (`set_features`).
        certificate_seconds: life of the proxies' certificates.
        defects: what to break on purpose, for tests of the checks.
        mutable: defects may be set later (`set_defects`).
    """

    def __init__(
        self,
        cluster: Cluster,
        mode: ProxyMode | str,
        *,
        run: str,
        budget: Budget | None = None,
        features: Features | None = None,
        reference: Reference | None = None,
        certificate_seconds: float = 3600.0,
        defects: Iterable[Defect] = (),
        mutable: bool = False,
    ) -> None:
        self.cluster = cluster
        self.mode = mode_named(mode) if isinstance(mode, str) else mode
        self.run = run
        self.shares = divide(self.mode, budget or Budget(), reference or Reference())
        self.features = features or Features()
        self.certificate_seconds = certificate_seconds
        self.defects = frozenset(defects)
        self.mutable = mutable or bool(self.defects)
        self.nodes: NodeChoice | None = None  # where the mesh's own parts may lie; None: anywhere
        self.opens = False  # the cluster shuts new namespaces by NetworkPolicies: ours are opened again
        self._deployed: list[Object] = []

    def contradictions(self) -> list[str]:
        """None: scenario `features` checks what its proxies were given."""
        return []

    reply_headers = ("server: envoy", "x-envoy-")
    version_annotation = ""  # the pods that are applied hold the proxies themselves
    log_signs = ()  # its proxies log no requests, unless a check has them do so

    # ---- manifests

    @property
    def plan(self) -> MeshPlan:
        """The present inputs of its manifests."""
        return MeshPlan(
            self.mode,
            self.run,
            self.shares,
            self.features,
            self.certificate_seconds,
            self.defects,
            mutable=self.mutable,
            nodes=self.nodes,
        )

    @property
    def values(self) -> Mapping[str, int]:
        """What the mode's manifests ask for, per layer."""
        return self.plan.values

    def system_manifests(self) -> list[Object]:
        """The mesh's own parts: namespace, RBAC, control plane, the mode's components."""
        return self.plan.system_manifests()

    def inject(self, objects: Iterable[Object]) -> list[Object]:
        """The application's manifests, patched for the mode."""
        return self.plan.inject(objects)

    # ---- life

    def start(self, objects: Iterable[Object], *, seconds: float = 60.0) -> None:
        """Run `install` and `deploy` at once: the applications start while the mesh does."""
        system = self.install(wait=False)
        self.deploy(objects, seconds=seconds)
        self.wait_ready(system, seconds=seconds)

    def install(self, *, seconds: float = 60.0, wait: bool = True) -> list[Object]:
        """Apply the mesh's own parts and wait until they are ready; raises NotReady saying which are not."""
        objects = self.system_manifests()
        self._apply_namespaces(objects)
        stored_key(self.cluster, run=self.run)
        self._publish([SYSTEM_NAMESPACE])
        apply_all(self.cluster, (obj for obj in objects if obj["kind"] != "Namespace"))
        if wait:
            self.wait_ready(objects, seconds=seconds)
        return objects

    def deploy(self, objects: Iterable[Object], *, seconds: float = 60.0) -> None:
        """Inject and apply application manifests and wait until they are ready, and every path has its proxies."""
        injected = self.inject(objects)
        self._deployed += injected
        self._apply_namespaces(injected)
        meshed = [
            o["metadata"]["name"]
            for o in injected
            if o["kind"] == "Namespace" and o["metadata"]["labels"].get(LABEL_MESH) == "enabled"
        ]
        self._publish(meshed)
        pods = told_digests(injected, stored_key(self.cluster, run=self.run))
        apply_all(self.cluster, (obj for obj in pods if obj["kind"] != "Namespace"))
        self.wait_ready(injected, seconds=seconds)
        self.cluster.wait(f"mode {self.mode.name}: a proxy at every hop of every path", self._is_whole, seconds=seconds)

    def _apply_namespaces(self, objects: Iterable[Object]) -> None:
        namespaces = [obj for obj in objects if obj["kind"] == "Namespace"]
        apply_all(self.cluster, namespaces)
        if self.opens:
            apply_all(self.cluster, manifests.open_policies((one["metadata"]["name"] for one in namespaces), self.run))

    def _publish(self, namespaces: Sequence[str]) -> None:
        """Publish the proxies' bootstrap and trust bundle, which the control plane then maintains: their pods need not
        wait for it.
        """
        if namespaces:
            root = plane_authority(self.cluster, run=self.run).root_pem.decode()
            data = proxy_config(self.mode.name, root)
            in_parallel(self.cluster.apply, [config_map(name, data, self.run) for name in namespaces])

    def _is_whole(self) -> bool:
        placement = self.placement()
        if not is_whole(placement):
            return False
        apart = set() if self.mode.in_pod else {proxy.uid for proxy in placement.proxies}
        return all(is_ready_pod(pod) for pod in self._pods() if pod["metadata"]["uid"] in apart)

    def set_features(self, features: Features, *, seconds: float = 30.0) -> None:
        """Change the L7 features of the running mesh, and wait until every proxy has acknowledged them."""
        self.features = features
        self._set_settings(seconds)

    @contextmanager
    def reconfigured(self) -> Iterator[None]:
        """Give every proxy another timeout, which no request of a tenant needs, until left."""
        before = self.features
        try:
            self.set_features(replace(before, timeout_seconds=OTHER_TIMEOUT))
            yield
        finally:
            self.set_features(before)

    def set_certificate_life(self, certificate_seconds: float, *, seconds: float = 30.0) -> None:
        """Change the life of the proxies' certificates, and wait until every proxy holds new ones."""
        self.certificate_seconds = certificate_seconds
        self._set_settings(seconds)

    def set_defects(self, defects: Iterable[Defect], *, seconds: float = 30.0) -> None:
        """Break the running mesh on purpose, or repair it (none), so that its checks are seen to catch it.

        Raises Misuse for a mesh that was not made `mutable`: its control plane would refuse them.
        """
        if not self.mutable:
            raise Misuse("this mesh takes no defects: make it with mutable=True, which is for tests alone")
        self.defects = frozenset(defects)
        self._set_settings(seconds)

    def _set_settings(self, seconds: float) -> None:
        self.await_pushed(
            self.cluster.patch("ConfigMap", MESH_CONFIG, {"data": {"mesh.json": self.plan.settings}}, SYSTEM_NAMESPACE),
            seconds=seconds,
        )

    def await_withdrawn(self, namespace: str, name: str, *, seconds: float = 30.0) -> None:
        """Wait until every connected proxy has acknowledged configuration without that policy. Raises NotReady."""
        key = f"{namespace}/{name}"
        self._await_pushed(f"without {key}", lambda seen: key not in seen, seconds)

    def await_pushed(self, settings: Mapping[str, Any], *, seconds: float = 30.0) -> None:
        """Wait until every connected proxy has acknowledged what follows from this ConfigMap (settings or policy).

        Proxies that have disconnected are ignored. Raises NotReady naming the ones that are behind.
        """
        meta = settings["metadata"]
        key, version = f"{meta['namespace']}/{meta['name']}", meta["resourceVersion"]
        self._await_pushed(f"with {key} at version {version}", lambda seen: seen.get(key) == version, seconds)

    def await_taken(self, *, since: float, seconds: float = 30.0) -> None:
        """Wait until every connected proxy has acknowledged configuration that is newer than `since`, the
        `snapshot_at` of a page of the control plane before. Raises NotReady.
        """

        def done() -> bool:
            page = self.control_plane()
            return page["snapshot_at"] > since and not _behind(page)

        self.cluster.wait("every proxy has taken the change", done, seconds=seconds, every=0.1)

    def _await_pushed(self, what: str, seen: Callable[[Mapping[str, str]], bool], seconds: float) -> None:
        behind = [f"the control plane has not seen the settings {what}"]

        def done() -> bool:
            page = self.control_plane()
            if seen(page["settings"]):
                behind[:] = _behind(page)
            return not behind

        try:
            self.cluster.wait(f"every proxy has its configuration {what}", done, seconds=seconds)
        except NotReady as error:
            raise NotReady(f"{error}: still behind: {', '.join(behind)}") from error

    def uninstall(self, *, seconds: float = 60.0) -> None:
        """Remove everything, namespaces of the run included, and wait until it is gone. Safe to repeat."""
        names = self._namespaces()
        self._release(names, seconds)
        system = self.system_manifests()
        # All pods end at once, and before their namespaces are looked at: a namespace in which pods still end is looked
        # at again by the half of their grace, and a namespace takes Kubernetes five seconds in any case.
        delete_running(self.cluster, [*self._deployed, *system])
        delete_all(self.cluster, [{"kind": "Namespace", "metadata": {"name": name}} for name in names])
        self._remove_deployed(names)
        delete_system(self.cluster, system, run=self.run, seconds=seconds)
        # last, because the control plane would publish it again
        self.cluster.delete("ConfigMap", PROXY_CONFIG, SYSTEM_NAMESPACE)
        for secret in (AUTHORITY_SECRET, CONTROL_SECRET):
            self.cluster.delete("Secret", secret, SYSTEM_NAMESPACE)
        wait_namespaces_gone(self.cluster, {*names, SYSTEM_NAMESPACE}, run=self.run, seconds=seconds)
        self._await_ended(seconds)

    def vacate(self, *, seconds: float = 60.0) -> None:
        """Remove the mode and its applications, and wait until their pods are gone. What the run's next mode has too
        stays: the namespaces, without content and without the mesh's labels, the watchdog, keys and open receipts.
        """
        names = self._namespaces()
        self._release(names, seconds)
        of_the_run = self.plan.of_the_run()
        system = [obj for obj in self.system_manifests() if (obj["kind"], obj["metadata"]["name"]) not in of_the_run]
        marked = [obj for obj in self._deployed if obj["kind"] == "Namespace" and obj["metadata"]["name"] in names]
        delete_running(self.cluster, [*self._deployed, *system])
        delete_helpers(self.cluster, run=self.run, namespace=SYSTEM_NAMESPACE)
        delete_system(self.cluster, system, run=self.run, seconds=seconds)
        # after the control plane, which would publish its ConfigMaps again
        self._remove_deployed(set())
        empty_namespaces(self.cluster, names)
        self.cluster.delete("ConfigMap", PROXY_CONFIG, SYSTEM_NAMESPACE)
        unmark_namespaces(self.cluster, marked)
        wait_emptied(self.cluster, names, seconds=seconds)
        self._await_ended(seconds)

    def _namespaces(self) -> set[str]:
        """The run's own, without the system's."""
        found = {str(one["metadata"]["name"]) for one in namespaces_of_run(self.cluster, self.run)}
        return found - {SYSTEM_NAMESPACE}

    def _remove_deployed(self, gone: set[str]) -> None:
        """Delete what was deployed in other namespaces than those that go whole."""
        delete_all(
            self.cluster,
            [o for o in self._deployed if o["kind"] != "Namespace" and o["metadata"].get("namespace") not in gone],
        )
        self._deployed = []

    def _await_ended(self, seconds: float) -> None:
        self.cluster.wait(
            "the application's pods are gone",
            lambda: not [p for p in self._pods() if p["metadata"]["namespace"] != SYSTEM_NAMESPACE],
            seconds=seconds,
        )

    def _release(self, own: set[str], seconds: float) -> None:
        """Un-capture first, on every node, the namespaces that are not the run's own: their pods outlive the mesh, and
        an agent that is merely deleted would leave rules that refuse their traffic.
        """
        staying = [
            n["metadata"]["name"]
            for n in self.cluster.list("Namespace", labels=f"{LABEL_MESH}=enabled")
            if n["metadata"]["name"] not in own and n["metadata"]["labels"].get(LABEL_MODE) == self.mode.name
        ]
        for name in staying:
            self.cluster.patch("Namespace", name, {"metadata": {"labels": {LABEL_MESH: None, LABEL_MODE: None}}})
        if staying and not self.mode.in_pod:
            self.cluster.wait(
                "every pod is released from capture",
                lambda: not [pod for name in staying for pod in self.cluster.list("Pod", name) if is_captured(pod)],
                seconds=seconds,
            )

    # ---- looking

    def placement(self, calls: Sequence[tuple[str, str]] | None = None) -> Placement:
        """Read the current placement."""
        return read_placement(self.cluster, self.mode, run=self.run, calls=calls)

    def status(self) -> str:
        """A description for people: each proxy and who shares it."""
        return describe(self.placement())

    def plane_parts(self) -> list[PlanePart]:
        """The one Deployment; none without a mesh."""
        workload = f"{SYSTEM_NAMESPACE}/{CONTROL_PLANE}"
        return [PlanePart(CONTROL_PLANE, workload, NewPod.WAITS)] if self.mode.hops else []

    def why_bare(self, pod: Object) -> str:
        """Never: a pod of a mode is injected before it is sent, and is not ready until it is carried."""
        del pod
        return ""

    def control_plane(self, page: str = "/debug") -> Any:
        """Return a page of the control plane's status port, as JSON."""
        import json

        pods = [p for p in self._pods() if p["metadata"]["labels"].get("app") == CONTROL_PLANE and is_ready_pod(p)]
        if not pods:
            raise NotReady("the control plane has no ready pod")
        name = pods[0]["metadata"]["name"]
        return json.loads(opened_http(self.cluster, SYSTEM_NAMESPACE, name, PORT_XDS_STATUS, page))

    def wait_ready(self, objects: Iterable[Object], *, seconds: float = 60.0) -> None:
        """Wait until the workloads among the objects are rolled out and ready; raises NotReady with the cause of
        each.
        """
        wait_all_ready(self.cluster, objects, seconds=seconds)

    def _pods(self) -> list[Object]:
        return pods_of_run(self.cluster, self.run)


def _behind(page: Mapping[str, Any]) -> list[str]:
    """The connected proxies that have not acknowledged what is pushed now. Pure."""
    return [f"{proxy['namespace']}/{proxy['pod']}" for proxy in page["proxies"] if is_behind(proxy)]


def is_behind(proxy: Mapping[str, Any]) -> bool:
    """Whether a connected proxy, as on the control plane's page, has not acknowledged what is pushed now. Pure."""
    return not proxy["current"] or any(kind["pending"] for kind in proxy["resources"].values())
