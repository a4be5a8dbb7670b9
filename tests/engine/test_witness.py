"""A fault is believed when something else than itself shows that it acted."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.engine.witness import detect_no_effect
from chaos.faults.catalogue import FAULTS
from chaos.faults.model import Target, Witness

TARGET = Target("container", "p", "ns", "u", "proxy", "containerd://1", "n1")
BEGAN = 1_800_000_000_000_000_000
STARTED, EARLIER = "2027-01-15T08:00:01Z", "2027-01-15T07:00:00Z"


@pytest.mark.parametrize(
    ("witness", "seen", "doubt"),
    [
        (Witness.CONTAINER, {"container": {"id": "containerd://2", "started": STARTED}}, ""),
        (Witness.CONTAINER, {"container": {"id": "containerd://1", "started": STARTED}}, "the same container"),
        (Witness.CONTAINER, {"container": {"id": "containerd://2", "started": EARLIER}}, "started before the fault"),
        (Witness.CONTAINER, {}, "the same container"),
        (Witness.PODS, {"pods": ["a", "b"], "pods_after": ["a", "c"]}, ""),
        (Witness.PODS, {"pods": ["a", "b"], "pods_during": [], "pods_after": ["a", "b"]}, ""),
        (Witness.PODS, {"pods": ["a"], "pods_during": ["a", "b"], "pods_after": ["a", "b"]}, "still there"),
        (Witness.PODS, {}, "still there"),
        (Witness.SILENCE, {"answered_before": True, "answers": False}, ""),
        (Witness.SILENCE, {"answered_before": True, "answers": True}, "went on answering"),
        (Witness.SILENCE, {"answered_before": None, "states": ["T", "T"]}, ""),
        (Witness.SILENCE, {"answered_before": False, "states": ["T"]}, ""),
        (Witness.SILENCE, {"answered_before": None, "states": ["T", "S"]}, "does not say"),
        (Witness.SILENCE, {"answered_before": None, "states": []}, "does not say"),
        (Witness.SILENCE, {"answered_before": False, "answers": False}, "does not say"),
        (Witness.PACKETS, {"packets": {"namespaces": 2, "dropped": 9}}, ""),
        (Witness.PACKETS, {"packets": {"namespaces": 2, "dropped": 0}}, "met none"),
        (Witness.PACKETS, {"packets": {"namespaces": 0, "dropped": 0}}, "no rule"),
        (Witness.PACKETS, {}, "no rule"),
        (Witness.PACKETS, {"packets": {"namespaces": 1, "dropped": 1}, "own": 1}, "met none"),
        (Witness.PACKETS, {"packets": {"namespaces": 1, "dropped": 4}, "own": 1}, ""),
        (Witness.LINK, {"packets": {"delayed": 90, "dropped": 3, "held_back": 0}}, ""),
        (Witness.LINK, {"packets": {"delayed": 90, "dropped": 0}}, "was dropped"),
        (Witness.LINK, {"packets": {"delayed": 0, "dropped": 5}}, "was delayed"),
        (Witness.LINK, {}, "was delayed, dropped"),
        (Witness.LEASE, {"renewed_for": 12.4}, ""),
        (Witness.LEASE, {"renewed_for": 3.0}, "went on renewing"),
        (Witness.LEASE, {}, "went on renewing"),
        (Witness.USAGE, {"cores": 0.4, "mib": 70.0}, ""),
        (Witness.USAGE, {"cores": 0.01, "mib": 70.0}, "used 0.01 cores"),
        (Witness.USAGE, {"cores": 0.4, "mib": 5.0}, "held 5 MiB"),
        (Witness.USAGE, {}, "used 0.00 cores"),
        (Witness.LIMIT, {"limit_before": 0.45, "limit": 0.01, "used": 0.011}, ""),
        (Witness.LIMIT, {"limit_before": 0.45, "limit": 0.01, "used": None}, ""),
        (Witness.LIMIT, {"limit_before": 0.45, "limit": 0.45, "used": 0.1}, "did not say"),
        (Witness.LIMIT, {"limit_before": 0.45, "limit": 0.01, "used": 0.2}, "with a limit of"),
        (Witness.LIMIT, {}, "did not say"),
        (Witness.LOADER, {"ended_before": 10, "ended": 900, "seconds": 3.0}, ""),
        (Witness.LOADER, {"ended_before": 10, "ended": 11, "seconds": 3.0}, "counted 1 requests"),
        (Witness.LOADER, {}, "counted 0 requests"),
        (Witness.PLANE, {"failures": {"delay": 2.0, "refuse": False}, "proxies": 3}, ""),
        (Witness.PLANE, {"failures": {"refuse": True}, "proxies": 0}, ""),
        (Witness.PLANE, {"failures": {"refuse": True}, "proxies": 3}, "still serves 3"),
        (Witness.PLANE, {"failures": {"certificate_seconds": 2}, "proxies": 3, "good_certificates": 0}, ""),
        (Witness.PLANE, {"failures": {"certificate_seconds": 2}, "good_certificates": 1}, "still good"),
        (Witness.PLANE, {"failures": {"delay": 0, "refuse": False}, "proxies": 3}, "does not show"),
        (Witness.PLANE, {}, "does not show"),
        (Witness.API_SERVER, {"met": 4}, ""),
        (Witness.API_SERVER, {"met": 0}, "met trouble"),
        (Witness.API_SERVER, {}, "met trouble"),
        (Witness.NONE, {}, "nothing but the fault itself"),
    ],
)
def test_a_fault_that_nothing_else_saw_was_not_seen_to_act(witness: Witness, seen: dict[str, Any], doubt: str) -> None:
    asked = {"delay_ms": 50, "loss": 0.1, "cores": 1, "memory_mib": 64}
    found = detect_no_effect(witness, seen, target=TARGET, began=BEGAN, asked=asked)
    assert bool(found) is bool(doubt)
    assert doubt in found


def test_every_fault_has_a_second_witness() -> None:
    from chaos.faults.catalogue import fault_class

    assert [name for name in FAULTS if fault_class(name).witness is Witness.NONE] == []
