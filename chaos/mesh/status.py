"""What `sharedfate status` prints: the mesh that is installed in a cluster, read from the cluster itself.

Proxies are found in the live pods; what they were handed and whether their configuration is current is the control
plane's word, beside the model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import urllib3

from chaos.errors import ApiError, Misuse, NotReady
from chaos.kube.client import Cluster
from chaos.kube.placement import describe, read_placement
from chaos.mesh.find import find_mesh
from chaos.mesh.install import Mesh
from chaos.model.fate import identities_held
from chaos.model.placement import Placement
from chaos.names import MESH_CONFIG, SYSTEM_NAMESPACE, spiffe_id


def read_status(cluster: Cluster) -> str:
    """Return the description, for people; raises Misuse when the cluster has no mesh of ours."""
    found = find_mesh(cluster)
    if found is None:
        raise Misuse(
            f"no mesh is installed here (no ConfigMap {SYSTEM_NAMESPACE}/{MESH_CONFIG}): "
            "`sharedfate render --mode M | kubectl apply -f -` installs one"
        )
    placement = read_placement(cluster, found.mode, run=found.run)
    try:
        page = Mesh(cluster, found.mode, run=found.run).control_plane()
    except (NotReady, ApiError, urllib3.exceptions.HTTPError) as error:
        return f"{describe(placement)}\ncontrol plane: not reached ({error})"
    return f"{describe(placement)}\n{control_plane_lines(placement, page)}"


def control_plane_lines(placement: Placement, page: Mapping[str, Any]) -> str:
    """Describe the control plane's view, and where it differs from the model. Pure."""
    connected = {proxy["uid"]: proxy for proxy in page["proxies"]}
    expected = [proxy for proxy in placement.proxies if proxy.layers]
    current = sum(connected.get(proxy.uid, {}).get("current", False) for proxy in expected)
    lines = [
        f"control plane: {len(connected)} proxies connected, {current} of {len(expected)} have the newest configuration"
    ]
    for proxy in expected:
        if proxy.uid not in connected:
            lines.append(f"    {proxy} is not connected")
            continue
        for kind, state in connected[proxy.uid]["resources"].items():
            lines += [
                f"    {proxy} refused {kind} {name}: {refusal['message']}" for name, refusal in state["refused"].items()
            ]
        handed = {
            line["identity"] for line in page["identities"] if line["proxy_uid"] == proxy.uid and not line["refused"]
        }
        if extra := handed - {spiffe_id(*held) for held in identities_held(placement, proxy)}:
            lines.append(f"    {proxy} was handed more than the model says: {', '.join(sorted(extra))}")
    lines += [
        f"    refused: {line['proxy']} asked for {line['identity']}: {line['reason']}"
        for line in page["identities"]
        if line["refused"]
    ]
    lines += [f"    cannot be read: {what}: {why}" for what, why in page["unreadable"].items()]
    lines += [f"    no proxy of the mesh: {why}" for why in page["impostors"].values()]
    lines += [f"    refused a stream from {line['peer']}: {line['reason']}" for line in page["refused_streams"][-5:]]
    return "\n".join(lines)
