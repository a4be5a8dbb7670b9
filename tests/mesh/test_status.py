"""The picture of a mesh for people."""

from __future__ import annotations

from typing import Any

from chaos.mesh.status import control_plane_lines
from chaos.model.modes import MODES, Layer, Scope
from chaos.model.placement import Placement, Pod, Proxy, Role

CLIENT = Pod("tenant-a", "client-x", "u1", "node-1", "a", Role.CLIENT, "client", "client")
SERVER = Pod("tenant-b", "server-x", "u2", "node-2", "b", Role.SERVER, "server", "server")
PROXY = Proxy(
    "sharedfate-system", "np-1", "proxy", "p1", "node-1", frozenset(Layer), Scope.NODE, "node-1", "node-proxy"
)
PLACEMENT = Placement(MODES["node"], (CLIENT, SERVER), (PROXY,), ())


def page(*identities: str, refused: bool = False, resources: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "proxies": [{"uid": "p1", "current": True, "resources": resources or {}}],
        "refused_streams": [],
        "unreadable": {},
        "impostors": {},
        "identities": [
            {"proxy_uid": "p1", "proxy": "sharedfate-system/np-1", "identity": one, "refused": refused, "reason": "no"}
            for one in identities
        ],
    }


def test_a_mesh_in_order_is_one_line() -> None:
    text = control_plane_lines(PLACEMENT, page("spiffe://cluster.local/ns/tenant-a/sa/client"))
    assert text == "control plane: 1 proxies connected, 1 of 1 have the newest configuration"


def test_what_differs_from_the_model_is_named() -> None:
    more = control_plane_lines(PLACEMENT, page("spiffe://cluster.local/ns/tenant-b/sa/server"))
    assert "np-1[proxy] was handed more than the model says: spiffe://cluster.local/ns/tenant-b/sa/server" in more
    asked = control_plane_lines(PLACEMENT, page("spiffe://cluster.local/ns/tenant-b/sa/server", refused=True))
    assert "asked for spiffe://cluster.local/ns/tenant-b/sa/server: no" in asked
    nack = control_plane_lines(PLACEMENT, page(resources={"Listener": {"refused": {"outbound|x": {"message": "bad"}}}}))
    assert "np-1[proxy] refused Listener outbound|x: bad" in nack


def test_a_proxy_that_is_not_connected_is_named() -> None:
    assert "np-1[proxy] is not connected" in control_plane_lines(PLACEMENT, {**page(), "proxies": []})


def test_what_is_skipped_and_who_is_no_proxy_is_said() -> None:
    seen = {
        **page(),
        "unreadable": {"Pod b/odd": "spec is 3"},
        "impostors": {"Pod b/fake": "pod b/fake belongs elsewhere"},
    }
    text = control_plane_lines(PLACEMENT, seen)
    assert "cannot be read: Pod b/odd: spec is 3" in text
    assert "no proxy of the mesh: pod b/fake belongs elsewhere" in text
