"""EndpointSlice and Endpoints of Services: the pods behind each, their ports and their readiness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from chaos.embedded.clock import stamp
from chaos.embedded.controllers.base import (
    Controller,
    Source,
    is_finished,
    is_ready,
    is_terminating,
    itself,
    key_of,
    owner_reference,
)
from chaos.embedded.controllers.labels import selects
from chaos.embedded.network.addresses import is_ipv4
from chaos.embedded.resources import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE, Object
from chaos.embedded.store import Key, Store, WatchEvent, copy

MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
MANAGER: Final = "endpointslice-controller.k8s.io"
SERVICE_NAME: Final = "kubernetes.io/service-name"
HEADLESS: Final = "service.kubernetes.io/headless"
TRIGGER: Final = "endpoints.kubernetes.io/last-change-trigger-time"
MOST: Final = 100  # endpoints in one slice


def endpoint(pod: Object, service: Object) -> dict[str, Any]:
    """One pod as an endpoint."""
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    serving, terminating = is_ready(pod), is_terminating(pod)
    found: dict[str, Any] = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": publish or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": {
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "namespace": pod["metadata"]["namespace"],
            "uid": pod["metadata"]["uid"],
        },
    }
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        found["hostname"] = pod["spec"]["hostname"]
    return found


def target_port(port: Mapping[str, Any], pod: Object) -> int | None:
    """The pod's port for a Service port; None when a named one is not declared."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    sidecars = [c for c in pod["spec"].get("initContainers", []) if c.get("restartPolicy") == "Always"]
    for container in [*pod["spec"]["containers"], *sidecars]:
        for held in container.get("ports", []):
            if held.get("name") == target and held.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(held["containerPort"])
    return None


def slice_ports(service: Object, pod: Object | None) -> tuple[tuple[tuple[str, Any], ...], ...]:
    """The ports of a slice, hashable: pods whose named ports differ go into different slices."""
    found = []
    for port in service["spec"].get("ports", []):
        number = target_port(port, pod) if pod is not None else port.get("targetPort") or port["port"]
        if isinstance(number, int):
            entry = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
            if port.get("appProtocol"):
                entry["appProtocol"] = port["appProtocol"]
            found.append(tuple(entry.items()))
    return tuple(found)


def eligible(pod: Object) -> bool:
    """Whether the pod is an endpoint: its slices are of IPv4."""
    return is_ipv4(pod.get("status", {}).get("podIP")) and not is_finished(pod)


def plan_slices(service: Object, pods: Sequence[Object]) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """(ports, endpoints) of each slice of the Service; one empty slice when no pod is selected."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for pod in pods:
        if eligible(pod):
            groups.setdefault(slice_ports(service, pod), []).append(endpoint(pod, service))
    if not groups:
        groups[slice_ports(service, None)] = []
    return [
        ([dict(port) for port in ports], held[start : start + MOST])
        for ports, held in groups.items()
        for start in range(0, max(1, len(held)), MOST)
    ]


class EndpointsController(Controller):
    """Maintains both forms; named after EndpointSlice's controller, whose Events users see."""

    name = "endpoint-slice-controller"

    def sources(self) -> Sequence[Source]:
        return [(SERVICE, itself), (POD, self._services), (ENDPOINT_SLICE, self._service_of), (ENDPOINTS, self._lost)]

    def _services(self, event: WatchEvent) -> Sequence[Key]:
        after, before = event.object, event.before
        if before is not None and event.type == "MODIFIED" and _seen(before) == _seen(after):
            return []
        labels = [obj["metadata"].get("labels") for obj in (after, before) if obj is not None]
        return [
            key_of(service)
            for service in self.store.list(SERVICE, after["metadata"]["namespace"])
            if any(selects(service["spec"].get("selector"), held) for held in labels)
        ]

    def _service_of(self, event: WatchEvent) -> Sequence[Key]:
        labels = event.object["metadata"].get("labels", {})
        if labels.get(MANAGED_BY) != MANAGER or SERVICE_NAME not in labels:
            return []
        return [(event.object["metadata"]["namespace"], labels[SERVICE_NAME])]

    def _lost(self, event: WatchEvent) -> Sequence[Key]:
        return [key_of(event.object)] if event.type == "DELETED" else []

    def reconcile(self, key: Key) -> float | None:
        service = self.store.find(SERVICE, *key)
        if service is None or is_terminating(service):
            self._clean(key)
            return None
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return None
        pods = [
            pod
            for pod in self.store.list(POD, key[0])
            if selects(service["spec"]["selector"], pod["metadata"].get("labels"))
        ]
        self._slices(service, plan_slices(service, pods))
        self._endpoints(service, [pod for pod in pods if eligible(pod)])
        return None

    def _clean(self, key: Key) -> None:
        for one in self._held(key):
            self.store.remove(ENDPOINT_SLICE, *key_of(one))
        if self.store.find(ENDPOINTS, *key) is not None:
            self.store.remove(ENDPOINTS, *key)

    def _held(self, key: Key) -> list[Object]:
        return [
            one
            for one in self.store.list(ENDPOINT_SLICE, key[0])
            if one["metadata"].get("labels", {}).get(SERVICE_NAME) == key[1]
            and one["metadata"]["labels"].get(MANAGED_BY) == MANAGER
        ]

    def _slices(self, service: Object, plan: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]) -> None:
        key = key_of(service)
        labels = {name: value for name, value in service["metadata"].get("labels", {}).items() if name != HEADLESS}
        labels |= {MANAGED_BY: MANAGER, SERVICE_NAME: key[1]}
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS] = ""
        held = self._held(key)
        for ports, endpoints in plan:
            match = next((one for one in held if one["ports"] == ports), held[0] if held else None)
            if match is None:
                self.store.create(
                    ENDPOINT_SLICE,
                    {
                        "apiVersion": "discovery.k8s.io/v1",
                        "kind": "EndpointSlice",
                        "addressType": "IPv4",
                        "metadata": {
                            "generateName": key[1] + "-",
                            "namespace": key[0],
                            "labels": labels,
                            "generation": 1,
                            "annotations": {TRIGGER: stamp(self.clock.now())},
                            "ownerReferences": [owner_reference(SERVICE, service)],
                        },
                        "endpoints": endpoints,
                        "ports": ports,
                    },
                )
                continue
            held.remove(match)
            endpoints = _in_order(match.get("endpoints") or [], endpoints)
            if (
                match.get("endpoints") == endpoints
                and match["ports"] == ports
                and match["metadata"].get("labels") == labels
            ):
                continue
            new = copy(match)
            new["endpoints"], new["ports"], new["metadata"]["labels"] = endpoints, ports, labels
            new["metadata"].setdefault("annotations", {})[TRIGGER] = stamp(self.clock.now())
            new["metadata"]["generation"] = new["metadata"].get("generation", 1) + 1
            self.store.update(ENDPOINT_SLICE, new)
        for one in held:
            self.store.remove(ENDPOINT_SLICE, *key_of(one))

    def _endpoints(self, service: Object, pods: Sequence[Object]) -> None:
        """The Endpoints object: without terminating pods, and unready ones apart."""
        key = key_of(service)
        publish = bool(service["spec"].get("publishNotReadyAddresses"))
        groups: dict[tuple[Any, ...], dict[str, Any]] = {}
        for pod in pods:
            if is_terminating(pod) and not publish:
                continue
            found = endpoint(pod, service)
            ports = slice_ports(service, pod)
            subset = groups.setdefault(
                ports,
                {
                    "addresses": [],
                    "notReadyAddresses": [],
                    "ports": [{k: v for k, v in port if v != ""} for port in ports],
                },
            )
            address = {"ip": found["addresses"][0], "nodeName": found["nodeName"], "targetRef": found["targetRef"]}
            if "hostname" in found:
                address["hostname"] = found["hostname"]
            subset["addresses" if found["conditions"]["ready"] else "notReadyAddresses"].append(address)
        subsets = [{name: value for name, value in subset.items() if value} for subset in groups.values()]
        labels = {**service["metadata"].get("labels", {}), "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS] = ""
        meta = {"name": key[1], "namespace": key[0], "labels": labels}
        new: dict[str, Any] = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta}
        if subsets:
            new["subsets"] = subsets
        _put_endpoints(self.store, new)


def _put_endpoints(store: Store, new: dict[str, Any]) -> None:
    held = store.find(ENDPOINTS, *key_of(new))
    if held is None:
        store.create(ENDPOINTS, new)
    elif held.get("subsets") != new.get("subsets") or held["metadata"].get("labels") != new["metadata"]["labels"]:
        store.update(ENDPOINTS, new | {"metadata": {**held["metadata"], "labels": new["metadata"]["labels"]}})


def _in_order(before: Sequence[Mapping[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Endpoints in their previous order, so that a change moves nothing else."""
    place = {one["addresses"][0]: index for index, one in enumerate(before)}
    return sorted(after, key=lambda one: place.get(one["addresses"][0], len(place)))


def _seen(pod: Object) -> tuple[Any, ...]:
    """The fields of a pod that matter here."""
    return (
        pod.get("status", {}).get("podIP"),
        is_ready(pod),
        is_finished(pod),
        is_terminating(pod),
        pod["metadata"].get("labels"),
        pod["spec"].get("nodeName"),
    )
