"""Kubernetes objects by kind, folded from watch events, and the `World` that follows from them. Pure.

Only what a proxy's configuration depends on goes into the world: an object whose relevant part did not change leaves it
equal, and nothing is pushed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from chaos.errors import Misuse
from chaos.mesh.controlplane.trouble import Trouble, detect_trouble
from chaos.mesh.envoy.defects import Defect
from chaos.mesh.world import (
    AccessLog,
    AppProtocol,
    Endpoint,
    Features,
    Pod,
    Policy,
    Rule,
    Service,
    ServicePort,
    Waypoint,
    World,
)
from chaos.model.modes import Scope, mode_named
from chaos.names import (
    ANNOTATION_SANDBOX,
    CONDITION_CAPTURED,
    LABEL_LAYER,
    LABEL_MESH,
    LABEL_MODE,
    LABEL_POLICY,
    LABEL_ROLE,
    LABEL_SCOPE,
    LABEL_SCOPE_KEY,
    MESH_CONFIG,
    SYSTEM_NAMESPACE,
    spiffe_id,
)

Object = Mapping[str, Any]
KINDS: Final = ("Namespace", "Node", "Pod", "Service", "EndpointSlice", "ConfigMap")


def is_live(pod: Object) -> bool:
    """Whether the pod still exists as far as traffic goes: not deleted and not ended."""
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not ended and "deletionTimestamp" not in pod["metadata"]


def labels_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def condition(pod: Object, kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in pod.get("status", {}).get("conditions") or [])


class Tables:
    """The objects as last seen, by kind and UID. Not thread-safe."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Object]] = {kind: {} for kind in KINDS}

    def fold(self, kind: str, change: str, obj: Object) -> None:
        """Take one watch event."""
        if change == "DELETED":
            self.objects[kind].pop(obj["metadata"]["uid"], None)
        else:
            self.objects[kind][obj["metadata"]["uid"]] = obj

    def meshed_namespaces(self) -> frozenset[str]:
        return frozenset(
            n["metadata"]["name"]
            for n in self.objects["Namespace"].values()
            if labels_of(n).get(LABEL_MESH) == "enabled"
        )

    def pod(self, uid: str) -> Object | None:
        return self.objects["Pod"].get(uid)

    def config(self) -> Mapping[str, Any] | None:
        """The mesh's own settings (ConfigMap `mesh`); None until it is there."""
        data = self._settings()
        return json.loads(data["mesh.json"]) if data else None

    def trouble(self) -> Trouble:
        """What faults ask of the control plane, beside the settings."""
        return detect_trouble(self._settings())

    def _settings(self) -> Mapping[str, str]:
        for item in self.objects["ConfigMap"].values():
            meta = item["metadata"]
            if meta["name"] == MESH_CONFIG and meta["namespace"] == SYSTEM_NAMESPACE:
                return item["data"]  # type: ignore[no-any-return]
        return {}

    def world(self) -> World | None:
        """The world as the proxies must see it; None while the mesh's settings are missing."""
        if (config := self.config()) is None:
            return None
        meshed = self.meshed_namespaces()
        pods = {
            uid: found
            for uid, pod in self.objects["Pod"].items()
            if (found := application_pod(pod, meshed)) is not None
        }
        return World(
            mode=mode_named(config["mode"]),
            features=features(config.get("features", {})),
            nodes={
                n["metadata"]["name"]: node_address(n)
                for n in sorted(self.objects["Node"].values(), key=lambda n: n["metadata"]["name"])
            },
            pods=dict(sorted(pods.items())),
            services=services(
                self.objects["Service"].values(), self.objects["EndpointSlice"].values(), meshed, self.objects["Pod"]
            ),
            waypoints=waypoints(self.objects["Pod"].values()),
            policies=policies(self.objects["ConfigMap"].values()),
            defects=frozenset(Defect(name) for name in config.get("defects", ())),
        )

    def settings_versions(self) -> dict[str, str]:
        """namespace/name -> resourceVersion of the ConfigMaps that the world is made of."""
        found = {}
        for item in self.objects["ConfigMap"].values():
            meta = item["metadata"]
            if (meta["namespace"], meta["name"]) == (SYSTEM_NAMESPACE, MESH_CONFIG) or labels_of(item).get(
                LABEL_POLICY
            ):
                found[f"{meta['namespace']}/{meta['name']}"] = meta["resourceVersion"]
        return found


def features(raw: Mapping[str, Any]) -> Features:
    """From the settings' JSON; an unknown name is refused."""
    unknown = sorted(set(raw) - set(Features.__slots__))
    if unknown:
        raise Misuse(f"mesh settings: unknown features {', '.join(unknown)}: known are {', '.join(Features.__slots__)}")
    return Features(**{**raw, **({"access_log": AccessLog(raw["access_log"])} if "access_log" in raw else {})})


def node_address(node: Object) -> str:
    return next((a["address"] for a in node.get("status", {}).get("addresses") or [] if a["type"] == "InternalIP"), "")


def application_pod(pod: Object, meshed: frozenset[str]) -> Pod | None:
    """The world's view of a pod; None for pods of other namespaces, proxies, and pods without an address."""
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if (
        meta["namespace"] not in meshed
        or not is_live(pod)
        or not spec.get("nodeName")
        or not status.get("podIP")
        or labels_of(pod).get(LABEL_ROLE) == "proxy"
        or spec.get("hostNetwork")
    ):
        return None
    return Pod(
        uid=meta["uid"],
        namespace=meta["namespace"],
        name=meta["name"],
        node=spec["nodeName"],
        ip=status["podIP"],
        service_account=spec.get("serviceAccountName", "default"),
        labels=tuple(sorted(labels_of(pod).items())),
        ready=condition(pod, "Ready"),
        meshed=LABEL_MODE in labels_of(pod),
        captured=condition(pod, CONDITION_CAPTURED),
        sandbox=(meta.get("annotations") or {}).get(ANNOTATION_SANDBOX, ""),
    )


def protocol(port: Object) -> AppProtocol:
    """From appProtocol, or the prefix of the port's name."""
    text = port.get("appProtocol") or str(port.get("name") or "").split("-")[0]
    return AppProtocol.HTTP if text.rsplit("/", 1)[-1].lower() in ("http", "http2", "h2c", "grpc") else AppProtocol.TCP


def services(
    found: Iterable[Object], slices: Iterable[Object], meshed: frozenset[str], pods: Mapping[str, Object]
) -> tuple[Service, ...]:
    """Services of meshed namespaces that have a cluster IP, with their ready endpoints and the accounts behind them."""
    by_service: dict[tuple[str, str], list[Object]] = {}
    for piece in slices:
        name = labels_of(piece).get("kubernetes.io/service-name")
        if name:
            by_service.setdefault((piece["metadata"]["namespace"], name), []).append(piece)
    result = []
    for service in found:
        meta, spec = service["metadata"], service["spec"]
        if meta["namespace"] not in meshed or spec.get("clusterIP") in (None, "", "None"):
            continue
        pieces = by_service.get((meta["namespace"], meta["name"]), [])
        ports = tuple(
            ServicePort(
                port=port["port"],
                protocol=protocol(port),
                endpoints=endpoints(pieces, port),
                target_port=port["targetPort"] if isinstance(port.get("targetPort"), int) else 0,
            )
            for port in spec.get("ports") or []
            if port.get("protocol", "TCP") == "TCP"
        )
        result.append(Service(meta["namespace"], meta["name"], spec["clusterIP"], ports, accounts(pieces, pods)))
    return tuple(sorted(result, key=lambda s: (s.namespace, s.name)))


def backing(pieces: Iterable[Object]) -> frozenset[str]:
    """The UIDs of the pods behind a Service, ready or not."""
    return frozenset(
        item["targetRef"]["uid"]
        for piece in pieces
        for item in piece.get("endpoints") or []
        if (item.get("targetRef") or {}).get("kind") == "Pod"
    )


def accounts(pieces: Iterable[Object], pods: Mapping[str, Object]) -> tuple[str, ...]:
    """The SPIFFE ids of the pods behind a Service, ready or not, sorted."""
    found = (pods[uid] for uid in backing(pieces) if uid in pods)
    return tuple(
        sorted({spiffe_id(p["metadata"]["namespace"], p["spec"].get("serviceAccountName", "default")) for p in found})
    )


def endpoints(pieces: Iterable[Object], port: Object) -> tuple[Endpoint, ...]:
    """The ready endpoints of one Service port, sorted."""
    result: set[Endpoint] = set()
    name = port.get("name") or ""
    for piece in pieces:
        number = next((p["port"] for p in piece.get("ports") or [] if (p.get("name") or "") == name), 0)
        for item in piece.get("endpoints") or []:
            ref = item.get("targetRef") or {}
            if number and ref.get("kind") == "Pod" and (item.get("conditions") or {}).get("ready") is not False:
                result.update(Endpoint(ref["uid"], address, number) for address in item["addresses"])
    return tuple(sorted(result))


def waypoints(pods: Iterable[Object]) -> tuple[Waypoint, ...]:
    """The L7 proxies that have an address; one that serves a pod goes with it."""
    everyone = list(pods)
    uids = {(p["metadata"]["namespace"], p["metadata"]["name"]): p["metadata"]["uid"] for p in everyone}
    result = []
    for pod in everyone:
        labels, meta = labels_of(pod), pod["metadata"]
        if labels.get(LABEL_ROLE) != "proxy" or labels.get(LABEL_LAYER) != "l7" or not is_live(pod):
            continue
        scope = Scope(labels[LABEL_SCOPE])
        key = {
            Scope.NODE: pod["spec"].get("nodeName", ""),
            Scope.NAMESPACE: meta["namespace"],
            Scope.POD: uids.get((meta["namespace"], labels.get(LABEL_SCOPE_KEY, "")), ""),
        }[scope]
        if key and pod.get("status", {}).get("podIP"):
            result.append(
                Waypoint(
                    meta["uid"],
                    pod["status"]["podIP"],
                    pod["spec"]["nodeName"],
                    meta["namespace"],
                    pod["spec"].get("serviceAccountName", "default"),
                    scope,
                    key,
                    condition(pod, "Ready"),
                )
            )
    return tuple(sorted(result))


def policies(config_maps: Iterable[Object]) -> tuple[Policy, ...]:
    """From ConfigMaps labelled `sharedfate.io/policy: enabled`: `policy.json` holds `{"rules": [{"sources": [...],
    "methods": [...], "paths": [...]}]}`. A text that cannot be read allows nothing: a policy with no rule."""
    result = []
    for item in config_maps:
        if labels_of(item).get(LABEL_POLICY) != "enabled":
            continue
        meta = item["metadata"]
        try:
            rules = tuple(
                Rule(*(tuple(str(value) for value in rule.get(part) or ()) for part in ("sources", "methods", "paths")))
                for rule in json.loads((item.get("data") or {})["policy.json"])["rules"]
            )
        except (KeyError, ValueError, AttributeError, TypeError):
            rules = ()
        result.append(Policy(meta["namespace"], meta["name"], rules))
    return tuple(sorted(result, key=lambda p: (p.namespace, p.name)))
