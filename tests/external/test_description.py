"""Target files and the meshes: what is detected, where the proxies are, and whom their death hurts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.errors import ExperimentFailure, Misuse
from chaos.external import built_in, descriptions, detect_mesh, parse_target, plan_target_placement, read_target
from chaos.external.modes import installed_modes
from chaos.external.parsing import parse_description
from chaos.external.text import describe_mesh
from chaos.model.fate import flow_shares, path
from chaos.model.modes import Layer, Scope
from chaos.model.placement import Placement
from tests.external import known_meshes as meshes

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "tenants": [{"name": "shop", "namespaces": ["shop"]}, {"name": "bank", "namespaces": ["bank"]}],
    "calls": [
        {"client": "shop/web", "server": "shop/api", "reach": "api.shop:80", "path": "/healthz"},
        {"client": "bank/app", "server": "bank/core"},
    ],
}
TARGET = parse_target(DOCUMENT, source="t")
SHOP, BANK = ("shop/web", "shop/api"), ("bank/app", "bank/core")
ALL = {
    "linkerd": meshes.LINKERD,
    "istio-sidecar": meshes.ISTIO_SIDECAR,
    "istio-ambient": meshes.ISTIO_AMBIENT,
    "cilium": meshes.CILIUM,
}


def placed(name: str, objects: tuple[list[Any], list[Any]]) -> Placement:
    return plan_target_placement(TARGET, built_in(name), *objects, meshes.SERVICES)


def hurt(placement: Placement, pod: str) -> dict[tuple[str, str], float]:
    """Flows behind the proxies of one pod -> share."""
    found = [proxy for proxy in placement.proxies if proxy.pod == pod]
    assert found, [proxy.pod for proxy in placement.proxies]
    return {flow: share for flow, share in flow_shares(placement, found).items() if share}


@pytest.mark.parametrize("name", ALL)
def test_each_mesh_is_detected_by_its_documented_labels_and_is_no_other(name: str) -> None:
    assert detect_mesh(descriptions().values(), *ALL[name]) is built_in(name)


def test_what_was_run_live_is_said_and_what_was_not() -> None:
    said = {name: built_in(name).status for name in ALL}
    assert {name for name, status in said.items() if status.startswith("run live")} == set(ALL) - {"cilium"}
    for name, status in said.items():
        assert status in describe_mesh(built_in(name), placed(name, ALL[name]))


@pytest.mark.parametrize(
    ("name", "objects", "container"),
    [
        ("linkerd", meshes.LINKERD, "linkerd-proxy"),
        ("linkerd", meshes.LINKERD_NATIVE, "linkerd-proxy"),
        ("istio-sidecar", meshes.ISTIO_SIDECAR, "istio-proxy"),
    ],
)
def test_a_sidecars_death_hurts_its_own_pod_alone(name: str, objects: Any, container: str) -> None:
    placement = placed(name, objects)
    assert len(placement.proxies) == 5
    assert {(p.container, p.scope, p.layers) for p in placement.proxies} == {(container, Scope.POD, frozenset(Layer))}
    assert hurt(placement, "web-6d4f5-1") == {SHOP: 1.0}
    assert hurt(placement, "api-6d4f5-2") == {SHOP: 0.5}


def test_ztunnels_death_hurts_who_is_on_its_node_across_tenants() -> None:
    placement = placed("istio-ambient", meshes.ISTIO_AMBIENT)
    assert placement.mode.l7 is None
    assert hurt(placement, "ztunnel-1") == {SHOP: 1.0}
    assert hurt(placement, "ztunnel-2") == {SHOP: 0.5, BANK: 1.0}


def test_a_waypoint_with_two_replicas_is_one_hop_of_two() -> None:
    placement = placed("istio-ambient", meshes.ambient_with_waypoints("shop", "bank"))
    assert (placement.mode.l4, placement.mode.l7) == (Scope.NODE, Scope.WAYPOINT)
    assert [len(pod.name) for pod in placement.pods if pod.workload == "waypoint"] == []
    shop = [proxy for proxy in placement.proxies if proxy.namespace == "shop"]
    assert {str(flow_shares(placement, [one])) for one in shop} == {str({SHOP: 0.5, BANK: 0.0})}
    assert flow_shares(placement, shop)[SHOP] == 1.0  # whichever is drawn, it is broken
    bank = [proxy for proxy in placement.proxies if proxy.namespace == "bank"]
    assert flow_shares(placement, bank) == {SHOP: 0.0, BANK: 1.0}


def test_a_waypoint_for_one_tenant_and_none_for_the_other_are_two_paths_of_one_mesh() -> None:
    placement = placed("istio-ambient", meshes.ambient_with_waypoints("shop"))
    assert {pair.call: len(path(placement, pair)) for pair in placement.pairs()} == {SHOP: 3, BANK: 2}


def test_a_namespace_that_says_none_has_no_waypoint() -> None:
    spaces, pods = meshes.ambient_with_waypoints("shop", "bank")
    for space in spaces:
        space["metadata"]["labels"]["istio.io/use-waypoint"] = "none"
    assert placed("istio-ambient", (spaces, pods)).mode.l7 is None


def test_ciliums_envoy_stands_before_the_servers_of_its_node() -> None:
    placement = placed("cilium", meshes.CILIUM)
    assert hurt(placement, "cilium-envoy-1") == {SHOP: 0.5}
    assert hurt(placement, "cilium-envoy-2") == {SHOP: 0.5, BANK: 1.0}


def test_namespaces_without_any_mesh_and_with_two_are_both_refused_by_auto() -> None:
    with pytest.raises(Misuse, match="finds no mesh"):
        detect_mesh(descriptions().values(), meshes.namespaces(), meshes.apps())
    spaces = meshes.namespaces({"istio-injection": "enabled"}, {"linkerd.io/inject": "enabled"})
    with pytest.raises(Misuse, match=r"more than one: istio .* linkerd"):
        detect_mesh(descriptions().values(), spaces, meshes.apps())


def test_a_pod_without_the_proxy_has_no_hop_there_and_that_is_said() -> None:
    spaces, pods = meshes.ISTIO_SIDECAR
    bare = [meshes.pod("shop", "web", "n1"), *(one for one in pods if one["metadata"]["labels"]["app"] != "web")]
    placement = placed("istio-sidecar", (spaces, bare))
    (first, _) = [pair for pair in placement.pairs() if pair.call == SHOP]
    assert [hop[0].pod for hop in path(placement, first)] == ["api-6d4f5-1"]
    assert "sidecar@client: Pod shop/web-6d4f5-1 has no container istio-proxy" in placement.route(first).because


def test_a_workload_without_pods_is_named() -> None:
    spaces, pods = meshes.LINKERD
    with pytest.raises(ExperimentFailure, match="no live pod of bank/core"):
        placed("linkerd", (spaces, [one for one in pods if one["metadata"]["labels"]["app"] != "core"]))


def test_pods_that_end_are_not_there() -> None:
    spaces, pods = meshes.LINKERD
    ending = {**pods[2], "metadata": {**pods[2]["metadata"], "deletionTimestamp": "now"}}
    placement = placed("linkerd", (spaces, [*pods[:2], ending, *pods[3:]]))
    assert hurt(placement, "api-6d4f5-1") == {SHOP: 1.0}


def test_a_mesh_of_ones_own_is_described_in_the_file() -> None:
    target = parse_target(
        {
            **DOCUMENT,
            "mesh": {
                "name": "ours",
                "proxies": [
                    {
                        "name": "edge",
                        "layers": ["l4", "l7"],
                        "scope": "node",
                        "container": "ztunnel-like",
                        "pods": {"namespace": "edge", "labels": {"app": "edge"}},
                    }
                ],
                "path": ["edge@client"],
            },
        },
        source="t",
    )
    assert target.mesh is not None
    edge = meshes.daemons("edge", "edge", {"app": "edge"}, "ztunnel-like")
    placement = plan_target_placement(target, target.mesh, meshes.namespaces(), meshes.apps() + edge)
    assert hurt(placement, "edge-1") == {SHOP: 1.0}
    assert hurt(placement, "edge-2") == {BANK: 1.0}
    assert placement.proxies[0].memory_bytes == 0


def test_a_wrong_target_file_names_itself_and_every_field(tmp_path: Path) -> None:
    file = tmp_path / "target.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "version": 2,
                "tenant": [],
                "tenants": [{"name": "shop", "namespaces": ["shop"]}, {"name": "b", "namespaces": ["shop"]}],
                "calls": [{"client": "web", "server": "bank/core", "reach": "core"}],
                "mesh": {
                    "name": "x",
                    "proxies": [{"name": "p", "layers": ["l5"], "scope": "rack", "container": "c"}],
                    "path": ["q@client"],
                },
            }
        )
    )
    with pytest.raises(Misuse) as caught:
        read_target(file)
    text = str(caught.value)
    for part in (
        f"{file}: ",
        "version is 2",
        "tenant is not known here",
        "shop more than once",
        "client is 'web', and should be NAMESPACE",
        "no tenant has namespace 'bank'",
        "reach is 'core', and should be HOST:PORT",
        "mesh.proxies[0].layers has l5",
        "mesh.proxies[0].scope is 'rack'",
        "mesh.path[0] is 'q@client'",
    ):
        assert part in text, (part, text)


@pytest.mark.parametrize(
    ("reach", "right"),
    [
        ("api.shop:80", True),
        ("10.0.0.1:80", True),
        ("[fd00::1]:8080", True),
        ("[::ffff:10.0.0.1]:8080", True),
        ("fd00::1:8080", False),
        ("[fd00::1]", False),
        ("api.shop", False),
        ("http://api.shop:80", False),
    ],
)
def test_a_server_is_reached_by_host_and_port_and_an_ipv6_address_stands_in_brackets(reach: str, right: bool) -> None:
    document = {**DOCUMENT, "calls": [{**DOCUMENT["calls"][0], "reach": reach}]}
    if right:
        assert parse_target(document, source="t").calls[0].reach == reach
    else:
        with pytest.raises(Misuse, match="an IPv6 address in brackets"):
            parse_target(document, source="t")


def test_an_unknown_mesh_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        Misuse,
        match=r"unknown mesh 'consul': known are cilium, istio, linkerd.* \(or one of .*istio-ambient.*auto, none",
    ):
        parse_target({**DOCUMENT, "mesh": "consul"}, source="t")
    with pytest.raises(Misuse, match="no such file"):
        read_target(tmp_path / "none")
    (tmp_path / "list").write_text("- 1\n")
    with pytest.raises(Misuse, match="is a list, and should be a mapping"):
        read_target(tmp_path / "list")
    (tmp_path / "bad").write_text("a: [")
    with pytest.raises(Misuse, match="not YAML"):
        read_target(tmp_path / "bad")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"objects": "x.yaml", "hop": "p@client", "page": "statistics"}, ""),
        ({"objects": "x.yaml", "hop": "p", "page": "statistics"}, r"reconfiguration\.hop is 'p': known are p@client"),
        ({"objects": "x.yaml", "hop": "q@client", "page": "statistics"}, r"reconfiguration\.hop is 'q@client'"),
        ({"objects": "x.yaml", "hop": "p@client", "page": "configuration"}, "of a p is read: statistics"),
        ({"objects": "x.yaml", "hop": "p@client"}, "page"),
        ({"hop": "p@client", "page": "statistics"}, "objects"),
    ],
)
def test_how_proxies_are_configured_anew_names_a_proxy_of_the_path_and_a_page_that_is_read(
    said: dict[str, str], words: str
) -> None:
    rule = {"name": "p", "layers": ["l4", "l7"], "scope": "pod", "container": "p", "reads": {"statistics": {"port": 1}}}
    mesh = {"name": "m", "proxies": [rule], "path": ["p@client"], "modes": [{"name": "m-1", "reconfiguration": said}]}
    if words:
        with pytest.raises(Misuse, match=words):
            parse_description(mesh, source="t")
        return
    (mode,) = parse_description(mesh, source="t").modes
    assert mode.reconfiguration is not None
    assert mode.reconfiguration.hop == ("p", "client")


def test_every_mode_of_an_installed_mesh_that_has_its_own_objects_says_how_it_is_configured_anew() -> None:
    for name, one in installed_modes().items():
        assert (one.rule.reconfiguration is None) is name.startswith("cilium"), name
        if one.rule.reconfiguration is not None:
            assert one.rule.reconfiguration.objects in one.rule.features.values()
            assert one.rule.reconfiguration.hop in one.rule.path
