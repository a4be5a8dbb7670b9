"""A cluster as a stranger's: reached through a kubeconfig alone, as a user who holds the runner's role and no more.

An embedded one of the test's own; with SHAREDFATE_TEST_CLUSTER=context:NAME, that one, as the administrator whom the
user's kubeconfig names.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos.embedded.provider import run_directory
from chaos.kube.client import Cluster, Object
from chaos.mesh import manifests
from tests.faults.small_world import CLUSTER

RUNNER = "system:serviceaccount:ci:runner"
CONTEXT = "stranger"


@dataclass(frozen=True, slots=True)
class Stranger:
    """The cluster, its administrator, and the kubeconfig of the runner."""

    name: str
    admin: Cluster
    kubeconfig: Path
    administrator: Path  # the kubeconfig of its administrator

    @property
    def audit(self) -> Path:
        return run_directory(self.name) / "audit.jsonl"


def command(*arguments: str, seconds: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
    """`sharedfate ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "chaos.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, **environment},
    )


@contextlib.contextmanager
def stranger(folder: Path, *, nodes: int = 2, granted: bool = True) -> Iterator[Stranger]:
    """A cluster that another process brought up, and in it (if granted) the runner's service account with exactly its
    role; else the kubeconfig is the administrator's.
    """
    with _administered(folder, nodes) as (admin, admin_config):
        if not granted:
            yield Stranger(admin.name, admin, admin_config, admin_config)
            return
        kubeconfig = folder / "kubeconfig"
        with _granted(admin):
            kubeconfig.write_text(json.dumps(runner_config(admin, json.loads(admin_config.read_text()))))
            yield Stranger(admin.name, admin, kubeconfig, admin_config)


@contextlib.contextmanager
def _administered(folder: Path, nodes: int) -> Iterator[tuple[Cluster, Path]]:
    """The cluster as its administrator reaches it, and the kubeconfig that leads there, as JSON."""
    if named := os.environ.get(CLUSTER, "").removeprefix("context:"):
        path = folder / "administrator"
        path.write_text(_kubeconfig_of(named))
        with contextlib.closing(Cluster(path, kind="context", name=named)) as admin:
            yield admin, path
        return
    with embedded(nodes) as admin:
        assert admin.kubeconfig is not None
        yield admin, admin.kubeconfig


@contextlib.contextmanager
def embedded(nodes: int = 2) -> Iterator[Cluster]:
    """An embedded cluster that another process brought up, as its administrator reaches it."""
    name = f"real-{uuid.uuid4().hex[:6]}"
    up = command("cluster", "up", "--name", name, "--nodes", str(nodes))
    try:
        assert up.returncode == 0, up.stderr
        path = Path(up.stdout.split()[-1])
        with contextlib.closing(Cluster(path, kind="embedded", name=name)) as admin:
            yield admin
    finally:
        command("cluster", "down", "--name", name)


def _kubeconfig_of(context: str) -> str:
    """That context of the user's kubeconfig alone, as JSON, with its certificates in it."""
    return _kubectl("config", "view", "--minify", "--flatten", "--raw", "--context", context, "--output=json")


def kubectl(theirs: Stranger, *arguments: str) -> str:
    """Its output, as the administrator; raises CalledProcessError."""
    return _kubectl("--kubeconfig", str(theirs.administrator), *arguments)


def _kubectl(*arguments: str) -> str:
    program = Path(sys.executable).with_name("kubectl")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


@contextlib.contextmanager
def _granted(admin: Cluster) -> Iterator[None]:
    """The runner's account and role, as manifests/rbac/runner.yaml has it; taken away again."""
    grants = (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ci"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "runner", "namespace": "ci"}},
        *manifests.load("rbac/runner.yaml", {}),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "runner"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "sharedfate-runner"},
            "subjects": [{"kind": "ServiceAccount", "name": "runner", "namespace": "ci"}],
        },
    )
    with made(admin, *grants):
        yield


@contextlib.contextmanager
def made(admin: Cluster, *objects: Object) -> Iterator[None]:
    """Objects that are there meanwhile."""
    with contextlib.ExitStack() as there:
        for one in objects:
            admin.create(dict(one))
            at = one["metadata"]
            there.callback(admin.delete, one["kind"], at["name"], at.get("namespace"))
        yield


def runner_config(admin: Cluster, config: dict[str, object]) -> dict[str, object]:
    """The administrator's kubeconfig with the runner's token in it."""
    answer = admin.request(
        "POST",
        "/api/v1/namespaces/ci/serviceaccounts/runner/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}},
    )
    cluster = config["clusters"][0]["cluster"]  # type: ignore[index]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "",
        "clusters": [{"name": "theirs", "cluster": cluster}],
        "users": [{"name": "runner", "user": {"token": answer["status"]["token"]}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": "theirs", "user": "runner"}}],
    }
