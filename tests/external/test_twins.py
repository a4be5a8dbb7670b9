"""A loader is its client's twin to the mesh: on the objects of the recorded clusters, injected and enrolled in every
way; and where the mesh carries it otherwise all the same, nothing that it measures is judged."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from chaos.errors import NotReady
from chaos.external.loaders import await_carried, carried_otherwise, plan_loader
from chaos.external.parsing import built_in
from chaos.external.placement import Site, route_context
from chaos.kube.client import Cluster
from tests.external import recorded_site as live

Object = dict[str, Any]


def client(mesh: str, **marks: dict[str, str]) -> tuple[Site, Object]:
    """A client's live pod of a recorded cluster, with other labels and annotations."""
    site, space, name = {
        "istio": (live.sidecars(), "shop", "client"),
        "ambient": (live.ambient(), "ashop", "client"),
        "linkerd": (live.linkerd("native"), "shop", "frontend"),
    }[mesh]
    pod = copy.deepcopy(live.find(site, "Pod", space, name))
    for part, added in marks.items():
        pod["metadata"][part] = {**(pod["metadata"].get(part) or {}), **added}
    return live.with_changes(site, [pod]), pod


def loader(mesh: str, pod: Object) -> Object:
    description = built_in("linkerd" if mesh == "linkerd" else "istio")
    return plan_loader("shop/frontend", "shop", pod, description.loader, run="r")


@pytest.mark.parametrize(
    ("mesh", "part", "mark", "value"),
    [
        ("linkerd", "annotations", "linkerd.io/inject", "enabled"),  # at the pod, as `linkerd inject` writes it
        ("linkerd", "annotations", "config.linkerd.io/proxy-cpu-limit", "1"),
        ("linkerd", "annotations", "config.alpha.linkerd.io/proxy-enable-native-sidecar", "true"),
        ("linkerd", "annotations", "config.linkerd.io/skip-outbound-ports", "80,8080"),
        ("linkerd", "annotations", "config.linkerd.io/opaque-ports", "6379"),
        ("istio", "labels", "sidecar.istio.io/inject", "true"),  # at the pod, in a bare namespace
        ("istio", "labels", "istio.io/rev", "canary"),
        ("istio", "annotations", "traffic.sidecar.istio.io/excludeOutboundPorts", "8080"),
        ("istio", "annotations", "proxy.istio.io/config", "{concurrency: 1}"),
        ("ambient", "labels", "istio.io/dataplane-mode", "ambient"),
        ("ambient", "labels", "istio.io/dataplane-mode", "none"),
        ("ambient", "labels", "istio.io/use-waypoint", "waypoint"),
    ],
)
def test_what_decides_how_the_mesh_carries_the_client_is_the_loaders_too(
    mesh: str, part: str, mark: str, value: str
) -> None:
    _, pod = client(mesh, **{part: {mark: value}})
    assert loader(mesh, pod)["metadata"][part][mark] == value


@pytest.mark.parametrize(
    ("mesh", "mark"),
    [
        ("istio", "sidecar.istio.io/status"),  # what the injector writes, it would take for its own work
        ("ambient", "ambient.istio.io/redirection"),  # what the mesh says of the pod, it has to say again
    ],
)
def test_what_the_mesh_writes_by_itself_is_left_to_it(mesh: str, mark: str) -> None:
    _, pod = client(mesh, annotations={mark: "x"})
    assert mark not in loader(mesh, pod)["metadata"]["annotations"]


def test_the_control_port_is_added_to_the_ports_that_pass_the_clients_proxy_already() -> None:
    _, pod = client("linkerd", annotations={"config.linkerd.io/skip-inbound-ports": "4222,5000-5100"})
    assert loader("linkerd", pod)["metadata"]["annotations"]["config.linkerd.io/skip-inbound-ports"] == (
        "4222,5000-5100,9990"
    )


def test_no_service_that_selects_the_client_sends_requests_to_its_loader() -> None:
    site, pod = client("linkerd")
    service = {
        "metadata": {"name": "frontend", "namespace": "shop"},
        "spec": {"selector": {"app": "frontend"}, "ports": [{"port": 80}]},
    }
    labels = plan_loader("shop/frontend", "shop", pod, built_in("linkerd").loader, run="r", services=[service])
    assert "app" in pod["metadata"]["labels"]
    assert "app" not in labels["metadata"]["labels"]
    assert site.services


# ---- and where it did not take


def bare(mesh: str) -> tuple[Site, Object, Object]:
    """A client, and a loader as it stands where the injector, or the network plugin, was away."""
    site, pod = client(mesh)
    planned = loader(mesh, pod)
    planned["metadata"] |= {"uid": "loader"}
    planned["spec"] |= {"nodeName": pod["spec"]["nodeName"]}
    return site, pod, planned


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        ("linkerd", "proxy: Pod shop/sharedfate-frontend has no container linkerd-proxy"),
        ("istio", "sidecar: Pod shop/sharedfate-frontend has no container istio-proxy"),
        ("ambient", "ztunnel: Pod shop/sharedfate-frontend has no annotation ambient.istio.io/redirection=enabled"),
    ],
)
def test_a_loader_that_the_mesh_does_not_carry_as_its_client_is_said_to_be_so_with_the_sign(
    mesh: str, words: str
) -> None:
    site, pod, planned = bare(mesh)
    description = built_in("linkerd" if mesh == "linkerd" else "istio")
    assert words in carried_otherwise(description, pod, planned, route_context(description, site))
    assert carried_otherwise(description, pod, pod, route_context(description, site)) == ""


def test_what_such_a_loader_measures_is_not_judged() -> None:
    words = r"the mesh, so nothing is judged: was it injected or enrolled \(the mesh's webhook"
    with pytest.raises(NotReady, match=re.compile(words)):
        await_carried(Cluster.__new__(Cluster), lambda: ["x is not carried"], seconds=0.1)
