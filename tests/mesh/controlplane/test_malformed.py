"""An odd object of one tenant, of any kind that is watched, is skipped and said, and changes nothing for the others."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chaos.kube.placement import plan_placement
from chaos.mesh.agent.work import plan_pods
from chaos.mesh.controlplane.cache import KINDS, ObjectCache
from chaos.mesh.controlplane.reconcilers import BudgetReconciler, budgets_of, plan_publications, plan_waypoints
from chaos.mesh.envoy.build import build
from chaos.mesh.envoy.l7 import allow_list
from chaos.mesh.snapshot import MeshSnapshot
from chaos.model.modes import MODES, ProxyMode
from chaos.names import LABEL_POLICY
from tests.mesh.controlplane.objects import Object, cache, namespace, node, service, slice_of
from tests.mesh.controlplane.proxies import values_of
from tests.mesh.controlplane.test_forged import everything, pods_in

MESHED = [mode for mode in MODES.values() if mode.hops]
JUNK: list[Any] = [
    None,
    True,
    -1,
    3.5,
    10**30,
    "",
    "odd",
    "\x00",
    [],
    {},
    [None],
    ["odd"],
    [{}],
    {"odd": None},
    {"": []},
    [[[]]],
    {"odd": {"odd": [{}]}},
    2**63,
    "x" * 10_000,
    "a/b/c",
    "::1",
    "10.0.0.999",
    "half of a pair \ud800",
    float("nan"),
    float("inf"),
    "10.0.0.1\n",
    " 10.0.0.1",
    "010.0.0.1",
    "::ffff:10.0.0.1",
    "fe80::1%eth0",
    "224.0.0.1",
    "80",
    65_536,
    [["odd"]],
]


def _is_its_waypoint(pod: Object) -> bool:
    return bool(pod["metadata"]["namespace"] == "tenant-b" and pod["metadata"]["name"].startswith("waypoint"))


def of_tenant_b(mode: ProxyMode) -> list[Object]:
    """One object of each kind that a tenant (or its cluster's owner) has, whole."""
    own = next(p for p in pods_in(mode) if p["metadata"]["namespace"] == "tenant-b")
    pod = copy.deepcopy(own)
    pod["metadata"] |= {"name": "odd", "uid": "uid-odd"}
    stands, piece = service("odd", space="tenant-b"), slice_of(pod, service="odd")
    piece["metadata"] |= {"namespace": "tenant-b"}
    policy = {
        "kind": "ConfigMap",
        "metadata": {
            "name": "odd",
            "namespace": "tenant-b",
            "uid": "uid-odd-policy",
            "resourceVersion": "1",
            "labels": {LABEL_POLICY: "enabled"},
        },
        "data": {"policy.json": '{"rules": [{"sources": ["a"], "methods": ["GET"], "paths": ["/"]}]}'},
    }
    waypoints = [copy.deepcopy(p) for p in pods_in(mode) if _is_its_waypoint(p)][:1]
    for waypoint in waypoints:
        waypoint["metadata"] |= {"uid": "uid-odd-waypoint"}
    return [pod, stands, piece, policy, namespace("odd"), node("odd"), *waypoints]


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every field, at every depth."""
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in [(*path, key), *places_in(one, (*path, key))]]
    if isinstance(value, list):
        return [found for key, one in enumerate(value) for found in [(*path, key), *places_in(one, (*path, key))]]
    return []


def changed(obj: Object, path: tuple[Any, ...], junk: Any, *, gone: bool) -> Object:
    made = copy.deepcopy(obj)
    *way, last = path
    where = made
    for step in way:
        where = where[step]
    if gone:
        del where[last]
    else:
        where[last] = copy.deepcopy(junk)
    return made


def whole(mode: ProxyMode) -> list[Object]:
    return everything(mode, pods_in(mode))


def others_part(world: MeshSnapshot) -> Any:
    """What tenant-a's pods and callers depend on."""
    return (
        {uid: pod for uid, pod in world.pods.items() if pod.namespace == "tenant-a"},
        [one for one in world.services if one.namespace == "tenant-a"],
        [one for one in world.waypoints if one.proxy.namespace == "tenant-a"],
        [one for one in world.policies if one.namespace == "tenant-a"],
        {name: address for name, address in world.nodes.items() if name in ("n1", "n2")},
    )


def look(mode: ProxyMode, seen: ObjectCache) -> MeshSnapshot:
    """Everything that the control plane and the agents do with what they watch."""
    found = seen.snapshot()
    assert found is not None
    for proxy in plan_placement(pods_in(mode), mode).proxies:
        build(proxy, found)
        found.identities(proxy)
    config = seen.config()
    assert config is not None
    BudgetReconciler().plan(seen, mode, budgets_of({"values": values_of(mode)}, mode))
    plan_publications(seen, {"ca.pem": "x"}, "r1")
    plan_waypoints(seen, config)
    plan_pods(seen.objects["Pod"].values(), {"tenant-a", "tenant-b"}, "n1")
    seen.settings_versions()
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.generate])
@given(st.sampled_from(MESHED), st.data())
def test_an_object_with_any_field_wrong_or_missing_stops_nobodys_configuration(
    mode: ProxyMode, data: st.DataObject
) -> None:
    before = look(mode, cache(*whole(mode)))
    obj = data.draw(st.sampled_from(of_tenant_b(mode)))
    for _ in range(data.draw(st.integers(1, 3))):
        path, junk = data.draw(st.sampled_from(places_in(obj))), data.draw(st.sampled_from(JUNK))
        obj = changed(obj, path, junk, gone=data.draw(st.booleans()))
        if not places_in(obj):
            break
    kind = obj.get("kind") if obj.get("kind") in KINDS else data.draw(st.sampled_from(KINDS))
    seen = cache(*whole(mode))
    seen.fold(str(kind), "MODIFIED", obj)
    assert others_part(look(mode, seen)) == others_part(before)


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, id=mode.name, marks=[] if mode.name in ("node", "ambient-node") else [pytest.mark.slow])
        for mode in MESHED
    ],
)
def test_each_field_of_each_kind_one_by_one(mode: ProxyMode) -> None:
    """Every single field, missing and of a wrong type: the table behind the property."""
    base = whole(mode)
    before = others_part(look(mode, cache(*base)))
    tried = said = 0
    for obj in of_tenant_b(mode):
        for path in places_in(obj):
            for junk, gone in ((None, True), (7, False), ({"odd": [None]}, False)):
                seen = cache(*base)
                seen.fold(obj["kind"], "MODIFIED", changed(obj, path, junk, gone=gone))
                found = seen.snapshot()
                assert found is not None
                assert others_part(found) == before, (obj["kind"], path, junk)
                tried += 1
                said += bool(seen.unreadable or seen.impostors or seen.nameless)
    assert tried > 200
    assert said > tried / 10


@pytest.mark.parametrize(
    ("kind", "obj", "why"),
    [
        ("Pod", {"spec": {"nodeName": 3}}, "spec.nodeName"),
        ("EndpointSlice", {"endpoints": [{"addresses": ["10.0.0.9"], "targetRef": {"kind": "Pod"}}]}, "targetRef.uid"),
        ("EndpointSlice", {"endpoints": [{"addresses": ["x.org"], "targetRef": {"kind": "Pod", "uid": "u"}}]}, "x.org"),
        ("Service", {"spec": {"clusterIP": "10.96.0.9", "ports": [{"port": "http"}]}}, "spec.ports.port"),
        ("Node", {"status": {"addresses": [{"type": "InternalIP", "address": "here"}]}}, "status.addresses"),
        ("EndpointSlice", {"ports": [{"name": "http", "port": "80"}]}, "ports.port"),
        ("EndpointSlice", {"ports": [{"name": "http", "port": 0}]}, "ports.port"),
        ("EndpointSlice", {"ports": "none"}, "ports"),
        ("EndpointSlice", {"ports": [{"name": ["a"], "port": 80}]}, "ports.name"),
        ("EndpointSlice", {"endpoints": [{"targetRef": {"kind": "Pod", "uid": "u"}}]}, "endpoints.addresses"),
        (
            "EndpointSlice",
            {"endpoints": [{"addresses": ["10.0.0.9", None], "targetRef": {"kind": "Pod", "uid": "u"}}]},
            "endpoints.addresses",
        ),
        (
            "EndpointSlice",
            {"endpoints": [{"addresses": ["10.0.0.9/8"], "targetRef": {"kind": "Pod", "uid": "u"}}]},
            "10.0.0.9/8",
        ),
        (
            "EndpointSlice",
            {"endpoints": [{"addresses": ["2001:db8::1%x y"], "targetRef": {"kind": "Pod", "uid": "u"}}]},
            "has a zone",
        ),
        ("EndpointSlice", {"endpoints": [None]}, "endpoints"),
        ("Service", {"spec": {"clusterIP": "10.96.0.9", "ports": [{}]}}, "spec.ports.port"),
        ("Service", {"spec": {"clusterIP": "10.96.0.9", "ports": {"port": 80}}}, "spec.ports"),
        ("Service", {"spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80, "targetPort": 1 << 70}]}}, "targetPort"),
        ("Service", {"spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80, "appProtocol": ["a"]}]}}, "appProtocol"),
        ("Service", {"spec": {"clusterIP": ["10.96.0.9"], "ports": []}}, "spec.clusterIP"),
        ("Service", {"spec": {"clusterIP": "10.96.0.09", "ports": []}}, "spec.clusterIP"),
        ("Pod", {"spec": {"nodeName": "n1", "serviceAccountName": {"a": "b"}}}, "serviceAccountName"),
        ("Pod", {"metadata": {"labels": {"a": 1}}, "spec": {"nodeName": "n1"}}, "metadata.labels[a]"),
        ("Node", {"status": {"addresses": "10.0.0.1"}}, "status.addresses"),
    ],
)
def test_what_is_skipped_is_said_with_its_field(kind: str, obj: Object, why: str) -> None:
    labels = {"kubernetes.io/service-name": "server"}
    meta = {"uid": "u", "name": "odd", "namespace": "tenant-b", "labels": labels, **obj.get("metadata", {})}
    status = {"podIP": "10.0.0.9"} if kind == "Pod" else obj.get("status", {})
    seen = cache(*whole(MODES["node"]))
    seen.fold(kind, "ADDED", {**obj, "metadata": meta, "status": status})
    seen.snapshot()
    [(name, said)] = seen.unreadable.items()
    assert name == f"{kind} tenant-b/{meta['name']}"
    assert why in said
    seen.fold(kind, "DELETED", {**obj, "metadata": meta})
    seen.snapshot()
    assert seen.unreadable == {}


RULE: dict[str, Any] = {"sources": ["a"], "methods": ["GET"], "paths": ["/"]}
POLICIES: dict[str, str] = {  # allow-lists that cannot be read
    "half of a pair in a source": json.dumps({"rules": [{**RULE, "sources": ["\ud800"]}]}),
    "half of a pair in a method": json.dumps({"rules": [{**RULE, "methods": ["\ud800"]}]}),
    "half of a pair in a path": json.dumps({"rules": [{**RULE, "paths": ["/\udfff"]}]}),
    "a number for a source": json.dumps({"rules": [{**RULE, "sources": [float("nan")]}]}),
    "null for a path": json.dumps({"rules": [{**RULE, "paths": [None]}]}),
    "a text for sources": json.dumps({"rules": [{**RULE, "sources": "abc"}]}),
    "an empty text for sources": json.dumps({"rules": [{**RULE, "sources": ""}]}),
    "a mapping for sources": json.dumps({"rules": [{**RULE, "sources": {}}]}),
    "false for methods": json.dumps({"rules": [{**RULE, "methods": False}]}),
    "nought for paths": json.dumps({"rules": [{**RULE, "paths": 0}]}),
    "a misspelt part": json.dumps({"rules": [{"source": ["a"]}]}),
    "lists in a list": json.dumps({"rules": [{**RULE, "sources": [[["x"]]]}]}),
    "a mapping for rules": json.dumps({"rules": {"sources": []}}),
    "a text for rules": json.dumps({"rules": "abc"}),
    "null for rules": json.dumps({"rules": None}),
    "a list for a rule": json.dumps({"rules": [[]]}),
    "one good rule and one that is none": json.dumps({"rules": [{}, 7]}),
    "a list": "[]",
    "deep": "[" * 100_000,
    "deep within": '{"rules":' + "[" * 100_000,
    "a number of many digits": '{"rules": [{"sources": [' + "1" * 5000 + "]}]}",
    "half of a pair": "\ud800",
}
ODD_POLICIES: dict[str, dict[str, Any]] = {  # that can be read
    "a NUL": {"sources": ["a\0b"]},
    "line breaks": {"methods": ["GET\r\nX: y"], "paths": ["/\n"]},
    "no path at all": {"paths": [""]},
    "every path": {"paths": ["*"]},
    "two stars": {"paths": ["**", "*/*"]},
    "long texts": {"sources": ["a" * 10_000] * 50, "paths": ["/" + "x" * 100_000]},
}


@pytest.mark.parametrize("mode", [MODES["sidecar"], MODES["ambient-node"]], ids=lambda mode: mode.name)
@pytest.mark.parametrize("what", [*POLICIES, *ODD_POLICIES])
def test_an_odd_policy_allows_nothing_by_mistake_and_stops_nobodys_configuration(mode: ProxyMode, what: str) -> None:
    odd = next(obj for obj in of_tenant_b(mode) if obj["kind"] == "ConfigMap")
    odd["data"] = {"policy.json": POLICIES.get(what) or json.dumps({"rules": [ODD_POLICIES.get(what)]})}
    before = look(mode, cache(*whole(mode)))
    seen = cache(*whole(mode), odd)
    found = look(mode, seen)
    assert others_part(found) == others_part(before)
    [policy] = found.policies
    listed = {f"ConfigMap {policy.namespace}/{policy.name}"} if what in POLICIES else set()
    assert set(seen.unreadable) == listed
    assert all("allows nothing: " in why for why in seen.unreadable.values())
    assert len(policy.rules) == (0 if what in POLICIES else 1)
    rules = allow_list(found.policies, requests=True, tunnelled=True)
    assert '"prefix": ""' not in json.dumps(rules), "Envoy refuses it"


def test_an_endpoint_is_the_pod_that_it_names_at_that_pods_own_address_alone() -> None:
    mode = MODES["ambient-pod"]
    pods = {p["metadata"]["namespace"]: p for p in pods_in(mode) if p["metadata"]["name"].startswith("server")}
    own, victim = pods["tenant-b"], pods["tenant-a"]
    piece = slice_of(own, service="server")
    piece["metadata"] |= {"namespace": "tenant-b", "uid": "uid-odd"}
    theirs = victim["status"]["podIP"]
    for addresses, kept in (([theirs], set()), ([theirs, own["status"]["podIP"]], {own["status"]["podIP"]})):
        piece["endpoints"][0]["addresses"] = addresses
        objects = [one for one in whole(mode) if one["kind"] != "EndpointSlice"]
        found = cache(*objects, piece).snapshot()
        assert found is not None
        ends = {end.ip for one in found.services for port in one.ports for end in port.endpoints}
        assert ends == kept


def test_a_slice_that_names_another_tenants_pod_puts_it_behind_no_service() -> None:
    mode = MODES["ambient-pod"]
    victim = next(p for p in pods_in(mode) if p["metadata"]["namespace"] == "tenant-a")
    piece = slice_of(victim, service="server")
    piece["metadata"] |= {"namespace": "tenant-b", "uid": "uid-odd"}
    found = cache(*whole(mode), piece).snapshot()
    assert found is not None
    ports = [port for one in found.services if one.namespace == "tenant-b" for port in one.ports]
    ends = {end.pod_uid for port in ports for end in port.endpoints}
    assert victim["metadata"]["uid"] not in ends
