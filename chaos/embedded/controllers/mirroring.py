"""EndpointSlices of Services without selector, from the Endpoints that somebody else writes under their name.

Services are served from slices alone, so that the older form has to be mirrored into them. After
k8s.io/kubernetes/pkg/controller/endpointslicemirroring: one slice for each set of ports and family of addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.embedded.controllers.base import Controller, Source, is_terminating, itself, key_of, owner_reference
from chaos.embedded.controllers.endpoints import MANAGED_BY, SERVICE_NAME, TRIGGER
from chaos.embedded.resources import ENDPOINT_SLICE, ENDPOINTS, SERVICE, Object
from chaos.embedded.store import Key, WatchEvent, copy

MIRRORER: Final = "endpointslicemirroring-controller.k8s.io"
SKIP: Final = "endpointslice.kubernetes.io/skip-mirror"
LEADER: Final = "control-plane.alpha.kubernetes.io/leader"
NOT_MIRRORED: Final = (TRIGGER, "kubectl.kubernetes.io/last-applied-configuration")  # annotations
MOST: Final = 1_000  # addresses of one subset

Ports = tuple[tuple[tuple[str, Any], ...], ...]


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One slice as it shall be."""

    family: str  # IPv4 | IPv6
    ports: list[dict[str, Any]]
    endpoints: list[dict[str, Any]]


def is_mirrored(endpoints: Object) -> bool:
    """Whether an Endpoints object asks for slices, its Service apart."""
    labels, annotations = (endpoints["metadata"].get(name) or {} for name in ("labels", "annotations"))
    return labels.get(SKIP) != "true" and LEADER not in annotations


def plan_mirror(endpoints: Object) -> tuple[list[Mirrored], int]:
    """-> the slices, and how many addresses are beyond what is mirrored of a subset. Pure."""
    groups: dict[tuple[str, Ports], dict[str, dict[str, Any]]] = {}
    beyond = 0
    for subset in endpoints.get("subsets") or ():
        ports = tuple(_port(port) for port in subset.get("ports") or ())
        held = [(one, True) for one in subset.get("addresses") or ()]
        held += [(one, False) for one in subset.get("notReadyAddresses") or ()]
        beyond += max(0, len(held) - MOST)
        for address, ready in held[:MOST]:
            parsed = ipaddress.ip_address(address["ip"])
            group = groups.setdefault((f"IPv{parsed.version}", ports), {})
            group.setdefault(str(parsed), _endpoint(str(parsed), address, ready=ready))
    planned = [
        Mirrored(family, [dict(port) for port in ports], list(group.values()))
        for (family, ports), group in groups.items()
    ]
    return planned, beyond


def _port(port: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    found = {"name": port.get("name", ""), "port": port["port"], "protocol": port.get("protocol", "TCP")}
    return tuple((found | {key: port[key] for key in ("appProtocol",) if key in port}).items())


def _endpoint(ip: str, address: Mapping[str, Any], *, ready: bool) -> dict[str, Any]:
    kept = {key: address[key] for key in ("hostname", "nodeName", "targetRef") if address.get(key)}
    return {"addresses": [ip], "conditions": {"ready": ready}, **kept}


class MirroringController(Controller):
    """Keeps the slices of Endpoints whose Service selects nothing."""

    name = "endpoint-slice-mirroring-controller"

    def sources(self) -> Sequence[Source]:
        return [(ENDPOINTS, itself), (SERVICE, itself), (ENDPOINT_SLICE, self._endpoints_of)]

    def _endpoints_of(self, event: WatchEvent) -> Sequence[Key]:
        meta = event.object["metadata"]
        labels = meta.get("labels") or {}
        return [(meta["namespace"], labels[SERVICE_NAME])] if _ours(labels) else []

    def reconcile(self, key: Key) -> float | None:
        endpoints, service = self.store.find(ENDPOINTS, *key), self.store.find(SERVICE, *key)
        held = [
            one
            for one in self.store.list(ENDPOINT_SLICE, key[0])
            if _ours(labels := one["metadata"].get("labels") or {}) and labels[SERVICE_NAME] == key[1]
        ]
        if endpoints is None or service is None or service["spec"].get("selector") or not is_mirrored(endpoints):
            self._remove(held)
            return None
        planned, beyond = plan_mirror(endpoints)
        if beyond:
            words = (
                f"A max of {MOST} addresses can be mirrored to EndpointSlices per Endpoints subset. {beyond} addresses"
            )
            self.recorder.event(endpoints, "Warning", "TooManyAddressesToMirror", f"{words} were skipped")
        for one in planned:
            same = (each for each in held if each["addressType"] == one.family)
            match = next((each for each in same if (each.get("ports") or []) == one.ports), None)
            if match is None:
                match = next((each for each in held if _to_recycle(each, planned, one.family)), None)
            if match is not None:
                held.remove(match)
            self._put(endpoints, one, match)
        self._remove(held)
        return None

    def _put(self, endpoints: Object, wanted: Mirrored, held: Object | None) -> None:
        """Create the slice, or bring the one that is held in line; the labels and annotations of Endpoints go along."""
        meta = endpoints["metadata"]
        labels = {**(meta.get("labels") or {}), SERVICE_NAME: meta["name"], MANAGED_BY: MIRRORER}
        annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k not in NOT_MIRRORED}
        content = {"endpoints": wanted.endpoints, "ports": wanted.ports}
        if held is None:
            if is_terminating(endpoints):
                return
            about: dict[str, Any] = {
                "generateName": f"{meta['name']}-",
                "namespace": meta["namespace"],
                "generation": 1,
                "labels": labels,
                "ownerReferences": [owner_reference(ENDPOINTS, endpoints)],
            }
            if annotations:
                about["annotations"] = annotations
            new = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": wanted.family}
            self.store.create(ENDPOINT_SLICE, {**new, "metadata": about, **content})
            return
        changed = copy(held)
        changed |= content
        changed["metadata"]["labels"] = labels
        if annotations or "annotations" in changed["metadata"]:
            changed["metadata"]["annotations"] = annotations
        if changed != held:
            changed["metadata"]["generation"] = changed["metadata"].get("generation", 1) + 1
            self.store.update(ENDPOINT_SLICE, changed)

    def _remove(self, slices: Iterable[Object]) -> None:
        for one in slices:
            self.store.remove(ENDPOINT_SLICE, *key_of(one))


def _ours(labels: Mapping[str, str]) -> bool:
    return labels.get(MANAGED_BY) == MIRRORER and SERVICE_NAME in labels


def _to_recycle(held: Object, planned: Iterable[Mirrored], family: str) -> bool:
    """Whether a slice of this family has ports that are wanted no more: its name goes to new ports."""
    ports = held.get("ports") or []
    return held["addressType"] == family and all((one.family, one.ports) != (family, ports) for one in planned)
