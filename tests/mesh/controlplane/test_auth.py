"""Who may be which proxy."""

from __future__ import annotations

import pytest

from chaos.mesh.controlplane.auth import Refused, Reviewed, detect_proxy, detect_reviewed
from chaos.mesh.snapshot import ProxyRole
from chaos.model.modes import MODES
from chaos.model.placement import Proxy
from tests.mesh.controlplane.objects import Object, pod, proxy_pod, sidecar_pod

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


def proxy_in(mode: str, obj: Object | None, token_of: Object | None = None, **homes: str) -> Proxy:
    return detect_proxy(of(token_of or obj or {}), obj, MODES[mode], homes)


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
    proxy = proxy_in("sidecar", sidecar_pod("x"))
    assert (ProxyRole.of(proxy), proxy.key) == (ProxyRole.SIDECAR, "uid-x")


def test_the_node_proxy_serves_the_node_that_it_runs_on() -> None:
    proxy = proxy_in("node", proxy_pod(node="node-2"))
    assert (ProxyRole.of(proxy), proxy.key) == (ProxyRole.NODE, "node-2")


@pytest.mark.parametrize(
    ("mode", "obj"),
    [
        ("none", proxy_pod(layer="none")),  # a placebo carries nothing
        ("node", pod("x")),  # no proxy in it
    ],
)
def test_who_carries_nothing_gets_no_configuration(mode: str, obj: Object) -> None:
    with pytest.raises(Refused):
        proxy_in(mode, obj)


def test_a_token_of_another_account_is_refused() -> None:
    with pytest.raises(Refused, match="runs as node-proxy, not as server"):
        proxy_in("node", proxy_pod(), {**proxy_pod(), "spec": {"serviceAccountName": "server"}})


def test_a_token_of_a_pod_that_is_gone_or_was_replaced_is_refused() -> None:
    obj = proxy_pod()
    for there in (
        None,
        {**obj, "metadata": {**obj["metadata"], "uid": "another"}},
        {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "now"}},
    ):
        with pytest.raises(Refused, match="no live pod"):
            proxy_in("node", there, obj)
