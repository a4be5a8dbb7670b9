"""The checks' judgements on made-up observations: what each calls shown, not shown, and undecided."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from chaos.engine.features import balancing, envoy_stats, identities, metrics, paths, stolen, tls_on_wire
from chaos.engine.features.by_objects import judge_policy
from chaos.engine.features.programs import memory_keys, request_identity, stolen_keys
from chaos.engine.features.programs.caller import CallReply
from chaos.engine.features.programs.stolen_keys import Knock
from chaos.engine.features.retries import judge_retries, judge_timeouts
from chaos.engine.features.tls_on_wire import Direction
from chaos.inpod import sniffer
from chaos.mesh.ca import Authority
from chaos.model.modes import Layer, Scope
from chaos.model.placement import Pod, Proxy
from chaos.report.keys_table import KEYS_OF
from chaos.verdict import Verdict
from chaos.verdict.check import Check, decided, merged, undecided


def proxy(name: str) -> Proxy:
    return Proxy("tenant-a", name, "proxy", f"uid-{name}", "node-1", frozenset(Layer), Scope.POD, name, "client")


def test_the_worst_check_decides_and_no_check_decides_nothing() -> None:
    good, bad, open_ = decided("a", True, ""), decided("b", False, ""), undecided("c", "")
    assert merged([good, good]) is Verdict.PASS
    assert merged([good, open_]) is Verdict.INCONCLUSIVE
    assert merged([open_, bad, good]) is Verdict.FAIL
    assert merged([]) is Verdict.INCONCLUSIVE


@given(st.lists(st.integers(0, 200), min_size=2, max_size=9).filter(any))
def test_chi_squared_is_that_of_scipy(counts: list[int]) -> None:
    statistic, p = balancing.chi_squared(counts)
    reference = stats.chisquare(counts)
    assert statistic == pytest.approx(reference.statistic)
    assert p == pytest.approx(reference.pvalue, abs=1e-12)


@pytest.mark.parametrize("counts", [[], [5], [0, 0]])
def test_chi_squared_of_nothing_is_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="nothing to test"):
        balancing.chi_squared(counts)


@pytest.mark.parametrize(
    ("counts", "evenly", "verdict"),
    [
        ({"a": 40, "b": 40}, True, Verdict.PASS),
        ({"a": 80, "b": 0}, True, Verdict.FAIL),
        ({"a": 60, "b": 20}, True, Verdict.FAIL),
        ({"a": 80, "b": 0}, False, Verdict.PASS),
        ({"a": 79, "b": 1}, False, Verdict.FAIL),
        ({"a": 20, "b": 20}, True, Verdict.INCONCLUSIVE),
    ],
)
def test_a_spread_is_even_uneven_or_too_small_to_tell(counts: dict[str, int], evenly: bool, verdict: Verdict) -> None:
    assert balancing.judge_spread("x", counts, asked=80, evenly=evenly).verdict is verdict


def pair(**seen: Direction) -> Mapping[str, Direction]:
    return {name: seen.get(name, Direction(10, 10, 0)) for name in ("there", "back")}


@pytest.mark.parametrize(
    ("seen", "meshed", "verdict"),
    [
        (pair(), True, Verdict.PASS),
        (pair(back=Direction(10, 9, 1)), True, Verdict.FAIL),
        (pair(back=Direction(10, 0, 0)), True, Verdict.FAIL),  # unreadable, but no TLS either
        (pair(back=Direction(0, 0, 0)), True, Verdict.INCONCLUSIVE),
        (pair(there=Direction(9, 0, 3), back=Direction(9, 0, 3)), False, Verdict.PASS),
        (
            pair(there=Direction(9, 0, 3), back=Direction(9, 0, 0)),
            False,
            Verdict.FAIL,
        ),  # a reader that reads one direction
    ],
)
def test_the_wire_is_judged_in_both_directions(seen: Mapping[str, Direction], meshed: bool, verdict: Verdict) -> None:
    assert tls_on_wire.judge_pair("x", seen, meshed=meshed).verdict is verdict


def packet(payload: bytes) -> bytes:
    ip = bytes([0x45, 0]) + (40 + len(payload)).to_bytes(2, "big") + bytes(5) + bytes([6, 0, 0])
    ip += socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.2")
    return ip + (1234).to_bytes(2, "big") + (80).to_bytes(2, "big") + bytes(8) + bytes([0x50]) + bytes(7) + payload


def test_the_reader_tells_tls_records_from_plain_text() -> None:
    heard: dict[tuple[str, int, str, int], sniffer.Heard] = {}
    for payload in (b"\x17\x03\x03\x00\x20" + bytes(32), b"GET /secret HTTP/1.1\r\n", b""):
        sniffer.take(packet(payload), b"secret", heard)
    (one,) = heard.values()
    assert (one.source, one.target, one.target_port) == ("10.0.0.1", "10.0.0.2", 80)
    assert (one.packets, one.records, one.marked) == (2, 1, 1)


@given(st.binary(max_size=200))
def test_the_reader_survives_any_packet(data: bytes) -> None:
    sniffer.take(data, b"secret", {})


def test_control_ports_are_not_the_meshs_business() -> None:
    pod = Pod("n", "p", "u", "node-1", "t", "server", "w", "s", "10.0.0.2")
    one = {
        "source": "10.0.0.9",
        "source_port": 5,
        "target": pod.ip,
        "target_port": 9990,
        "packets": 1,
        "records": 0,
        "marked": 1,
    }
    assert tls_on_wire.toward([one], pod)[0] == Direction(0, 0, 0)
    assert tls_on_wire.toward([{**one, "target_port": 8080}], pod)[0] == Direction(1, 0, 1)


def test_a_proxy_that_another_one_stands_in_for_is_seen_by_its_bytes() -> None:
    own, secret = proxy("own"), proxy("secret")
    good = paths.judge_paths({own: 40.0, secret: 0.0}, {own: 40 * 1100, secret: 90}, body=1000)
    shared = paths.judge_paths({own: 40.0, secret: 0.0}, {own: 0, secret: 40 * 1100}, body=1000)
    assert (good.verdict, shared.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert "own" in shared.sentence
    assert "on no path" in shared.sentence


PAGE = """# TYPE envoy_cluster_upstream_cx_tx_bytes_total counter
envoy_cluster_upstream_cx_tx_bytes_total{envoy_cluster_name="xds"} 900
envoy_cluster_upstream_cx_tx_bytes_total{envoy_cluster_name="outbound|80|server_tenant-a"} 70
envoy_cluster_upstream_cx_tx_bytes_total{envoy_cluster_name="inbound"} 30
envoy_sharedfate_requests{source="spiffe://cluster.local/ns/a/sa/c",destination="a/s",code="200"} 12
envoy_server_live 1
"""


def test_figures_are_read_from_a_prometheus_page() -> None:
    assert envoy_stats.carried(PAGE) == 100
    assert envoy_stats.golden(PAGE) == {("spiffe://cluster.local/ns/a/sa/c", "a/s", "200"): 12}


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [
        ({"a": 20, "b": 20}, Verdict.PASS),
        ({"a": 21, "b": 19}, Verdict.FAIL),
        ({"a": 20}, Verdict.FAIL),
        ({"a": 20, "b": 20, "c": 1}, Verdict.FAIL),
    ],
)
def test_counts_agree_or_differ(counted: dict[str, int], verdict: Verdict) -> None:
    assert metrics.judge_counts("x", {"a": 20, "b": 20}, counted).verdict is verdict


def test_no_request_decides_nothing() -> None:
    assert metrics.judge_counts("x", {"a": 0}, {}).verdict is Verdict.INCONCLUSIVE


def test_identities_that_lack_and_that_are_too_many_are_named() -> None:
    one, two = proxy("one"), proxy("two")
    expected = {one: {"spiffe://cluster.local/ns/a/sa/c"}, two: {"spiffe://cluster.local/ns/b/sa/c"}}
    assert identities.differences(expected, expected) == []
    told = identities.differences(expected, {one: set(), two: {*expected[one], *expected[two]}})
    assert told == ["tenant-a/one[proxy] lacks a/sa/c", "tenant-a/two[proxy] also holds a/sa/c"]


def test_a_key_in_memory_is_found_and_named_by_its_public_half() -> None:
    issued = Authority.new().issue("spiffe://cluster.local/ns/a/sa/c", seconds=60)
    kept = bytearray(issued.key)  # in this process's own memory
    names = {memory_keys.public_half(pem) for pem in memory_keys.pem_keys(os.getpid())}
    assert issued.public_key_sha256 in names
    assert kept


def test_keys_are_paired_with_their_last_certificates_and_what_cannot_be_used_is_counted() -> None:
    authority = Authority.new()
    old, new, other, lone = (
        authority.issue(f"spiffe://cluster.local/ns/{name}/sa/c", seconds=seconds)
        for name, seconds in (("a", 60), ("a", 600), ("b", 60), ("c", 60))
    )
    certificates = [old.certificate, new.certificate, other.certificate, authority.root_pem, b"no certificate"]
    found, unusable = stolen_keys.pair([one.key for one in (new, old, other, lone)], certificates)
    assert [(one.identity, one.key) for one in found] == [
        ("spiffe://cluster.local/ns/a/sa/c", new.key.decode()),
        ("spiffe://cluster.local/ns/b/sa/c", other.key.decode()),
    ]
    assert unusable == 1


@pytest.mark.parametrize(
    ("status", "body", "tunnelled", "answer"),
    [
        (200, "HTTP/1.1 200 OK\r\nx-pod: server-1\r\n\r\n", False, (200, "server-1")),
        (403, "HTTP/1.1 403 Forbidden\r\n\r\n", False, (403, "")),
        (200, "HTTP/1.1 200 OK\r\nX-Pod: server-1\r\n\r\n", True, (200, "server-1")),
        (200, "HTTP/1.1 403 Forbidden\r\n\r\n", True, (403, "")),  # the tunnel was given, the request was not
        (200, "", True, (0, "")),  # and closed
        (404, "", True, (404, "")),
        (0, "", True, (0, "")),
    ],
)
def test_a_tunnel_that_is_given_is_no_answer_of_the_server(
    status: int, body: str, tunnelled: bool, answer: tuple[int, str]
) -> None:
    assert stolen_keys.read_answer(status, body, tunnelled=tunnelled) == answer


def test_a_certificate_in_memory_is_found_whole() -> None:
    issued = Authority.new().issue("spiffe://cluster.local/ns/a/sa/c", seconds=60)
    kept = bytearray(issued.certificate + b"\n")
    assert issued.certificate.strip() in memory_keys.pem_certificates(os.getpid())
    assert kept


SERVERS = {"a/server": {"server-a"}, "b/server": {"server-b"}}
AS_A, AS_B = "spiffe://cluster.local/ns/a/sa/client", "spiffe://cluster.local/ns/b/sa/client"


def knocks(identity: str, **answers: tuple[int, str, str]) -> list[Knock]:
    """Of the servers a and b: (status, pod, error)."""
    return [Knock("uid-p", identity, f"{name}/server", *answer) for name, answer in answers.items()]


DENIED, CLOSED, OUT, SLOW = (403, "", ""), (0, "", "reset"), (503, "", ""), (0, "", "TimeoutError: timed out")


@pytest.mark.parametrize(
    ("held", "answers", "verdict", "said"),
    [
        ("a", {AS_A: ("a", "")}, "pass", "as a/client it opens a/server"),
        ("a", {AS_A: ("ab", "")}, "fail", "b/server accepted a/client, which it should not"),
        ("a", {AS_A: ("", "")}, "fail", "a/server refused a/client, whom it lets in"),
        ("a", {AS_A: ("a", ""), AS_B: ("", "")}, "pass", "as b/client it is refused everywhere"),  # a key of no use
        ("a", {AS_A: ("a", ""), AS_B: ("b", "")}, "fail", "b/server accepted b/client"),  # of no use to this proxy
        ("ab", {AS_A: ("a", ""), AS_B: ("b", "")}, "pass", "as b/client it opens b/server"),
        ("ab", {AS_A: ("a", "")}, "inconclusive", "no key with a certificate was found of b/client"),
        ("a", {AS_A: ("a", "b")}, "inconclusive", "to a/client b/server answered 503"),
        ("", {}, "pass", "it holds no key"),
    ],
)
def test_what_a_stolen_key_opens_is_held_against_the_model(
    held: str, answers: dict[str, tuple[str, str]], verdict: str, said: str
) -> None:
    expected = {(name, "client"): frozenset({f"{name}/server"}) for name in held}
    tried = [
        one
        for identity, (through, out) in answers.items()
        for one in knocks(
            identity,
            **{
                name: (200, f"server-{name}", "") if name in through else OUT if name in out else DENIED
                for name in "ab"
            },
        )
    ]
    check = stolen.judge_keys(proxy("p"), expected, stolen.by_identity(tried), SERVERS)
    assert (str(check.verdict), said in check.sentence) == (verdict, True), check


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (DENIED, "pass"),
        (CLOSED, "pass"),
        (SLOW, "inconclusive"),
        (OUT, "inconclusive"),
        ((200, "server-a", ""), "fail"),
    ],
)
def test_a_door_that_opens_without_a_key_is_caught(answer: tuple[int, str, str], verdict: str) -> None:
    check = stolen.judge_nobody(knocks("", a=answer, b=CLOSED), SERVERS)
    assert str(check.verdict) == verdict, check


def test_a_door_that_leads_to_anothers_pod_is_no_answer_of_the_servers() -> None:
    assert not stolen.opened(knocks(AS_A, a=(200, "server-b", "")), SERVERS)


def test_knocks_without_a_key_on_no_door_say_nothing() -> None:
    assert stolen.judge_nobody([], SERVERS).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("worst", [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL])
def test_what_one_proxys_keys_open_at_most_is_as_sure_as_each_proxys_check(worst: Verdict) -> None:
    checks = [decided(f"{KEYS_OF}p", True, ""), Check(f"{KEYS_OF}q", worst, "")]
    assert stolen.judge_most(checks, 2, 3).verdict is worst


def test_a_broken_key_has_no_name() -> None:
    assert memory_keys.public_half(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----") == ""


def test_a_link_in_another_root_leads_into_that_root(tmp_path: Path) -> None:
    (tmp_path / "run" / "secrets").mkdir(parents=True)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "run").symlink_to("/run")
    (tmp_path / "run" / "secrets" / "token").write_text("t")
    assert request_identity.within(tmp_path, "/var/run/secrets/token") == tmp_path / "run" / "secrets" / "token"


def test_a_check_reads_as_a_sentence() -> None:
    assert str(Check("x holds", Verdict.PASS, "3 of 3", 3, "calls")) == "pass: x holds: 3 of 3"


@pytest.mark.parametrize(
    ("before", "allowed", "denied", "after", "verdict"),
    [
        ({200}, {200}, {403}, {200}, "pass"),
        ({200}, {200}, {0}, {200}, "pass"),  # a proxy of connections closes them
        ({200}, {200}, {0, 403}, {200}, "pass"),
        ({200}, {200}, {200, 403}, {200}, "fail"),
        ({200}, {200, 403}, {403}, {200}, "fail"),
        ({200}, {200}, {503}, {200}, "fail"),  # an outage is no refusal
        ({200}, {200}, set(), {200}, "fail"),
        ({0}, {200}, {0}, {200}, "fail"),  # it was closed before
        ({200}, {200}, {403}, {403}, "fail"),  # and stays so without the policy
    ],
)
def test_a_policy_holds_when_the_wrong_one_is_refused_while_it_is_there_and_nobody_else(
    before: set[int], allowed: set[int], denied: set[int], after: set[int], verdict: str
) -> None:
    check = judge_policy("p", before, {"own": allowed}, {"another": denied}, after=after)
    assert str(check.verdict) == verdict, check


@pytest.mark.parametrize(
    ("tries", "failed", "without", "verdict"),
    [(80, 1, 18, "pass"), (60, 1, 18, "fail"), (80, 12, 18, "fail"), (60, 0, 0, "inconclusive")],
)
def test_retries_are_more_tries_than_requests_and_fewer_failures(
    tries: int, failed: int, without: int, verdict: str
) -> None:
    assert str(judge_retries(tries, failed, without).verdict) == verdict


@pytest.mark.parametrize(
    ("slow", "quick", "without", "verdict"),
    [
        ((504, 803.0), 200, 200, "pass"),
        ((504, 300.0), 200, 200, "fail"),  # before its time
        ((504, 5200.0), 200, 200, "fail"),  # the server's own end
        ((200, 5000.0), 200, 200, "fail"),
        ((504, 803.0), 504, 200, "fail"),
        ((504, 803.0), 200, 504, "fail"),  # what is left without the object
    ],
)
def test_a_timeout_ends_what_is_late_in_its_time_and_nothing_else(
    slow: tuple[int, float], quick: int, without: int, verdict: str
) -> None:
    late = [CallReply(status=slow[0], ms=slow[1])] * 2
    assert str(judge_timeouts(late, [CallReply(status=quick)], CallReply(status=without)).verdict) == verdict
