"""Every fault, begun by a second process while a first one holds it: refused with the first one's name, also once the
first was killed. What it broke is undone all the same, and everything is as it was. Likewise where one of the two is an
experiment of Chaos Toolkit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import Misuse
from chaos.faults import receipts
from chaos.faults.catalogue import FAULTS
from chaos.faults.injection import injected, undo_overdue
from chaos.faults.model import Fault
from tests.faults.runner import spawn
from tests.faults.small_world import World, small_world
from tests.faults.test_runner_killed import OF_ALL, OF_MESH, OF_TENANTS, all_is_well
from tests.toolkit.test_actions import DONE
from tests.toolkit.test_discovery import ACTIONS
from tests.toolkit.test_experiments import ROOT, act, written

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

EVERY = {**OF_TENANTS, **OF_ALL, **OF_MESH}
BESIDE = "hog"  # any number of them may sit beside each other


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with small_world("held-twice", "node") as made:
        yield made


def refused(world: World, fault: Fault) -> None:
    (held,) = receipts.open_receipts(world.cluster)
    with (
        pytest.raises(Misuse, match=rf"run faults, receipt {held.id}, process \d+"),
        injected(world.cluster, fault, held.target, run="second"),
    ):
        pytest.fail("the block must not run")
    assert [one.id for one in receipts.open_receipts(world.cluster)] == [held.id]


@pytest.mark.parametrize("name", sorted(EVERY))
def test_what_another_process_holds_is_refused_with_its_name_and_undone_when_it_was_killed(
    world: World, name: str
) -> None:
    before = world.picture()
    fault, target = EVERY[name](world, "a")
    holder = spawn(world, fault, target, 120)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        if fault.name == BESIDE:
            with injected(world.cluster, fault, target, run="second"):
                assert len(receipts.open_receipts(world.cluster)) == 2
        else:
            refused(world, fault)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        if fault.name != BESIDE:
            refused(world, fault)
    finally:
        holder.kill()
        holder.communicate()
    assert [one.fault for one in undo_overdue(world.cluster, now=0, everything=True)] == [fault.name]
    all_is_well(world, before, name)


def test_every_fault_is_a_row() -> None:
    rows = {name.removeprefix("proxy-") for name in EVERY} - {"terminate"}
    assert rows == set(FAULTS)


# ---- Chaos Toolkit as the second, and as the first


@dataclass(frozen=True, slots=True)
class Row:
    """An action of an experiment, on what another process holds, or holding what another tries to break."""

    module: str
    action: str
    first: str  # who holds

    def __str__(self) -> str:
        return f"{self.action}-{self.first}"


NOT_HELD = {
    "delete_proxy_pod": "whoever comes second meets another pod",
    "recreate_workload": "whoever comes second finds no workload",
    "hog_node": "any number of them may sit beside each other",
}
STEPS = "tests.toolkit.held_twice"
ELSEWHERE = {  # what another holds
    "crash_loop_proxy": {"side": "server"},  # the kubelet holds it back for minutes then
    "drain_node": {"node": "node-2"},  # nobody's pods are there to choose it by
}
UNDOS = dict(ACTIONS.values())


def actions_of(module: str) -> list[tuple[str, dict[str, Any]]]:
    """The actions that inject a fault, with their arguments."""
    return [(name, given) for name, given in DONE[module][1] if name in UNDOS and name not in NOT_HELD]


ROWS = [
    Row(module, action, first)
    for module in DONE
    for action in dict(actions_of(module))
    for first in ("another", "toolkit")
    if first == "another" or UNDOS[action]  # a pulse of the toolkit's is over when the next activity begins
]


@dataclass(slots=True)
class Played:
    """One experiment by stock `chaos run` for each module of actions: each action refused, then each that holds."""

    folder: Path
    journals: dict[str, list[dict[str, Any]]]

    def of(self, module: str) -> list[dict[str, Any]]:
        if module not in self.journals:
            self.journals[module] = self._play(module)
        return self.journals[module]

    def _play(self, module: str) -> list[dict[str, Any]]:
        name = module.rpartition(".")[2]
        steps = []
        for action, given in dict(actions_of(module)).items():
            theirs = {**given, **ELSEWHERE.get(action, {})}
            steps += [
                act("another_holds", STEPS, action=action, of=module, arguments=theirs),
                act(action, module, **theirs),
                act("it_lets_go", STEPS),
            ]
            if UNDOS[action]:
                steps += [act(action, module, **given), act("another_is_refused", STEPS), act(UNDOS[action], module)]
        experiment = self.folder / f"{name}.json"
        experiment.write_text(json.dumps(written(name, DONE[module][0], *steps, guard=False)))
        chaos = str(Path(sys.executable).with_name("chaos"))
        subprocess.run(
            [chaos, "--no-version-check", "run", "--journal-path", f"{name}.journal", str(experiment)],
            capture_output=True,
            timeout=900,
            cwd=self.folder,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        journal: list[dict[str, Any]] = json.loads((self.folder / f"{name}.journal").read_text())["run"]
        assert len(journal) == len(steps)
        return journal


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("experiments"), {})


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_chaos_toolkit_and_another_process_refuse_what_the_other_holds_by_its_name(played: Played, row: Row) -> None:
    journal = played.of(row.module)
    names = [one["activity"]["name"] for one in journal]
    first = names.index(row.action)
    if row.first == "another":
        holds, action, lets_go = journal[first - 1 : first + 2]
        assert (holds["status"], action["status"]) == ("succeeded", "failed"), [holds, action]
        assert holds["output"] in " ".join(action["exception"])
    else:
        holds, refused, lets_go = journal[first + 2 : first + 5]
        assert (holds["status"], refused["status"]) == ("succeeded", "succeeded"), [holds, refused]
        assert refused["output"]["holder"] in refused["output"]["said"]
        assert refused["output"]["held"] == ""
    assert lets_go["status"] == "succeeded", lets_go
