"""Calls of somebody's own applications: what the mesh sees of them, and what a load sees of the mesh."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos.engine.external import LoadedCall
from chaos.engine.own import detect_unseen, namespace_reached, route_bytes
from chaos.engine.trial import detect_unseeing
from chaos.errors import Misuse
from chaos.external.exchange import Exchange
from chaos.external.file import Call, CallProtocol
from chaos.model.fate import flow_shares, may_move
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow
from chaos.model.modes import MODES, Balancing, Layer, Route, Scope
from chaos.model.placement import Placement, Pod, Proxy


def call(reach: str) -> Call:
    return Call("shop/caller", "shop/web", reach)


def pod(name: str, node: str, workload: str = "caller") -> Pod:
    return Pod("shop", name, name, node, "shop", "", workload, "default")


def node_proxy(node: str) -> Proxy:
    return Proxy("mesh", f"proxy-{node}", "proxy", node, node, frozenset(Layer), Scope.NODE, node, "proxy")


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
        said = detect_unseen(call(reach), others, MODES["node"])
        assert said == "" if seen else said.startswith("port 80 of Service web")
        assert not detect_unseen(call(reach), others, MODES["none"])  # nobody reads them there
        for protocol in (CallProtocol.TCP, CallProtocol.TLS):
            taken = detect_unseen(replace(call(reach), protocol=protocol), others, MODES["node"])
            assert taken.startswith("port 80 of Service web") == seen
            assert not detect_unseen(replace(call(reach), protocol=protocol), others, MODES["none"])


@pytest.mark.parametrize("reach", ["10.0.0.1:80", "elsewhere:80", "web:8080"])
def test_nothing_is_said_of_what_is_no_service_there(reach: str) -> None:
    assert detect_unseen(call(reach), [service("web", {"port": 80})], MODES["node"]) == ""


@pytest.mark.parametrize(
    ("reach", "namespace"), [("web:80", "shop"), ("web.store:80", "store"), ("web.store.svc.cluster.local:80", "store")]
)
def test_a_service_is_looked_for_where_its_name_says(reach: str, namespace: str) -> None:
    assert namespace_reached(call(reach)) == namespace


TCP = CallProtocol.TCP
KEPT, NEW = Exchange(b"PING", "4", keep=True), Exchange(b"PING", "4")


@pytest.mark.parametrize(
    ("mode", "exchange", "balancing"),
    [
        ("node", NEW, Balancing.REQUEST),
        ("node", KEPT, Balancing.CONNECTION),
        ("ambient-pod", NEW, Balancing.REQUEST),
        ("ambient-pod", KEPT, Balancing.CONNECTION),
        ("none", NEW, Balancing.REQUEST),
        ("none", KEPT, Balancing.CONNECTION),
    ],
)
def test_kept_connections_are_balanced_whole_and_new_ones_like_requests(
    mode: str, exchange: Exchange, balancing: Balancing
) -> None:
    """One server of two is behind the node's proxy: a client with connections to both may move."""
    pods = (pod("caller", "node-1"), pod("web-1", "node-1", "web"), pod("web-2", "node-2", "web"))
    one = Call("shop/caller", "shop/web", "web:80", protocol=TCP, exchange=exchange)
    proxies = (node_proxy("node-1"), node_proxy("node-2")) if mode == "node" else ()
    placement = route_bytes(Placement(MODES[mode], pods, proxies, (("shop/caller", "shop/web"),)), [one])
    assert {placement.route(pair).balancing for pair in placement.pairs()} == {balancing}
    if proxies:
        assert flow_shares(placement, [proxies[1]]) == {("shop/caller", "shop/web"): 0.5}
        assert bool(may_move(placement, [proxies[1]])) == exchange.keep


def test_a_call_of_bytes_to_pods_without_a_waypoint_keeps_their_path() -> None:
    pods = (pod("caller", "node-1"), pod("web-1", "node-1", "web"))
    past = Route(MODES["ambient-node"].hops[:1], Balancing.CONNECTION)
    kinds = {pods[0].uid: "c", pods[1].uid: "s"}
    placement = Placement(MODES["ambient-node"], pods, (), (("shop/caller", "shop/web"),), {("c", "s"): past}, kinds)
    one = Call("shop/caller", "shop/web", "web:80", protocol=TCP, exchange=NEW)
    (pair,) = placement.pairs()
    assert route_bytes(placement, [one]).route(pair) == Route(past.hops, Balancing.REQUEST)


def test_the_routes_of_requests_stay_the_modes() -> None:
    pods = (pod("caller", "node-1"), pod("web-1", "node-1", "web"))
    placement = Placement(MODES["node"], pods, (), (("shop/caller", "shop/web"),))
    assert route_bytes(placement, [call("web:80")]) == placement


@pytest.mark.parametrize(
    ("shape", "unseen"), [(FaultShape.PULSE, False), (FaultShape.HELD, True), (FaultShape.GRADUAL, True)]
)
def test_connections_that_are_only_accepted_do_not_see_what_hangs(shape: FaultShape, unseen: bool) -> None:
    def load(exchange: Exchange, protocol: CallProtocol = TCP) -> LoadedCall:
        return LoadedCall("shop", Call("shop/caller", "shop/web", "web:80", protocol=protocol, exchange=exchange))

    behind = {("shop/caller", "shop/web"): 0.5}
    assert detect_unseeing([load(Exchange())], behind, shape) == (
        {Flow("shop/caller", "shop/web")} if unseen else set()
    )
    assert not detect_unseeing([load(Exchange())], {("shop/caller", "shop/web"): 0.0}, shape)
    for sees in (load(NEW), load(KEPT), load(Exchange(), CallProtocol.TLS), load(Exchange(), CallProtocol.HTTP)):
        assert not detect_unseeing([sees], behind, shape)


def test_an_overload_of_bytes_is_refused_in_one_sentence() -> None:
    with pytest.raises(Misuse, match=r"shop/caller -> shop/web speaks tcp, and overloads are of requests"):
        LoadedCall("shop", Call("shop/caller", "shop/web", "web:80", protocol=TCP)).call_options()
