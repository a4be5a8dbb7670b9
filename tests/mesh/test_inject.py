from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.errors import Misuse
from chaos.kube.placement import plan_placement
from chaos.mesh import manifests
from chaos.mesh.budget import Budget, Reference, Share, divide, instances
from chaos.mesh.capture import PROBED_VARIABLE
from chaos.mesh.inject import inject, pod_template
from chaos.mesh.render import render_mode
from chaos.model.modes import MODES, Balancing, Layer
from chaos.names import LABEL_MESH, LABEL_RUN
from tests.mesh.controlplane.proxies import of_daemon_set

REFERENCE = manifests.reference("node-1", "node-2")


def values(mode: str) -> dict[str, int]:
    return {
        f"{name.replace('-', '_')}_{part}": value
        for name, share in divide(MODES[mode]).items()
        for part, value in (("cpu", share.cpu_millicores), ("memory", share.memory_mib))
    }


def injected(mode: str, objects: list[dict[str, Any]] = REFERENCE) -> list[dict[str, Any]]:
    return inject(objects, MODES[mode], run="r1", values=values(mode))


def workloads(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        t for o in objects if o["metadata"].get("name") in ("client", "server") and (t := pod_template(o)) is not None
    ]


@pytest.mark.parametrize("mode", MODES)
def test_injection_leaves_the_original_alone_and_labels_everything(mode: str) -> None:
    before = copy.deepcopy(REFERENCE)
    result = injected(mode)
    assert before == REFERENCE
    assert all(o["metadata"]["labels"][LABEL_RUN] == "r1" for o in result)
    assert all(t["metadata"]["labels"][LABEL_RUN] == "r1" for t in workloads(result))


@pytest.mark.parametrize("mode", MODES)
def test_the_applications_own_containers_are_never_changed(mode: str) -> None:
    for before, after in zip(workloads(REFERENCE), workloads(injected(mode)), strict=True):
        assert after["spec"]["containers"][0] == before["spec"]["containers"][0]


def test_mode_none_changes_nothing_but_the_runs_label() -> None:
    for before, after in zip(REFERENCE, injected("none"), strict=True):
        for meta in (after["metadata"], (pod_template(after) or {}).get("metadata", {})):
            meta.get("labels", {}).pop(LABEL_RUN, None)
            if meta.get("labels") == {}:
                del meta["labels"]
        assert after == before


def test_a_sidecar_is_an_ordinary_container_captured_after_the_applications_own_init_containers() -> None:
    objects = manifests.tenant("a", client_nodes=["n"], server_nodes=["n"])
    for template in workloads(objects):
        template["spec"]["initContainers"] = [{"name": "mine", "image": "x"}]
    for template in workloads(injected("sidecar", objects)):
        assert [c["name"] for c in template["spec"]["initContainers"]] == ["mine", "capture"]
        assert [c["name"] for c in template["spec"]["containers"]][1:] == ["proxy"]


def test_a_native_sidecar_starts_before_the_applications_own_init_containers() -> None:
    objects = manifests.tenant("a", client_nodes=["n"], server_nodes=["n"])
    for template in workloads(objects):
        template["spec"]["initContainers"] = [{"name": "mine", "image": "x"}]
    for template in workloads(injected("native-sidecar", objects)):
        assert [c["name"] for c in template["spec"]["initContainers"]] == ["capture", "proxy", "mine"]
        assert template["spec"]["initContainers"][1]["restartPolicy"] == "Always"
        assert "startupProbe" in template["spec"]["initContainers"][1]


@pytest.mark.parametrize("mode", ["node", "ambient-namespace", "ambient-node", "ambient-pod"])
def test_pods_of_shared_proxies_wait_until_they_are_captured(mode: str) -> None:
    for template in workloads(injected(mode)):
        assert template["spec"]["readinessGates"] == [{"conditionType": "sharedfate.io/captured"}]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"])
def test_every_kind_that_makes_pods_is_injected(kind: str) -> None:
    pod: dict[str, Any] = {"metadata": {}, "spec": {"containers": [{"name": "app", "image": "x"}]}}
    specs: dict[str, Any] = {
        "Pod": pod["spec"],
        "CronJob": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": pod}}},
    }
    spec = specs.get(kind, {"template": pod})
    obj = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    space, result = injected("sidecar", [obj])
    assert (space["kind"], space["metadata"]["name"]) == ("Namespace", "default")
    assert LABEL_RUN not in space["metadata"]["labels"], "a namespace that is not ours would be deleted"
    template = pod_template(result)
    assert template is not None
    assert [c["name"] for c in template["spec"]["containers"]] == ["app", "proxy"]


@pytest.mark.parametrize("mode", [name for name, mode in MODES.items() if mode.in_pod])
def test_who_captures_is_told_what_the_kubelet_probes_of_the_application_and_of_its_proxy(mode: str) -> None:
    for template in workloads(injected(mode)):
        (capture,) = (one for one in template["spec"]["initContainers"] if one["name"] == "capture")
        assert {one["name"]: one.get("value") for one in capture["env"]}[PROBED_VARIABLE] == "9990,15021"


def test_injecting_twice_injects_once() -> None:
    once = injected("sidecar")
    assert injected("sidecar", once) == once


@pytest.mark.parametrize(("field", "value"), [("hostNetwork", True), ("label", "disabled")])
def test_pods_that_cannot_or_do_not_want_to_be_meshed_are_left_alone(field: str, value: Any) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "labels": {}},
        "spec": {"containers": [{"name": "app"}]},
    }
    if field == "label":
        pod["metadata"]["labels"][LABEL_MESH] = value  # type: ignore[index]
    else:
        pod["spec"][field] = value  # type: ignore[index]
    assert len(injected("sidecar", [pod])[-1]["spec"]["containers"]) == 1


def test_a_container_of_the_proxys_name_is_refused_by_name() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [{"name": "proxy"}]}}
    with pytest.raises(Misuse, match=r"Pod x: spec\.containers has proxy"):
        injected("sidecar", [pod])


def test_a_missing_value_names_the_file_and_the_value() -> None:
    with pytest.raises(Misuse, match=r"manifests/modes/sidecar/pod.yaml: no value for l4_l7_cpu"):
        inject(REFERENCE, MODES["sidecar"], run="r", values={"l4_l7_memory": 1})


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text("a: [1")
    with pytest.raises(Misuse, match=r"app.yaml: not YAML"):
        manifests.read(file)


@pytest.mark.parametrize("mode", MODES)
def test_the_proxies_of_every_mode_add_up_to_the_budget(mode: str) -> None:
    shares, counts = divide(MODES[mode], Budget(), Reference()), instances(MODES[mode])
    placed = sum(shares[name].cpu_millicores * counts[name] for name in shares)
    if mode == "none":
        placed = shares["none"].cpu_millicores * counts["none"]
    assert 0 <= 1200 - placed < 9  # whole millicores each
    assert sum(shares[name].memory_mib * counts[name] for name in shares) == 1152


def test_the_division_is_that_of_the_design() -> None:
    assert divide(MODES["sidecar"])["l4-l7"] == Share(133, 128)
    assert divide(MODES["node"])["l4-l7"].cpu_millicores == 600
    assert {name: s.cpu_millicores for name, s in divide(MODES["ambient-pod"]).items()} == {"l4": 300, "l7": 100}


def test_a_budget_that_cannot_be_names_every_wrong_field() -> None:
    with pytest.raises(Misuse, match=r"cpu_millicores is 0.*l7_share is 1"):
        Budget(cpu_millicores=0, l7_share=1.0)


def test_another_budget_is_rendered_into_every_proxy() -> None:
    plain, double = (
        list(yaml.safe_load_all(render_mode("node", [], run="r", budget=Budget(cpu, memory))))
        for cpu, memory in ((900, 1152), (1800, 2304))
    )

    def proxy(objects: list[Any]) -> tuple[int, str]:
        template = next(o for o in objects if o["kind"] == "DaemonSet")["spec"]["template"]
        return (
            int(template["metadata"]["annotations"]["sharedfate.io/cpu-budget"]),
            template["spec"]["containers"][0]["resources"]["limits"]["memory"],
        )

    assert (proxy(plain), proxy(double)) == ((450, "576Mi"), (900, "1152Mi"))


@pytest.mark.parametrize("mode", MODES)
def test_what_is_rendered_is_what_yaml_reads_back(mode: str) -> None:
    objects = injected(mode)
    assert list(yaml.safe_load_all(manifests.dump(objects))) == objects


def live(template: dict[str, Any], name: str, namespace: str, node: str) -> dict[str, Any]:
    pod = copy.deepcopy(template)
    pod["metadata"] |= {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}"}
    pod["spec"]["nodeName"] = node
    pod["status"] = {"phase": "Running", "podIP": "10.0.0.1"}
    return pod


def test_sidecars_are_found_in_the_pods_that_hold_them_and_ended_pods_are_not() -> None:
    objects = injected("sidecar", manifests.tenant("a", client_nodes=["n"], server_nodes=["n"]))
    server, client = workloads(objects)
    pods = [live(client, "client", "tenant-a", "n1"), live(server, "server", "tenant-a", "n2")]
    ended = live(server, "old", "tenant-a", "n2")
    ended["status"]["phase"] = "Failed"
    placement = plan_placement([*pods, ended], MODES["sidecar"])
    assert [p.key for p in placement.proxies] == ["uid-tenant-a-client", "uid-tenant-a-server"]
    assert placement.proxies[0].cpu_millicores == 133
    assert placement.proxies[0].memory_bytes == 128 << 20
    assert placement.calls == (("tenant-a/client", "tenant-a/server"),)
    assert len(placement.pairs()) == 1


@pytest.mark.parametrize("mode", MODES)
def test_calls_to_pods_without_a_waypoint_pass_layer_4_alone_and_others_as_before(mode: str) -> None:
    tenant = injected(mode, manifests.tenant("a", client_nodes=["n"], server_nodes=["n"]))
    plain = [o for o in injected(mode, manifests.plain("plain", tenant="a", nodes=["n"])) if o["kind"] == "Deployment"]
    server, client = workloads(tenant)
    pods = [live(client, "client", "tenant-a", "n1"), live(server, "server", "tenant-a", "n2")]
    pods.append(live(plain[-1]["spec"]["template"], "plain", "tenant-a", "n1"))
    for one in pods:
        meta = one["metadata"]
        meta["labels"]["pod-template-hash"] = "1"
        meta["ownerReferences"] = [{"kind": "ReplicaSet", "name": f"{meta['name']}-1", "controller": True}]
    calls = [("tenant-a/client", "tenant-a/server"), ("tenant-a/client", "tenant-a/plain")]
    placement = plan_placement(pods, MODES[mode], calls=calls)
    of = {pair.server.workload: placement.route(pair) for pair in placement.pairs()}
    assert of["server"].hops == MODES[mode].hops
    if not MODES[mode].separate_layers:
        assert of["plain"].hops == MODES[mode].hops
        return
    assert [hop.layers for hop in of["plain"].hops] == [frozenset({Layer.L4})] * 2
    assert of["plain"].balancing is Balancing.CONNECTION


def test_the_placebo_has_no_layer() -> None:
    [daemon_set] = manifests.load("modes/none/components.yaml", {**values("none"), "mode": "none"})
    placement = plan_placement([of_daemon_set(daemon_set, node="n1", ip="10.0.0.1")], MODES["none"])
    assert [p.layers for p in placement.proxies] == [frozenset()]
