"""Predictions from saved objects, with no cluster: the same placements as live ones, and refusals by name."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chaos.cli import main
from chaos.errors import Misuse
from chaos.external.parsing import built_in
from chaos.external.placement import plan_placement
from chaos.kube.placement import plan_placement as plan_own_placement
from chaos.model.modes import MODES
from chaos.prediction.page import page
from chaos.prediction.predicting import predict
from chaos.prediction.saved import Objects, read_objects, world_of
from tests.external import recorded_site as live
from tests.prediction import clusters

SPACES = ("wa", "ashop", "xone", "xtwo", "nonew")
CALLS = tuple((f"{n}/client", f"{n}/server", f"server.{n}:8080") for n in SPACES)


def saved(path: Path, objects: list[Any] | dict[str, Any]) -> Path:
    path.write_text(json.dumps(clusters.listed(objects) if isinstance(objects, list) else objects))
    return path


def said(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)], input=stdin)


def recorded_objects() -> list[Any]:
    site = live.ambient()
    return [
        {"kind": kind, **one} for kind, of in (("Namespace", site.namespaces), ("Pod", site.pods)) for one in of
    ] + [{"kind": "Service", **one} for one in site.services]


def test_a_recorded_cluster_gives_the_placement_that_it_gives_live(tmp_path: Path) -> None:
    target = live.target(*CALLS, mesh="istio")
    found = world_of(read_objects([saved(tmp_path / "all.json", recorded_objects())]), target)
    assert found.placement == plan_placement(target, built_in("istio"), live.ambient())
    (shared,) = [point for point in predict(found).proxies if point.name.startswith("infra/")]
    assert {flow.client for flow in shared.flows} == {"xone/client", "xtwo/client"}
    assert "no nodes were saved" in found.caveats[-1]


def test_the_mesh_is_detected_as_on_a_cluster(tmp_path: Path) -> None:
    file = saved(tmp_path / "all.json", recorded_objects())
    assert world_of(read_objects([file]), live.target(*CALLS)).mesh == "istio"


def test_several_files_are_one_cluster_and_an_object_in_two_counts_once(tmp_path: Path) -> None:
    objects = clusters.istio(tenants=2, pods=4, nodes=2)
    one = saved(tmp_path / "pods.json", [o for o in objects if o["kind"] == "Pod"])
    two = saved(tmp_path / "rest.json", [o for o in objects if o["kind"] != "Pod"])
    whole = saved(tmp_path / "all.json", objects)
    worlds = [world_of(read_objects(files), None) for files in ([one, two], [whole], [whole, one])]
    assert worlds[0].placement == worlds[1].placement == worlds[2].placement


def test_a_list_of_the_api_itself_is_read_like_kubectls(tmp_path: Path) -> None:
    pods = [one for one in clusters.istio(tenants=1, pods=2, nodes=1) if one["kind"] == "Pod"]
    bare = [{key: value for key, value in one.items() if key != "kind"} for one in pods]
    found = read_objects([saved(tmp_path / "x.json", {"kind": "PodList", "items": bare})])
    assert found.of("Pod") == pods


@pytest.mark.parametrize("mode", ["node", "sidecar", "ambient-namespace"])
def test_pods_of_a_run_of_ours_are_read_as_the_suite_reads_them(mode: str) -> None:
    """No file says who calls whom: within each namespace every client calls every server, as in the suite."""
    alone = {"node": ("l4-l7", "node"), "sidecar": ("", ""), "ambient-namespace": ("l4", "node")}[mode]
    objects = []
    for number, role in enumerate(("client", "server", "server")):
        pod = clusters.pod("tenant-a", role, number, f"node-{number % 2 + 1}", ambient=True)
        pod["metadata"]["labels"] |= {
            "sharedfate.io/run": "r1", "sharedfate.io/role": role, "sharedfate.io/mode": mode,
        }  # fmt: skip
        if mode == "sidecar":
            pod["spec"]["containers"].append({"name": "proxy"})
            pod["metadata"]["annotations"] |= {
                "sharedfate.io/proxy-container": "proxy", "sharedfate.io/layer": "l4-l7", "sharedfate.io/scope": "pod",
            }  # fmt: skip
        objects.append(pod)
    for name in ("node-1", "node-2") if alone[0] else ():
        pod = clusters.pod("sharedfate-system", "node-proxy", 0, name, ambient=True, owner="DaemonSet")
        pod["metadata"] |= {"name": f"node-proxy-{name}", "uid": name}
        pod["metadata"]["annotations"] = {"sharedfate.io/proxy-container": "proxy"}
        pod["metadata"]["labels"] = {
            "sharedfate.io/run": "r1", "sharedfate.io/role": "proxy", "sharedfate.io/layer": alone[0],
            "sharedfate.io/scope": alone[1],
        }  # fmt: skip
        pod["spec"] |= {"serviceAccountName": "node-proxy", "containers": [{"name": "proxy"}]}
        objects.append(pod)
    found = world_of(Objects("here", {"Pod": objects}), None)
    assert found.placement == plan_own_placement(objects, MODES[mode])
    assert found.placement.calls == (("tenant-a/client", "tenant-a/server"),)
    assert len(found.placement.proxies) == (3 if mode == "sidecar" else 2)


# ---- what the labels of namespaces decide


def test_waypoints_without_their_namespaces_are_refused_for_their_labels_decide_the_path(tmp_path: Path) -> None:
    objects = [one for one in recorded_objects() if one["kind"] != "Namespace"]
    with pytest.raises(Misuse, match=r"hold no Namespace wa, ashop, xone, and its labels decide .* save them too"):
        world_of(read_objects([saved(tmp_path / "x.json", objects)]), live.target(*CALLS, mesh="istio"))


def test_without_waypoints_a_missing_namespace_is_a_caveat(tmp_path: Path) -> None:
    objects = [one for one in clusters.istio(tenants=2, pods=4, nodes=2) if one["kind"] != "Namespace"]
    found = world_of(read_objects([saved(tmp_path / "x.json", objects)]), None)
    assert found.mesh == "istio"  # by its pods' own annotation
    assert any(said.startswith("no Namespace shop-0, shop-1 was saved") for said in found.caveats)
    assert len(found.placement.proxies) == 2


# ---- without a target file


def test_without_a_target_the_calls_that_could_be_are_taken_and_that_is_said() -> None:
    objects = [*clusters.istio(tenants=2, pods=4, nodes=2)]
    found = world_of(Objects("here", by_kind(objects)), None)
    assert found.placement.calls == (("shop-0/client", "shop-0/server"), ("shop-1/client", "shop-1/server"))
    assert "who calls whom was not said" in found.caveats[0]


def test_endpoint_slices_say_whom_a_service_without_a_selector_leads_to() -> None:
    objects = clusters.istio(tenants=1, pods=4, nodes=2)
    servers = [one for one in objects if one["kind"] == "Pod" and one["metadata"]["labels"]["app"] == "server"]
    for one in objects:
        if one["kind"] == "Service":
            del one["spec"]["selector"]
    refs = [{"targetRef": {"kind": "Pod", "name": one["metadata"]["name"]}} for one in servers]
    made = {
        "kind": "EndpointSlice",
        "metadata": {"namespace": "shop-0", "name": "s", "labels": {"kubernetes.io/service-name": "server"}},
        "endpoints": [*refs, {"addresses": ["10.0.0.1"]}],
    }
    with pytest.raises(Misuse, match="no Service leads to a pod"):
        world_of(Objects("here", by_kind(objects)), None)
    found = world_of(Objects("here", by_kind([*objects, made])), None)
    assert found.placement.calls == (("shop-0/client", "shop-0/server"),)


def test_where_services_lead_to_all_workloads_each_calls_each_other() -> None:
    objects = [*clusters.istio(tenants=1, pods=4, nodes=2), clusters.service("shop-0", "client")]
    found = world_of(Objects("here", by_kind(objects)), None)
    assert set(found.placement.calls) == {("shop-0/client", "shop-0/server"), ("shop-0/server", "shop-0/client")}


def test_without_any_mesh_only_places_are_points() -> None:
    objects = [one for one in clusters.istio(tenants=1, pods=6, nodes=3) if "istio-system" not in str(one["metadata"])]
    for one in objects:
        one["metadata"].pop("annotations", None)
        if one["kind"] == "Namespace":
            one["metadata"]["labels"] = {}
    found = predict(world_of(Objects("here", by_kind(objects)), None))
    assert (found.proxies, found.world.mesh) == ((), "none")
    assert found.nodes[0].total > 0


def by_kind(objects: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in objects:
        found.setdefault(one["kind"], []).append(one)
    return found


# ---- refusals


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not JSON"),
        ("NAME READY STATUS\n", "not JSON"),
        ("[]", "neither an object of Kubernetes nor a list"),
        ("{}", "neither an object of Kubernetes nor a list"),
        ('{"kind": 3}', "neither an object of Kubernetes nor a list"),
        ('{"kind": "List"}', "a List without a list of items"),
        ('{"kind": "List", "items": {}}', "a List without a list of items"),
        ('{"kind": "List", "items": [3]}', "items[0] is no object"),
        ('{"kind": "List", "items": []}', "holds no pods"),
        ('{"kind": "Table", "rows": []}', "holds no pods"),
        ('{"kind": "List", "items": [{"kind": "Pod"}]}', "a Pod without a name"),
        ('{"kind": "List", "items": [{"kind": "Node", "metadata": {"name": 3}}]}', "a Node without a name"),
        ('{"kind": "Pod", "metadata": {"name": "x"}}', "has no spec.containers"),
        ('{"kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": 3}}', "has no spec.containers"),
        (
            '{"kind": "Pod", "metadata": {"name": "x", "labels": 3}, "spec": {"nodeName": "n", "containers": []}}',
            "cannot be understood",
        ),
        ('{"kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": []}}', "no Service leads to a pod"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_saved_cluster_is_refused_in_a_line(content: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    done = said("--objects", file)
    assert done.exit_code == 4, done.output
    assert why in done.output
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "--cluster or --objects is missing"),
        (("--objects", "x", "--cluster", "embedded:x"), "exclude each other"),
        (("--run", "r", "--cluster", "embedded:x"), "--run belongs to --objects"),
        (("--objects", "/nowhere"), "no such file"),
        (("--target", "/nowhere", "--objects", "/nowhere"), "no such file"),
        (("--cluster", "embedded:no-such-one"), "no embedded cluster named 'no-such-one' is up"),
        (("--cluster", "embedded:x", "--scope", "nodes"), "no mode, did you mean node"),
    ],
)
def test_wrong_options_are_refused_in_a_line(arguments: tuple[str, ...], why: str) -> None:
    done = said(*arguments)
    assert (done.exit_code, len(done.output.splitlines())) == (4, 1), done.output
    assert why in done.output


def test_a_target_that_the_file_knows_nothing_of_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.json", clusters.istio(tenants=1, pods=4, nodes=2))
    with pytest.raises(Misuse, match="holds nothing of namespace bank"):
        world_of(read_objects([file]), live.target(("bank/a", "bank/b"), mesh="istio"))


# ---- the command


def test_the_command_says_it_in_lines_in_json_and_as_a_page(tmp_path: Path) -> None:
    file = saved(tmp_path / "all.json", clusters.istio(tenants=3, pods=6, nodes=4))
    done = said(
        "--objects", file, "--when", "zone a", "--scope", "ambient-namespace,replicas=2", "--out", tmp_path / "o"
    )
    assert done.exit_code == 0, done.output
    assert "the worst single points among its proxies\n  1. istio-system/ztunnel-node-" in done.output
    assert "when zone a dies, " in done.output
    document = json.loads((tmp_path / "o" / "prediction.json").read_text())
    assert document["version"] == 1
    assert document["counts"] == {"pods": 18, "proxies": 4, "flows": 3, "tenants": 3, "nodes": 4, "zones": 3}
    assert [one["sharing"] for one in document["sharings"]] == ["now", "ambient-namespace,replicas=2"]
    assert document["worst"][0]["sentence"].startswith("when proxy istio-system/ztunnel-")
    assert document["when_shared_otherwise"][0]["when"][0]["name"] == "a"
    assert len((tmp_path / "o" / "prediction.html").read_text()) > 5000
    piped = said("--objects", "-", "--json", stdin=file.read_text())
    assert json.loads(piped.output)["proxies"] == document["proxies"]


def test_a_target_file_says_who_calls_whom(tmp_path: Path) -> None:
    file = saved(tmp_path / "all.json", clusters.istio(tenants=2, pods=4, nodes=2))
    target = tmp_path / "target.yaml"
    target.write_text(
        "version: 1\ntenants: [{name: shop, namespaces: [shop-0, shop-1]}]\nmesh: istio\n"
        "calls: [{client: shop-0/client, server: shop-1/server}]\n"
    )
    done = said("--objects", file, "--target", target, "--json")
    flows = {(f["client"], f["server"]) for one in json.loads(done.output)["proxies"] for f in one["flows"]}
    assert flows == {("shop-0/client", "shop-1/server")}


def test_a_page_runs_its_own_script_alone_and_keeps_its_limit(tmp_path: Path) -> None:
    objects = clusters.istio(tenants=60, pods=10, nodes=100, ambient=False)
    found = predict(world_of(Objects("<b>here</b>", by_kind(objects)), None), whens=["node-7"])
    text = page(found)
    assert "<b>here</b>" not in text
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    lists = re.findall(r'data-of="([^"]+)"', text)
    assert lists == ["tenant-list", "node-list", "zone-list", "proxy-list"]
    assert all(f'id="{one}"' in text for one in lists)
    assert text.count("<tr>") > 60 + 100 + 3 + 600
    short = page(found, limit=120_000)
    assert len(short.encode()) <= 120_000
    assert "of 600; the rest is in prediction.json" in short
