"""Receipts and targets."""

from __future__ import annotations

import pytest

from chaos.errors import Misuse
from chaos.faults.kill import Kill
from chaos.faults.model import Receipt, Target, refuse_wrong_target, settings_of

TARGET = Target("container", "p", "ns", "0a-1b", "proxy", "containerd://abc", "n1")


def test_a_receipt_survives_its_json() -> None:
    receipt = Receipt("1", "run", "kill", settings_of(Kill()), TARGET, 5, facts={"restarts": 0})
    assert Receipt.from_json(receipt.to_json()) == receipt


def test_a_fault_refuses_a_kind_of_target_that_it_does_not_take() -> None:
    with pytest.raises(Misuse, match="acts on container"):
        refuse_wrong_target(Kill(), Target("node", "n1"))
