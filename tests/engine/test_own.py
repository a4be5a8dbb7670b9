"""Calls of somebody's own applications: which of them the mesh sees request by request."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.engine.own import detect_unseen, namespace_reached
from chaos.external.file import Call


def call(reach: str) -> Call:
    return Call("shop/caller", "shop/web", reach)


def service(name: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"ports": list(ports)}}


@pytest.mark.parametrize(
    ("port", "seen"),
    [
        ({"port": 80}, False),
        ({"port": 80, "name": "web"}, False),
        ({"port": 80, "name": "tcp-web"}, False),
        ({"port": 80, "name": "http", "appProtocol": "tcp"}, False),
        ({"port": 80, "name": "http"}, True),
        ({"port": 80, "name": "http-web"}, True),
        ({"port": 80, "name": "grpc"}, True),
        ({"port": 80, "name": "web", "appProtocol": "http"}, True),
        ({"port": 80, "name": "web", "appProtocol": "kubernetes.io/h2c"}, True),
    ],
)
def test_a_port_whose_requests_the_mesh_does_not_see_is_named(port: dict[str, Any], seen: bool) -> None:
    others = (service("other", {"port": 80}), service("web", {"port": 81, "name": "tcp"}, port))
    for reach in ("web:80", "web.shop:80", "web.shop.svc.cluster.local:80"):
        said = detect_unseen(call(reach), others)
        assert said == "" if seen else said.startswith("port 80 of Service web")


@pytest.mark.parametrize("reach", ["10.0.0.1:80", "elsewhere:80", "web:8080"])
def test_nothing_is_said_of_what_is_no_service_there(reach: str) -> None:
    assert detect_unseen(call(reach), [service("web", {"port": 80})]) == ""


@pytest.mark.parametrize(
    ("reach", "namespace"), [("web:80", "shop"), ("web.store:80", "store"), ("web.store.svc.cluster.local:80", "store")]
)
def test_a_service_is_looked_for_where_its_name_says(reach: str, namespace: str) -> None:
    assert namespace_reached(call(reach)) == namespace
