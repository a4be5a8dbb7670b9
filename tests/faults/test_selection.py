"""Targets are picked, by what people know of them, and none is an error that says what there is."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chaos.errors import Misuse, NoTargets
from chaos.faults.selection import Candidates, Pick, Selector, describe_candidates, matching, pick
from chaos.mesh.modes import mode_named
from chaos.model.modes import MODES
from chaos.names import (
    ANNOTATION_PROXY_CONTAINER,
    LABEL_LAYER,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_SCOPE,
    LABEL_TENANT,
    NODE_PROXY,
    SYSTEM_NAMESPACE,
)
from tests.mesh.controlplane.objects import Object, proxy_pod, sidecar_pod
from tests.mesh.controlplane.objects import pod as plain_pod


def test_an_empty_selection_is_an_error() -> None:
    with pytest.raises(NoTargets, match="proxies of tenant z"):
        pick([], Pick.ALL, what="proxies of tenant z")


def test_the_same_seed_picks_the_same_target() -> None:
    names = [str(n) for n in range(50)]
    first = pick(names, Pick.RANDOM, what="x", chance=random.Random(3))
    assert first == pick(reversed(names), Pick.RANDOM, what="x", chance=random.Random(3))


def pod(namespace: str, name: str, node: str, owner: tuple[str, str], **more: Any) -> dict[str, Any]:
    labels, annotations = more.get("labels", {}), more.get("annotations", {})
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-{namespace}-{name}",
            "labels": {LABEL_RUN: "r", **labels},
            "annotations": annotations,
            "ownerReferences": [{"kind": owner[0], "name": owner[1], "controller": True}],
        },
        "spec": {
            "nodeName": node,
            "serviceAccountName": more.get("account", "default"),
            "containers": [{"name": more.get("container", "app")}],
        },
        "status": {"phase": "Running"},
    }


def proxy(node: str) -> dict[str, Any]:
    return pod(
        SYSTEM_NAMESPACE,
        f"node-proxy-{node}",
        node,
        ("DaemonSet", NODE_PROXY),
        labels={LABEL_ROLE: "proxy", LABEL_LAYER: "l4-l7", LABEL_SCOPE: "node"},
        annotations={ANNOTATION_PROXY_CONTAINER: "proxy"},
        account=NODE_PROXY,
        container="proxy",
    )


WEB = pod("shop", "web-5f-abc", "n1", ("ReplicaSet", "web-5f"), labels={"pod-template-hash": "5f"})
DB = pod("shop", "db-0", "n2", ("StatefulSet", "db"), labels={LABEL_TENANT: "storage"})
KNOWN = Candidates.of([WEB, DB, proxy("n1"), proxy("n2")], mode_named("node"))


def names(selector: Selector) -> list[str]:
    return [f"{found['metadata']['name']}[{container}]" for found, container in matching(KNOWN, selector, None)]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        (Selector(serving="shop/web-5f-abc"), ["node-proxy-n1[proxy]"]),
        (Selector(serving="shop/web"), ["node-proxy-n1[proxy]"]),
        (Selector(serving="shop/db", layer="l7"), ["node-proxy-n2[proxy]"]),
        (Selector(serving="shop/nobody"), []),
        (Selector(serving="other/web"), []),
        (Selector(tenant="shop", layer="app"), ["web-5f-abc[app]"]),  # a namespace is a tenant
        (Selector(tenant="storage", layer="app"), ["db-0[app]"]),  # but where a label says otherwise
        (Selector(tenant="shop", layer="l7"), ["node-proxy-n1[proxy]"]),
        (Selector(tenant="storage", layer="l4"), ["node-proxy-n2[proxy]"]),
        (Selector(behind=f"{SYSTEM_NAMESPACE}/node-proxy-n1"), ["web-5f-abc[app]"]),
    ],
    ids=str,
)
def test_targets_are_chosen_by_what_people_know(selector: Selector, found: list[str]) -> None:
    assert names(selector) == found


@pytest.mark.parametrize(("namespace", "found"), [("shop", 1), (SYSTEM_NAMESPACE, 0)])
def test_no_application_takes_itself_out_by_the_label_of_our_helpers(namespace: str, found: int) -> None:
    owner = ("ReplicaSet", "sly-1")
    labels = {LABEL_ROLE: "helper", "pod-template-hash": "1"}
    known = Candidates.of([pod(namespace, "sly-1-a", "n1", owner, labels=labels)], mode_named("node"))
    assert len(matching(known, Selector(namespace=namespace, layer="app"), None)) == found


def test_what_there_is_is_told_in_a_line() -> None:
    assert describe_candidates(KNOWN) == (
        "tenants here: shop, storage; layers here: l4, l7; "
        f"proxies here: {SYSTEM_NAMESPACE}/node-proxy-n1 on n1, {SYSTEM_NAMESPACE}/node-proxy-n2 on n2; "
        "pods here: shop/db-0, shop/web-5f-abc"
    )
    assert describe_candidates(Candidates.of([], None)) == (
        "tenants here: none; layers here: none; proxies here: none; pods here: none"
    )


def test_long_lists_are_cut_and_say_so() -> None:
    many = [pod("shop", f"web-{number:02}", "n1", ("ReplicaSet", "web-5f")) for number in range(20)]
    assert "shop/web-07, and 12 more" in describe_candidates(Candidates.of(many, None))


def test_an_application_to_be_served_is_named_with_its_namespace() -> None:
    with pytest.raises(Misuse, match="serving is 'web': want NAMESPACE/POD or NAMESPACE/WORKLOAD"):
        Selector(serving="web")


def candidates(mode: str, *pods: Object) -> Candidates:
    return Candidates.of(pods, MODES[mode])


def test_a_proxy_serves_by_its_scope() -> None:
    here, there = plain_pod("app", node="n1"), plain_pod("other", node="n2", namespace="tenant-b")
    for mode, proxy, serves in (
        ("node", proxy_pod(node="n1"), [True, False]),
        (
            "ambient-namespace",
            proxy_pod("w", node="n2", namespace="tenant-a", layer="l7", scope="namespace"),
            [True, False],
        ),
        ("ambient-pod", proxy_pod(node="n2", namespace="tenant-a", layer="l7", scope="pod", key="app"), [True, False]),
        ("none", proxy_pod(node="n1", layer="none"), [False, False]),
    ):
        known = candidates(mode, here, there, proxy)
        found = known.proxy(proxy)
        assert found is not None
        assert [known.serves(found, one) for one in (here, there)] == serves, mode
    own = sidecar_pod("own", node="n1")
    known = candidates("sidecar", here, own)
    sidecar = known.proxy(own)
    assert sidecar is not None
    assert [known.serves(sidecar, one) for one in (own, here)] == [True, False]
    assert known.proxy(here) is None


def test_without_a_mesh_nobody_is_a_proxy() -> None:
    assert Candidates.of([proxy_pod(), sidecar_pod()], None).proxies == {}


def test_a_wrong_selector_names_every_problem() -> None:
    with pytest.raises(Misuse, match=r"layer is 'l8'.*workload is 'Job/x'.*behind is 'p'"):
        Selector(layer="l8", workload="Job/x", behind="p")
    with pytest.raises(Misuse, match="nothing is said"):
        Selector()
