"""A cluster that stands while a test module runs, and stock kubectl that speaks to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.embedded import provider
from chaos.kube.client import Cluster
from tests.embedded.api.conftest import kubectl


@contextmanager
def standing(name: str) -> Iterator[Cluster]:
    """Two nodes; nothing of it is left afterwards."""
    config = provider.up(name, nodes=["n1", "n2"])
    try:
        yield Cluster(config)
    finally:
        provider.down(name)
    assert not (provider.RUN / name).exists()


def stock_kubectl(name: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl against the cluster of that name; whatever its exit code is."""
    line = [kubectl(), "--kubeconfig", str(provider.RUN / name / "kubeconfig"), *arguments]
    return subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=120, check=False)
