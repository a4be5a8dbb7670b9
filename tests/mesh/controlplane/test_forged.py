"""Who is a proxy of the mesh: one rule, and every part that asks it. A tenant may write anything on its own pods."""

from __future__ import annotations

import contextlib
import copy
from functools import cache as cache_once
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.faults.selection import Candidates
from chaos.kube.placement import NotAProxy, homes_of, plan_placement, recognise_proxy
from chaos.mesh.agent.work import plan_pods
from chaos.mesh.controlplane.auth import Refused, Reviewed, detect_proxy
from chaos.mesh.controlplane.reconcilers import BudgetReconciler, budgets_of
from chaos.mesh.envoy.build import build
from chaos.mesh.snapshot import MeshSnapshot
from chaos.model.fate import fate_group, path
from chaos.model.modes import MODES, ProxyMode, Scope
from chaos.model.placement import Proxy
from chaos.names import ANNOTATION_PROXY_CONTAINER, LABEL_LAYER, LABEL_MODE, LABEL_ROLE, LABEL_SCOPE, SYSTEM_NAMESPACE
from tests.mesh.controlplane.objects import Object, cache, config, namespace, node, service, slice_of
from tests.mesh.controlplane.proxies import applications, components, forged, values_of, waypoint_of

NODES = {"n1": "10.1.0", "n2": "10.2.0"}


def pods_in(mode: ProxyMode, tenants: str = "ab") -> list[Object]:
    """Tenants on both nodes and every proxy that the mode has for them."""
    return copy.deepcopy(_pods_in(mode, tenants))


@cache_once
def _pods_in(mode: ProxyMode, tenants: str) -> list[Object]:
    found = [pod for name, subnet in NODES.items() for pod in components(mode, node=name, subnet=f"{subnet[:-1]}9")]
    for number, (tenant, where) in enumerate(product(tenants, NODES)):
        own = applications(mode, tenant, node=where, subnet=f"10.3.{number}")
        servers = [pod for pod in own if pod["metadata"]["name"].startswith("server")]
        found += own
        found += [w for s in servers for w in waypoint_of(mode, s, ip=f"10.4.{number}.1")]
    return found


def everything(mode: ProxyMode, pods: list[Object], tenants: str = "ab") -> list[Object]:
    """The objects that the control plane of this mode watches."""
    found = [config(mode.name, values=values_of(mode)), *map(node, NODES), *pods]
    for tenant in tenants:
        name = f"tenant-{tenant}"
        own = [p for p in pods if p["metadata"]["namespace"] == name and "server-" in p["metadata"]["name"][:7]]
        piece, stands = slice_of(*own), service(space=name)
        piece["metadata"] |= {"namespace": name, "uid": f"uid-slice-{name}"}
        stands["metadata"]["uid"] = f"uid-svc-{name}"
        found += [namespace(name), piece, stands]
    return found


def world_of(mode: ProxyMode, pods: list[Object]) -> MeshSnapshot:
    found = cache(*everything(mode, pods)).snapshot()
    assert found is not None
    return found


def proxies_in(mode: ProxyMode, pods: list[Object]) -> list[Proxy]:
    return list(plan_placement(pods, mode).proxies)


def token_of(pod: Object) -> Reviewed:
    meta = pod["metadata"]
    return Reviewed(meta["namespace"], pod["spec"].get("serviceAccountName", "default"), meta["name"], meta["uid"])


ALL_PROXIES = [
    pytest.param(proxy, id=f"{kind.name}-{layer}")
    for kind in MODES.values()
    for layer, proxy in {
        "-".join(sorted(found.layers)) or "placebo": pod
        for pod in pods_in(kind)
        for found in proxies_in(kind, pods_in(kind))
        if found.uid == pod["metadata"]["uid"]
    }.items()
]


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_the_pods_of_a_modes_own_manifests_are_its_proxies_and_each_pair_has_its_path(mode: ProxyMode) -> None:
    placement = plan_placement(pods_in(mode), mode)
    assert {(proxy.layers, proxy.scope) for proxy in placement.proxies} == {(k.layers, k.scope) for k in mode.kinds}
    assert all(len(path(placement, pair)) == len(mode.hops) for pair in placement.pairs())
    assert len(placement.pairs()) == 8


@pytest.mark.parametrize("as_its_account", [False, True], ids=["account-client", "account-of-the-proxy"])
@pytest.mark.parametrize("real", ALL_PROXIES)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_tenants_pod_that_says_all_that_a_proxy_says_carries_nothing_for_anybody(
    mode: ProxyMode, real: Object, as_its_account: bool
) -> None:
    pods = pods_in(mode)
    account = real["spec"].get("serviceAccountName", "default") if as_its_account else "client"
    fake = forged(real, namespace="tenant-a", account=account)
    fake["metadata"]["labels"][LABEL_MODE] = mode.name
    uid = fake["metadata"]["uid"]
    homes = homes_of([*pods, fake])
    try:
        own = recognise_proxy(fake, mode, homes)
    except NotAProxy:
        own = None
    # In a sidecar mode whoever says so is the sidecar of itself, and of nobody else.
    assert own is None or (
        mode.in_pod and own.key == uid and not any(map(own.serves, world_of(mode, pods).pods.values()))
    )

    before, after = world_of(mode, pods), world_of(mode, [*pods, fake])
    assert after.waypoints == before.waypoints
    for proxy in proxies_in(mode, pods):
        if proxy.layers:
            built = build(proxy, after)
            assert not [one.name for one in built.items if b"10.9.9.9" in one.packed.value], "it is configured"

    if own is None:
        with pytest.raises(Refused):
            detect_proxy(token_of(fake), fake, mode, homes)
        resizes = BudgetReconciler().plan(
            cache(*everything(mode, [*pods, fake])), mode, budgets_of({"values": values_of(mode)}, mode)
        )
        assert uid not in {resize.uid for resize in resizes}
        placement = plan_placement([*pods, fake], mode)
        assert uid not in {proxy.uid for proxy in placement.proxies}
        assert Candidates.of([*pods, fake], mode).proxy(fake) is None
        assert uid in {pod.uid for pod in placement.pods}, "it is an application's pod like any other"


@pytest.mark.parametrize("real", ALL_PROXIES)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_even_with_a_forged_owner_it_carries_nothing_outside_its_own_namespace(mode: ProxyMode, real: Object) -> None:
    pods = pods_in(mode)
    victim = next(pod for pod in pods if pod["metadata"]["namespace"] == "tenant-b")
    another = {"kind": "Pod", "name": "forged", "uid": victim["metadata"]["uid"]}
    for owners in (real["metadata"].get("ownerReferences"), [another]):
        fake = forged(real, namespace="tenant-a", account=real["spec"].get("serviceAccountName", "default"))
        fake["metadata"]["ownerReferences"] = copy.deepcopy(owners)
        fake["metadata"]["labels"] |= {LABEL_MODE: mode.name}
        for key in ("tenant-b", "tenant-a", victim["metadata"]["name"]):
            fake["metadata"]["labels"]["sharedfate.io/scope-key"] = key
            after = world_of(mode, [*pods, fake])
            others = [pod for pod in after.pods.values() if pod.namespace != "tenant-a"]
            mine = [w.proxy for w in after.waypoints if w.proxy.uid == fake["metadata"]["uid"]]
            assert not [pod.name for proxy in mine for pod in others if proxy.serves(pod)]


# ---- a genuine proxy in all but one thing

META, SPEC = ("metadata",), ("spec",)
LABELS, NOTES, OWNER = (*META, "labels"), (*META, "annotations"), (*META, "ownerReferences")
ACCOUNT, OWNER_0 = (*SPEC, "serviceAccountName"), (*OWNER, 0)
GONE = object()
ODD: dict[str, tuple[tuple[str | int, ...], Any]] = {  # what is changed, and into what: a function makes it of the old
    "namespace-default": ((*META, "namespace"), "default"),
    "namespace-in-capitals": ((*META, "namespace"), str.upper),
    "namespace-with-a-line-break": ((*META, "namespace"), "{}\n".format),
    "namespace-like-it": ((*META, "namespace"), "{}-2".format),
    "namespace-gone": ((*META, "namespace"), GONE),
    "account-of-a-client": (ACCOUNT, "client"),
    "account-in-capitals": (ACCOUNT, str.upper),
    "account-with-a-blank": (ACCOUNT, "{} ".format),
    "account-empty": (ACCOUNT, ""),
    "account-null": (ACCOUNT, None),
    "account-in-a-list": (ACCOUNT, lambda was: [was]),
    "account-with-its-namespace": (ACCOUNT, "sharedfate-system:{}".format),
    "owner-gone": (OWNER, GONE),
    "owner-null": (OWNER, None),
    "owner-a-mapping": (OWNER, lambda was: was[0]),
    "owner-a-text": (OWNER, "DaemonSet"),
    "owner-in-a-list-of-lists": (OWNER, lambda was: [was]),
    "owner-kind-in-small-letters": ((*OWNER_0, "kind"), str.lower),
    "owner-kind-null": ((*OWNER_0, "kind"), None),
    "owner-of-another-kind": ((*OWNER_0, "kind"), "StatefulSet"),
    "owner-like-it": ((*OWNER_0, "name"), "{}-2".format),
    "owner-in-capitals": ((*OWNER_0, "name"), str.upper),
    "owner-in-a-namespace": ((*OWNER_0, "name"), "sharedfate-system/{}".format),
    "role-gone": ((*LABELS, LABEL_ROLE), GONE),
    "role-in-capitals": ((*LABELS, LABEL_ROLE), "Proxy"),
    "role-of-a-client": ((*LABELS, LABEL_ROLE), "client"),
    "role-in-a-list": ((*LABELS, LABEL_ROLE), ["proxy"]),
    "layer-gone": ((*LABELS, LABEL_LAYER), GONE),
    "layer-in-capitals": ((*LABELS, LABEL_LAYER), "L7"),
    "layer-with-a-blank": ((*LABELS, LABEL_LAYER), "{} ".format),
    "layer-of-all": ((*LABELS, LABEL_LAYER), "l3"),
    "layer-in-a-list": ((*LABELS, LABEL_LAYER), ["l4", "l7"]),
    "layer-null": ((*LABELS, LABEL_LAYER), None),
    "scope-gone": ((*LABELS, LABEL_SCOPE), GONE),
    "scope-in-capitals": ((*LABELS, LABEL_SCOPE), str.upper),
    "scope-of-the-cluster": ((*LABELS, LABEL_SCOPE), "cluster"),
    "scope-of-everything": ((*LABELS, LABEL_SCOPE), "*"),
    "scope-null": ((*LABELS, LABEL_SCOPE), None),
    "labels-a-list": (LABELS, [["sharedfate.io/role", "proxy"]]),
    "annotations-gone": (NOTES, GONE),
    "annotations-a-list": (NOTES, ["proxy"]),
    "container-in-capitals": ((*NOTES, ANNOTATION_PROXY_CONTAINER), str.upper),
    "container-that-is-not-there": ((*NOTES, ANNOTATION_PROXY_CONTAINER), "sidecar"),
    "container-empty": ((*NOTES, ANNOTATION_PROXY_CONTAINER), ""),
    "container-null": ((*NOTES, ANNOTATION_PROXY_CONTAINER), None),
    "container-in-a-list": ((*NOTES, ANNOTATION_PROXY_CONTAINER), lambda was: [was]),
    "annotation-in-capitals": (NOTES, lambda was: {key.upper(): value for key, value in was.items()}),
    "no-containers": ((*SPEC, "containers"), []),
    "no-node": ((*SPEC, "nodeName"), GONE),
    "an-empty-node": ((*SPEC, "nodeName"), ""),
    "a-node-that-is-null": ((*SPEC, "nodeName"), None),
    "no-spec": (SPEC, GONE),
    "no-uid": ((*META, "uid"), GONE),
}


def odd(pod: Object, what: str) -> Object | None:
    """The pod with that one thing changed; None where it has none of it to change."""
    (*way, last), into = ODD[what]
    made: Any = copy.deepcopy(pod)
    where = made
    try:
        for step in way:
            where = where[step]
        was = where[last]
    except (KeyError, IndexError):
        return None
    if into is GONE:
        del where[last]
    else:
        where[last] = into(was) if callable(into) else into
    return None if made == pod else made


def genuine(mode: ProxyMode) -> list[Object]:
    """The pods of the mode's proxies, one of each kind."""
    homes = homes_of(pods_in(mode))
    found: dict[Any, Object] = {}
    for pod in pods_in(mode):
        with contextlib.suppress(NotAProxy):
            known = recognise_proxy(pod, mode, homes)
            found.setdefault((known.layers, known.scope), pod)
    return list(found.values())


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("mode", [m for m in MODES.values() if not m.in_pod], ids=lambda mode: mode.name)
def test_a_pod_that_is_a_proxy_in_all_but_one_thing_is_none(mode: ProxyMode, what: str) -> None:
    homes = homes_of(pods_in(mode))
    for pod in genuine(mode):
        made = odd(pod, what)
        if made is None:
            continue
        if what.startswith("namespace-") and recognise_proxy(pod, mode, homes).scope is Scope.POD:
            # What belongs to a pod of another namespace may be a proxy, and serves nobody.
            with contextlib.suppress(NotAProxy):
                assert recognise_proxy(made, mode, homes).key == ""
            continue
        with pytest.raises(NotAProxy):
            recognise_proxy(made, mode, homes)
        with pytest.raises((Refused, KeyError)):
            detect_proxy(token_of(made), made, mode, homes)


ODD_SIDECARS: dict[str, tuple[str, Any]] = {  # annotations of a pod that is the proxy of itself
    "layer-gone": (LABEL_LAYER, GONE),
    "layer-in-capitals": (LABEL_LAYER, str.upper),
    "layer-null": (LABEL_LAYER, None),
    "scope-in-capitals": (LABEL_SCOPE, str.upper),
    "scope-of-the-node": (LABEL_SCOPE, "node"),
    "scope-of-the-namespace": (LABEL_SCOPE, "namespace"),
    "scope-of-everything": (LABEL_SCOPE, "*"),
    "container-in-capitals": (ANNOTATION_PROXY_CONTAINER, str.upper),
    "container-of-another-pod": (ANNOTATION_PROXY_CONTAINER, "waypoint"),
    "container-null": (ANNOTATION_PROXY_CONTAINER, None),
}


@pytest.mark.parametrize("what", ODD_SIDECARS)
@pytest.mark.parametrize("mode", [m for m in MODES.values() if m.in_pod], ids=lambda mode: mode.name)
def test_a_pod_that_is_its_own_sidecar_in_all_but_one_thing_is_none(mode: ProxyMode, what: str) -> None:
    name, into = ODD_SIDECARS[what]
    for pod in genuine(mode):
        made = copy.deepcopy(pod)
        notes = made["metadata"]["annotations"]
        if into is GONE:
            del notes[name]
        else:
            notes[name] = into(notes[name]) if callable(into) else into
        with pytest.raises(NotAProxy):
            recognise_proxy(made, mode, homes_of(pods_in(mode)))
    for pod in genuine(mode):
        pod["metadata"]["namespace"] = SYSTEM_NAMESPACE
        with pytest.raises(NotAProxy):
            recognise_proxy(pod, mode, homes_of(pods_in(mode)))


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_proxy_that_ends_or_moved_serves_nobody_where_it_was(mode: ProxyMode) -> None:
    pods = pods_in(mode)
    homes = homes_of(pods)
    for pod in genuine(mode):
        key = recognise_proxy(pod, mode, homes).key
        for change in ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"phase": "Failed"}, {"phase": "Succeeded"}):
            gone = copy.deepcopy(pod)
            gone["status" if "phase" in change else "metadata"] |= change
            others = [one for one in pods if one["metadata"]["uid"] != pod["metadata"]["uid"]]
            assert gone["metadata"]["uid"] not in {one.uid for one in plan_placement([*others, gone], mode).proxies}
            assert gone["metadata"]["uid"] not in {one.proxy.uid for one in world_of(mode, [*others, gone]).waypoints}
        moved = copy.deepcopy(pod)
        moved["spec"]["nodeName"] = "n2" if pod["spec"]["nodeName"] == "n1" else "n1"
        found = recognise_proxy(moved, mode, homes)
        assert (found.key != key) == (found.scope is Scope.NODE)


def test_an_impostor_is_named_where_the_mesh_is_looked_at() -> None:
    mode = MODES["ambient-node"]
    real = next(p for p in pods_in(mode) if p["metadata"]["name"].startswith("waypoint"))
    seen = cache(*everything(mode, [*pods_in(mode), forged(real, namespace="tenant-a")]))
    seen.snapshot()
    assert list(seen.impostors) == ["Pod tenant-a/forged"]
    assert f"belongs in {SYSTEM_NAMESPACE}" in seen.impostors["Pod tenant-a/forged"]


@pytest.mark.parametrize("mode", [m for m in MODES.values() if m.hops and not m.in_pod], ids=lambda mode: mode.name)
def test_a_label_keeps_no_pod_from_being_captured(mode: ProxyMode) -> None:
    real = next(p for p in pods_in(mode) if p["metadata"]["name"].startswith("node-proxy"))
    fake = forged(real, namespace="tenant-a", node="n1")
    fake["metadata"]["labels"][LABEL_MODE] = mode.name
    serve, _ = plan_pods([*pods_in(mode), fake], {"tenant-a", "tenant-b"}, "n1")
    names = {wanted.name for wanted in serve}
    assert "forged" in names
    assert not [name for name in names if name.startswith(("waypoint", "node-proxy"))]


@pytest.mark.parametrize("where", ["../../proc/1/ns/net", "uid-tenant-b-server-1", "uid-tenant-a-x-12/../uid", "1"])
def test_a_pods_word_on_its_sandbox_counts_only_for_a_sandbox_of_its_own(where: str) -> None:
    mode = MODES["node"]
    pods = pods_in(mode)
    pod = next(p for p in pods if p["metadata"]["namespace"] == "tenant-a")
    for said, found in ((where, ""), (f"{pod['metadata']['uid']}-4026", f"{pod['metadata']['uid']}-4026")):
        pod["metadata"].setdefault("annotations", {})["sharedfate.io/sandbox"] = said
        assert world_of(mode, pods).pods[pod["metadata"]["uid"]].sandbox == found


# ---- one rule, whoever asks


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(MODES.values())), st.data())
def test_placement_configuration_authentication_selection_and_report_agree_on_who_serves_whom(
    mode: ProxyMode, data: st.DataObject
) -> None:
    whole = pods_in(mode, "abc")
    pods = data.draw(st.lists(st.sampled_from(whole), unique_by=lambda pod: pod["metadata"]["uid"], min_size=1))
    placement = plan_placement(pods, mode)
    world = world_of(mode, pods)
    homes, known = homes_of(pods), Candidates.of(pods, mode)
    by_uid = {pod["metadata"]["uid"]: pod for pod in pods}
    for proxy in placement.proxies:
        chosen = known.proxies[proxy.uid]
        served = {pod.uid for pod in placement.pods if proxy.serves(pod)}
        assert {uid for uid, pod in by_uid.items() if known.serves(chosen, pod)} == served
        assert {pod.uid for pod in placement.pods if Proxy.from_dict(proxy.as_dict()).serves(pod)} == served
        if proxy.layers:
            asked = detect_proxy(token_of(by_uid[proxy.uid]), by_uid[proxy.uid], mode, homes)
            meshed = {pod.uid for pod in world.pods.values()}
            assert {pod.uid for pod in world.served_by(asked)} == served & meshed
        else:
            assert not served
    assert {w.proxy.uid for w in world.waypoints} <= {proxy.uid for proxy in placement.proxies}
    if set(by_uid) >= {pod["metadata"]["uid"] for pod in whole if pod["metadata"]["namespace"] != "tenant-c"}:
        pairs = placement.pairs()
        assert {p for proxy in placement.proxies for p in fate_group(placement, proxy)} == (
            set(pairs) if mode.hops else set()
        )
