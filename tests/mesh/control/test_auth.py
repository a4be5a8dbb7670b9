"""Who may be which proxy."""

from __future__ import annotations

import pytest

from chaos.mesh.controlplane.auth import Refused, Reviewed, detect_proxy, detect_reviewed
from chaos.mesh.world import ProxyRole
from tests.mesh.control.objects import Object, pod, proxy_pod

EXTRA = {"authentication.kubernetes.io/pod-name": ["x"], "authentication.kubernetes.io/pod-uid": ["uid-x"]}


def review(**changes: object) -> Object:
    status = {
        "authenticated": True,
        "audiences": ["sharedfate.io"],
        "user": {"username": "system:serviceaccount:tenant-a:server", "extra": EXTRA},
    }
    return {"status": {**status, **changes}}


def of(obj: Object) -> Reviewed:
    meta = obj["metadata"]
    return Reviewed(meta["namespace"], obj["spec"]["serviceAccountName"], meta["name"], meta["uid"])


def test_a_pods_token_for_our_audience_names_its_pod() -> None:
    assert detect_reviewed(review(), "sharedfate.io") == Reviewed("tenant-a", "server", "x", "uid-x")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"authenticated": False, "error": "expired"}, "expired"),
        ({"audiences": ["https://kubernetes.default.svc"]}, "not for sharedfate.io"),
        ({"user": {"username": "kubernetes-admin"}}, "is not a service account"),
        ({"user": {"username": "system:serviceaccount:a:b", "extra": {}}}, "not bound to a pod"),
    ],
)
def test_any_other_token_is_refused_with_its_reason(changes: dict[str, object], why: str) -> None:
    with pytest.raises(Refused, match=why):
        detect_reviewed(review(**changes), "sharedfate.io")


def test_an_injected_pod_is_the_sidecar_of_itself_alone() -> None:
    obj = pod("x", annotations={"sharedfate.io/proxy-container": "proxy"})
    proxy = detect_proxy(of(obj), obj)
    assert (proxy.role, proxy.key) == (ProxyRole.SIDECAR, "uid-x")


def test_the_node_proxy_serves_the_node_that_it_runs_on() -> None:
    obj = proxy_pod(node="node-2")
    assert (detect_proxy(of(obj), obj).role, detect_proxy(of(obj), obj).key) == (ProxyRole.NODE, "node-2")


@pytest.mark.parametrize(
    "obj",
    [
        proxy_pod(namespace="tenant-a", account="node-proxy"),  # a tenant that labels its own pod as a node's proxy
        proxy_pod(account="waypoint"),
        proxy_pod(layer="l4", namespace="tenant-a", account="server"),
        proxy_pod(layer="l7", scope="namespace", key="tenant-b", namespace="tenant-a", account="waypoint"),
        proxy_pod(layer="l7", scope="node", namespace="tenant-a", account="waypoint"),
        proxy_pod(layer="none"),
        pod("x"),  # no proxy in it
    ],
)
def test_labels_alone_give_no_power(obj: Object) -> None:
    with pytest.raises(Refused):
        detect_proxy(of(obj), obj)


def test_a_token_of_a_pod_that_is_gone_or_was_replaced_is_refused() -> None:
    obj = proxy_pod()
    with pytest.raises(Refused, match="no live pod"):
        detect_proxy(of(obj), None)
    with pytest.raises(Refused, match="no live pod"):
        detect_proxy(of(obj), {**obj, "metadata": {**obj["metadata"], "uid": "another"}})
    with pytest.raises(Refused, match="no live pod"):
        detect_proxy(of(obj), {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "now"}})
