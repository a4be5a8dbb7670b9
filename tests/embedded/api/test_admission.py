"""Defaults against recordings of a real API server; validation that names the field; what updates may not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from chaos.embedded.api.admission import admit_create
from chaos.embedded.resources import EVENT, NAMESPACE, SERVICE_ACCOUNT, Resource
from chaos.embedded.resources import RESOURCES as ALL
from chaos.embedded.store import Store
from chaos.errors import ApiError
from chaos.kube.client import Cluster
from tests.embedded.api.conftest import config_map, deployment, pod

RECORDINGS = Path(__file__).parents[2] / "parity" / "recordings"
RESOURCES: dict[str, Resource] = {one.kind: one for one in ALL if one is not EVENT}


def first_objects(scenario: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Each object as a watcher of the real cluster first saw it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in (scenario / "watch.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["type"] == "ADDED":
            found.setdefault((row["kind"], row["object"]["metadata"]["name"]), row["object"])
    return found


def comparable(value: Any, names: dict[str, str]) -> Any:
    """Without what is chosen at random or added by the recorded distribution."""
    if isinstance(value, dict):
        return {
            key: comparable(item, names)
            for key, item in value.items()
            if key not in ("uid", "resourceVersion", "creationTimestamp")
        }
    if isinstance(value, list):
        return [
            comparable(item, names)
            for item in value
            if not (isinstance(item, dict) and (item.get("configMap") or {}).get("name") == "openshift-service-ca.crt")
        ]
    if isinstance(value, str):
        if value.startswith("kube-api-access-"):
            return "kube-api-access"
        return names.get(value, value)
    return value


@pytest.mark.parametrize(
    "scenario", sorted(path.name for path in RECORDINGS.iterdir() if (path / "manifest.yaml").exists())
)
def test_defaults_are_those_of_a_real_api_server(scenario: str) -> None:
    recorded = first_objects(RECORDINGS / scenario)
    namespace = next(iter(recorded.values()))["metadata"]["namespace"]
    store = Store()
    store.create(NAMESPACE, {"metadata": {"name": namespace}})
    store.create(SERVICE_ACCOUNT, {"metadata": {"name": "default", "namespace": namespace}})
    compared, seen = 0, set()
    for written in yaml.safe_load_all((RECORDINGS / scenario / "manifest.yaml").read_text()):
        document = orjson.loads(
            orjson.dumps(written, option=orjson.OPT_NON_STR_KEYS)
        )  # a key `no` is "false", as kubectl reads it
        if not document or (document["kind"], document["metadata"]["name"]) in seen:
            continue
        seen.add((document["kind"], document["metadata"]["name"]))
        real = recorded[document["kind"], document["metadata"]["name"]]
        document["metadata"]["namespace"] = namespace
        ours = admit_create(store, RESOURCES[document["kind"]], document)
        names = {ours["metadata"]["uid"]: "UID", real["metadata"]["uid"]: "UID"} if document["kind"] == "Job" else {}
        if document["kind"] == "Service":
            for one in (ours, real):
                if one["spec"]["clusterIP"] != "None":
                    names |= {one["spec"]["clusterIP"]: "IP"}
        assert comparable(ours, names) == comparable(real, names)
        compared += 1
    assert compared


@pytest.mark.live
@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d["spec"].pop("selector"), "spec.selector"),
        (lambda d: d["spec"]["template"]["spec"].update(containers=[]), "spec.template.spec.containers"),
        (lambda d: d["spec"].update(replicas=-1), "spec.replicas"),
        (lambda d: d["spec"]["selector"].update(matchLabels={"app": "else"}), "spec.template.metadata.labels"),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"][0].update(name="Not_OK"),
            "spec.template.spec.containers[0].name",
        ),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"][0].pop("image"),
            "spec.template.spec.containers[0].image",
        ),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"].append({"name": "app", "image": "x"}),
            "spec.template.spec.containers[1].name",
        ),
        (lambda d: d["spec"]["template"]["spec"].update(restartPolicy="Never"), "spec.template.spec.restartPolicy"),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"][0].update(
                resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}
            ),
            "spec.template.spec.containers[0].resources.requests",
        ),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"][0].update(resources={"limits": {"apples": "1"}}),
            "spec.template.spec.containers[0].resources.limits[apples]",
        ),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"][0].update(livenessProbe={"periodSeconds": 1}),
            "spec.template.spec.containers[0].livenessProbe",
        ),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"][0].update(
                volumeMounts=[{"name": "no", "mountPath": "/x"}]
            ),
            "spec.template.spec.containers[0].volumeMounts[0].name",
        ),
        (
            lambda d: d["spec"]["template"]["spec"]["containers"][0].update(ports=[{"containerPort": 70000}]),
            "spec.template.spec.containers[0].ports[0].containerPort",
        ),
        (
            lambda d: d["spec"].update(
                strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}
            ),
            "spec.strategy.rollingUpdate.maxUnavailable",
        ),
        (lambda d: d["metadata"].update(labels={"a b": "c"}), "metadata.labels"),
        (lambda d: d["metadata"].update(name="Upper"), "metadata.name"),
    ],
)
def test_an_invalid_deployment_answers_422_and_names_the_field(
    cluster: Cluster, namespace: str, change: Any, field: str
) -> None:
    body = deployment("d", namespace)
    change(body)
    with pytest.raises(ApiError) as error:
        cluster.create(body)
    assert (error.value.code, error.value.reason) == (422, "Invalid")
    assert field in [cause["field"] for cause in error.value.status["details"]["causes"]]
    assert error.value.status["message"].startswith("Deployment.apps ")


@pytest.mark.live
def test_a_wrong_type_answers_400_and_names_the_field(cluster: Cluster, namespace: str) -> None:
    body = deployment("d", namespace)
    body["spec"]["replicas"] = "three"
    with pytest.raises(
        ApiError, match=r"cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    ) as error:
        cluster.create(body)
    assert error.value.code == 400


@pytest.mark.live
@pytest.mark.parametrize("value", [1e308, 0.5, 2**31, -(2**40)])
def test_a_number_that_is_no_int32_is_neither_a_number_nor_a_percentage(
    cluster: Cluster, namespace: str, value: float
) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": namespace},
        "spec": {"minAvailable": value},
    }
    said = "into Go struct field PodDisruptionBudgetSpec.spec.minAvailable of type int32"
    with pytest.raises(ApiError, match=said) as error:
        cluster.create(budget)
    assert error.value.code == 400


@pytest.mark.live
@pytest.mark.parametrize(
    ("version", "kind"), [("policy/v1", "PodDisruptionBudget"), ("coordination.k8s.io/v1", "Lease")]
)
def test_an_object_without_a_spec_has_an_empty_one(cluster: Cluster, namespace: str, version: str, kind: str) -> None:
    made = cluster.create({"apiVersion": version, "kind": kind, "metadata": {"name": "b", "namespace": namespace}})
    assert made["spec"] == {}


@pytest.mark.live
def test_a_grace_period_that_is_empty_is_none(cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map("a", namespace))
    cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/a", query={"gracePeriodSeconds": ""})
    assert cluster.find("ConfigMap", "a", namespace) is None


@pytest.mark.live
def test_an_unknown_field_is_dropped_warned_about_or_refused(cluster: Cluster, namespace: str) -> None:
    body = config_map("a", namespace) | {"colour": "red"}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with pytest.raises(ApiError, match=r'strict decoding error: unknown field "colour"') as error:
        cluster.request("POST", path, body, query={"fieldValidation": "Strict"})
    assert error.value.code == 400
    response = cluster.open("POST", path, body=json.dumps(body).encode())
    assert response.headers["Warning"] == '299 - "unknown field \\"colour\\""'
    assert "colour" not in json.loads(response.read())


@pytest.mark.live
def test_a_pods_spec_cannot_be_changed_but_for_its_image(cluster: Cluster, namespace: str) -> None:
    cluster.create(pod("p", namespace, schedulerName="nobody"))
    cluster.patch(
        "Pod", "p", {"spec": {"containers": [{"name": "app", "image": "example:2"}]}}, namespace, how="strategic"
    )
    with pytest.raises(ApiError, match="pod updates may not change fields other than") as error:
        cluster.patch("Pod", "p", {"spec": {"hostname": "other"}}, namespace)
    assert error.value.code == 422


@pytest.mark.live
def test_resize_changes_cpu_and_memory_and_keeps_the_qos_class(cluster: Cluster, namespace: str) -> None:
    resources = {"requests": {"cpu": "100m"}}
    cluster.create(
        pod("p", namespace, schedulerName="nobody", containers=[{"name": "app", "image": "x", "resources": resources}])
    )

    def resize(**changed: Any) -> Any:
        return cluster.patch(
            "Pod",
            "p",
            {"spec": {"containers": [{"name": "app", **changed}]}},
            namespace,
            how="strategic",
            subresource="resize",
        )

    after = resize(resources={"limits": {"cpu": "200m"}})
    assert after["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    assert after["metadata"]["generation"] == 2
    with pytest.raises(ApiError, match="QOS Class may not change"):
        resize(resources={"limits": {"cpu": "100m", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}})
    assert resize(image="y")["spec"]["containers"][0]["image"] == "x"  # a resize takes nothing else over


@pytest.mark.live
def test_selectors_and_job_templates_are_immutable(cluster: Cluster, namespace: str) -> None:
    cluster.create(deployment("d", namespace, 0))
    with pytest.raises(ApiError, match=r"spec.selector: Invalid value: .*field is immutable"):
        cluster.patch(
            "Deployment",
            "d",
            {"spec": {"selector": {"matchLabels": {"more": "x"}}, "template": {"metadata": {"labels": {"more": "x"}}}}},
            namespace,
        )
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "x"}]}}
    cluster.create(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "j", "namespace": namespace},
            "spec": {"template": template, "suspend": True, "parallelism": 0},
        }
    )
    with pytest.raises(ApiError, match=r"spec.template: Invalid value: .*field is immutable"):
        cluster.patch("Job", "j", {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}, namespace)


@pytest.mark.live
def test_services_get_addresses_of_their_own_and_keep_them(cluster: Cluster, namespace: str) -> None:
    def service(name: str, **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"port": 80}], "selector": {"app": "x"}, **spec},
        }

    made = [cluster.create(service(f"s{n}"))["spec"]["clusterIP"] for n in range(30)]
    assert len(set(made)) == 30
    assert cluster.replace(service("s0", ports=[{"port": 81}]))["spec"]["clusterIP"] == made[0]
    with pytest.raises(ApiError, match="provided IP is already allocated"):
        cluster.create(service("clash", clusterIP=made[0]))
    with pytest.raises(ApiError, match="may not change once set"):
        cluster.patch("Service", "s0", {"spec": {"clusterIP": "10.96.99.99", "clusterIPs": ["10.96.99.99"]}}, namespace)
    ports = [cluster.create(service(f"n{n}", type="NodePort"))["spec"]["ports"][0]["nodePort"] for n in range(10)]
    assert len(set(ports)) == 10
    assert all(30000 <= port < 32768 for port in ports)


@pytest.mark.live
def test_a_pod_of_an_unknown_service_account_is_forbidden(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(
        ApiError, match=r'error looking up service account .*/ghost: serviceaccount "ghost" not found'
    ) as error:
        cluster.create(pod("p", namespace, serviceAccountName="ghost"))
    assert error.value.code == 403


@pytest.mark.live
def test_a_limit_range_fills_in_what_a_container_leaves_out(cluster: Cluster, namespace: str) -> None:
    cluster.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/limitranges",
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "l"},
            "spec": {"limits": [{"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "50m"}}]},
        },
    )
    made = cluster.create(pod("p", namespace, schedulerName="nobody"))
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "50m"}}
    assert made["status"]["qosClass"] == "Burstable"
