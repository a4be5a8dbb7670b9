"""Receipts and targets."""

from __future__ import annotations

import pytest

from chaos.errors import Misuse
from chaos.faults.kill import Kill
from chaos.faults.model import Receipt, Target, refuse_wrong_target, settings_of
from chaos.faults.out_of_memory import killed_for_memory

TARGET = Target("container", "p", "ns", "0a-1b", "proxy", "containerd://abc", "n1")


def test_a_receipt_survives_its_json() -> None:
    receipt = Receipt("1", "run", "kill", settings_of(Kill()), TARGET, 5, facts={"restarts": 0})
    assert Receipt.from_json(receipt.to_json()) == receipt


def test_a_fault_refuses_a_kind_of_target_that_it_does_not_take() -> None:
    with pytest.raises(Misuse, match="acts on container"):
        refuse_wrong_target(Kill(), Target("node", "n1"))


# A container's end: its reason, its exit code, the kernel's kills in its control group -> whether memory was why.
ENDS = {
    "its status says so": ("OOMKilled", 137, None, True),
    "an init process that outlived its worker": ("OOMKilled", 1, 1, True),
    "the runtime heard of it too late": ("Error", 137, 1, True),
    "somebody else's SIGKILL": ("Error", 137, 0, False),
    "a SIGKILL, and the group was gone": ("Error", 137, None, False),
    "an error of its own beside a kill": ("Error", 1, 1, False),
    "its own end": ("Completed", 0, 0, False),
}


@pytest.mark.parametrize("end", ENDS)
def test_memory_is_why_a_container_ended_by_its_status_or_by_the_kernels_count(end: str) -> None:
    reason, code, kills, expected = ENDS[end]
    assert killed_for_memory({"reason": reason, "exit_code": code}, kills) is expected
