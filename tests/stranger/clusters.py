"""An embedded cluster as a stranger's: reached through a kubeconfig alone, as a user who holds the runner's role and no
more.
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
from chaos.kube.client import Cluster
from chaos.mesh import manifests

RUNNER = "system:serviceaccount:ci:runner"
CONTEXT = "stranger"


@dataclass(frozen=True, slots=True)
class Stranger:
    """The cluster, its administrator, and the kubeconfig of the runner."""

    name: str
    admin: Cluster
    kubeconfig: Path

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
    name = f"real-{uuid.uuid4().hex[:6]}"
    up = command("cluster", "up", "--name", name, "--nodes", str(nodes))
    try:
        assert up.returncode == 0, up.stderr
        admin_config = Path(up.stdout.split()[-1])
        admin = Cluster(admin_config, kind="embedded", name=name)
        kubeconfig = admin_config
        if granted:
            grant(admin)
            kubeconfig = folder / "kubeconfig"
            kubeconfig.write_text(json.dumps(runner_config(admin, json.loads(admin_config.read_text()))))
        try:
            yield Stranger(name, admin, kubeconfig)
        finally:
            admin.close()
    finally:
        command("cluster", "down", "--name", name)


def grant(admin: Cluster) -> None:
    """The runner's account and role, as manifests/rbac/runner.yaml has it."""
    for obj in (
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
    ):
        admin.create(obj)


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
