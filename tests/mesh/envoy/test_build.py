"""`build` as a pure function: what depends on what, that modes differ in sharing alone, and that Envoy takes it all."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from google.protobuf import json_format

from chaos.mesh.envoy import bootstrap
from chaos.mesh.envoy.build import build
from chaos.mesh.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, Resources
from chaos.mesh.mutations import Defect
from chaos.mesh.proxyconfig import placebo
from chaos.mesh.snapshot import ROOT_SECRET, AccessLog, Features, Misanswering, Policy, ProxyRole, Rule, identity_of
from chaos.names import LABEL_WAYPOINT, NO_WAYPOINT, spiffe_id
from tests.mesh.envoy.bench import ENVOY
from tests.mesh.envoy.placements import MESHED, pod, proxies, uid, world

FULL = Features(retries=True, outlier_detection=True, timeout_seconds=3, access_log=AccessLog.ALL)
POLICY = Policy(
    "tenant-a", "p", (Rule(("spiffe://cluster.local/ns/tenant-a/sa/client",), ("GET",), ("/x", "/y*")), Rule())
)

MISANSWERED = ("", "tenant-a")


def changed(before: Resources, after: Resources) -> set[tuple[str, str]]:
    old = {(i.type_url, i.name): i.version for i in before.items}
    new = {(i.type_url, i.name): i.version for i in after.items}
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def read(resources: Resources, type_url: str, name: str) -> Any:
    cls = {LISTENER: Listener, CLUSTER: Cluster, ENDPOINTS: ClusterLoadAssignment}[type_url]
    return cls.FromString(resources.by_type[type_url][name].packed.value)


@pytest.mark.parametrize("mode", MESHED)
@pytest.mark.parametrize("features", [Features(), FULL], ids=["isolation", "all-features"])
def test_envoy_accepts_every_configuration(mode: str, features: Features, tmp_path: Path) -> None:
    made = world(mode, features=features, policies=(POLICY,))
    if features is FULL:
        asked = (Misanswering(one.uid, 0.25, 503, 200, namespace) for one in proxies(made) for namespace in MISANSWERED)
        made = replace(made, misanswers=tuple(asked))
    for proxy in proxies(made):
        config = json_format.ParseDict(bootstrap(token_path="", node_id="x"), Bootstrap())
        for cluster in config.static_resources.clusters:
            cluster.ClearField("transport_socket")  # names a file of the installed mesh
        for port, item in enumerate(build(proxy, made).items, 20_000):
            if item.type_url == LISTENER:
                listener = config.static_resources.listeners.add()
                listener.ParseFromString(item.packed.value)
                if listener.address.socket_address.network_namespace_filepath:  # there is none here to listen in
                    listener.address.socket_address.ClearField("network_namespace_filepath")
                    listener.address.socket_address.port_value = port
            elif item.type_url == CLUSTER:
                cluster = config.static_resources.clusters.add()
                cluster.ParseFromString(item.packed.value)
                if cluster.type == Cluster.ORIGINAL_DST and cluster.HasField("transport_socket"):
                    # in a bootstrap, secrets of a cluster that is made before ADS is crash Envoy 1.40; not over ADS
                    cluster.type, cluster.lb_policy = Cluster.EDS, Cluster.ROUND_ROBIN
                    cluster.ClearField("original_dst_lb_config")
                    cluster.eds_cluster_config.eds_config.ads.SetInParent()
                    cluster.eds_cluster_config.eds_config.resource_api_version = 2
        file = tmp_path / f"{ProxyRole.of(proxy)}.pb"
        file.write_bytes(config.SerializeToString())
        done = subprocess.run(
            [ENVOY, "--mode", "validate", "-c", str(file), "--log-level", "error"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout


def test_an_invalid_configuration_would_be_noticed(tmp_path: Path) -> None:
    config = bootstrap(token_path="", node_id="x")
    config["static_resources"]["clusters"][0]["connect_timeout"] = "-1s"
    file = tmp_path / "b.json"
    file.write_text(json.dumps(config))
    done = subprocess.run([ENVOY, "--mode", "validate", "-c", str(file)], capture_output=True, timeout=30, check=False)
    assert done.returncode != 0


@pytest.mark.parametrize("mode", MESHED)
def test_one_pod_more_changes_its_own_listeners_alone(mode: str) -> None:
    before = world(mode)
    new = pod(50, "a", "client")
    after = replace(before, pods={**before.pods, new.uid: new})
    for proxy in proxies(before):
        names = {name for _, name in changed(build(proxy, before), build(proxy, after))}
        assert all(new.sandbox in name for name in names), names


@pytest.mark.parametrize("mode", MESHED)
def test_an_endpoint_that_goes_changes_endpoints_alone(mode: str) -> None:
    before = world(mode)
    service = before.services[0]
    ports = tuple(replace(port, endpoints=port.endpoints[1:]) for port in service.ports)
    after = replace(before, services=(replace(service, ports=ports), *before.services[1:]))
    for proxy in proxies(before):
        assert {kind for kind, _ in changed(build(proxy, before), build(proxy, after))} <= {ENDPOINTS}


@pytest.mark.parametrize("mode", MESHED)
@pytest.mark.parametrize("namespace", MISANSWERED)
def test_a_proxy_that_misanswers_does_so_to_requests_of_whom_it_is_asked_for_alone(mode: str, namespace: str) -> None:
    before = world(mode)
    for proxy in proxies(before):
        asked = Misanswering(proxy.uid, 0.25, 504, 1500, namespace)
        sound, after = build(proxy, before), build(proxy, replace(before, misanswers=(asked,)))
        others = build(proxy, replace(before, misanswers=(replace(asked, pod_uid="another's"),)))
        assert not changed(sound, others)
        kinds = changed(sound, after)
        if ProxyRole.of(proxy) is ProxyRole.L4:  # it knows no requests
            assert not kinds
            continue
        assert kinds
        for kind, name in kinds:
            assert kind == LISTENER
            old, new = read(sound, kind, name), read(after, kind, name)
            parts = [(one, two) for one, two in zip(old.filter_chains, new.filter_chains, strict=True) if one != two]
            assert parts
            for one, two in parts:
                text = json.dumps(json_format.MessageToDict(two))
                assert text.count("HTTPFault") == 1
                assert '"httpStatus": 504' in text
                assert '"numerator": 250000' in text
                assert '"1.500s"' in text
                assert "HTTPFault" not in json.dumps(json_format.MessageToDict(one))
                assert namespace.removeprefix("tenant-") in (two.name + name) or not namespace


@pytest.mark.parametrize("mode", MESHED)
def test_a_pod_that_is_not_ready_keeps_its_listeners(mode: str) -> None:
    before = world(mode)
    after = replace(before, pods={**before.pods, uid(1): replace(before.pods[uid(1)], ready=False)})
    for proxy in proxies(before):
        assert not changed(build(proxy, before), build(proxy, after))


@pytest.mark.parametrize("mode", [m for m in MESHED if m.startswith("ambient")])
def test_a_waypoint_that_is_not_ready_gets_no_traffic_and_stays_accepted(mode: str) -> None:
    before = world(mode)
    after = replace(before, waypoints=tuple(replace(w, ready=False) for w in before.waypoints))
    node = proxies(before)[0]
    assert {kind for kind, _ in changed(build(node, before), build(node, after))} == {ENDPOINTS}
    for name in build(node, after).by_type[ENDPOINTS]:
        assert not read(build(node, after), ENDPOINTS, name).endpoints[0].lb_endpoints


@pytest.mark.parametrize("mode", [m for m in MESHED if m.startswith("ambient")])
def test_a_service_without_a_waypoint_leads_to_its_pods_and_no_waypoint_serves_it(mode: str) -> None:
    made = world(mode)
    past = replace(made.services[0], waypoint=False)
    made = replace(made, services=(past, *made.services[1:]))
    ends = {f"{end.ip}:{end.port}" for end in past.ports[0].endpoints}
    for proxy in proxies(made):
        built = build(proxy, made)
        name = "outbound|80|server.tenant-a"
        if ProxyRole.of(proxy) is ProxyRole.WAYPOINT:
            assert not [one for one in built.by_type[LISTENER] if one.endswith("|80|server.tenant-a")]
            continue
        found = read(built, ENDPOINTS, name).endpoints[0].lb_endpoints
        assert {one.endpoint.address.envoy_internal_address.endpoint_id for one in found} == ends


@pytest.mark.parametrize("mode", [m for m in MESHED if m.startswith("ambient")])
def test_who_may_come_to_a_pod_without_a_waypoint_is_decided_by_its_policy(mode: str) -> None:
    caller = spiffe_id("tenant-c", "client")
    before = world(mode)
    server = next(p for p in before.pods.values() if p.service_account == "server" and p.node == "node-1")
    before = replace(before, policies=(Policy(server.namespace, "p", (Rule((caller,)),)),))
    labelled = replace(server, labels=((LABEL_WAYPOINT, NO_WAYPOINT),))
    after = replace(before, pods={**before.pods, server.uid: labelled})
    node = proxies(before)[0]
    assert changed(build(node, before), build(node, after)) == {(LISTENER, f"hbone|{server.sandbox}")}
    (rbac,) = (
        json_format.MessageToDict(one)["typedConfig"]
        for one in read(build(node, after), LISTENER, f"hbone|{server.sandbox}").filter_chains[0].filters
        if "rbac" in one.name
    )
    (allowed,) = rbac["rules"]["policies"].values()
    assert allowed["principals"] == [{"authenticated": {"principalName": {"exact": caller}}}]


@pytest.mark.parametrize("mode", MESHED)
def test_an_endpoint_without_a_proxy_is_never_called(mode: str) -> None:
    made = world(mode)
    bare = replace(made.pods[uid(1)], meshed=False)
    made = replace(made, pods={**made.pods, bare.uid: bare})
    for proxy in proxies(made):
        assert bare.ip not in str(
            [read(build(proxy, made), ENDPOINTS, n) for n in build(proxy, made).by_type[ENDPOINTS]]
        )


def _l7(mode: str, defects: frozenset[Defect] = frozenset()) -> list[dict[str, Any]]:
    """The routes, retries and cluster settings of tenant a's Service, wherever the mode has an L7 layer."""
    made = world(mode, features=FULL)
    found = []
    for proxy in proxies(made):
        built = build(proxy, made, defects=defects)
        for name in built.by_type[LISTENER]:
            for chain in read(built, LISTENER, name).filter_chains:
                for item in chain.filters:
                    if "HttpConnectionManager" in item.typed_config.type_url:
                        config = json_format.MessageToDict(item)["typedConfig"]
                        if config["routeConfig"]["name"] == "outbound|80|server.tenant-a":
                            found.append(config["routeConfig"])
    return found


def test_requests_are_routed_retried_and_timed_out_alike_in_every_mode() -> None:
    found = [route for mode in MESHED for route in _l7(mode)]
    for (
        route
    ) in found:  # where two proxies of both layers speak with one another, in HTTP/2, one says what its client spoke
        assert all(
            added["header"]["key"] == "x-sharedfate-protocol"
            for added in route["virtualHosts"][0].pop("requestHeadersToAdd", [])
        )
    seen = {json.dumps(route, sort_keys=True) for route in found}
    assert len(seen) == 1
    host = json.loads(seen.pop())["virtualHosts"][0]
    retried, plain = host["routes"]
    assert retried["route"]["retryPolicy"]["numRetries"] == 2
    assert "POST" not in retried["match"]["headers"][0]["stringMatch"]["safeRegex"]["regex"]
    assert "retryPolicy" not in plain["route"]
    assert plain["route"]["timeout"] == "3s"


def test_a_configuration_that_retries_everything_is_seen_to() -> None:
    routes = _l7("node", frozenset({Defect.RETRY_ALL}))[0]["virtualHosts"][0]["routes"]
    assert len(routes) == 1
    assert "headers" not in routes[0]["match"]


@pytest.mark.parametrize("mode", MESHED)
def test_no_circuit_breaker_differs_between_modes(mode: str) -> None:
    made = world(mode)
    for proxy in proxies(made):
        built = build(proxy, made)
        for name in built.by_type[CLUSTER]:
            limits = read(built, CLUSTER, name).circuit_breakers.thresholds[0]
            assert {
                limits.max_connections.value,
                limits.max_pending_requests.value,
                limits.max_requests.value,
                limits.max_retries.value,
            } == {4_000_000_000}


@pytest.mark.parametrize("mode", MESHED)
def test_a_proxy_may_ask_only_for_the_identities_of_whom_it_serves(mode: str) -> None:
    made = world(mode)
    for proxy in proxies(made):
        expected = (
            {identity_of(proxy)}
            if ProxyRole.of(proxy) is ProxyRole.WAYPOINT
            else {p.identity for p in made.served_by(proxy)}
        )
        assert build(proxy, made).secrets == {"ROOTCA", *expected}


def seconds_of_a_change(pods: int) -> float:
    made = world("node", pods=pods)
    proxy = proxies(made)[0]
    build(proxy, made)
    spent = []
    for number in range(5):
        new = pod(pods + 60 + number, "a", "client")
        after = replace(made, pods={**made.pods, new.uid: new})
        start = time.perf_counter()
        build(proxy, after)
        spent.append(time.perf_counter() - start)
    return min(spent)


def test_what_a_change_costs_grows_no_faster_than_the_pods() -> None:
    assert seconds_of_a_change(200) < 3 * 10 * seconds_of_a_change(20)


def test_a_sidecar_may_ask_for_its_own_identity_before_its_pod_has_an_address() -> None:
    made = world("native-sidecar")
    (proxy,) = proxies(made)
    pods = {key: pod for key, pod in made.pods.items() if key != proxy.uid}
    assert build(proxy, replace(made, pods=pods)).secrets == {identity_of(proxy), ROOT_SECRET}


@pytest.mark.parametrize("config", [bootstrap(token_path="", node_id="x"), placebo()], ids=["proxy", "placebo"])
def test_of_admin_two_paths_are_shown_and_none_that_begin_as_they_do(config: dict[str, Any]) -> None:
    """`/ready/../config_dump` begins with `/ready`."""
    (listener,) = config["static_resources"]["listeners"]
    ((manager,),) = [chain["filters"] for chain in listener["filter_chains"]]
    (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
    assert [one["match"] for one in host["routes"]] == [{"path": "/ready"}, {"path": "/stats/prometheus"}]
