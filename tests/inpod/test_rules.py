"""Which packets the rules of an isolation name."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from chaos.inpod.rules import Isolation, plan_isolation


def test_packets_of_one_peer_one_port_and_one_direction_are_meant_and_no_others() -> None:
    script = plan_isolation(
        "r", Isolation(frozenset(), whole=True, peers=("10.0.0.1",), only=frozenset({80}), out=False)
    )
    into, out = script.split("chain out")
    assert "ip saddr { 10.0.0.1 } meta l4proto { tcp, udp } th dport { 80 } counter drop" in into
    assert "drop" not in out


def test_a_reset_answers_tcp_alone() -> None:
    assert "meta l4proto tcp counter reject with tcp reset" in plan_isolation(
        "r", Isolation(frozenset(), whole=True, reset=True)
    )


PROXY = Isolation(frozenset({15001, 15006}), mark=0x5F, spared=frozenset({15021}))
WHOLE = Isolation(frozenset(), whole=True, spared=frozenset({9990}))


def test_only_what_opens_a_connection_is_meant_or_only_what_ends_a_piece_of_data() -> None:
    into, out = plan_isolation("r", replace(PROXY, segments="opening")).split("chain out")
    assert "tcp dport { 15001, 15006 } tcp flags & (syn | ack) == syn counter drop" in into
    assert "meta mark 0x5f tcp flags & (syn | ack) == syn counter drop" in out
    into, out = plan_isolation("r", replace(WHOLE, segments="data", into=False)).split("chain out")
    assert "counter drop" not in into
    assert "tcp sport { 9990 } accept\ntcp flags & psh == psh counter drop" in out


@pytest.mark.privileged
@pytest.mark.parametrize("segments", ["all", "opening", "data"])
@pytest.mark.parametrize("isolation", [PROXY, WHOLE], ids=["proxy", "whole"])
@pytest.mark.parametrize("narrowed", [{}, {"only": frozenset({80})}, {"peers": ("10.0.0.1",)}, {"out": False}], ids=str)
def test_the_kernel_takes_every_isolation(segments: str, isolation: Isolation, narrowed: dict[str, object]) -> None:
    rules = plan_isolation("r", replace(isolation, segments=segments, **narrowed))  # type: ignore[arg-type]
    done = subprocess.run(["unshare", "-n", "nft", "-f", "-"], input=rules, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
