"""`clean --dry-run` says what `clean` does, in the same words, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from chaos.cli import main
from chaos.cluster import commands
from chaos.cluster.commands import Done
from chaos.kube.client import Cluster
from chaos.names import LABEL_MESH, LABEL_MODE, LABEL_ROLE, LABEL_RUN, SYSTEM_NAMESPACE
from tests.cluster.exchanges import Recorded
from tests.embedded.api.conftest import World, deployment, pod, world

__all__ = ["world"]


def labelled(obj: dict[str, Any], **labels: str) -> dict[str, Any]:
    obj["metadata"]["labels"] = {**obj["metadata"].get("labels", {}), **labels}
    return obj


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def left_by(run: str) -> list[dict[str, Any]]:
    """What a killed run leaves: its namespaces, workloads in a meshed one that stays, a loader, cluster-wide roles."""
    ours = {LABEL_RUN: run}
    return [
        namespace(SYSTEM_NAMESPACE, **ours),
        namespace(f"tenant-{run}", **ours),
        labelled(deployment(f"web-{run}", "stays"), **ours),
        labelled(pod(f"sharedfate-{run}", "others"), **ours, **{LABEL_ROLE: "client"}),
        labelled(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": f"sharedfate-{run}"},
                "rules": [],
            },
            **ours,
        ),
    ]


def state(cluster: Cluster) -> dict[str, str]:
    """Every object of the kinds that a run makes, at its version."""
    kinds = ("Namespace", "Deployment", "Pod", "ConfigMap", "Secret", "ClusterRole")
    return {
        f"{kind} {one['metadata'].get('namespace')}/{one['metadata']['name']}": one["metadata"]["resourceVersion"]
        for kind in kinds
        for one in cluster.list(kind)
    }


def clean(world: World, *options: str) -> list[str]:
    config = yaml.safe_load(world.kubeconfig.read_text())
    arguments = ["clean", "--cluster", f"context:{config['current-context']}", "--namespaces", "stays,others", *options]
    done = CliRunner().invoke(main, arguments, env={"KUBECONFIG": str(world.kubeconfig)})
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


@pytest.mark.parametrize("options", [(), ("--run", "one")], ids=str)
def test_a_dry_run_in_a_context_says_what_clean_then_removes_and_changes_nothing(
    world: World, options: tuple[str, ...]
) -> None:
    cluster = world.cluster
    for obj in (namespace("stays", **{LABEL_MESH: "enabled", LABEL_MODE: "node"}), namespace("others")):
        cluster.apply(obj)
    for name in ("stays", "others"):
        cluster.wait("account", lambda name=name: cluster.find("ServiceAccount", "default", name))  # type: ignore[misc]
    for run in ("one", "two"):
        for obj in left_by(run):
            cluster.apply(obj)
    before = state(cluster)
    planned = clean(world, "--dry-run", *options)
    after = state(cluster)
    assert {key for key in before if after.get(key) != before[key] and not key.startswith("Deployment")} == set()
    assert planned
    assert all(line.startswith("would be removed: ") for line in planned)
    removed = clean(world, *options)
    assert sorted(line.removeprefix("would be removed: ") for line in planned) == sorted(removed)
    assert any("tenant-one" in line for line in removed)
    assert any("tenant-two" in line for line in removed) is not bool(options)
    assert clean(world, "--dry-run", *options) == ["nothing to clean"]
    clean(world)


@pytest.mark.parametrize(
    ("cluster", "listing", "answer"),
    [
        ("kind:b", "kind get clusters", "a\nb\n"),
        ("k3d:b", "k3d cluster list", "a 1/1\nb 1/1\n"),
        ("kind:c", "kind get clusters", "a\nb\n"),
        ("kind:b", "kind get clusters", "bb\n"),
    ],
)
def test_a_dry_run_of_a_cluster_of_containers_asks_for_its_name_alone(
    monkeypatch: pytest.MonkeyPatch, cluster: str, listing: str, answer: str
) -> None:
    shell = Recorded("kind", "k3d", "docker", answers={listing: Done(0, stdout=answer)})
    monkeypatch.setattr(commands, "Shell", lambda: shell)
    planned = CliRunner().invoke(main, ["clean", "--cluster", cluster, "--dry-run"]).output
    assert not [call for call in shell.calls if "delete" in call]
    removed = CliRunner().invoke(main, ["clean", "--cluster", cluster]).output
    there = cluster.partition(":")[2] in answer.replace(" 1/1", "").split()
    assert bool([call for call in shell.calls if "delete" in call]) is there
    assert planned.removeprefix("would be removed: ") == removed
