"""The fault of docs/adding-a-fault.md, as its reader would write it, on a Kubernetes API."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.errors import Misuse
from chaos.faults.catalogue import fault_class, fault_from, known_faults
from chaos.faults.injection import injected
from chaos.faults.selection import node_target
from chaos.kube.client import Cluster
from chaos.resources import EXTENSIONS
from tests.embedded.api.conftest import world as world
from tests.faults.test_receipts import cluster as cluster

TOP = Path(__file__).resolve().parents[2]
FILE = TOP / "examples" / "extension" / "faults" / "cordon.py"


@pytest.fixture
def cordon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example's folder is an extension, and of it nothing is left afterwards."""
    monkeypatch.setenv(EXTENSIONS, str(FILE.parents[1]))
    monkeypatch.setattr(sys, "path", list(sys.path))
    known_faults.cache_clear()
    yield
    known_faults.cache_clear()
    sys.modules.pop("cordon", None)


def test_the_page_shows_the_whole_file() -> None:
    assert f"```python\n{FILE.read_text()}```" in (TOP / "docs" / "adding-a-fault.md").read_text()


@pytest.mark.usefixtures("cordon")
@pytest.mark.parametrize("was", [False, True])
def test_it_breaks_and_mends_a_node_and_nothing_else_of_it(cluster: Cluster, was: bool) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "annotations": {"theirs": "1"}}}
    target = node_target(cluster.create({**node, "spec": {"unschedulable": True} if was else {}}))
    fault = fault_class("cordon")(why="patching")  # type: ignore[call-arg]
    with injected(cluster, fault, target, run="r", seconds=60) as receipts:
        held = cluster.get("Node", "n1")
        assert held["spec"]["unschedulable"]
        assert "patching" in held["metadata"]["annotations"].values()
    for _ in range(2):  # an undo may be asked for twice
        mended = cluster.get("Node", "n1")
        assert bool(mended["spec"].get("unschedulable")) is was
        assert mended["metadata"]["annotations"] == {"theirs": "1"}
        fault.recover(cluster, receipts[0])


@pytest.mark.usefixtures("cordon")
def test_a_setting_of_it_that_is_not_right_is_refused() -> None:
    with pytest.raises(Misuse, match="why is '', and should be"):
        fault_from("cordon", {"why": ""})
