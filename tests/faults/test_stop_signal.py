"""An operator's request to stop, and which runners it concerns."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

from chaos.faults.stop_signal import StopSignal


class Unmarked:
    """A cluster in which nobody asked for a stop."""

    def find(self, kind: str, name: str, namespace: str) -> None:
        return None


def test_a_post_to_the_stop_port_presses_the_button() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    button = StopSignal(Unmarked(), port=port)  # type: ignore[arg-type]
    assert button.requested() == ""
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}/stop", method="POST"), timeout=5
    ) as answer:
        assert answer.status == 202
    assert button.requested() == "a POST to the stop port"


class Marked:
    """A cluster in which somebody asked for a stop at a time."""

    def find(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return {"metadata": {"annotations": {"sharedfate.io/pressed-at": "100"}}, "data": {"why": "drill"}}


def test_an_old_press_does_not_stop_a_new_runner() -> None:
    assert StopSignal(Marked(), since=50).requested() == "`sharedfate stop`: drill"  # type: ignore[arg-type]
    assert StopSignal(Marked(), since=150).requested() == ""  # type: ignore[arg-type]
