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


def allocate(store: Store, service: Json, old: Object | None) -> None:
    """Allocate ClusterIP and node ports; StatusError 422 when a requested one is taken."""
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
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    taken = {one["spec"].get("clusterIP") for one in others}
    wanted = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0]
    if wanted and wanted != "None" and wanted in taken:
        raise invalid(
            SERVICE,
            meta["name"],
            [wrong("spec.clusterIPs", [wanted], f"failed to allocate IP {wanted}: provided IP is already allocated")],
        )
    if wanted and wanted != "None" and not wanted.startswith("10.96."):
        raise invalid(
            SERVICE,
            meta["name"],
            [
                wrong(
                    "spec.clusterIPs",
                    [wanted],
                    f"failed to allocate IP {wanted}: the provided network does not match the current range",
                )
            ],
        )
    if not wanted:
        seed = uuid.uuid4().int  # any free one of the range's upper part, as the allocator prefers
        wanted = next(
            ip
            for step in range(1 << 16)
            for number in [256 + (seed + step) % 65000]
            if (ip := f"10.96.{number >> 8}.{number & 255}") not in taken and 0 < number & 255 < 255
        )
    spec["clusterIP"], spec["clusterIPs"] = wanted, [wanted]
    if kind not in ("NodePort", "LoadBalancer"):
        for port in spec.get("ports") or []:
            if old is not None and old["spec"]["type"] != kind:
                port.pop("nodePort", None)
        return
    used = {port["nodePort"] for one in others for port in one["spec"].get("ports", []) if "nodePort" in port}
    held = {
        (port["port"], port["protocol"]): port["nodePort"]
        for port in (old or {}).get("spec", {}).get("ports", [])
        if "nodePort" in port
    }
    for index, port in enumerate(spec.get("ports") or []):
        asked = port.get("nodePort") or held.get((port["port"], port["protocol"]))
        if asked in used:
            raise invalid(
                SERVICE,
                meta["name"],
                [wrong(f"spec.ports[{index}].nodePort", asked, "provided port is already allocated")],
            )
        if asked and asked not in _NODE_PORTS:
            raise invalid(
                SERVICE,
                meta["name"],
                [
                    wrong(
                        f"spec.ports[{index}].nodePort",
                        asked,
                        "provided port is not in the valid range. The range of valid ports is 30000-32767",
                    )
                ],
            )
        if not asked:
            start = uuid.uuid4().int % len(_NODE_PORTS)
            asked = next(
                p
                for step in range(len(_NODE_PORTS))
                if (p := _NODE_PORTS[(start + step) % len(_NODE_PORTS)]) not in used
            )
        port["nodePort"] = asked
        used.add(asked)


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
