"""What a run puts beside a mesh that is not ours, and what it may break there: planned from objects, without a
cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.cluster.consent import Consent
from chaos.engine.catalogue import scenario_names
from chaos.engine.external import breakable, loaded_calls, refuse_unlisted
from chaos.engine.matrix import ON_TARGET
from chaos.engine.scenario import SCENARIOS
from chaos.errors import ExperimentFailure, Misuse
from chaos.external import built_in, parse_target, plan_target_placement
from chaos.external.description import LoaderRule
from chaos.external.loaders import loaded, plan_loaders
from chaos.mesh import manifests
from chaos.model.fate import flow_shares
from chaos.model.modes import Layer
from chaos.names import IMAGE, LABEL_RUN
from tests.engine import options
from tests.external import known_meshes as meshes
from tests.external.test_description import DOCUMENT
from tests.stranger import foreign_mesh as foreign

TARGET = parse_target(
    {
        **DOCUMENT,
        "calls": [
            {**DOCUMENT["calls"][0], "rate": 50, "status": 204},
            {**DOCUMENT["calls"][1], "reach": "core.bank:80"},
        ],
    },
    source="t",
)


def with_loaders(
    objects: tuple[list[Any], list[Any]], rule: LoaderRule | None = None, *, carried: bool = True
) -> list[dict[str, Any]]:
    """The mesh's pods and the loaders, as the cluster would show them once they run."""
    _, pods = objects
    planned = plan_loaders(TARGET, rule or LoaderRule(), pods, run="r")
    for number, one in enumerate(planned):
        one["metadata"]["uid"] = f"loader-{number}"
        where = one["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ]
        (one["spec"]["nodeName"],) = where[0]["matchFields"][0]["values"]
        one["status"] = {"phase": "Running"}
        if carried:
            one["metadata"]["annotations"]["ambient.istio.io/redirection"] = "enabled"
    return planned


def test_a_loader_stands_on_its_clients_node_under_its_account_and_carries_the_runs_label() -> None:
    (web, app), pods = with_loaders(meshes.ISTIO_AMBIENT), meshes.ISTIO_AMBIENT[1]
    beside = next(pod for pod in pods if pod["metadata"]["labels"].get("app") == "web")
    assert (web["metadata"]["namespace"], web["metadata"]["name"]) == ("shop", "sharedfate-web")
    assert web["metadata"]["labels"][LABEL_RUN] == "r"
    assert web["spec"]["nodeName"] == beside["spec"]["nodeName"]
    assert web["spec"]["serviceAccountName"] == beside["spec"].get("serviceAccountName", "default")
    assert [one["image"] for one in web["spec"]["containers"]] == [IMAGE]
    assert app["metadata"]["namespace"] == "bank"


def test_the_flows_that_are_judged_are_the_loaders_and_the_clients_are_none() -> None:
    spaces, pods = meshes.ISTIO_AMBIENT
    placement = plan_target_placement(
        loaded(TARGET), built_in("istio-ambient"), spaces, [*pods, *with_loaders(meshes.ISTIO_AMBIENT)]
    )
    shop, bank = ("shop/sharedfate-web", "shop/api"), ("bank/sharedfate-app", "bank/core")
    assert set(placement.calls) == {shop, bank}
    assert {pod.workload_key for pod in placement.pods} == {*shop, *bank}
    by_node = {proxy.node: flow_shares(placement, [proxy]) for proxy in placement.proxies}
    assert by_node == {"n1": {shop: 1.0, bank: 0.0}, "n2": {shop: 0.5, bank: 1.0}}


def test_what_is_broken_lies_on_the_first_calls_path_and_not_in_the_loaders_own_pod() -> None:
    spaces, pods = meshes.LINKERD
    loaders = with_loaders(meshes.LINKERD)
    for one in loaders:  # as the mesh's webhook would
        one["spec"]["containers"].append({"name": "linkerd-proxy", "image": "proxy"})
    placement = plan_target_placement(loaded(TARGET), built_in("linkerd"), spaces, [*pods, *loaders])
    found = breakable(placement, "shop/sharedfate-web", Layer.L4)
    assert found is not None
    assert found.pod.startswith("api-")
    assert flow_shares(placement, [found])["shop/sharedfate-web", "shop/api"] == 0.5


def test_a_mesh_without_the_layer_gives_what_it_has_and_no_mesh_gives_nothing() -> None:
    spaces, pods = meshes.CILIUM
    placement = plan_target_placement(loaded(TARGET), built_in("cilium"), spaces, [*pods, *with_loaders(meshes.CILIUM)])
    found = breakable(placement, "shop/sharedfate-web", Layer.L4)
    assert found is not None
    assert found.layers == {Layer.L7}
    target = parse_target({**DOCUMENT, "mesh": "none"}, source="t")
    assert target.name == "none"
    assert target.mesh is not None
    assert (
        breakable(plan_target_placement(target, target.mesh, meshes.namespaces(), meshes.apps()), "shop/web", Layer.L4)
        is None
    )


def test_containers_that_were_written_into_the_client_are_copied_with_their_volumes_and_without_its_token() -> None:
    client = meshes.pod("shop", "web", "n1")
    client["spec"]["containers"] += [
        {
            "name": "proxy",
            "image": "p",
            "volumeMounts": [
                {"name": "bootstrap", "mountPath": "/b"},
                {"name": "kube-api-access-x1", "mountPath": "/t"},
            ],
        }
    ]
    client["spec"]["initContainers"] = [{"name": "capture", "image": "c"}, {"name": "migrate", "image": "m"}]
    client["spec"]["volumes"] = [
        {"name": "bootstrap", "emptyDir": {}},
        {"name": "data", "emptyDir": {}},
        {"name": "kube-api-access-x1"},
    ]
    target = parse_target({**DOCUMENT, "calls": [DOCUMENT["calls"][0]]}, source="t")
    rule = LoaderRule({"mesh": "on"}, {"ports": "9990"}, ("proxy", "capture"), ("captured",))
    (planned,) = plan_loaders(target, rule, [client], run="r")
    assert [one["name"] for one in planned["spec"]["containers"]] == ["client", "proxy"]
    assert [one["name"] for one in planned["spec"]["initContainers"]] == ["capture"]
    assert planned["spec"]["volumes"] == [{"name": "bootstrap", "emptyDir": {}}]
    assert planned["spec"]["containers"][1]["volumeMounts"] == [{"name": "bootstrap", "mountPath": "/b"}]
    assert planned["spec"]["readinessGates"] == [{"conditionType": "captured"}]
    assert planned["metadata"]["labels"]["mesh"] == "on"
    assert planned["metadata"]["annotations"].items() >= {"ports": "9990"}.items()
    with pytest.raises(Misuse, match=r"loader.containers has envoy, and the pods of shop/web have no such container"):
        plan_loaders(target, LoaderRule(containers=("envoy",)), [client], run="r")


def test_a_client_without_pods_and_calls_without_an_address_are_refused() -> None:
    with pytest.raises(ExperimentFailure, match="no live pod of shop/web: its loader cannot be placed"):
        plan_loaders(TARGET, LoaderRule(), [], run="r")
    bare = parse_target({**DOCUMENT, "calls": [DOCUMENT["calls"][1]]}, source="t")
    with pytest.raises(Misuse, match="there is nothing to load"):
        loaded(bare)


def test_nothing_is_broken_in_a_namespace_that_was_not_listed() -> None:
    spaces, pods = meshes.ISTIO_AMBIENT
    placement = plan_target_placement(TARGET, built_in("istio-ambient"), spaces, pods)
    with pytest.raises(Misuse, match=r"bank, istio-system was not listed.*--chaos-namespaces bank,istio-system,shop"):
        refuse_unlisted(placement, TARGET, ("shop",))
    refuse_unlisted(placement, TARGET, ("shop", "bank", "istio-system", "more"))


def test_each_call_keeps_its_own_rate_status_and_tenant() -> None:
    shop, bank = loaded_calls(loaded(TARGET))
    assert (shop.name, shop.namespace, shop.client, shop.server) == ("shop", "shop", "shop/sharedfate-web", "shop/api")
    assert (shop.call.rate, shop.call.status, bank.call.rate) == (50, 204, 200)
    assert shop.flow_name != bank.flow_name


def test_wrong_numbers_repeated_calls_and_a_name_of_ours_are_refused_together() -> None:
    call = {**DOCUMENT["calls"][0], "rate": 0, "status": "ok"}
    with pytest.raises(Misuse) as caught:
        parse_target({**DOCUMENT, "calls": [call, call], "mesh": {"name": "node", **foreign.LOOKS["node"]}}, source="t")
    for part in (
        "calls[0].rate is 0, and should be a number above 0",
        "calls[1].status is 'ok'",
        "shop/web -> shop/api more than once",
        "mesh.name is 'node', a proxy mode of our own",
    ):
        assert part in str(caught.value), caught.value


def settings(file: Path, **changes: Any) -> Any:
    return options.settings(**{"cluster": "context:theirs", "target": str(file), **changes})


def test_a_target_takes_the_place_of_the_modes_and_wants_a_cluster_of_yours(tmp_path: Path) -> None:
    file = tmp_path / "target.yaml"
    file.write_text(yaml.safe_dump(foreign.target_file("node")))
    found = settings(file, namespaces="shop,bank")
    assert (found.modes, found.scenarios) == (("their-node",), ON_TARGET)
    assert found.consent == Consent(namespaces=("shop", "bank"))
    with pytest.raises(
        Misuse, match=r"cluster embedded: .* context:NAME or in-cluster; modes node: a target's mesh is what it is"
    ):
        settings(file, cluster="embedded", modes="node")
    with pytest.raises(Misuse, match=r"none\.yaml: no such file"):
        settings(tmp_path / "none.yaml")


def test_what_deploys_parts_of_our_own_says_why_it_does_not_run_on_a_target() -> None:
    names = set(scenario_names())
    assert set(ON_TARGET) <= {name for name in names if not SCENARIOS[name].why_not_on_a_target}
    of_mesh = {name for name in names if SCENARIOS[name].reference_mesh_only}
    assert of_mesh == {
        "certificates-rotated",
        "enrolment-off",
        "enrolment-on",
        "job-policies",
        "noisy-bytes",
        "noisy-connections",
        "noisy-tunnel",
        "proxy-recreated",
        "root-rotated",
        "waypoint-added",
        "waypoint-moved",
        "waypoint-removed",
        "waypoint-upgraded",
    }
    assert {name for name in names if SCENARIOS[name].reference_apps_only} == {
        "client-shut-down",
        "client-shut-down-proxy-killed",
        "control-plane-down",
        "control-plane-upgraded",
        "cron-job",
        "features",
        "footprint",
        "identities-exposed",
        "job-completes",
        "job-policies",
        "job-proxy-killed",
        "job-starts-before-proxy",
        "noisy-bodies",
        "noisy-bytes",
        "noisy-connections",
        "noisy-slow-readers",
        "noisy-tunnel",
        "proxy-reconfigured",
        "server-shut-down",
    }


def test_another_installations_name_is_everywhere_and_its_containers_are_told_of_it() -> None:
    objects = [
        obj
        for file in ("namespace.yaml", "control-plane.yaml", "rbac/watchdog.yaml", "modes/node/components.yaml")
        for obj in manifests.load(
            file, {"mode": "node", "run": "r", "mesh_json": "{}", "l4_l7_cpu": 1, "l4_l7_memory": 1}
        )
    ]
    renamed = manifests.renamed(objects, "blue")
    text = yaml.safe_dump(renamed).replace(IMAGE, "")
    assert "sharedfate.io" not in text
    assert "sharedfate-" not in text
    assert "/etc/sharedfate" in text  # paths inside containers stay
    told = [
        one["env"][-1]
        for obj in renamed
        if obj["kind"] in ("Deployment", "DaemonSet")
        for one in obj["spec"]["template"]["spec"]["containers"]
    ]
    assert told == [{"name": "SHAREDFATE_NAME", "value": "blue"}] * 3
    assert manifests.renamed(objects, "sharedfate")[0] == objects[0]
