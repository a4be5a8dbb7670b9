"""Objects: create, read, update, delete, as Kubernetes answers."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded import store as stores
from chaos.errors import ApiError
from chaos.kube.client import Cluster
from tests.embedded.api.conftest import World, config_map, deployment, pod

pytestmark = pytest.mark.live


def refused(error: pytest.ExceptionInfo[ApiError]) -> tuple[int, str]:
    return error.value.code, error.value.reason


def test_a_created_object_comes_back_with_uid_version_and_time(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map("a", namespace, k="v"))
    assert made["data"] == {"k": "v"}
    assert {"uid", "resourceVersion", "creationTimestamp"} <= made["metadata"].keys()
    assert cluster.get("ConfigMap", "a", namespace) == made


def test_creating_twice_answers_already_exists(cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map("a", namespace))
    with pytest.raises(ApiError, match=r'configmaps "a" already exists') as error:
        cluster.create(config_map("a", namespace))
    assert refused(error) == (409, "AlreadyExists")


def test_a_missing_object_is_named_with_its_group(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(ApiError, match=r'deployments.apps "no" not found') as error:
        cluster.get("Deployment", "no", namespace)
    assert refused(error) == (404, "NotFound")
    assert error.value.status["details"] == {"name": "no", "group": "apps", "kind": "deployments"}


def test_creating_in_a_namespace_that_is_not_there_answers_404(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match=r'namespaces "nowhere" not found') as error:
        cluster.create(config_map("a", "nowhere"))
    assert refused(error) == (404, "NotFound")


def test_a_stale_version_answers_conflict_and_changes_nothing(cluster: Cluster, namespace: str) -> None:
    first = cluster.create(config_map("a", namespace, k="1"))
    cluster.patch("ConfigMap", "a", {"data": {"k": "2"}}, namespace)
    with pytest.raises(ApiError, match="the object has been modified") as error:
        cluster.replace(first | {"data": {"k": "3"}})
    assert refused(error) == (409, "Conflict")
    assert cluster.get("ConfigMap", "a", namespace)["data"] == {"k": "2"}


def test_storing_what_is_there_keeps_the_version(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(deployment("d", namespace, 0))
    again = cluster.patch("Deployment", "d", {"spec": {"replicas": 0}}, namespace)
    assert again["metadata"]["generation"] == made["metadata"]["generation"]


def test_generation_counts_changes_of_the_spec_and_not_of_labels(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(deployment("d", namespace, 0))
    assert made["metadata"]["generation"] == 1
    assert (
        cluster.patch("Deployment", "d", {"metadata": {"labels": {"x": "y"}}}, namespace)["metadata"]["generation"] == 1
    )
    assert cluster.patch("Deployment", "d", {"spec": {"replicas": 1}}, namespace)["metadata"]["generation"] >= 2


def test_generate_name_gives_each_its_own(cluster: Cluster, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g-", "namespace": namespace}}
    names = {cluster.create(body)["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("g-") and len(name) == 7 for name in names)


def test_dry_run_answers_and_stores_nothing(cluster: Cluster, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    answer = cluster.request("POST", path, config_map("a", namespace), query={"dryRun": "All"})
    assert answer["metadata"]["uid"]
    assert cluster.find("ConfigMap", "a", namespace) is None


def test_status_is_written_by_its_subresource_alone(cluster: Cluster, namespace: str) -> None:
    cluster.create(deployment("d", namespace, 0))
    cluster.patch("Deployment", "d", {"status": {"replicas": 7}, "spec": {"paused": True}}, namespace)
    assert cluster.get("Deployment", "d", namespace).get("status", {}).get("replicas", 0) != 7
    cluster.patch(
        "Deployment",
        "d",
        {"spec": {"paused": False, "replicas": 9}, "status": {"collisionCount": 5}},
        namespace,
        subresource="status",
    )
    after = cluster.get("Deployment", "d", namespace)
    assert after["spec"]["replicas"] == 0
    assert after["spec"]["paused"] is True
    assert after["status"]["collisionCount"] == 5


def test_a_finalizer_holds_a_deleted_object(cluster: Cluster, namespace: str) -> None:
    body = config_map("a", namespace)
    body["metadata"]["finalizers"] = ["example.com/hold"]
    cluster.create(body)
    cluster.delete("ConfigMap", "a", namespace)
    assert "deletionTimestamp" in cluster.get("ConfigMap", "a", namespace)["metadata"]
    with pytest.raises(ApiError, match="no new finalizers"):
        cluster.patch(
            "ConfigMap", "a", {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}, namespace
        )
    cluster.patch("ConfigMap", "a", {"metadata": {"finalizers": None}}, namespace)
    assert cluster.find("ConfigMap", "a", namespace) is None


def test_delete_honours_its_uid_precondition(cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map("a", namespace))
    with pytest.raises(ApiError, match="the UID in the precondition") as error:
        cluster.delete("ConfigMap", "a", namespace, uid="another")
    assert refused(error) == (409, "Conflict")


def test_deleting_a_collection_takes_what_the_selector_names(cluster: Cluster, namespace: str) -> None:
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        body = config_map(name, namespace)
        body["metadata"]["labels"] = {"l": label}
        cluster.create(body)
    cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/configmaps", query={"labelSelector": "l=x"})
    assert [one["metadata"]["name"] for one in cluster.list("ConfigMap", namespace, labels="l")] == ["c"]


def test_a_pod_without_a_node_is_deleted_at_once(cluster: Cluster, namespace: str) -> None:
    cluster.create(pod("p", namespace, schedulerName="nobody"))
    cluster.delete("Pod", "p", namespace)
    assert cluster.find("Pod", "p", namespace) is None


def test_a_pod_on_a_node_waits_for_its_kubelet(cluster: Cluster, namespace: str) -> None:
    cluster.create(pod("p", namespace, nodeName="far"))
    cluster.delete("Pod", "p", namespace)
    meta = cluster.get("Pod", "p", namespace)["metadata"]
    assert meta["deletionGracePeriodSeconds"] == 30
    assert meta["generation"] == 2
    cluster.delete("Pod", "p", namespace, grace=0)
    assert cluster.find("Pod", "p", namespace) is None


def test_binding_puts_a_pod_on_a_node_once(cluster: Cluster, namespace: str) -> None:
    cluster.create(pod("p", namespace, schedulerName="mine"))
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    path = f"/api/v1/namespaces/{namespace}/pods/p/binding"
    cluster.request("POST", path, body)
    bound = cluster.get("Pod", "p", namespace)
    assert bound["spec"]["nodeName"] == "n"
    assert {c["type"]: c["status"] for c in bound["status"]["conditions"]} == {"PodScheduled": "True"}
    with pytest.raises(ApiError, match="already assigned") as error:
        cluster.request("POST", path, body)
    assert refused(error) == (409, "Conflict")


def test_scale_reads_and_writes_replicas(cluster: Cluster, namespace: str) -> None:
    cluster.create(deployment("d", namespace, 0))
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/d/scale"
    scale = cluster.request("GET", path)
    assert scale["status"]["selector"] == "app=d"
    scale["spec"]["replicas"] = 2
    cluster.request("PUT", path, scale)
    assert cluster.get("Deployment", "d", namespace)["spec"]["replicas"] == 2
    with pytest.raises(ApiError, match="must be greater than or equal to 0"):
        cluster.patch("Deployment", "d", {"spec": {"replicas": -1}}, namespace, subresource="scale")


def test_lists_are_selected_by_labels_and_fields(cluster: Cluster, namespace: str) -> None:
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "n1")):
        cluster.create(pod(name, namespace, nodeName=node))

    def names(labels: str | None = None, fields: str | None = None) -> list[str]:
        return [one["metadata"]["name"] for one in cluster.list("Pod", namespace, labels=labels, fields=fields)]

    assert names(labels="app in (a,b)") == ["a", "b"]
    assert names(labels="app notin (a),app") == ["b", "c"]
    assert names(labels="!app") == []
    assert names(labels="app!=a") == ["b", "c"]
    assert names(fields="spec.nodeName=n1") == ["a", "c"]
    assert names(fields="spec.nodeName=n1,metadata.name!=a") == ["c"]
    assert names(fields="status.phase=Pending", labels="app==b") == ["b"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"labelSelector": "a in (b"}, "expected: ',' or '.'"),
        ({"labelSelector": "=b"}, "expected: !, identifier"),
        ({"fieldSelector": "spec.colour=red"}, "field label not supported: spec.colour"),
        ({"limit": "many"}, "invalid syntax"),
        ({"continue": "rubbish"}, "continue key is not valid"),
        ({"resourceVersion": "new"}, "invalid syntax"),
    ],
)
def test_a_bad_list_option_answers_400_and_says_what(
    cluster: Cluster, namespace: str, query: dict[str, str], words: str
) -> None:
    with pytest.raises(ApiError, match=words) as error:
        cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods", query=query)
    assert refused(error) == (400, "BadRequest")


def test_a_list_in_pages_holds_everything_once(cluster: Cluster, namespace: str) -> None:
    for number in range(25):
        cluster.create(config_map(f"c-{number:02}", namespace))
    seen, query = [], {"limit": "7", "fieldSelector": "metadata.name!=kube-root-ca.crt"}
    while True:
        page = cluster.request("GET", f"/api/v1/namespaces/{namespace}/configmaps", query=query)
        assert len(page["items"]) <= 7
        seen += [one["metadata"]["name"] for one in page["items"]]
        if not page["metadata"].get("continue"):
            break
        query["continue"] = page["metadata"]["continue"]
    assert seen == [f"c-{number:02}" for number in range(25)]


def test_a_list_of_the_past_is_what_was_there(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, labels = f"/api/v1/namespaces/{namespace}/configmaps", {"labelSelector": "a"}

    def labelled(name: str) -> dict[str, Any]:
        return config_map(name, namespace) | {"metadata": {"name": name, "namespace": namespace, "labels": {"a": "b"}}}

    def listed(**query: str) -> tuple[list[str], dict[str, Any]]:
        found = cluster.request("GET", path, query=labels | query)
        return [one["metadata"]["name"] for one in found["items"]], found["metadata"]

    for number in range(5):
        cluster.create(labelled(f"c-{number}"))
    first, page = listed(limit="2")
    version = page["resourceVersion"]
    cluster.delete("ConfigMap", "c-3", namespace)
    cluster.create(labelled("c-9"))
    assert listed()[0] == ["c-0", "c-1", "c-2", "c-4", "c-9"]
    rest, after = listed(**{"continue": page["continue"]})
    assert (first + rest, after) == ([f"c-{number}" for number in range(5)], {"resourceVersion": version})
    exact, meta = listed(resourceVersion=version, resourceVersionMatch="Exact")
    assert (exact, meta["resourceVersion"]) == ([f"c-{number}" for number in range(5)], version)
    assert listed(resourceVersion=version, limit="9")[0] == exact
    assert listed(resourceVersion=version, resourceVersionMatch="NotOlderThan")[0] == listed()[0]
    monkeypatch.setattr(stores, "HISTORY", 0)
    cluster.patch("ConfigMap", "c-0", {"data": {"a": "b"}}, namespace)
    with pytest.raises(ApiError, match="The resourceVersion for the provided list is too old") as error:
        listed(resourceVersion=version, resourceVersionMatch="Exact")
    assert refused(error) == (410, "Expired")
    with pytest.raises(ApiError, match="use the continue token in this response") as error:
        listed(**{"continue": page["continue"]})
    assert refused(error) == (410, "Expired")
    again = error.value.status["metadata"]["continue"]
    assert listed(**{"continue": again})[0] == ["c-2", "c-4", "c-9"]


def test_deleting_a_namespace_takes_all_that_it_holds(cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map("a", namespace))
    cluster.create(deployment("d", namespace, 1))
    cluster.wait("a pod", lambda: cluster.list("Pod", namespace))
    cluster.delete("Namespace", namespace)
    cluster.wait("namespace gone", lambda: cluster.find("Namespace", namespace) is None, seconds=10)
    assert cluster.list("Pod", namespace) == []
    assert cluster.list("ConfigMap", namespace) == []


def test_nothing_can_be_made_in_a_namespace_that_is_going(cluster: Cluster, namespace: str) -> None:
    held = config_map("held", namespace)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    cluster.create(held)
    cluster.delete("Namespace", namespace)
    with pytest.raises(ApiError, match="because it is being terminated") as error:
        cluster.create(config_map("late", namespace))
    assert refused(error) == (403, "Forbidden")
    assert error.value.status["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    cluster.patch("ConfigMap", "held", {"metadata": {"finalizers": None}}, namespace)


def test_an_eviction_waits_for_its_disruption_budget(world: World, namespace: str) -> None:
    cluster = world.cluster
    cluster.create(pod("p", namespace, nodeName="far"))
    cluster.request(
        "PUT",
        f"/api/v1/namespaces/{namespace}/pods/p/status",
        cluster.get("Pod", "p", namespace)
        | {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
    )
    cluster.create(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "b", "namespace": namespace},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}},
        }
    )
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": namespace}}
    with pytest.raises(ApiError, match="violate the pod's disruption budget") as error:
        cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods/p/eviction", body)
    assert refused(error) == (429, "TooManyRequests")
    cluster.delete("PodDisruptionBudget", "b", namespace)
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods/p/eviction", body)
    assert "deletionTimestamp" in cluster.get("Pod", "p", namespace)["metadata"]


@pytest.mark.parametrize(
    ("policy", "healthy", "goes"),
    [("AlwaysAllow", 0, True), ("IfHealthyBudget", 0, False), (None, 0, False), ("IfHealthyBudget", 1, True)],
)
def test_a_pod_that_is_not_ready_is_evicted_as_its_budget_says(
    world: World, namespace: str, policy: str | None, healthy: int, goes: bool
) -> None:
    cluster = world.cluster
    for name, ready in (("p", "False"), *((f"other-{number}", "True") for number in range(healthy))):
        made = pod(name, namespace, nodeName="far")
        cluster.create(made | {"metadata": made["metadata"] | {"labels": {"app": "p"}}})
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
        held = cluster.get("Pod", name, namespace)
        cluster.request("PUT", f"/api/v1/namespaces/{namespace}/pods/{name}/status", held | {"status": status})
    spec: dict[str, Any] = {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}}
    if policy is not None:
        spec["unhealthyPodEvictionPolicy"] = policy
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": namespace},
    }
    cluster.create(budget | {"spec": spec})

    def seen() -> bool:
        status = cluster.get("PodDisruptionBudget", "b", namespace).get("status", {})
        return bool(status.get("currentHealthy") == healthy and status.get("observedGeneration"))

    cluster.wait("it was counted", seen, seconds=10)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/p/eviction"
    if goes:
        cluster.request("POST", path, body)
    else:
        with pytest.raises(ApiError, match="violate the pod's disruption budget"):
            cluster.request("POST", path, body)
    assert ("deletionTimestamp" in cluster.get("Pod", "p", namespace)["metadata"]) == goes


def test_an_event_is_the_same_in_both_its_groups(cluster: Cluster, namespace: str) -> None:
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "e", "namespace": namespace},
            "message": "hello",
            "reason": "Because",
            "type": "Normal",
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
        }
    )
    new = cluster.request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e")
    assert (new["note"], new["regarding"]["name"], new["apiVersion"]) == ("hello", "p", "events.k8s.io/v1")


def test_a_scale_is_applied_and_a_conflict_names_its_owner(cluster: Cluster, namespace: str) -> None:
    cluster.create(deployment("d", namespace, 2))
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/d"

    def apply(replicas: int, manager: str, **query: str) -> Any:
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}}
        body, kind = scale | {"spec": {"replicas": replicas}}, "application/apply-patch+yaml"
        return cluster.request(
            "PATCH", f"{path}/scale", body, query={"fieldManager": manager} | query, content_type=kind
        )

    with pytest.raises(
        ApiError, match=r"Apply failed with 1 conflict: conflict with .* using autoscaling/v1: \.spec\.replicas"
    ) as error:
        apply(3, "one")
    assert refused(error) == (409, "Conflict")
    assert apply(3, "one", force="true")["spec"] == {"replicas": 3}
    assert apply(3, "two")["spec"] == {"replicas": 3}
    with pytest.raises(ApiError, match=r'conflict with "two": \.spec\.replicas'):
        apply(4, "one")
    assert cluster.get("Deployment", "d", namespace)["spec"]["replicas"] == 3
    entries = cluster.get("Deployment", "d", namespace)["metadata"]["managedFields"]
    owners = {one["manager"]: one for one in entries if "f:replicas" in one["fieldsV1"].get("f:spec", {})}
    assert owners.keys() == {"one", "two"}
    assert all(
        (one["apiVersion"], one["operation"], one["subresource"]) == ("apps/v1", "Apply", "scale")
        for one in owners.values()
    )
    assert apply(5, "one", force="true", dryRun="All")["spec"] == {"replicas": 5}
    assert cluster.get("Deployment", "d", namespace)["spec"]["replicas"] == 3
