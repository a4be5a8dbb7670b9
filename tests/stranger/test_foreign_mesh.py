"""The suite on a mesh that we did not deploy: our own under another name, applied with kubectl, described by a target
file and broken under the runner's role alone. Whom it hurts is what the model says of the description."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.names import LABEL_RUN, SYSTEM_NAMESPACE
from tests.stranger import foreign_mesh as foreign
from tests.stranger.clusters import CONTEXT, Stranger, command, stranger

pytestmark = pytest.mark.privileged

WHERE = ("--cluster", f"context:{CONTEXT}")
SHOP, BANK, POST = (f"{name}/sharedfate-frontend -> {name}/backend" for name in foreign.PLACES)


@contextmanager
def theirs(
    mode: str, folder: Path, *, namespaces: Sequence[str] = tuple(foreign.PLACES)
) -> Iterator[tuple[Stranger, Path]]:
    """A stranger's cluster with a mesh in it, and the target file that describes it."""
    with stranger(folder) as cluster:
        foreign.install(cluster.admin, mode, folder, namespaces=namespaces)
        file = folder / "target.yaml"
        file.write_text(yaml.safe_dump(foreign.target_file(mode, namespaces=namespaces)))
        yield cluster, file


def run(
    cluster: Stranger, file: Path, scenarios: str, out: Path, *options: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The ordinary command, and what its report says by scenario."""
    listed = [f"--chaos-namespaces={','.join(foreign.NAMESPACES)}"] if not options else list(options)
    done = command(
        "run",
        *WHERE,
        "--target",
        str(file),
        "--scenarios",
        scenarios,
        "--out",
        str(out),
        "--",
        *listed,
        KUBECONFIG=str(cluster.kubeconfig),
        seconds=600,
    )
    report = out / "report.json"
    trials = json.loads(report.read_text())["trials"] if report.is_file() else []
    return done, {trial["scenario"]: trial for trial in trials}


def as_predicted(trial: dict[str, Any]) -> None:
    """What the model says is exact; what a busy machine lets the judge see may stay open, and is never the opposite."""
    assert trial["verdict"] in ("pass", "inconclusive"), trial
    assert not set(trial["observed"]["hurt"]) & set(trial["predicted"]["unhurt"]), trial


def nothing_left(cluster: Stranger, before: set[str]) -> None:
    """Nothing of ours is there, and everything of theirs still is."""
    left = command("clean", *WHERE, KUBECONFIG=str(cluster.kubeconfig))
    assert (left.returncode, left.stdout.strip()) == (0, "nothing to clean"), left.stderr
    for kind in ("Namespace", "Pod", "ConfigMap", "ClusterRole", "ClusterRoleBinding"):
        assert [obj["metadata"]["name"] for obj in cluster.admin.list(kind, labels=LABEL_RUN)] == [], kind
    assert pods(cluster) == before


def pods(cluster: Stranger) -> set[str]:
    """Names of all pods that live."""
    return {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in cluster.admin.list("Pod")
        if "deletionTimestamp" not in pod["metadata"]
    }


@pytest.mark.slow
def test_the_death_of_a_foreign_node_proxy_hurts_whom_the_description_says(tmp_path: Path) -> None:
    with theirs("node", tmp_path, namespaces=("shop", "post")) as (cluster, file):
        before = pods(cluster)
        done, trials = run(cluster, file, "proxy-killed,job-completes", tmp_path / "out")
        assert "it deploys a Job of the reference apps, and a target file declares none" in done.stdout
        trial = trials["proxy-killed"]
        assert trial["mode"] == "their-node"
        assert (trial["predicted"]["hurt"], trial["predicted"]["unhurt"]) == ([SHOP], [POST])
        as_predicted(trial)
        assert trial["observed"]["hurt"] == [SHOP], done.stdout[-2000:]
        nothing_left(cluster, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "killed", "drowned"),
    [
        ("sidecar", [SHOP], []),  # the first proxy that is not in the loader's own pod: one of two servers'
        ("node", [SHOP, BANK], [BANK]),
        ("ambient-namespace", [SHOP, BANK], None),  # which layer gives out first is read, not said
        ("none", [], []),
    ],
)
def test_each_kind_of_foreign_mesh_is_broken_and_drowned_as_the_model_says(
    tmp_path: Path, mode: str, killed: list[str], drowned: list[str] | None
) -> None:
    with theirs(mode, tmp_path) as (cluster, file):
        before = pods(cluster)
        done, trials = run(cluster, file, "proxy-killed,noisy-neighbour", tmp_path / "out")
        assert set(trials) == {"proxy-killed", "noisy-neighbour"}, done.stdout[-3000:] + done.stderr[-2000:]
        assert trials["proxy-killed"]["predicted"]["hurt"] == killed
        assert drowned is None or set(trials["noisy-neighbour"]["predicted"]["hurt"]) <= set(drowned)
        for trial in trials.values():
            as_predicted(trial)
        nothing_left(cluster, before)


@pytest.mark.slow
def test_what_only_needs_faults_load_and_placement_runs_on_a_foreign_mesh(tmp_path: Path) -> None:
    scenarios = "proxy-paused,proxy-partitioned,app-rolled-out,proxy-upgraded,waypoint-killed"
    with theirs("node", tmp_path) as (cluster, file):
        done, trials = run(cluster, file, scenarios, tmp_path / "out")
        assert set(trials) == set(scenarios.split(",")) - {"waypoint-killed"}, done.stdout[-3000:] + done.stderr[-2000:]
        assert "both layers are in one proxy: proxy-killed breaks it" in done.stdout
        for trial in trials.values():
            as_predicted(trial)
        assert set(trials["proxy-paused"]["predicted"]["hurt"]) == {SHOP, BANK}
        nothing_left(cluster, pods(cluster))  # rolling restarts gave pods new names


@pytest.mark.slow
def test_a_policy_that_cuts_a_loader_off_is_named_before_the_load_with_what_allows_it(tmp_path: Path) -> None:
    deny = {
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}]}],
    }
    with theirs("none", tmp_path, namespaces=("shop", "post")) as (cluster, file):
        before = pods(cluster)
        meta = {"name": "frontends-alone", "namespace": "shop"}
        policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": deny}
        cluster.admin.create(policy)
        done, trials = run(cluster, file, "proxy-killed", tmp_path / "out")
        assert done.returncode == 4, done.stdout[-3000:]
        said = " ".join(done.stdout.split())
        assert "NetworkPolicy shop/frontends-alone: shop/backend takes nothing from shop/sharedfate-frontend" in said
        assert "metadata: {name: sharedfate-in, namespace: shop}" in said
        assert not trials
        nothing_left(cluster, before)


@pytest.mark.slow
def test_a_run_whose_namespaces_were_not_listed_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    with theirs("node", tmp_path, namespaces=("shop", "post")) as (cluster, file):
        for listed, missing in (
            ("-q", "post, shop, stranger-system"),
            ("--chaos-namespaces=shop,post", "stranger-system"),
        ):
            refused, _ = run(cluster, file, "proxy-killed", tmp_path / "refused", listed)
            assert refused.returncode == 4
            assert f"{missing} was not listed. Nothing was changed" in refused.stderr + refused.stdout
            assert cluster.admin.find("Namespace", SYSTEM_NAMESPACE) is None
            assert cluster.admin.list("Pod", labels=LABEL_RUN) == []


@pytest.mark.slow
def test_what_a_killed_runner_left_beside_a_foreign_mesh_is_cleaned_where_its_namespaces_are_listed(
    tmp_path: Path,
) -> None:
    with theirs("node", tmp_path, namespaces=("shop", "post")) as (cluster, file):
        before = pods(cluster)
        arguments = [
            sys.executable,
            "-m",
            "chaos.cli",
            "run",
            *WHERE,
            "--target",
            str(file),
            "--scenarios",
            "proxy-paused",
            "--out",
            str(tmp_path / "out"),
            "--",
            f"--chaos-namespaces={','.join(foreign.NAMESPACES)}",
        ]
        runner = subprocess.Popen(
            arguments,
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            cluster.admin.wait(
                "a receipt",
                lambda: [
                    c
                    for c in cluster.admin.list("ConfigMap", labels=LABEL_RUN)
                    if c["metadata"]["name"].startswith("receipt-")
                ],
                seconds=90,
            )
        finally:
            runner.send_signal(signal.SIGKILL)
            runner.wait()
        unlisted = command("clean", *WHERE, KUBECONFIG=str(cluster.kubeconfig))
        assert unlisted.returncode == 1
        assert "is not ours" in unlisted.stderr
        assert "Traceback" not in unlisted.stderr
        spaces = ",".join(foreign.NAMESPACES)
        cleaned = command("clean", *WHERE, "--namespaces", spaces, KUBECONFIG=str(cluster.kubeconfig))
        assert "loader shop/sharedfate-frontend" in cleaned.stdout, cleaned.stderr
        cluster.admin.wait("only theirs is there", lambda: pods(cluster) == before, seconds=30)
        nothing_left(cluster, before)
