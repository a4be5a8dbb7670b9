"""Kubernetes objects as last seen, folded from watch events, and the `MeshSnapshot` made from them. Pure.

Only what a proxy's configuration depends on goes into the snapshot: an object whose relevant part did not change leaves
it equal, and nothing is pushed. An object that cannot be read is skipped and counted: one tenant's oddity must not stop
the configuration of the others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from chaos.kube.placement import Homes, NotAProxy
from chaos.mesh.controlplane import reading
from chaos.mesh.controlplane.injected_failures import InjectedFailures, detect_injected_failures
from chaos.mesh.controlplane.reading import Object, Slice, Unreadable, labels_of, mapping, meta_of
from chaos.mesh.modes import mode_named
from chaos.mesh.mutations import Defect, allowed_defects
from chaos.mesh.snapshot import Endpoint, MeshSnapshot, Policy, Service
from chaos.model.modes import ProxyMode
from chaos.names import LABEL_POLICY, LABEL_ROLE, MESH_CONFIG, SYSTEM_NAMESPACE

log = logging.getLogger(__name__)
KINDS: Final = ("Namespace", "Node", "Pod", "Service", "EndpointSlice", "ConfigMap")
_ODD: Final = (Unreadable, KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)
NOBODYS_PORT: Final = 1  # tcpmux: reserved, and served by nobody
T = TypeVar("T")


class ObjectCache:
    """The objects as last seen, by kind and UID. Not thread-safe.

    `mutable`: settings may ask for defects; only a control plane that was rendered for tests says so.
    """

    def __init__(self, *, mutable: bool = False) -> None:
        self.mutable = mutable
        self.objects: dict[str, dict[str, Object]] = {kind: {} for kind in KINDS}
        self.unreadable: dict[str, str] = {}  # kind namespace/name -> why it is skipped
        self.impostors: dict[str, str] = {}  # pod namespace/name -> why it is not the proxy that it says it is
        self._said: dict[str, str] = {}  # what the log holds already
        self._had: dict[tuple[str, str, int], frozenset[Endpoint]] = {}  # of a defect: every endpoint of a port so far
        self.nameless = 0  # objects without a UID: nothing could ever take them out again

    def fold(self, kind: str, change: str, obj: Object) -> None:
        """Take one watch event."""
        try:
            uid, _, _ = meta_of(obj)
        except (Unreadable, AttributeError) as error:
            self.nameless += 1
            log.warning("a %s without an identity is skipped: %s", kind, error)
            return
        if change == "DELETED":
            self.objects[kind].pop(uid, None)
        else:
            self.objects[kind][uid] = obj

    def read(self, kind: str, reader: Callable[[Object], T | None]) -> Iterator[T]:
        """Return what the reader makes of each object of the kind; None and unreadable objects are left out."""
        for obj in self.objects[kind].values():
            _, namespace, name = meta_of(obj)
            key = f"{kind} {namespace}/{name}"
            try:
                found = reader(obj)
            except NotAProxy as error:
                self._note(self.impostors, key, str(error))
                continue
            except _ODD as error:
                self._note(self.unreadable, key, f"{type(error).__name__}: {error}"[:500])
                continue
            if found is not None:
                yield found

    def _note(self, table: dict[str, str], key: str, why: str) -> None:
        if table.setdefault(key, why) == why and self._said.get(key) != why:
            self._said[key] = why
            log.warning("%s cannot be read: %s", key, why)

    def meshed_namespaces(self) -> frozenset[str]:
        """The names of the namespaces that are in the mesh."""
        return frozenset(self.read("Namespace", reading.meshed_namespace))

    def homes(self) -> Homes:
        """Map pods' UIDs to their namespaces."""
        return {uid: meta_of(pod)[1] for uid, pod in self.objects["Pod"].items()}

    def pod(self, uid: str) -> Object | None:
        """Return the pod of that UID, if it is known."""
        return self.objects["Pod"].get(uid)

    def slices(self) -> list[Slice]:
        """The EndpointSlices that belong to a Service."""
        homes, addresses = self.homes(), dict(self.read("Pod", reading.pod_addresses))
        return list(self.read("EndpointSlice", lambda piece: reading.endpoint_slice(piece, homes, addresses)))

    def policies(self) -> Iterator[Policy]:
        """The tenants' policies; one that cannot be read has no rule, and is listed with what is skipped."""
        for policy, why in self.read("ConfigMap", reading.policy):
            if why:
                key = f"ConfigMap {policy.namespace}/{policy.name}"
                self._note(self.unreadable, key, f"the policy allows nothing: {why}")
            yield policy

    def config(self) -> Mapping[str, Any] | None:
        """The mesh's own settings (ConfigMap `mesh`); None until it is there. Raises ValueError for no JSON."""
        data = self._settings()
        return json.loads(data["mesh.json"]) if data else None

    def mode(self) -> ProxyMode | None:
        """The mode that the settings name; None until they are there. Raises Misuse for an unknown one."""
        config = self.config()
        return mode_named(config["mode"]) if config else None

    def injected_failures(self) -> InjectedFailures:
        """Return the failures that faults request, beside the settings. Raises ValueError for an unreadable request."""
        return detect_injected_failures(self._settings())

    def _settings(self) -> Mapping[str, str]:
        for item in self.objects["ConfigMap"].values():
            _, namespace, name = meta_of(item)
            if name == MESH_CONFIG and namespace == SYSTEM_NAMESPACE:
                return item["data"]  # type: ignore[no-any-return]
        return {}

    def snapshot(self) -> MeshSnapshot | None:
        """Return the snapshot for the proxies; None while the mesh's settings are missing.

        Raises Misuse, ValueError, KeyError or TypeError for settings that cannot be used.
        """
        if (config := self.config()) is None:
            return None
        self.unreadable, self.impostors = {}, {}
        mode, meshed, homes = mode_named(config["mode"]), self.meshed_namespaces(), self.homes()
        slices: dict[tuple[str, str], list[Slice]] = {}
        for piece in self.slices():
            slices.setdefault((piece.namespace, piece.service), []).append(piece)
        accounts = dict(self.read("Pod", reading.account))
        pods = {one.uid: one for one in self.read("Pod", lambda pod: reading.workload(pod, mode, meshed))}
        services = self.read(
            "Service",
            lambda obj: (
                reading.service(obj, slices.get(meta_of(obj)[1:], ()), accounts) if meta_of(obj)[1] in meshed else None
            ),
        )
        defects = allowed_defects(config.get("defects", ()), mutable=self.mutable)
        waypoints = set(self.read("Pod", lambda pod: _claimed_waypoint(pod, mode, homes)))
        if Defect.KEPT_ENDPOINTS in defects:
            services = map(self._with_all_it_had, services)
        injected = self.injected_failures()
        if injected.misdirect:
            services = map(_misdirected, services)
        if Defect.BELIEVED_LABELS in defects:
            waypoints |= set(self.read("Pod", reading.believed_waypoint))
        found = MeshSnapshot(
            mode=mode,
            features=reading.features_from(config.get("features", {})),
            nodes=dict(sorted(self.read("Node", reading.node_address))),
            pods=dict(sorted(pods.items())),
            services=tuple(sorted(services, key=lambda one: (one.namespace, one.name))),
            waypoints=tuple(sorted(waypoints)),
            policies=tuple(sorted(self.policies(), key=lambda one: (one.namespace, one.name))),
            defects=defects,
            misanswers=injected.misanswers,
        )
        self._said = {**self.unreadable, **self.impostors}
        return found

    def _with_all_it_had(self, service: Service) -> Service:
        """Return the Service with every endpoint that it had so far, as the defect wants it."""
        ports = []
        for port in service.ports:
            key = (service.namespace, service.name, port.port)
            self._had[key] = self._had.get(key, frozenset()) | frozenset(port.endpoints)
            ports.append(replace(port, endpoints=tuple(sorted(self._had[key]))))
        return replace(service, ports=tuple(ports))

    def settings_versions(self) -> dict[str, str]:
        """Map namespace/name to resourceVersion of the ConfigMaps in the snapshot."""

        def version(item: Object) -> tuple[str, str] | None:
            _, namespace, name = meta_of(item)
            if (namespace, name) != (SYSTEM_NAMESPACE, MESH_CONFIG) and not labels_of(item).get(LABEL_POLICY):
                return None
            return f"{namespace}/{name}", reading.text(mapping(item["metadata"], "metadata")["resourceVersion"], "")

        return dict(self.read("ConfigMap", version))


def _misdirected(service: Service) -> Service:
    """Return the Service with every endpoint at a port on which nobody listens."""
    ports = (
        replace(port, endpoints=tuple(replace(one, port=NOBODYS_PORT) for one in port.endpoints))
        for port in service.ports
    )
    return replace(service, ports=tuple(ports))


def _claimed_waypoint(pod: Object, mode: ProxyMode, homes: Homes) -> Any:
    """The waypoint that a pod is; NotAProxy only for one that says that it is a proxy of the mesh's own."""
    return reading.waypoint(pod, mode, homes) if labels_of(pod).get(LABEL_ROLE) == "proxy" else None
