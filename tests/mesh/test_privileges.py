"""What our pods ask for, over every manifest and every pod that code plans."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, cast

import pytest

import chaos
from chaos.embedded.api.pod_security import LevelVersion, describe, violations
from chaos.external.description import LoaderRule
from chaos.external.loaders import plan_loader
from chaos.faults import helper_pod
from chaos.faults.model import Receipt, Target
from chaos.kube.client import Cluster
from chaos.kube.nodes import NodeChoice
from chaos.mesh import manifests
from chaos.mesh.budget import divide
from chaos.mesh.inject import needs_privileged, pod_template
from chaos.mesh.install import Mesh
from chaos.mesh.render import MeshPlan
from chaos.model.modes import MODES
from chaos.names import KEEP_IN_PLACE, LABEL_POD_SECURITY
from chaos.resources import shipped

CODE = Path(chaos.__file__).parent


def contexts(node: Any) -> list[dict[str, Any]]:
    """Every container's securityContext in an object."""
    if isinstance(node, list):
        return [one for item in node for one in contexts(item)]
    if not isinstance(node, dict):
        return []
    own = [node["securityContext"]] if "image" in node and "securityContext" in node else []
    return own + [one for item in node.values() for one in contexts(item)]


def planned_in(source: Path) -> list[tuple[int, set[str]]]:
    """(line, keys) of each dict in the source that sets `privileged` to something that may be true."""
    return [
        (node.lineno, {str(key.value) for key in node.keys if isinstance(key, ast.Constant)})
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Dict)
        and any(
            isinstance(key, ast.Constant)
            and key.value == "privileged"
            and not (isinstance(value, ast.Constant) and value.value is False)
            for key, value in zip(node.keys, node.values, strict=True)
        )
    ]


@pytest.mark.parametrize("file", sorted(shipped("manifests").rglob("*.yaml")), ids=str)
def test_a_privileged_container_of_a_manifest_says_that_it_is_root(file: Path) -> None:
    for context in contexts(manifests.read(file)):
        if context.get("privileged") or (context.get("capabilities") or {}).get("add"):
            assert context.get("runAsUser") == 0, f"{file}: of another user no capability is effective"


def test_every_privileged_container_that_code_plans_says_that_it_is_root() -> None:
    found = {
        f"{source.relative_to(CODE)}:{line}": keys
        for source in CODE.rglob("*.py")
        if "embedded" not in source.parts
        for line, keys in planned_in(source)
    }
    assert found
    assert {place: keys for place, keys in found.items() if "runAsUser" not in keys} == {}


def broken(pod: dict[str, Any], level: str) -> str:
    """What the pod does that Pod Security's level forbids."""
    return describe(violations(LevelVersion(level), pod["metadata"], pod["spec"]))


def level_of(objects: list[dict[str, Any]], namespace: str) -> str:
    """What Pod Security holds the pods of a namespace to."""
    (own,) = (o for o in objects if o["kind"] == "Namespace" and o["metadata"]["name"] == namespace)
    return str(own["metadata"]["labels"][LABEL_POD_SECURITY])


@pytest.mark.parametrize("mode", MODES)
def test_every_pod_keeps_the_standard_of_its_namespace(mode: str) -> None:
    """Without labels of ours, a cluster whose default is *restricted* would refuse what is judged as *privileged*."""
    mesh = Mesh(cast(Cluster, None), mode, run="r")
    apps = [*manifests.reference("n1", "n2"), *manifests.job("j", tenant="a", nodes=["n1"])]
    objects = [*mesh.system_manifests(), *mesh.inject(apps)]
    in_tenants = mode in ("sidecar", "native-sidecar", "ambient-namespace", "ambient-pod")
    assert needs_privileged(MODES[mode]) is in_tenants
    assert level_of(objects, "tenant-a") == ("privileged" if in_tenants else "restricted")
    judged = 0
    for obj in objects:
        template = pod_template(obj)
        if template is None:
            continue
        level = level_of(objects, obj["metadata"]["namespace"])
        assert broken(template, level) == "", obj["metadata"]["name"]
        judged += 1
    assert judged >= 9


def test_what_is_ours_and_needs_no_rights_keeps_restricted_everywhere() -> None:
    rule = LoaderRule()
    beside = {"spec": {"nodeName": "n1", "containers": []}}
    pods = [plan_loader("shop/frontend", "shop", beside, rule, run="r")]
    pods += [
        template
        for file in ("control-plane.yaml", "watchdog.yaml")
        for obj in system(file)
        if (template := pod_template(obj)) is not None
    ]
    assert len(pods) == 3
    for pod in pods:
        assert broken(pod, "restricted") == ""


def system(file: str) -> list[dict[str, Any]]:
    return manifests.load(file, {"run": "r", "mesh_json": "{}"})


def test_a_runs_own_parts_and_helpers_ask_autoscalers_too_and_what_is_rendered_for_good_does_not() -> None:
    made = [
        pod
        for mode in MODES.values()
        for obj in MeshPlan(mode, "r", divide(mode), nodes=NodeChoice(("n1", "n2"))).system_manifests()
        if (pod := pod_template(obj)) is not None
    ]
    receipt = Receipt("x", "r", "kill", {}, Target("container", "server-1", "tenant-a", node="n1"), deadline=0)
    made.append(helper_pod.plan_pod(receipt, "kill", [], seconds=5))
    assert len(made) > 2 * len(MODES)
    for pod in made:
        assert KEEP_IN_PLACE.items() <= pod["metadata"]["annotations"].items()
    rendered = [pod_template(obj) for obj in MeshPlan(MODES["node"], "r", divide(MODES["node"])).system_manifests()]
    assert not any(KEEP_IN_PLACE.keys() & (pod["metadata"].get("annotations") or {}).keys() for pod in rendered if pod)


def test_tenants_and_loaders_ask_autoscalers_to_leave_their_node_alone() -> None:
    apps = [*manifests.reference("n1", "n2"), *manifests.job("j", tenant="a", nodes=["n1"])]
    pods = [pod for obj in apps if (pod := pod_template(obj)) is not None]
    pods.append(
        plan_loader("shop/frontend", "shop", {"spec": {"nodeName": "n1", "containers": []}}, LoaderRule(), run="r")
    )
    assert len(pods) == 8
    for pod in pods:
        assert KEEP_IN_PLACE.items() <= pod["metadata"]["annotations"].items()
