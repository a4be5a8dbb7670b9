"""Between two modes of a run its namespaces stay, empty, and the next mode finds them as new."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chaos.cluster.providers import open_cluster
from chaos.faults.receipts import LABEL_RECEIPT
from chaos.kube.client import Cluster
from chaos.mesh import manifests
from chaos.mesh.install import Mesh
from chaos.model.fate import is_whole
from chaos.names import IMAGE, LABEL_POD_SECURITY, LABEL_RUN, SYSTEM_NAMESPACE

pytestmark = pytest.mark.privileged

RUN = "vacated"
OWN = ("kube-root-ca.crt", "default")  # what Kubernetes puts into every namespace
Object = dict[str, Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_cluster("embedded", name="vacating", nodes=2) as found:
        yield found


def resources(cluster: Cluster) -> list[str]:
    """The paths of every namespaced kind that can be listed, `{}` for the namespace; Events are no content."""
    groups = [one["preferredVersion"]["groupVersion"] for one in cluster.request("GET", "/apis")["groups"]]
    return [
        f"{base}/namespaces/{{}}/{one['name']}"
        for base in ("/api/v1", *(f"/apis/{group}" for group in groups))
        for one in cluster.request("GET", base)["resources"]
        if one["namespaced"] and "list" in one["verbs"] and one["name"] != "events"
    ]


def content(cluster: Cluster, namespace: str) -> dict[str, list[str]]:
    """Kind -> names of what lies in a namespace, but for what lies in every one."""
    found = {}
    for path in resources(cluster):
        items = cluster.request("GET", path.format(namespace))["items"]
        if names := sorted(one["metadata"]["name"] for one in items if one["metadata"]["name"] not in OWN):
            found[path.rpartition("/")[2]] = names
    return found


def stray(namespace: str) -> list[Object]:
    """What a test, or somebody, puts there besides: without any label of the run's."""
    container = {
        "name": "c",
        "image": IMAGE,
        "command": ["sleep", "600"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    objects: list[Object] = [
        {"apiVersion": "v1", "kind": "Pod", "spec": spec},
        {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": spec}}},
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}},
        {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 9}]}},
        {"apiVersion": "v1", "kind": "ServiceAccount"},
    ]
    return [{**one, "metadata": {"name": "stray", "namespace": namespace}} for one in objects]


def namespaces(cluster: Cluster) -> dict[str, tuple[str, dict[str, str]]]:
    """Name -> UID and labels of the run's namespaces."""
    found = cluster.list("Namespace", labels=f"{LABEL_RUN}={RUN}")
    return {one["metadata"]["name"]: (one["metadata"]["uid"], one["metadata"]["labels"]) for one in found}


def test_a_mode_leaves_empty_namespaces_in_which_every_other_runs_as_in_new_ones(cluster: Cluster) -> None:
    objects = manifests.tenant("a", client_nodes=["node-1"], server_nodes=["node-1", "node-2"])
    receipt = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "open", "namespace": SYSTEM_NAMESPACE, "labels": {LABEL_RUN: RUN, LABEL_RECEIPT: "kill"}},
    }
    uids: dict[str, str] = {}
    guards: set[str] = set()
    for mode in ("node", "ambient-namespace", "sidecar", "none"):
        mesh = Mesh(cluster, mode, run=RUN)
        mesh.start(objects)
        assert is_whole(mesh.placement())
        [stated] = [o["metadata"]["labels"] for o in mesh.inject(objects) if o["kind"] == "Namespace"]
        found = namespaces(cluster)
        assert found["tenant-a"][1] == {**stated, "kubernetes.io/metadata.name": "tenant-a"}
        for name, (uid, _) in found.items():
            assert uids.setdefault(name, uid) == uid
        watching = cluster.list("Pod", SYSTEM_NAMESPACE, labels="app=watchdog")
        guards = guards or {pod["metadata"]["uid"] for pod in watching}
        assert {pod["metadata"]["uid"] for pod in watching} == guards
        cluster.apply(receipt)
        for one in stray("tenant-a"):
            cluster.create(one)
        mesh.vacate()
        assert content(cluster, "tenant-a") == {}
        left = content(cluster, SYSTEM_NAMESPACE)
        assert {kind: [name for name in names if "watchdog" not in name] for kind, names in left.items()} == {
            **{kind: [] for kind in left},
            "configmaps": ["open"],
            "secrets": ["control-key", "mesh-authority"],
        }
        assert namespaces(cluster)["tenant-a"][1].keys() == {LABEL_RUN, "kubernetes.io/metadata.name"}
    mesh.uninstall()
    for kind in ("Namespace", "ClusterRole", "ClusterRoleBinding", "Pod"):
        assert cluster.list(kind, labels=LABEL_RUN) == [], kind


def test_what_somebody_else_says_of_a_namespace_stays(cluster: Cluster) -> None:
    mesh = Mesh(cluster, "none", run="marked")
    theirs = {"annotations": {"openshift.io/sa.scc.mcs": "s0"}, "labels": {"team": "x"}}
    try:
        mesh.start(manifests.tenant("b", client_nodes=["node-1"], server_nodes=["node-1"]))
        cluster.patch("Namespace", "tenant-b", {"metadata": theirs})
        mesh.vacate()
        meta = cluster.get("Namespace", "tenant-b")["metadata"]
        assert LABEL_POD_SECURITY not in meta["labels"]
        assert (meta["annotations"], meta["labels"]["team"]) == (theirs["annotations"], "x")
    finally:
        mesh.uninstall()
