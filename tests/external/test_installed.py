"""A mode of an installed mesh: the same row as ours, tenants enrolled by its description, what doctor says of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.engine.deployment import AddedPod
from chaos.errors import EnvironmentUnfit, Misuse, NotReady
from chaos.external.advice import AdviceBasis, advice
from chaos.external.description import Feature
from chaos.external.discovery import observed_calls, target_text
from chaos.external.file import parse_target
from chaos.external.installations import detect_installed, mesh_installed, read_installed
from chaos.external.installed import InstalledMesh
from chaos.external.modes import installed_modes, known_modes, mode_named
from chaos.external.parsing import built_in, descriptions, parse_description
from chaos.external.placement import plan_placement
from chaos.kube.client import KINDS, Cluster, kind_key, path_of
from chaos.mesh import manifests
from chaos.mesh.handle import NewPod, PlanePart
from chaos.mesh.inject import pod_template
from chaos.model.modes import MODES, PlacedBy, Scope
from chaos.model.placement import Placement, Pod, Proxy
from chaos.suite.test_control_plane_down import judge_new_pod
from tests.external import recorded_site as live
from tests.kube.test_client import Script, serving

ASKED = (
    "linkerd",
    "linkerd-classic",
    "istio-sidecar",
    "istio-sidecar-classic",
    "istio-ambient",
    "istio-ambient-waypoint",
    "istio-ambient-service-waypoint",
    "cilium",
)


def test_every_mode_that_is_asked_for_is_a_row_of_the_same_table() -> None:
    assert set(known_modes()) == {
        *MODES,
        *ASKED,
        *(f"{name}-as-installed" for name in ASKED if name not in ("istio-ambient", "cilium")),
        *(f"{name}-at-budget" for name in ASKED if name.startswith(("istio-ambient", "cilium"))),
    }
    rows = {name: mode_named(name) for name in ASKED}
    assert {name for name, row in rows.items() if row.holds_jobs} == {"linkerd-classic", "istio-sidecar-classic"}
    assert {name for name, row in rows.items() if not row.ready_before_app} == {"istio-sidecar-classic"}
    assert {name for name, row in rows.items() if row.separate_layers} == {
        "istio-ambient-waypoint",
        "istio-ambient-service-waypoint",
    }
    assert {name: row.brought_by for name, row in rows.items()} == {
        name: "linkerd" if name.startswith("linkerd") else "cilium" if name == "cilium" else "istio" for name in ASKED
    }
    assert rows["linkerd"].placed_by == (PlacedBy.INIT_CONTAINER,)
    with pytest.raises(Misuse, match=r"unknown proxy mode 'consul': known are none, sidecar.*istio-ambient"):
        mode_named("consul")


def test_what_a_mesh_does_at_its_end_and_without_its_control_plane_is_a_fact_of_its_mode() -> None:
    rows = {name: mode_named(name) for name in ASKED}
    assert {name: row.drains for name, row in rows.items() if row.ends_with_app} == {
        "linkerd-classic": 0.0,
        "istio-sidecar-classic": 5.0,
    }
    without = {name: {part: str(what) for part, what in installed_modes()[name].rule.without.items()} for name in ASKED}
    assert without["istio-sidecar"] == without["istio-sidecar-classic"] == {"istiod": "refused"}
    assert without["linkerd"] == without["linkerd-classic"]
    assert without["linkerd"]["linkerd-proxy-injector"] == "bare"
    parts = {part.name for one in descriptions().values() for part in one.installation.parts}
    assert {part for found in without.values() for part in found} <= parts
    policies = {one["failurePolicy"] for one in live.recorded("sidecar/webhook.yaml")[0]["webhooks"]}
    assert policies == {"Fail"}  # so nothing is made while istiod is away
    assert {one["failurePolicy"] for one in live.recorded("linkerd/webhook.yaml")[0]["webhooks"]} == {"Ignore"}


@pytest.mark.parametrize(
    ("without", "pod", "verdict"),
    [
        (NewPod.WAITS, AddedPod("s", False, 0, "10.0.0.1"), "pass"),
        (NewPod.WAITS, AddedPod("s", False, None), "pass"),  # not even an address
        (NewPod.WAITS, AddedPod("s", False, 3, "10.0.0.1"), "fail"),  # not ready, and answers
        (NewPod.WAITS, AddedPod("s", True, 0, "10.0.0.1"), "fail"),
        (NewPod.WAITS, None, "fail"),
        (NewPod.BARE, AddedPod("s", True, 9, "10.0.0.1", "label linkerd.io/control-plane-ns"), "pass"),
        (NewPod.BARE, AddedPod("s", True, 9, "10.0.0.1"), "fail"),
        (NewPod.REFUSED, None, "pass"),
        (NewPod.REFUSED, AddedPod("s", False, 0, "10.0.0.1"), "fail"),
        (NewPod.SERVES, AddedPod("s", True, 9, "10.0.0.1"), "pass"),
        (None, AddedPod("s", True, 9, "10.0.0.1"), "pass"),  # not known: told, and judged by nobody
    ],
)
def test_what_became_of_a_pod_made_without_the_control_plane_is_held_against_what_is_known(
    without: NewPod | None, pod: AddedPod | None, verdict: str
) -> None:
    check = judge_new_pod(PlanePart("istiod", "istio-system/istiod", without), pod, name="istiod")
    assert str(check.verdict) == verdict, check
    assert "plain text" in check.sentence or not (pod and pod.bare)


def test_the_reference_mesh_is_described_in_the_same_words_and_gives_the_same_rows() -> None:
    ours = built_in("sharedfate")
    assert {rule.name: ours.mode_row(rule) for rule in ours.modes} == MODES
    assert [mesh.name for mesh in descriptions().values() if mesh.ours] == ["sharedfate"]


def mesh(mode: str) -> InstalledMesh:
    spaces = {"a": "tenant-a"}
    calls = {("tenant-a/client", "tenant-a/server"): "server.tenant-a:80"}
    return InstalledMesh(Cluster.__new__(Cluster), installed_modes()[mode], run="r", tenants=spaces, calls=calls)


def enrolled(mode: str) -> dict[str, Any]:
    objects = mesh(mode).inject(manifests.tenant("a", client_nodes=["n1"], server_nodes=["n1"]))
    return {f"{obj['kind']}/{obj['metadata']['name']}": obj for obj in objects}


@pytest.mark.parametrize(
    ("mode", "namespace", "annotations"),
    [
        (
            "linkerd",
            {},
            {"config.linkerd.io/proxy-enable-native-sidecar": "true", "config.linkerd.io/proxy-cpu-limit": "133m"},
        ),
        ("linkerd-classic", {}, {"config.linkerd.io/proxy-enable-native-sidecar": "false"}),
        ("istio-sidecar", {"istio-injection": "enabled"}, {"sidecar.istio.io/proxyCPULimit": "133m"}),
        ("istio-ambient", {"istio.io/dataplane-mode": "ambient"}, {}),
        ("istio-ambient-waypoint", {"istio.io/use-waypoint": "waypoint"}, {}),
    ],
)
def test_tenants_are_enrolled_by_labels_and_annotations_alone(
    mode: str, namespace: dict[str, str], annotations: dict[str, str]
) -> None:
    found = enrolled(mode)
    assert found["Namespace/tenant-a"]["metadata"]["labels"].items() >= namespace.items()
    for name in ("Deployment/client", "Deployment/server"):
        template = pod_template(found[name])
        assert template is not None
        assert template["metadata"]["annotations"].items() >= annotations.items()
    assert all(obj["metadata"]["labels"]["sharedfate.io/run"] == "r" for obj in found.values())


def test_each_column_of_a_mode_differs_in_what_its_proxies_may_use_alone() -> None:
    def budget(mode: str) -> list[str]:
        template = pod_template(enrolled(mode)["Deployment/client"])
        assert template is not None
        return [key for key in template["metadata"]["annotations"] if "cpu" in key.lower()]

    assert budget("linkerd") == ["config.linkerd.io/proxy-cpu-request", "config.linkerd.io/proxy-cpu-limit"]
    assert budget("linkerd-as-installed") == []
    assert "ConfigMap/waypoint-options" in enrolled("istio-ambient-waypoint-at-budget")
    free = enrolled("istio-ambient-waypoint-as-installed")
    assert "ConfigMap/waypoint-options" not in free
    assert "infrastructure" not in free["Gateway/waypoint"]["spec"]
    for name, one in installed_modes().items():
        first = mode_named(name.removesuffix("-as-installed").removesuffix("-at-budget"))
        assert replace(one.row, name=first.name, stands_for=first.stands_for) == first
        assert one.rule.holds_shared is name.endswith("-at-budget")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("istio-ambient-at-budget", r"values\.ztunnel\.resources\.limits\.cpu=600m, and the mode without that ending"),
        ("istio-ambient-waypoint-at-budget", r"values\.ztunnel\.resources\.limits\.cpu=300m"),
        ("cilium-at-budget", r"envoy\.resources\.limits\.cpu=600m"),
    ],
)
def test_proxies_that_others_share_are_held_on_clusters_of_ours_alone(mode: str, words: str) -> None:
    one = mesh(mode)
    one.cluster.owned = False
    with pytest.raises(EnvironmentUnfit, match=words):
        one.start([])


def test_a_waypoint_is_a_gateway_of_the_tenants_namespace_with_the_budgets_share() -> None:
    found = enrolled("istio-ambient-waypoint")
    gateway = found["Gateway/waypoint"]
    assert (gateway["metadata"]["namespace"], gateway["spec"]["gatewayClassName"]) == ("tenant-a", "istio-waypoint")
    options = yaml.safe_load(found["ConfigMap/waypoint-options"]["data"]["deployment"])
    (container,) = options["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "200m", "memory": "192Mi"}
    labels = enrolled("istio-ambient-service-waypoint")["Service/server"]["metadata"]["labels"]
    assert labels["istio.io/use-waypoint"] == "waypoint"
    assert "Gateway/waypoint" not in enrolled("istio-ambient")


def test_a_waypoint_that_does_not_come_about_is_said_with_the_clusters_own_reason(tmp_path: Path) -> None:
    waypoint = {
        "metadata": {"name": "waypoint", "namespace": "tenant-a", "generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1},
    }
    refused = {
        "involvedObject": {"kind": "ReplicaSet", "namespace": "tenant-a", "name": "waypoint-7c59", "uid": "r"},
        "reason": "FailedCreate",
        "message": 'pods "waypoint-7c59-x" is forbidden: violates PodSecurity "restricted:latest": ...',
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    script = Script(listed(waypoint), (200, {"kind": "Deployment", **waypoint}), listed(), listed(refused))
    with serving(script, tmp_path) as cluster:
        one = mesh("istio-ambient-waypoint")
        one.cluster = cluster
        (said,) = one.held_up()
    assert said.startswith("Deployment tenant-a/waypoint: ")
    assert 'violates PodSecurity "restricted:latest"' in said
    assert "let these namespaces be labelled" in said


# ---- what is installed


def deployment(name: str, labels: dict[str, str], *, ready: int = 1, image: str = "x/pilot:1.31.0") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": f"{name}-system", "labels": labels},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
        "status": {"readyReplicas": ready} if ready else {},
    }


def test_doctor_says_which_meshes_are_installed_and_the_official_command_for_the_others() -> None:
    found = {
        one.mesh.name: str(one)
        for one in detect_installed(
            [
                deployment("istiod", {"app": "istiod", "app.kubernetes.io/version": "1.31.0"}),
                deployment("linkerd", {"linkerd.io/control-plane-component": "identity"}, image="l/c:edge-26.11.1"),
            ]
        )
    }
    assert found["istio"].startswith("istio 1.31.0: installed in istiod-system, for istio-sidecar, ")
    assert "linkerd edge-26.11.1: installed" in found["linkerd"]
    assert "not ready: linkerd-destination, linkerd-proxy-injector" in found["linkerd"]
    assert found["cilium"].startswith(
        "cilium: not installed (cilium, cilium-at-budget): cilium install (https://docs.cilium.io"
    )
    none = {one.mesh.name: str(one) for one in detect_installed([])}
    assert "kubectl apply --server-side -f https://" in none["istio"]
    assert none["istio"].index("gateway-api") < none["istio"].index("istioctl install --set profile=ambient")


def test_no_mesh_is_installed_in_a_cluster_that_is_not_ours_nor_without_its_program(monkeypatch: Any) -> None:
    theirs = Cluster.__new__(Cluster)
    theirs.owned, theirs.name = False, "prod"
    with pytest.raises(Misuse, match="prod is not ours"), mesh_installed(theirs, built_in("linkerd")):
        pass
    ours = Cluster.__new__(Cluster)
    ours.owned, ours.name = True, "mine"
    monkeypatch.setattr(Cluster, "list", lambda *_, **__: [])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentUnfit, match="linkerd is not on PATH"), mesh_installed(ours, built_in("linkerd")):
        pass


ITEMS = {"metadata": {"resourceVersion": "1"}}


def described(tmp_path: Path, *, install: str = "", uninstall: str = "") -> Any:
    """A mesh whose program writes down each step, where it is run; `install` and `uninstall` end those commands."""

    def step(name: str, more: str = "") -> list[str]:
        return ["sh", "-ec", f'echo {name} "${{KUBECONFIG##*/}}" >> {tmp_path}/steps; {more}']

    needs = {"definition": "gateways.example", "install": [step("needs")], "uninstall": [step("no-needs")]}
    return parse_description(
        {
            "name": "m",
            "installation": {
                "parts": [{"name": "plane", "labels": {"app": "plane"}}],
                "cli": "sh",
                "install": [step("install", install)],
                "uninstall": [step("uninstall", uninstall)],
                "needs": [needs],
            },
        },
        source="t",
    )


def listed(*deployments: Any) -> tuple[int, Any]:
    return 200, {**ITEMS, "items": list(deployments)}


@pytest.mark.parametrize(
    ("definition", "steps"),
    [
        ((404, {"message": "none"}), ["needs", "install", "uninstall", "no-needs"]),
        ((200, {"kind": "CustomResourceDefinition"}), ["install", "uninstall"]),  # somebody else's stays
    ],
)
def test_a_mesh_is_installed_with_what_it_needs_awaited_and_taken_away_in_the_reverse_order(
    definition: Any, steps: list[str], tmp_path: Path
) -> None:
    plane = deployment("plane", {"app": "plane"}, ready=0)
    ready = deployment("plane", {"app": "plane"})
    script = Script(listed(), definition, listed(), listed(plane), listed(ready))
    with serving(script, tmp_path) as cluster:
        cluster.owned = True
        with mesh_installed(cluster, described(tmp_path)):
            assert len(script.asked) == 5  # it was looked at until its control plane was ready
            assert (tmp_path / "steps").read_text().split("\n")[-2].startswith("install ")
    said = (tmp_path / "steps").read_text().split()
    assert said[::2] == steps
    assert set(said[1::2]) == {cluster.kubeconfig.name if cluster.kubeconfig else ""}


def test_a_mesh_that_is_there_is_neither_installed_nor_taken_away(tmp_path: Path) -> None:
    script = Script(listed(deployment("plane", {"app": "plane"})))
    with serving(script, tmp_path) as cluster:
        cluster.owned = True
        with mesh_installed(cluster, described(tmp_path)):
            pass
    assert not (tmp_path / "steps").exists()


@pytest.mark.parametrize(
    ("more", "words", "note"),
    [
        ({"install": "echo no image >&2; exit 3"}, "ended with 3: no image", ""),
        ({"install": "exit 3", "uninstall": "echo stuck >&2; exit 4"}, "ended with 3", "not taken away.*: stuck"),
    ],
)
def test_what_an_installation_that_fails_has_made_is_taken_away_and_its_own_words_are_said(
    more: dict[str, str], words: str, note: str, tmp_path: Path
) -> None:
    script = Script(listed(), (200, {}))
    with serving(script, tmp_path) as cluster:
        cluster.owned = True
        with (
            pytest.raises(EnvironmentUnfit, match=words) as error,
            mesh_installed(cluster, described(tmp_path, **more)),
        ):
            pytest.fail("it was entered")
    assert (tmp_path / "steps").read_text().split()[::2] == ["install", "uninstall"]
    assert bool(note) == bool(error.value.__notes__ if note else [])
    assert re.search(note, "".join(getattr(error.value, "__notes__", [])))


def test_a_control_plane_that_does_not_become_ready_is_named_and_taken_away(tmp_path: Path) -> None:
    script = Script(listed(), (200, {}), *[listed(deployment("plane", {"app": "plane"}, ready=0))] * 50)
    with serving(script, tmp_path) as cluster:
        cluster.owned = True
        with (
            pytest.raises(NotReady, match=r"m, which was just installed.*not ready: plane"),
            mesh_installed(cluster, described(tmp_path), seconds=0.3),
        ):
            pytest.fail("it was entered")
    assert (tmp_path / "steps").read_text().split()[::2] == ["install", "uninstall"]


def test_a_mode_whose_mesh_builds_on_kinds_that_are_not_there_is_refused_with_the_official_command(
    tmp_path: Path,
) -> None:
    istiod = deployment("istiod", {"app": "istiod"})
    script = Script(listed(istiod), listed(), (404, {"message": "the server could not find the requested resource"}))
    with serving(script, tmp_path) as cluster:
        one = mesh("istio-ambient-waypoint")
        one.cluster = cluster
        words = r"mode istio-ambient-waypoint: .* has no kind Gateway, which istio does not bring. .*kubectl apply"
        with pytest.raises(EnvironmentUnfit, match=words):
            one.refuse_missing()


# ---- a target file from what is there, and advice on it


def test_a_target_file_is_written_from_workloads_services_and_observed_calls() -> None:
    site = live.linkerd("native")
    page = live.text("linkerd/metrics-lines.txt")
    calls = observed_calls([("shop/backend", page)], site.pods)
    assert calls == [("shop/frontend", "shop/backend")]
    text = target_text(["shop"], site.pods, site.services, ["linkerd"], calls)
    assert "as the proxies' statistics saw them" in text
    target = parse_target(yaml.safe_load(text), source="t")
    assert target.name == "linkerd"
    (call,) = target.calls
    assert (call.client, call.server, call.reach) == ("shop/frontend", "shop/backend", "backend.shop:80")
    assert len(plan_placement(target, built_in("linkerd"), site).proxies) == 2
    guessed = target_text(["shop"], site.pods, site.services, [])
    assert "not observed. Each client could call each server" in guessed
    assert yaml.safe_load(guessed)["mesh"] == "none"


def pod(name: str, node: str, **more: Any) -> Pod:
    role, tenant = name.partition("-")[0], more.pop("tenant", "a")
    return Pod(f"tenant-{tenant}", name, f"{tenant}-{name}", node, tenant, role, role, role, **more)


PODS = (pod("client-1", "n1"), pod("client-2", "n2"), pod("server-1", "n1"), pod("server-2", "n2"))
NODES = tuple(
    Proxy(
        "sys", f"proxy-{n}", "proxy", f"u-{n}", n, MODES["node"].hops[0].layers, Scope.NODE, n, "p", cpu_millicores=400
    )
    for n in ("n1", "n2")
)
CALLS = (("tenant-a/client", "tenant-a/server"),)
BUDGET = {"metadata": {"namespace": "tenant-a"}, "spec": {"selector": {"matchLabels": {"app": "server"}}}}
EVIDENCE = AdviceBasis([BUDGET], {one.uid: {"app": one.workload} for one in PODS})


def guarded(**spec: Any) -> AdviceBasis:
    return AdviceBasis([{"metadata": {"name": "pdb", "namespace": "tenant-a"}, "spec": spec}], EVIDENCE.labels)


def placement(pods: tuple[Pod, ...] = PODS, proxies: tuple[Proxy, ...] = NODES, calls: Any = CALLS) -> Placement:
    return Placement(MODES["node"], pods, proxies, calls)


@pytest.mark.parametrize(
    "evidence",
    [
        EVIDENCE,
        AdviceBasis(None, EVIDENCE.labels),  # budgets that may not be read are not missed
        guarded(selector={}, minAvailable="1%"),
        guarded(selector={}, maxUnavailable="50%"),
        guarded(selector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "server"]}]}),
    ],
)
def test_what_is_well_laid_out_gets_no_advice(evidence: AdviceBasis) -> None:
    assert advice(evidence, placement()) == []


B = tuple(pod(name, node, tenant="b") for name, node in (("client-1", "n1"), ("server-1", "n1"), ("server-2", "n2")))
B_EVIDENCE = AdviceBasis(
    [BUDGET, {"metadata": {"namespace": "tenant-b"}, "spec": {"selector": {}}}],
    {one.uid: {"app": "server"} for one in PODS},
)


@pytest.mark.parametrize(
    ("evidence", "found", "words"),
    [
        (EVIDENCE, placement(PODS[:3]), "tenant-a/server has one replica"),
        (EVIDENCE, placement((*PODS[:3], pod("server-2", "n1"))), "all 2 replicas of tenant-a/server are on node n1"),
        (AdviceBasis([], EVIDENCE.labels), placement(), "tenant-a/server has no PodDisruptionBudget"),
        (guarded(minAvailable=1), placement(), "tenant-a/server has no PodDisruptionBudget"),  # it selects none
        (
            guarded(selector={"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["server"]}]}),
            placement(),
            "tenant-a/server has no PodDisruptionBudget",
        ),
        (guarded(selector={}, minAvailable="0%"), placement(), "PodDisruptionBudget pdb lets a drain take all 2"),
        (guarded(selector={}, maxUnavailable=2), placement(), "PodDisruptionBudget pdb lets a drain take all 2"),
        (guarded(selector={}, maxUnavailable="51%"), placement(), "PodDisruptionBudget pdb lets a drain take all 2"),
        (
            B_EVIDENCE,
            placement(
                (*PODS, *B),
                (Proxy("sys", "bare", "proxy", "u", "n1", NODES[0].layers, Scope.NODE, "n1", "p"), NODES[1]),
                (*CALLS, ("tenant-b/client", "tenant-b/server")),
            ),
            "sys/bare[proxy] has no CPU limit and is shared by a, b: one may slow the others",
        ),
        (
            B_EVIDENCE,
            placement(
                (*PODS, *B),
                tuple(replace(one, cpu_millicores=0) for one in NODES),
                (*CALLS, ("tenant-b/client", "tenant-b/server")),
            ),
            "sys/proxy-n1[proxy], sys/proxy-n2[proxy] have no CPU limit and are shared by a, b",
        ),
        (
            EVIDENCE,
            placement((*PODS[:3], pod("server-2", "n2", carried_by=frozenset({Scope.POD})))),
            "pods of tenant-a/server are carried in 2 ways",
        ),
        (
            EVIDENCE,
            placement(
                proxies=(*NODES, Proxy("w", "wp", "p", "u", "n1", NODES[0].layers, Scope.WAYPOINT, "w/wp", "p", 100))
            ),
            "waypoint w/wp has one instance",
        ),
    ],
    ids=[
        "one-replica",
        "one-node",
        "no-budget",
        "budget-of-none",
        "budget-of-others",
        "budget-of-0-percent",
        "budget-of-both",
        "budget-rounded-up",
        "no-limit",
        "no-limit-on-either-node",
        "mixed",
        "one-waypoint",
    ],
)
def test_each_planted_flaw_gives_exactly_one_piece_of_advice(
    evidence: AdviceBasis, found: Placement, words: str
) -> None:
    (said,) = advice(evidence, found)
    assert said.startswith(words)


def test_the_recorded_control_planes_are_found_with_their_parts_and_what_is_not_ready() -> None:
    found = {one.mesh.name: one for one in detect_installed(live.recorded("linkerd/control-plane.yaml"))}
    assert (found["linkerd"].version, found["linkerd"].where) == ("edge-26.11.1", ("linkerd",))
    assert (found["linkerd"].missing, found["istio"].there) == ((), False)
    away = live.recorded("linkerd/control-plane.yaml")
    for obj in away:
        if obj["metadata"]["name"] == "linkerd-proxy-injector":
            obj["status"]["readyReplicas"] = 0
    (linkerd,) = [one for one in detect_installed(away) if one.mesh.name == "linkerd"]
    assert "not ready: linkerd-proxy-injector" in str(linkerd)
    (istio,) = [one for one in detect_installed(live.recorded("sidecar/istiod.yaml")) if one.mesh.name == "istio"]
    assert (istio.where, istio.missing) == (("istio-system",), ())


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ((200, b"1.31.0-rc.0-9b2c-Clean\n"), "1.31.0-rc.0-9b2c-Clean"),
        ((200, b"<html>not a version"), "1.0.0"),  # the label, a development build's placeholder
        ((404, {"message": "no such page"}), "1.0.0"),
    ],
)
def test_the_version_is_istiods_own_word_where_it_gives_one(answer: Any, version: str, tmp_path: Path) -> None:
    pod = {"metadata": {"name": "istiod-1", "namespace": "istio-system"}}
    script = Script(
        (200, {"metadata": {"resourceVersion": "1"}, "items": live.recorded("sidecar/istiod.yaml")}),
        (200, {"metadata": {"resourceVersion": "1"}, "items": [pod]}),
        *[answer] * 3,
    )
    with serving(script, tmp_path, patience=0.2) as cluster:
        (istio,) = [one for one in read_installed(cluster) if one.mesh.name == "istio"]
    assert istio.version == version
    assert script.asked[2] == "GET /api/v1/namespaces/istio-system/pods/istiod-1:15014/proxy/version"


@pytest.mark.parametrize("mode", ASKED)
def test_what_a_mode_asks_of_its_mesh_is_objects_of_known_kinds_in_the_tenants_namespace(mode: str) -> None:
    rule = installed_modes()[mode].rule
    values = {"namespace": "tenant-a", "account": "client", "timeout": "800ms"}
    for feature, file in rule.features.items():
        for obj in manifests.load(f"meshes/objects/{file}", values):
            prefix, _, namespaced = KINDS[kind_key(obj)]
            assert prefix == f"/apis/{obj['apiVersion']}", (feature, obj["kind"])
            assert namespaced, obj["kind"]
            assert obj["metadata"]["namespace"] == "tenant-a"
            assert "${" not in yaml.safe_dump(obj)
    by_layer = {Feature.REQUEST_POLICY, Feature.TIMEOUTS, Feature.RETRIES} & set(rule.features)
    assert not by_layer or mode_named(mode).l7 is not None, "what only a proxy of requests can do"


def test_the_role_for_installed_meshes_allows_every_kind_of_theirs_that_a_mode_applies_and_no_other() -> None:
    (role,) = manifests.load("rbac/runner-meshes.yaml", {})
    allowed = {(group, kind) for one in role["rules"] for group in one["apiGroups"] for kind in one["resources"]}
    files = {file for one in installed_modes().values() for file in one.rule.features.values()}
    files |= {one.rule.enrolment.objects for one in installed_modes().values() if one.rule.enrolment.objects}
    applied = {kind_key(obj) for file in files for obj in manifests.unfilled(f"meshes/objects/{file}")}
    paths = {KINDS[kind] for kind in applied}
    needed = {(prefix.split("/")[2], plural) for prefix, plural, _ in paths if prefix.startswith("/apis/")}
    assert needed == allowed


def test_kinds_of_one_name_are_told_apart_by_their_group() -> None:
    paths = {
        path_of({"kind": "AuthorizationPolicy", "apiVersion": version, "metadata": {"name": "x", "namespace": "n"}})
        for version in ("security.istio.io/v1", "policy.linkerd.io/v1alpha1")
    }
    assert paths == {
        "/apis/security.istio.io/v1/namespaces/n/authorizationpolicies/x",
        "/apis/policy.linkerd.io/v1alpha1/namespaces/n/authorizationpolicies/x",
    }


def test_a_feature_that_is_unknown_is_refused_by_its_place() -> None:
    with pytest.raises(Misuse, match=r"modes\[0\].features.mirroring is not known here: known are identity-policy"):
        parse_description({"name": "x", "modes": [{"name": "m", "features": {"mirroring": "x.yaml"}}]}, source="f")
