"""Meshes' own webhook configurations, and the pods that a real cluster made with them: made again, and compared."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml

from tests.embedded.webhooks.conftest import Hooks, once
from tests.embedded.webhooks.injector import ANSWERS, patch, reply

RECORDED = Path(__file__).parents[2] / "external" / "recorded"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
Json = dict[str, Any]

# folder, pod, and the label by which the mesh's webhook knows the namespace
PODS = [
    ("linkerd", "pod-native-backend", {"mesh": "linkerd"}),
    ("linkerd", "pod-native-frontend", {"mesh": "linkerd"}),
    ("linkerd", "pod-classic-backend", {"mesh": "linkerd"}),
    ("linkerd", "pod-classic-frontend", {"mesh": "linkerd"}),
    ("sidecar", "pod-server", {"istio-injection": "enabled"}),
]


def recorded(folder: str, name: str) -> Json:
    found: Json = yaml.safe_load((RECORDED / folder / f"{name}.yaml").read_text())
    return found


def configuration(hooks: Hooks, folder: str) -> Json:
    """The mesh's own, but for whom it leads to: its certificates were removed."""
    found = recorded(folder, "webhook")
    found["metadata"] = {name: found["metadata"][name] for name in ("name", "labels")}
    for hook in found["webhooks"]:
        hook["clientConfig"] = hooks.client("/recorded")
    return found


@pytest.mark.parametrize("folder", ["linkerd", "sidecar"])
def test_a_meshs_own_configuration_is_stored_as_a_real_server_stored_it(hooks: Hooks, folder: str) -> None:
    whole = recorded(folder, "webhook")
    bare = configuration(hooks, folder)
    for hook in bare["webhooks"]:  # what the server is to fill in
        for name in ("matchPolicy", "reinvocationPolicy", "timeoutSeconds"):
            hook.pop(name, None)
    stored = once(hooks.world, "POST", CONFIGURATIONS, bare)
    once(hooks.world, "DELETE", f"{CONFIGURATIONS}/{bare['metadata']['name']}")
    for ours, theirs in zip(stored["webhooks"], whole["webhooks"], strict=True):
        assert ours | {"clientConfig": None} == theirs | {"clientConfig": None}


def is_meshs(container: Mapping[str, Any]) -> bool:
    return str(container["name"]).startswith(("linkerd-", "istio-"))


def access(spec: Mapping[str, Any]) -> str:
    """Name of the volume with the service account's token, which the server chooses."""
    return next(str(one["name"]) for one in spec["volumes"] if one["name"].startswith("kube-api-access-"))


def renamed(spec: Mapping[str, Any], name: str) -> Json:
    found: Json = json.loads(json.dumps(spec).replace(access(spec), name))
    return found


def without_injection(pod: Json, namespace: str) -> Json:
    """What its owner wrote."""
    spec = {
        key: pod["spec"][key]
        for key in ("restartPolicy", "terminationGracePeriodSeconds", "nodeSelector", "serviceAccountName")
        if key in pod["spec"]
    }
    containers = copy.deepcopy([one for one in pod["spec"]["containers"] if not is_meshs(one)])
    for one in containers:
        one["volumeMounts"] = [
            m for m in one["volumeMounts"] if not m["name"].startswith(("kube-api", "linkerd", "istio"))
        ]
    meta = {"name": "injected", "namespace": namespace, "labels": {"app": "x"}, "annotations": {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec | {"containers": containers}}


def injected(held: Json, pod: Json) -> Json:
    """What the mesh made of it, but for the tokens that the server mounts into the mesh's own containers."""
    new = copy.deepcopy(held)
    theirs = renamed(pod["spec"], access(held["spec"]))
    for part in ("containers", "initContainers"):
        for one in theirs.get(part, []):
            if is_meshs(one):
                one["volumeMounts"] = [m for m in one["volumeMounts"] if not m["name"].startswith("kube-api")]
    for part in ("containers", "initContainers", "volumes", "securityContext"):
        if part in theirs:
            new["spec"][part] = theirs[part]
    for part in ("labels", "annotations"):
        new["metadata"][part] = dict(pod["metadata"].get(part) or {})
    return new


@pytest.mark.parametrize(("folder", "name", "labels"), PODS, ids=[row[1] for row in PODS])
def test_an_injected_pod_is_what_a_real_cluster_made_of_it(
    hooks: Hooks, namespace: str, folder: str, name: str, labels: dict[str, str]
) -> None:
    pod = recorded(folder, name)
    hooks.world.cluster.patch("Namespace", namespace, {"metadata": {"labels": labels}})
    account = {"name": pod["spec"]["serviceAccountName"], "namespace": namespace}
    hooks.world.cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})

    def answer(request: Mapping[str, Any]) -> tuple[int, Any]:
        operations = jsonpatch.make_patch(request["object"], injected(request["object"], pod))
        return reply(request, **patch(*operations.patch))

    ANSWERS["/recorded"] = answer
    mesh = configuration(hooks, folder)
    once(hooks.world, "POST", CONFIGURATIONS, mesh)
    try:
        made = hooks.world.cluster.create(without_injection(pod, namespace))
    finally:
        once(hooks.world, "DELETE", f"{CONFIGURATIONS}/{mesh['metadata']['name']}")
    assert made["metadata"]["labels"] == pod["metadata"]["labels"]
    assert made["metadata"]["annotations"] == pod["metadata"]["annotations"]
    expected = renamed(pod["spec"], "token")
    expected.pop("nodeName")
    for part in ("containers", "initContainers"):
        for ours, theirs in zip(renamed(made["spec"], "token")[part], expected[part], strict=True):
            order = {"volumeMounts": None}
            assert ours | order == theirs | order
            assert sorted(map(str, ours["volumeMounts"])) == sorted(map(str, theirs["volumeMounts"]))
    parts = {"containers": None, "initContainers": None, "volumes": None}
    assert renamed(made["spec"], "token") | parts == expected | parts
    assert sorted(map(str, renamed(made["spec"], "token")["volumes"])) == sorted(map(str, expected["volumes"]))
