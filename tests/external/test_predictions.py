"""What each recorded object set must give: the path of each call, hop by hop with its instances, as it was seen live;
and what is not modelled, refused by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chaos.errors import ExperimentFailure, Misuse
from chaos.external.detection import detect_mesh
from chaos.external.parsing import built_in, descriptions
from chaos.external.placement import Site, plan_placement
from chaos.external.text import describe_mesh
from chaos.model.fate import flow_shares, identities_held, may_move, path
from chaos.model.modes import Balancing, Scope
from chaos.model.placement import Placement
from tests.external import recorded_site as live

ZTUNNEL = {"node-1": "istio-system/ztunnel-xtl27", "node-2": "istio-system/ztunnel-xfs9h"}
Z1, Z2 = ZTUNNEL["node-1"], ZTUNNEL["node-2"]
SHARED = "infra/shared-bb4998fc6-qzl59"
BY_REQUEST, BY_CONNECTION = Balancing.REQUEST, Balancing.CONNECTION


def placed(site: Site, *calls: Any, mesh: str = "istio", **more: Any) -> Placement:
    target = live.target(*calls, mesh=mesh, **more)
    return plan_placement(target, built_in(mesh), site)


def hops(placement: Placement) -> dict[str, list[str]]:
    """Call -> its hops, each `namespace/pod`, or several joined by `|`."""
    return {
        " -> ".join(pair.call): ["|".join(f"{one.namespace}/{one.pod}" for one in hop) for hop in path(placement, pair)]
        for pair in placement.pairs()
    }


# namespace, reach -> the hops of client -> server, and how requests are spread, as seen live: by `server: istio-envoy`,
# the waypoint's access log and ztunnel-config.
AMBIENT: list[tuple[str, str, list[str], Balancing]] = [
    ("ashop", "server.ashop:8080", [Z1, Z2], BY_CONNECTION),
    ("abank", "server:8080", [Z1, Z2], BY_CONNECTION),
    ("apost", "server.apost.svc.cluster.local:8080", [Z2, Z2], BY_CONNECTION),
    ("atee", "10.96.246.210:8080", [Z1, Z1], BY_CONNECTION),
    ("apod", "server.apod:8080", [Z1, Z2], BY_CONNECTION),  # enrolled by the pod's own label
    ("nsw", "server.nsw:8080", [Z2, "nsw/waypoint-79f7bc7d5-kclmq", Z2], BY_REQUEST),
    ("nsw", "10.244.2.164:8080", [Z2, Z2], BY_CONNECTION),  # the same server, by its pod's address
    ("xone", "server.xone:8080", [Z2, SHARED, Z2], BY_REQUEST),  # the other namespace's
    ("xtwo", "server.xtwo:8080", [Z2, SHARED, Z2], BY_REQUEST),
    ("svcw", "server.svcw:8080", [Z2, "svcw/waypoint-d6d99b574-2m6wm", Z2], BY_REQUEST),  # the Service's own label
    ("nonew", "server.nonew:8080", [Z2, Z2], BY_CONNECTION),  # the Service says none
    ("podw", "server.podw:8080", [Z2, Z2], BY_CONNECTION),  # its waypoint takes workloads alone
    ("podw", "10.244.2.160:8080", [Z2, "podw/waypoint-7594c8d755-kjgvx", Z2], BY_CONNECTION),  # one pod is dialled
    ("wa", "server.wa:8080", [Z1, "wa/waypoint-74559996f8-5dmct", Z2], BY_REQUEST),
    ("wb", "server.wb:8080", [Z1, "wb/waypoint-84d4f9b697-7dcjj", Z2], BY_REQUEST),
]


@pytest.mark.parametrize(("namespace", "reach", "expected", "balancing"), AMBIENT)
def test_each_call_of_the_recorded_ambient_cluster_passes_what_it_was_seen_to_pass(
    namespace: str, reach: str, expected: list[str], balancing: Balancing
) -> None:
    call = (f"{namespace}/client", f"{namespace}/server", reach)
    placement = placed(live.ambient(), call)
    assert hops(placement) == {f"{call[0]} -> {call[1]}": expected}
    (pair,) = placement.pairs()
    assert placement.route(pair).balancing is balancing
    assert may_move(placement, placement.proxies) == frozenset()


def test_one_target_holds_calls_with_a_waypoint_without_one_and_with_one_that_two_share() -> None:
    spaces = ("wa", "ashop", "xone", "xtwo", "nonew")
    placement = placed(live.ambient(), *((f"{n}/client", f"{n}/server", f"server.{n}:8080") for n in spaces))
    (shared,) = [proxy for proxy in placement.proxies if proxy.namespace == "infra"]
    assert (shared.scope, shared.key) == (Scope.WAYPOINT, "infra/shared")
    hurt = {call[0] for call, share in flow_shares(placement, [shared]).items() if share}
    assert hurt == {"xone/client", "xtwo/client"}
    assert [pod.namespace for pod in placement.pods if shared.serves(pod)] == ["xone", "xtwo"]
    assert identities_held(placement, shared) == {("infra", "shared")}
    assert placement.mode.separate_layers
    (node_1,) = [proxy for proxy in placement.proxies if f"{proxy.namespace}/{proxy.pod}" == Z1]
    assert {call[0] for call, share in flow_shares(placement, [node_1]).items() if share} == {
        "wa/client",
        "ashop/client",
    }


def test_a_proxy_that_is_not_ready_does_not_count_and_the_newest_ready_one_of_a_node_does() -> None:
    site = live.ambient()
    placement = placed(site, ("apost/client", "apost/server"))
    assert [proxy.pod for proxy in placement.proxies] == ["ztunnel-xfs9h"]  # the newer one crashes
    newer = copy.deepcopy(live.find(site, "Pod", "istio-system", "ztunnel-9j794"))
    newer["status"]["containerStatuses"][0] |= {"ready": True, "state": {"running": {}}}
    placement = placed(live.ambient([newer]), ("apost/client", "apost/server"))
    assert [proxy.pod for proxy in placement.proxies] == ["ztunnel-9j794"]
    assert set(flow_shares(placement, placement.proxies).values()) == {1.0}


def test_ztunnel_and_waypoints_are_found_by_label_in_whichever_namespace() -> None:
    site = live.ambient()
    moved = []
    for pod in site.pods:
        if pod["metadata"]["namespace"] == "istio-system":
            moved.append({**pod, "metadata": {**pod["metadata"], "namespace": "mesh-data"}})
        else:
            moved.append(dict(pod))
    placement = placed(Site(site.namespaces, moved, site.services), ("ashop/client", "ashop/server"))
    assert hops(placement) == {"ashop/client -> ashop/server": ["mesh-data/ztunnel-xtl27", "mesh-data/ztunnel-xfs9h"]}


def test_istios_ztunnel_has_no_limit_and_a_waypoint_has_its_own() -> None:
    placement = placed(live.ambient(), ("wa/client", "wa/server"))
    assert {proxy.scope: (proxy.cpu_millicores, proxy.memory_bytes >> 20) for proxy in placement.proxies} == {
        Scope.NODE: (0, 0),
        Scope.WAYPOINT: (1000, 256),
    }
    assert "no CPU limit, no memory limit" in describe_mesh(built_in("istio"), placement)


@pytest.mark.parametrize(
    ("said", "balancing"), [({}, BY_REQUEST), ({"send": "x", "answer": 1, "keep": True}, BY_CONNECTION)]
)
def test_kept_connections_are_not_balanced_by_a_waypoint_where_requests_are_not_read(
    said: dict[str, Any], balancing: Balancing
) -> None:
    placement = placed(live.ambient(), ("nsw/client", "nsw/server", "server.nsw:9000"), protocol="tcp", **said)
    (pair,) = placement.pairs()
    assert len(path(placement, pair)) == 3
    assert placement.route(pair).balancing is balancing


def test_of_two_servers_on_two_nodes_ztunnel_balances_connections_so_that_clients_may_move() -> None:
    site = live.ambient()
    second = copy.deepcopy(live.find(site, "Pod", "ashop", "server"))
    second["metadata"] |= {"name": "server-668d7d685d-zzzzz", "uid": "second"}
    second["spec"]["nodeName"] = "node-1"
    placement = placed(live.ambient([second]), ("ashop/client", "ashop/server"))
    behind = [proxy for proxy in placement.proxies if proxy.node == "node-2"]
    assert flow_shares(placement, behind) == {("ashop/client", "ashop/server"): 0.5}
    assert may_move(placement, behind) == {("ashop/client", "ashop/server")}
    second["metadata"]["namespace"], second["metadata"]["uid"] = "nsw", "second-nsw"
    placement = placed(live.ambient([second]), ("nsw/client", "nsw/server", "server.nsw:8080"))
    assert may_move(placement, placement.proxies) == frozenset()


def two_servers(**second: Any) -> list[Any]:
    """The server of `nsw` twice, on two nodes; the second one's Ready condition as given."""
    pod = copy.deepcopy(live.find(live.ambient(), "Pod", "nsw", "server"))
    pod["metadata"] |= {"name": "server-668d7d685d-zzzzz", "uid": "second"}
    pod["spec"]["nodeName"] = "node-1"
    pod["status"]["conditions"] = [{"type": "Ready", **second}]
    return [pod]


@pytest.mark.parametrize(
    ("second", "publishes", "servers"),
    [
        ("True", False, 2),
        ("False", False, 1),  # no endpoint: no call reaches it
        ("Unknown", False, 1),  # its node is gone
        ("False", True, 2),  # a Service that publishes what is not ready
    ],
)
def test_a_server_that_is_not_ready_gets_no_call_and_does_not_count(second: str, publishes: bool, servers: int) -> None:
    changes = two_servers(status=second)
    if publishes:
        service = copy.deepcopy(live.find(live.ambient(), "Service", "nsw", "server"))
        service["spec"]["publishNotReadyAddresses"] = True
        changes.append(service)
    placement = placed(live.ambient(changes), ("nsw/client", "nsw/server", "server.nsw:8080"))
    assert len(placement.pairs()) == servers
    behind = [proxy for proxy in placement.proxies if proxy.node == "node-1" and proxy.scope is Scope.NODE]
    assert len(behind) == servers - 1
    away = [proxy for proxy in placement.proxies if proxy.node == "node-2" and proxy.scope is Scope.NODE]
    assert flow_shares(placement, away) == {("nsw/client", "nsw/server"): 1.0}


def test_where_no_server_is_ready_all_are_kept_for_calls_will_reach_them() -> None:
    first = live.find(live.ambient(), "Pod", "nsw", "server")
    first["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    site = live.ambient([first, *two_servers(status="False")])
    assert len(placed(site, ("nsw/client", "nsw/server", "server.nsw:8080")).pairs()) == 2


# ---- pods outside, and both ways at once


def test_a_pod_outside_the_mesh_passes_its_servers_ztunnel_and_no_waypoint() -> None:
    placement = placed(live.ambient(), ("plain2/client", "nsw/server", "server.nsw:8080"))
    assert hops(placement) == {"plain2/client -> nsw/server": [Z2]}
    (pair,) = placement.pairs()
    because = " ".join(placement.route(pair).because)
    assert "Pod plain2/client-db97fc869-6xrsz has no annotation ambient.istio.io/redirection=enabled" in because
    assert "is not carried by ztunnel: its calls pass none" in because


def test_a_sidecar_client_passes_its_servers_ztunnel_and_not_its_waypoint_and_the_other_way_round() -> None:
    ambient, injected = live.ambient(), live.sidecars()
    both = Site(
        [*(one for one in ambient.namespaces if one["metadata"]["name"] != "shop"), injected.namespaces[0]],
        [*ambient.pods, *injected.pods],
        [*(one for one in ambient.services if one["metadata"]["namespace"] != "shop"), *injected.services],
    )
    placement = placed(
        both, ("shop/client", "nsw/server", "server.nsw:8080"), ("nsw/client", "shop/server", "server.shop:8080")
    )
    assert hops(placement) == {
        "shop/client -> nsw/server": ["shop/client-78d5c9c6b9-qnwsx", Z2],
        "nsw/client -> shop/server": [Z2, "shop/server-668d7d685d-2zlkd"],
    }
    spread = {pair.call[0]: placement.route(pair).balancing for pair in placement.pairs()}
    assert spread == {"shop/client": BY_REQUEST, "nsw/client": BY_CONNECTION}
    (ztunnel,) = [proxy for proxy in placement.proxies if proxy.scope is Scope.NODE]
    assert ("shop", "server") not in identities_held(placement, ztunnel)  # on its node, and not its to carry


def test_no_call_that_passes_any_proxy_is_an_error_that_says_why() -> None:
    with pytest.raises(
        ExperimentFailure, match=r"no call passes any proxy of istio: .*plain2/client.* has no container"
    ):
        placed(live.ambient(), ("plain2/client", "plain2/server"))


# ---- sidecars


@pytest.mark.parametrize(
    ("site", "mesh", "client", "server", "container"),
    [
        (live.sidecars(), "istio", "client-78d5c9c6b9-qnwsx", "server-668d7d685d-2zlkd", "istio-proxy"),
        (live.linkerd("classic"), "linkerd", "frontend-54545d495b-tz772", "backend-7b4b46984c-b9rhq", "linkerd-proxy"),
        (live.linkerd("native"), "linkerd", "frontend-54545d495b-xjrff", "backend-7b4b46984c-67zsr", "linkerd-proxy"),
    ],
    ids=["istio", "linkerd-classic", "linkerd-native"],
)
def test_each_recorded_sidecar_carries_its_own_pod(
    site: Site, mesh: str, client: str, server: str, container: str
) -> None:
    ends = (client.rsplit("-", 2)[0], server.rsplit("-", 2)[0])
    call = (f"shop/{ends[0]}", f"shop/{ends[1]}")
    placement = placed(site, call, mesh=mesh)
    assert hops(placement) == {" -> ".join(call): [f"shop/{client}", f"shop/{server}"]}
    assert {(one.container, one.scope) for one in placement.proxies} == {(container, Scope.POD)}
    (pair,) = placement.pairs()
    assert placement.route(pair).balancing is BY_REQUEST
    assert detect_mesh(descriptions().values(), site.namespaces, site.pods).name == mesh


def test_a_linkerd_proxy_without_a_limit_is_bound_by_its_worker_threads() -> None:
    placement = placed(live.linkerd("native"), ("shop/frontend", "shop/backend"), mesh="linkerd")
    assert {proxy.cpu_millicores for proxy in placement.proxies} == {1000}


def with_annotation(site: Site, pod: str, **changes: str) -> Site:
    found = copy.deepcopy(live.find(site, "Pod", "shop", pod))
    found["metadata"]["annotations"] = {**(found["metadata"].get("annotations") or {}), **changes}
    return live.with_changes(site, [found])


@pytest.mark.parametrize(
    ("mesh", "pod", "annotation", "value", "left"),
    [
        ("linkerd", "frontend", "config.linkerd.io/skip-outbound-ports", "80,8080", ["backend"]),
        (
            "linkerd",
            "frontend",
            "config.linkerd.io/skip-outbound-ports",
            "8080",
            ["frontend", "backend"],
        ),  # not dialled
        ("linkerd", "backend", "config.linkerd.io/skip-inbound-ports", "8000-8100", ["frontend"]),
        ("linkerd", "backend", "config.linkerd.io/skip-inbound-ports", "9990", ["frontend", "backend"]),
        ("istio", "client", "traffic.sidecar.istio.io/excludeOutboundPorts", "8080", ["server"]),
        ("istio", "client", "traffic.sidecar.istio.io/includeOutboundPorts", "*", ["client", "server"]),
        ("istio", "server", "traffic.sidecar.istio.io/excludeInboundPorts", "8080", ["client"]),
        ("istio", "server", "traffic.sidecar.istio.io/includeInboundPorts", "9000", ["client"]),
        ("istio", "server", "traffic.sidecar.istio.io/includeInboundPorts", "", ["client"]),
    ],
)
def test_a_port_that_is_taken_past_a_proxy_loses_that_hop_and_says_so(
    mesh: str, pod: str, annotation: str, value: str, left: list[str]
) -> None:
    site = live.linkerd("native") if mesh == "linkerd" else live.sidecars()
    ends = ("frontend", "backend", "backend.shop:80") if mesh == "linkerd" else ("client", "server", "server.shop:8080")
    call = (f"shop/{ends[0]}", f"shop/{ends[1]}", ends[2])
    placement = placed(with_annotation(site, pod, **{annotation: value}), call, mesh=mesh)
    (found,) = hops(placement).values()
    assert [one.rpartition("/")[2].partition("-")[0] for one in found] == left
    (pair,) = placement.pairs()
    assert (annotation in " ".join(placement.route(pair).because)) is (len(left) < 2)


def test_an_ambient_server_whose_inbound_capture_is_bypassed_has_no_hop_there() -> None:
    site = live.ambient()
    server = live.find(site, "Pod", "ashop", "server")
    server["metadata"]["annotations"]["ambient.istio.io/bypass-inbound-capture"] = "true"
    assert hops(placed(live.ambient([server]), ("ashop/client", "ashop/server"))) == {
        "ashop/client -> ashop/server": [Z1]
    }


# ---- what is not modelled, or contradicts itself, is refused with object and label


def changed(kind: str, namespace: str, name: str, **labels: str) -> Any:
    found = copy.deepcopy(live.find(live.ambient(), kind, namespace, name))
    found["metadata"]["labels"] = {**(found["metadata"].get("labels") or {}), **labels}
    return found


def condition(namespace: str, status: str, message: str, reason: str = "WaypointMissing") -> Any:
    found = copy.deepcopy(live.find(live.ambient(), "Service", namespace, "server"))
    found["status"]["conditions"] = [
        {"type": "istio.io/WaypointBound", "status": status, "reason": reason, "message": message}
    ]
    return found


@pytest.mark.parametrize(
    ("change", "call", "words"),
    [
        (
            changed("Service", "nsw", "server", **{"istio.io/use-waypoint-canary": "next"}),
            ("nsw/client", "nsw/server", "server.nsw:8080"),
            "Service nsw/server has istio.io/use-waypoint-canary=next .*not modelled",
        ),
        (
            changed("Namespace", "", "wa", **{"istio.io/use-waypoint-canary": "next"}),
            ("wa/client", "wa/server", "server.wa:8080"),
            "Namespace wa has istio.io/use-waypoint-canary=next",
        ),
        (
            changed("Service", "ashop", "server", **{"istio.io/use-waypoint": "gone"}),
            ("ashop/client", "ashop/server", "server.ashop:8080"),
            "Service ashop/server has istio.io/use-waypoint=gone names ashop/gone, and namespace ashop has no pod with",
        ),
        (
            condition("nsw", "True", "attached"),
            ("nsw/client", "nsw/server", "server.nsw:8080"),
            "Service nsw/server: condition istio.io/WaypointBound is True, and its message names no waypoint: 'att",
        ),
        (
            changed("Namespace", "", "wa"),
            ("wa/client", "wa/server", "elsewhere.example:8080"),
            "Namespace wa has istio.io/use-waypoint=waypoint: whether a call passes that waypoint depends on how Pod "
            "wa/server.* is addressed, and elsewhere.example:8080 names no Service",
        ),
        (
            changed("Namespace", "", "wa"),
            ("wa/client", "wa/server", "server.wa:81"),
            "reach server.wa:81: Service wa/server has no port 81",
        ),
    ],
)
def test_what_is_not_modelled_is_refused_with_object_and_label(change: Any, call: Any, words: str) -> None:
    with pytest.raises(Misuse, match=words):
        placed(live.ambient([change]), call)


@pytest.mark.parametrize(
    ("change", "namespace", "waypoint"),
    [
        (condition("xone", "False", "waypoint not found"), "xone", ""),  # what the mesh says against the labels holds
        (condition("nsw", "True", "Successfully attached to waypoint infra/shared"), "nsw", SHARED),
        (
            changed("Service", "nonew", "server", **{"istio.io/use-waypoint": "waypoint"}),
            "nonew",
            "nonew/waypoint-788d689f96-kqqfw",
        ),
        (
            changed("Namespace", "", "svcw", **{"istio.io/use-waypoint": "none"}),
            "svcw",
            "svcw/waypoint-d6d99b574-2m6wm",
        ),
    ],
)
def test_the_services_condition_is_believed_and_its_own_label_goes_before_its_namespaces(
    change: Any, namespace: str, waypoint: str
) -> None:
    call = (f"{namespace}/client", f"{namespace}/server", f"server.{namespace}:8080")
    (found,) = hops(placed(live.ambient([change]), call)).values()
    assert found[1:-1] == ([waypoint] if waypoint else [])


@pytest.mark.parametrize(
    ("takes", "by_service", "by_pod"),
    [("service", True, False), ("workload", False, True), ("all", True, True), ("none", False, False)],
)
def test_a_waypoint_takes_what_its_label_says(takes: str, by_service: bool, by_pod: bool) -> None:
    site = live.ambient()
    pod = copy.deepcopy(live.find(site, "Pod", "nsw", "waypoint"))
    pod["metadata"]["labels"]["istio.io/waypoint-for"] = takes
    service = copy.deepcopy(live.find(site, "Service", "nsw", "server"))
    service["status"].pop("conditions", None)
    for reach, expected in (("server.nsw:8080", by_service), ("10.244.2.164:8080", by_pod)):
        (found,) = hops(placed(live.ambient([pod, service]), ("nsw/client", "nsw/server", reach))).values()
        assert len(found) == (3 if expected else 2), (takes, reach, found)


def test_without_reach_the_one_service_that_selects_the_server_is_meant_and_two_are_asked_about() -> None:
    assert hops(placed(live.ambient(), ("xone/client", "xone/server")))["xone/client -> xone/server"] == [
        Z2,
        SHARED,
        Z2,
    ]
    second = copy.deepcopy(live.find(live.ambient(), "Service", "xone", "server"))
    second["metadata"]["name"] = "again"
    with pytest.raises(Misuse, match=r"Services xone/server, xone/again select it: give the call `reach"):
        placed(live.ambient([second]), ("xone/client", "xone/server"))


def test_a_headless_services_pods_are_dialled_themselves() -> None:
    headless = copy.deepcopy(live.find(live.ambient(), "Service", "nsw", "server"))
    headless["spec"] |= {"clusterIP": "None", "clusterIPs": ["None"]}
    (found,) = hops(placed(live.ambient([headless]), ("nsw/client", "nsw/server", "server.nsw:8080"))).values()
    assert found == [Z2, Z2]


# ---- what was not recorded, made from what was


def unbound(namespace: str, **labels: str) -> Any:
    """The server's Service with those labels, before the mesh has said what it is bound to."""
    service = changed("Service", namespace, "server", **labels)
    service["status"].pop("conditions", None)
    return service


def opted_out(namespace: str, name: str) -> Any:
    pod = changed("Pod", namespace, name, **{"istio.io/dataplane-mode": "none"})
    pod["metadata"]["annotations"].pop("ambient.istio.io/redirection")
    return pod


OTHERS = {"istio.io/use-waypoint": "shared", "istio.io/use-waypoint-namespace": "infra"}
NSW = "nsw/waypoint-79f7bc7d5-kclmq"


@pytest.mark.parametrize(
    ("change", "namespace", "expected"),
    [
        (unbound("ashop", **OTHERS), "ashop", [Z1, SHARED, Z2]),
        (changed("Namespace", "", "ashop", **OTHERS), "ashop", [Z1, SHARED, Z2]),
        (unbound("nsw", **{"istio.io/use-waypoint": "none"}), "nsw", [Z2, Z2]),
        (opted_out("ashop", "client"), "ashop", [Z2]),
        (opted_out("nsw", "client"), "nsw", [Z2]),  # and no waypoint
        (opted_out("nsw", "server"), "nsw", [Z2, NSW]),  # which the client's ztunnel passes all the same
        (
            changed("Namespace", "", "ashop", **{"istio-injection": "enabled"}),
            "ashop",
            [Z1, Z2],
        ),  # nothing was injected
    ],
    ids=["services", "namespaces", "none", "client-out", "client-out-of-waypoint", "server-out", "not-injected"],
)
def test_labels_that_were_set_afterwards_give_the_path_that_they_ask_for(
    change: Any, namespace: str, expected: list[str]
) -> None:
    call = (f"{namespace}/client", f"{namespace}/server", f"server.{namespace}:8080")
    assert hops(placed(live.ambient([change]), call)) == {f"{call[0]} -> {call[1]}": expected}


def test_a_replica_without_a_proxy_loses_that_hop_alone() -> None:
    site = live.sidecars()
    second = copy.deepcopy(live.find(site, "Pod", "shop", "server"))
    second["metadata"] |= {"name": "server-668d7d685d-zzzzz", "uid": "second", "annotations": {}}
    for part in ("containers", "initContainers"):
        second["spec"][part] = [one for one in second["spec"][part] if not one["name"].startswith("istio")]
    placement = placed(live.with_changes(site, [second]), ("shop/client", "shop/server", "server.shop:8080"))
    assert {pair.server.name: len(path(placement, pair)) for pair in placement.pairs()} == {
        "server-668d7d685d-2zlkd": 2,
        "server-668d7d685d-zzzzz": 1,
    }


def test_a_waypoint_of_which_no_pod_is_ready_is_an_error_that_names_it() -> None:
    pod = copy.deepcopy(live.find(live.ambient(), "Pod", "nsw", "waypoint"))
    pod["status"]["containerStatuses"][0]["ready"] = False
    placement = placed(live.ambient([pod]), ("nsw/client", "nsw/server", "server.nsw:8080"))
    with pytest.raises(ExperimentFailure, match="no l7 proxy of scope waypoint for 'nsw/waypoint'"):
        hops(placement)


def _forged(namespace: str, owner: Any, *, site: Site) -> dict[str, Any]:
    """A tenant's pod with all that ztunnel's carries, younger than it."""
    pod = copy.deepcopy(live.find(site, "Pod", "istio-system", "ztunnel-xtl27"))
    pod["metadata"] |= {"namespace": namespace, "name": "forged", "uid": "forged", "creationTimestamp": "2027-01-01"}
    pod["metadata"]["ownerReferences"] = [owner] if owner else []
    return pod


DAEMON_SET = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "ztunnel", "uid": "u", "controller": True}


@pytest.mark.parametrize(
    ("namespace", "owner"),
    [
        ("ashop", None),
        ("ashop", DAEMON_SET),
        ("anywhere", None),
        ("anywhere", {**DAEMON_SET, "kind": "ReplicaSet"}),
        ("anywhere", {**DAEMON_SET, "controller": False}),
    ],
)
def test_a_pod_that_carries_the_labels_of_a_nodes_proxy_is_none(namespace: str, owner: Any) -> None:
    site = live.ambient()
    forged = _forged(namespace, owner, site=site)
    placement = placed(
        Site(site.namespaces, [*site.pods, forged], site.services),
        ("ashop/client", "ashop/server"),
        ("wa/client", "wa/server"),
    )
    assert placement == placed(site, ("ashop/client", "ashop/server"), ("wa/client", "wa/server"))


def test_where_two_daemon_sets_say_that_they_are_the_nodes_proxies_nobody_is_believed() -> None:
    site = live.ambient()
    forged = _forged("anywhere", DAEMON_SET, site=site)
    with pytest.raises(Misuse, match=r"ztunnel of node node-1: .*: anywhere/ztunnel, istio-system/ztunnel\."):
        placed(Site(site.namespaces, [*site.pods, forged], site.services), ("ashop/client", "ashop/server"))
