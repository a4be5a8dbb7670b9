"""The whole embedded cluster from outside: `record.py` and stock kubectl record scenarios, `compare.py` finds them the
same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.embedded import provider
from chaos.embedded.kubelet.images import ALIASES
from chaos.embedded.kubelet.node_machine import SHARED
from tests.parity.compare import compare
from tests.parity.drive import IMAGE, recorded_seconds
from tests.parity.test_embedded import LONG, QUICK, RECORDINGS

HERE = Path(__file__).parent
FEW = (
    "job-plain",
    "job-native-sidecar",
    "pod-with-native-sidecar-deleted",
    "deployment-rolling-update",
    "statefulset-pod-deleted",
)

# left to test_embedded, which watches until ours has come as far: six jittered waits add up to a minute more or less,
# so that a watch of fixed length ends before or after the last restart by chance
BY_CHANCE = "deployment-container-exits-repeatedly"

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster of three nodes that share one directory, as the recorded ones did."""
    shared = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ALIASES, IMAGE)
        patch.setenv(SHARED, str(shared))
        patch.setenv("TMPDIR", str(shared))
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        name = f"parity-{os.getpid()}"
        yield provider.up(name, nodes=("n1", "n2", "n3"))
        provider.down(name)


def record(kubeconfig: Path, out: Path, scenarios: list[str]) -> dict[str, list[str]]:
    """Differences of each scenario, recorded side by side."""
    scenarios = sorted(scenarios, key=lambda name: recorded_seconds(RECORDINGS / name), reverse=True)
    command = [
        sys.executable,
        str(HERE / "record.py"),
        "--kubeconfig",
        str(kubeconfig),
        "--out",
        str(out),
        "--parallel",
        "10",
    ]
    limit = 60 + 3 * max(recorded_seconds(RECORDINGS / name) for name in scenarios) + 10 * len(scenarios)
    done = subprocess.run([*command, *scenarios], capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stderr
    return {name: compare(RECORDINGS / name, out / name) for name in scenarios}


@pytest.mark.slow  # compares seconds: wants a machine that does nothing else
def test_a_few_scenarios_recorded_through_kubectl_are_the_same(kubeconfig: Path, tmp_path: Path) -> None:
    assert record(kubeconfig, tmp_path, list(FEW)) == {name: [] for name in FEW}


@pytest.mark.slow
def test_every_short_scenario_recorded_through_kubectl_is_the_same(kubeconfig: Path, tmp_path: Path) -> None:
    assert record(kubeconfig, tmp_path, QUICK) == {name: [] for name in QUICK}


@pytest.mark.slow
def test_every_long_scenario_recorded_through_kubectl_is_the_same(kubeconfig: Path, tmp_path: Path) -> None:
    scenarios = [name for name in LONG if name != BY_CHANCE]
    assert record(kubeconfig, tmp_path, scenarios) == {name: [] for name in scenarios}
