"""Which packets the rules of an isolation name."""

from __future__ import annotations

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
