"""Addresses and node ports of Services: allocated, kept, and dropped with a change of type.

They change only the Service given and read the store; called by admission.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from chaos.embedded.api.errors import invalid, wrong
from chaos.embedded.resources import SERVICE, Object
from chaos.embedded.store import Store

Json = dict[str, Any]


_NODE_PORTS: Final = range(30000, 32768)


def allocate(store: Store, service: Json, old: Object | None, *, dry: bool = False) -> None:
    """Allocate ClusterIP and node ports; StatusError 422 when a requested one is taken or, but in a dry run, which
    allocates nothing, out of range.
    """
    spec, meta = service["spec"], service["metadata"]
    others = [
        one
        for one in store.list(SERVICE)
        if (one["metadata"]["namespace"], one["metadata"]["name"]) != (meta.get("namespace"), meta.get("name"))
    ]
    kind = spec["type"]
    if kind == "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(name, None)
        return
    _address(meta["name"], spec, others)
    if kind not in ("NodePort", "LoadBalancer"):
        for port in spec.get("ports") or []:
            if old is not None and old["spec"]["type"] != kind:
                port.pop("nodePort", None)
        return
    ports = _NodePorts(meta["name"], others, checked=not dry)
    chosen = kind == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True)
    held = {
        (port["port"], port["protocol"]): port["nodePort"]
        for port in (old or {}).get("spec", {}).get("ports", [])
        if "nodePort" in port
    }
    for index, port in enumerate(spec.get("ports") or []):
        asked = port.get("nodePort") or held.get((port["port"], port["protocol"]))
        if asked or chosen:
            port["nodePort"] = ports.take(asked, port["protocol"], f"spec.ports[{index}].nodePort")
    if kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
        asked = spec.get("healthCheckNodePort") or (old or {"spec": {}})["spec"].get("healthCheckNodePort")
        spec["healthCheckNodePort"] = ports.take(asked, "TCP", "spec.healthCheckNodePort")


def _address(name: str, spec: Json, others: list[Object]) -> None:
    if spec.get("clusterIP") == "None" and not spec.get("selector"):  # whoever writes its endpoints chooses
        spec.setdefault("ipFamilies", ["IPv4", "IPv6"])
        spec.setdefault("ipFamilyPolicy", "RequireDualStack")
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    taken = {one["spec"].get("clusterIP") for one in others}
    wanted = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0]
    if wanted and wanted != "None":
        why = ""
        if wanted in taken:
            why = "provided IP is already allocated"
        elif not wanted.startswith("10.96."):
            why = "the provided network does not match the current range"
        if why:
            raise invalid(SERVICE, name, [wrong("spec.clusterIPs", [wanted], f"failed to allocate IP {wanted}: {why}")])
    if not wanted:
        seed = uuid.uuid4().int  # any free one of the range's upper part, as the allocator prefers
        wanted = next(
            ip
            for step in range(1 << 16)
            for number in [256 + (seed + step) % 65000]
            if (ip := f"10.96.{number >> 8}.{number & 255}") not in taken and 0 < number & 255 < 255
        )
    spec["clusterIP"], spec["clusterIPs"] = wanted, [wanted]


class _NodePorts:
    """The ports of all nodes, a table for each protocol."""

    def __init__(self, name: str, others: list[Object], *, checked: bool) -> None:
        self._name, self._checked = name, checked
        self._used = {
            (port.get("protocol", "TCP"), port["nodePort"])
            for one in others
            for port in one["spec"].get("ports") or []
            if "nodePort" in port
        }
        self._used |= {
            ("TCP", one["spec"]["healthCheckNodePort"]) for one in others if one["spec"].get("healthCheckNodePort")
        }

    def take(self, asked: int | None, protocol: str, field: str) -> int:
        """The port asked for, or any free one."""
        if asked and (protocol, asked) in self._used:
            raise invalid(SERVICE, self._name, [wrong(field, asked, "provided port is already allocated")])
        if asked and self._checked and asked not in _NODE_PORTS:
            words = "provided port is not in the valid range. The range of valid ports is 30000-32767"
            raise invalid(SERVICE, self._name, [wrong(field, asked, words)])
        if not asked:
            start = uuid.uuid4().int % len(_NODE_PORTS)
            asked = next(
                port
                for step in range(len(_NODE_PORTS))
                if (protocol, port := _NODE_PORTS[(start + step) % len(_NODE_PORTS)]) not in self._used
            )
        self._used.add((protocol, asked))
        return asked


def keep_address(old: Object, new: Json) -> None:
    """Keep a Service's address; a change of `clusterIP` alone also changes the first of `clusterIPs`."""
    if new.get("type", "ClusterIP") == "ExternalName" or not old.get("clusterIP"):
        return
    if not new.get("clusterIP"):
        new.update(clusterIP=old["clusterIP"], clusterIPs=list(old["clusterIPs"]))
    elif new["clusterIP"] != old["clusterIP"] and new.get("clusterIPs") == old.get("clusterIPs"):
        new["clusterIPs"] = [new["clusterIP"], *(old.get("clusterIPs") or [])[1:]]


def drop_of_other_types(old: Object, new: Json) -> None:
    """Drop fields of a Service's former type that the update leaves unchanged."""
    before, after = old["spec"], new["spec"]
    kind = after["type"]
    gone = {
        "clusterIP": kind == "ExternalName",
        "clusterIPs": kind == "ExternalName",
        "ipFamilies": kind == "ExternalName",
        "ipFamilyPolicy": kind == "ExternalName",
        "internalTrafficPolicy": kind == "ExternalName",
        "allocateLoadBalancerNodePorts": kind != "LoadBalancer",
        "loadBalancerClass": kind != "LoadBalancer",
        "healthCheckNodePort": kind != "LoadBalancer",
        "externalTrafficPolicy": kind not in ("NodePort", "LoadBalancer") and not after.get("externalIPs"),
    }
    for name, drop in gone.items():
        if drop and before["type"] != kind and after.get(name) == before.get(name):
            after.pop(name, None)
    held = [port.get("nodePort") for port in before.get("ports") or []]
    if kind not in ("NodePort", "LoadBalancer") and before["type"] != kind:
        for port in after.get("ports") or []:
            if port.get("nodePort") in held:
                port.pop("nodePort", None)
