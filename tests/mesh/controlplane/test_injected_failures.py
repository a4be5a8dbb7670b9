"""Failures that the control plane is asked for."""

from __future__ import annotations

from chaos.mesh.controlplane.injected_failures import InjectedFailures, detect_injected_failures
from chaos.mesh.snapshot import Misanswering


def test_the_control_plane_makes_the_worst_of_what_is_asked() -> None:
    asked = {
        "mesh.json": "{}",
        "fault-1.json": '{"delay": 2}',
        "fault-2.json": '{"delay": 5, "certificate_seconds": 9}',
        "fault-3.json": '{"certificate_seconds": 3}',
        "fault-4.json": '{"misdirect": true}',
        "fault-5.json": '{"misanswer": {"pod_uid": "b", "errors": 0.3}}',
        "fault-6.json": '{"misanswer": {"pod_uid": "a", "errors": 0, "delay_ms": 200, "namespace": "tenant-a"}}',
    }
    misanswers = (Misanswering("a", 0, 503, 200, "tenant-a"), Misanswering("b", 0.3))
    assert detect_injected_failures(asked) == InjectedFailures(False, 5.0, 3.0, True, misanswers)
    assert detect_injected_failures({"mesh.json": "{}"}) == InjectedFailures()
