"""Objects in, world out."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.errors import Misuse
from chaos.mesh.budget import divide
from chaos.mesh.controlplane.cache import ObjectCache
from chaos.mesh.controlplane.reading import protocol
from chaos.mesh.mutations import MUTATIONS_VARIABLE, Defect
from chaos.mesh.policy import policy_config_map
from chaos.mesh.render import MeshPlan
from chaos.mesh.snapshot import AppProtocol, Rule
from chaos.model.modes import MODES, Scope
from tests.mesh.controlplane.objects import Object, cache, config, namespace, node, pod, proxy_pod, service, slice_of


def world(*objects: Object, mode: str = "node") -> Any:
    found = cache(config(mode), node("node-1"), namespace("tenant-a"), *objects).snapshot()
    assert found is not None
    return found


def test_there_is_no_world_before_the_meshs_settings() -> None:
    assert cache(node("node-1")).snapshot() is None


def test_a_pod_counts_once_it_has_an_address_and_until_it_ends() -> None:
    waiting, ended, leaving = pod("w"), pod("e"), pod("l")
    del waiting["status"]["podIP"]
    ended["status"]["phase"] = "Succeeded"
    leaving["metadata"]["deletionTimestamp"] = "now"
    found = world(pod("x"), waiting, ended, leaving).pods.values()
    assert {one.name: one.ready for one in found} == {"x": True, "l": False}


def test_pods_outside_the_mesh_and_proxies_are_no_applications() -> None:
    assert world(pod("x", namespace="elsewhere"), proxy_pod(), pod("h", hostNetwork=True)).pods == {}


def test_a_pod_without_the_modes_label_is_not_meshed() -> None:
    plain = pod("x")
    plain["metadata"]["labels"] = {}
    assert not next(iter(world(plain).pods.values())).meshed


def test_what_no_configuration_depends_on_leaves_the_world_equal() -> None:
    before, after = pod("x"), pod("x")
    after["metadata"]["resourceVersion"] = "99"
    after["status"]["containerStatuses"] = [{"name": "app", "restartCount": 3}]
    assert world(before) == world(after)


@pytest.mark.parametrize(
    ("port", "found"),
    [
        ({"appProtocol": "http"}, AppProtocol.HTTP),
        ({"appProtocol": "kubernetes.io/h2c"}, AppProtocol.HTTP),
        ({"appProtocol": "tcp", "name": "http"}, AppProtocol.TCP),
        ({"name": "grpc-api"}, AppProtocol.HTTP),
        ({"name": "postgres"}, AppProtocol.TCP),
        ({}, AppProtocol.TCP),
    ],
)
def test_a_ports_protocol_is_what_it_says_and_tcp_otherwise(port: Object, found: AppProtocol) -> None:
    assert protocol(port) is found


def test_an_unready_waypoint_is_known_as_such() -> None:
    waypoint = proxy_pod(namespace="tenant-a", layer="l7", scope="pod", key="x")
    waypoint["status"]["conditions"] = []
    [found] = world(waypoint, pod("x"), slice_of(pod("x")), mode="ambient-pod").waypoints
    assert (found.proxy.scope, found.proxy.key, found.ready) == (Scope.POD, "uid-x", False)


def test_a_policy_comes_back_as_it_was_written() -> None:
    rules = (Rule(sources=("spiffe://cluster.local/ns/a/sa/b",)), Rule(methods=("GET",), paths=("/public*",)))
    written = policy_config_map("tenant-a", "allow", rules, run="r1")
    written["metadata"]["uid"] = "uid-policy"
    assert world(written).policies[0].rules == rules


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"rules": 3}', '{"rules": [3]}'])
def test_a_policy_that_cannot_be_read_allows_nothing(text: str) -> None:
    broken = policy_config_map("tenant-a", "allow", (), run="r1")
    broken["metadata"]["uid"] = "uid-policy"
    broken["data"]["policy.json"] = text
    assert world(broken).policies[0].rules == ()


def test_only_a_control_plane_rendered_for_tests_takes_defects_from_its_settings() -> None:
    asked = config(defects=["no-policy"])
    mutable = ObjectCache(mutable=True)
    mutable.fold("ConfigMap", "ADDED", asked)
    found = mutable.snapshot()
    assert found is not None
    assert found.defects == {Defect.NO_POLICY}
    with pytest.raises(Misuse, match="no-policy: this mesh was not rendered for tests"):
        cache(asked).snapshot()


@pytest.mark.parametrize("mutable", [True, False])
def test_what_is_rendered_says_whether_it_is_for_tests(mutable: bool) -> None:
    plan = MeshPlan(MODES["node"], "r1", divide(MODES["node"]), mutable=mutable)
    found = [one for one in plan.system_manifests() if one["kind"] == "Deployment"]
    [deployment] = [one for one in found if one["metadata"]["name"] == "control-plane"]
    names = {one["name"] for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (MUTATIONS_VARIABLE in names) is mutable


def test_a_defect_keeps_every_endpoint_that_a_port_had() -> None:
    first, second = pod("server-0", ip="10.244.0.5"), pod("server-1", ip="10.244.0.6")
    known = [namespace("tenant-a"), service(), first, second]

    def addresses(*defects: str) -> list[str]:
        found = ObjectCache(mutable=True)
        for obj in [*known, config(defects=list(defects)), slice_of(first, second)]:
            found.fold(obj["kind"], "ADDED", obj)
        assert found.snapshot() is not None
        found.fold("EndpointSlice", "MODIFIED", slice_of(second))
        snapshot = found.snapshot()
        assert snapshot is not None
        return [one.ip for one in snapshot.services[0].ports[0].endpoints]

    assert addresses() == ["10.244.0.6"]
    assert sorted(addresses("kept-endpoints")) == ["10.244.0.5", "10.244.0.6"]


def test_a_wrong_push_sends_every_endpoint_astray_as_long_as_it_is_asked_for() -> None:
    server = pod("server-0", ip="10.244.0.5")
    asked = config()
    asked["data"]["fault-x.json"] = '{"misdirect": true}'
    found = cache(config(), namespace("tenant-a"), service(), server, slice_of(server))

    def endpoint() -> tuple[str, int]:
        snapshot = found.snapshot()
        assert snapshot is not None
        ((one,),) = [port.endpoints for port in snapshot.services[0].ports]
        return one.ip, one.port

    assert endpoint() == ("10.244.0.5", 8080)
    found.fold("ConfigMap", "MODIFIED", asked)
    assert endpoint() == ("10.244.0.5", 1)
    found.fold("ConfigMap", "MODIFIED", config())
    assert endpoint() == ("10.244.0.5", 8080)
