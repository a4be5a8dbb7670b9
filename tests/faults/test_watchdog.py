"""Which receipts the watchdog undoes, and in which order."""

from __future__ import annotations

from chaos.faults.model import Receipt, Target
from chaos.faults.watchdog import grace_of, plan_due

PROXY = Target("container", "server-1-x", "ns", "u1", "proxy", "containerd://1", "n1", labels="app=server,x=1")


def test_the_newest_overdue_receipt_is_undone_first() -> None:
    made = [
        Receipt(str(number), "r", "kill", {}, PROXY, deadline) for number, deadline in ((1, 10), (2, 20), (3, 10**12))
    ]
    assert [one.id for one in plan_due(made, now=10**9, grace=0.5)] == ["2", "1"]
    assert plan_due(made, now=10**9, grace=2.0) == []
    assert 0 <= grace_of("watchdog-abc") <= 1.5
