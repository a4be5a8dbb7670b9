"""Every fault, begun by a second process while a first one holds it: refused with the first one's name, also once the
first was killed. What it broke is undone all the same, and everything is as it was.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from chaos.errors import Misuse
from chaos.faults import receipts
from chaos.faults.catalogue import FAULTS
from chaos.faults.injection import injected, undo_overdue
from chaos.faults.model import Fault
from tests.faults.runner import spawn
from tests.faults.small_world import World, small_world
from tests.faults.test_runner_killed import OF_ALL, OF_MESH, OF_TENANTS, all_is_well

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
