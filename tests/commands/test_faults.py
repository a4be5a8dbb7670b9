"""Durations and settings of `sharedfate inject`."""

from __future__ import annotations

import pytest

from chaos.commands.faults import parse_seconds, parse_settings
from chaos.errors import Misuse
from chaos.faults.delete_pod import DeletePod
from chaos.faults.kill import Kill
from chaos.faults.network.drop import Drop
from chaos.faults.upgrade import Upgrade


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10.0), ("500ms", 0.5), ("2m", 120.0), ("3", 3.0), ("1.5s", 1.5)])
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


def test_a_wrong_time_is_refused() -> None:
    with pytest.raises(Misuse, match="want 10s"):
        parse_seconds("soon")


def test_settings_are_read_as_the_faults_own_types() -> None:
    assert parse_settings(Drop, ("ports=80,443", "peers=10.0.0.1", "direction=in")) == {
        "ports": (80, 443),
        "peers": ("10.0.0.1",),
        "direction": "in",
    }
    assert parse_settings(DeletePod, ("grace=0",)) == {"grace": 0}
    assert parse_settings(DeletePod, ("grace=none",)) == {"grace": None}
    assert parse_settings(Upgrade, ("env=A=1,B=2", "whole=false")) == {"env": {"A": "1", "B": "2"}, "whole": False}


def test_wrong_settings_are_all_named() -> None:
    with pytest.raises(Misuse, match=r"grace is not known here.*signal is 'x', and should be a whole number"):
        parse_settings(Kill, ("signal=x", "grace=1"))
