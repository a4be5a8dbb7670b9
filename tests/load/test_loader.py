"""The loader against real servers, good and bad: what it says of each request is what happened."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from chaos.history.model import SAMPLE, Cause, Flag, Outcome, Samples
from chaos.load.client import parse_page
from tests.load.programs import Loader, Programs, accepting, eventually, flow_to, free_port


def samples(loader: Loader) -> Samples:
    return parse_page(loader.ask("/samples?from=0")).records


def kinds(found: Samples) -> Counter[tuple[Outcome, Cause]]:
    return Counter((Outcome(one["outcome"]), Cause(one["cause"])) for one in found)


def answering(answer: Callable[[bytes], bytes]) -> Callable[[socket.socket], None]:
    def treat(sock: socket.socket) -> None:
        with sock, suppress(OSError):  # a loader that gave up resets
            while data := sock.recv(65536):
                sock.sendall(answer(data))

    return treat


PROTOCOLS = [
    {"protocol": "http1"},
    {"protocol": "http1", "new_connections": True},
    {"protocol": "http1", "body_bytes": 200_000},
    {"protocol": "http1", "answer_bytes": 200_000},
    {"protocol": "http2", "connections": 2},
    {"protocol": "http2", "connections": 2, "answer_bytes": 200_000, "rate": 50},
    {"protocol": "http2", "connections": 2, "body_bytes": 100_000, "rate": 50},
    {"protocol": "grpc", "connections": 2, "body_bytes": 100},
    {"protocol": "tcp", "connections": 2, "body_bytes": 100},
    {"protocol": "tcp", "new_connections": True},
    {"protocol": "http1", "arrival": "poisson"},
    {"protocol": "http1", "slow_reader": 400_000.0, "answer_bytes": 20_000, "rate": 20},
]


@pytest.mark.live
@pytest.mark.parametrize("shape", PROTOCOLS, ids=lambda shape: "-".join(f"{k}={v}" for k, v in shape.items()))
def test_each_protocol_is_answered_by_a_server_that_names_itself(programs: Programs, shape: dict[str, Any]) -> None:
    server = programs.server()
    tcp = shape["protocol"] == "tcp"
    loader = programs.loader(flow_to(server.tcp if tcp else server.http, timeout=5, **shape))
    state = eventually(lambda: loader.state() if loader.flow("http")["ok"] >= 30 else None)
    found = samples(loader)
    assert set(kinds(found)) == {(Outcome.OK, Cause.NONE)}
    assert state["servers"] == ["tenant-a/server-1"]
    assert set(found["server"]) == {0}
    assert np.all(found["due"] <= found["sent"])
    assert np.all(found["sent"] <= found["done"])
    fresh = found["flags"] & Flag.NEW_CONNECTION != 0
    assert fresh.all() if shape.get("new_connections") else 1 <= fresh.sum() < len(found) / 2


@pytest.mark.live
def test_refused_is_failed_and_the_next_request_tries_at_once(programs: Programs) -> None:
    loader = programs.loader(flow_to(free_port()), flow_to(free_port(), "tcp", protocol="tcp"))
    eventually(lambda: loader.flow("http")["done"] >= 20 and loader.flow("tcp")["done"] >= 20)
    found = samples(loader)
    assert set(kinds(found)) == {(Outcome.FAILED, Cause.REFUSED)}
    assert np.all(found["sent"] == 0)


@pytest.mark.live
def test_a_server_that_never_answers_is_unknown_by_timeout(programs: Programs) -> None:
    with accepting(answering(lambda data: b"")) as port:
        loader = programs.loader(
            *[flow_to(port, name, protocol=name, timeout=0.2) for name in ("http1", "http2", "tcp")]
        )
        eventually(lambda: all(loader.flow(name)["done"] >= 20 for name in ("http1", "http2", "tcp")))
        found = samples(loader)
    # Before the timeout the first may have got no name looked up, or no connection: the machine may stall at the start
    early = {(Outcome.FAILED, Cause.CONNECT_TIMEOUT), (Outcome.FAILED, Cause.DNS)}
    assert set(kinds(found)) <= {(Outcome.UNKNOWN, Cause.TIMEOUT), *early}
    assert kinds(found)[Outcome.UNKNOWN, Cause.TIMEOUT] >= 0.9 * len(found)


@pytest.mark.live
def test_a_server_that_resets_is_unknown(programs: Programs) -> None:
    def treat(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()

    with accepting(treat) as port:
        loader = programs.loader(*[flow_to(port, name, protocol=name) for name in ("http1", "http2", "tcp")])
        eventually(lambda: all(loader.flow(name)["done"] >= 10 for name in ("http1", "http2", "tcp")))
        found = samples(loader)
    assert (Outcome.OK, Cause.NONE) not in kinds(found)
    assert kinds(found)[Outcome.UNKNOWN, Cause.RESET] >= 0.9 * len(found)


@pytest.mark.live
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-pod: p\r\nx-seq: 999999\r\n\r\n",
            (Outcome.UNKNOWN, Cause.WRONG_BODY),
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-pod: p\r\n\r\n", (Outcome.UNKNOWN, Cause.WRONG_BODY)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd", (Outcome.UNKNOWN, Cause.WRONG_BODY)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", (Outcome.OK, Cause.NONE)),  # names no pod: not ours
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n", (Outcome.OK, Cause.NONE)),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-pod: p\r\nx-seq: 1\r\n\r\nhello",
            (Outcome.UNKNOWN, Cause.WRONG_BODY),
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", (Outcome.OK, Cause.NONE)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (Outcome.OK, Cause.NONE)),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 2\r\nx-pod: p\r\n\r\noh", (Outcome.UNKNOWN, Cause.STATUS)),
        (b"HTTP/1.1 503 No\r\ncontent-length: 19\r\n\r\nno healthy upstream", (Outcome.FAILED, Cause.STATUS)),
    ],
    ids=[
        "crossed",
        "no-sequence",
        "too-long",
        "another's",
        "another's-healthz",
        "ours-of-other-size",
        "another's-chunks",
        "chunked",
        "error",
        "never-forwarded",
    ],
)
def test_an_answer_is_believed_only_when_it_is_the_right_one(programs: Programs, answer: bytes, expected: Any) -> None:
    with accepting(answering(lambda data: answer)) as port:
        loader = programs.loader(flow_to(port))
        eventually(lambda: loader.flow("http")["done"] >= 10)
        assert set(kinds(samples(loader))) == {expected}


def ending(answer: bytes, *, reset: bool = False) -> Callable[[socket.socket], None]:
    """Answers once, in two parts, and ends the connection."""

    def treat(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.recv(65536)
            for part in (answer[:-3], answer[-3:]):
                sock.sendall(part)
                time.sleep(0.01)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return treat


# Answers of applications that are not ours, as servers in use give them: all are well.
ANSWERS = {
    "length": answering(lambda data: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    "length-without-space": answering(lambda data: b"HTTP/1.1 200 OK\r\nContent-Length:5\r\n\r\nhello"),
    "chunks": answering(lambda data: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    "chunks-with-trailer": answering(
        lambda data: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nab\r\n0\r\nx-sum: 1\r\n\r\n"
    ),
    "until-the-end": ending(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello, and more"),
    "until-the-end-unsaid": ending(b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\nhello"),
    "http-1.0": ending(b"HTTP/1.0 200 OK\r\nServer: SimpleHTTP\r\n\r\nhello"),
    "http-1.0-with-length": ending(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    "closes-in-capitals": ending(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\nhello"),
    "early-hints": answering(
        lambda data: b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    ),
    "head": answering(lambda data: b"HTTP/1.1 200 OK\r\ncontent-length: 4711\r\n\r\n"),
    "no-content": answering(lambda data: b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not-modified": answering(lambda data: b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n"),
}
NAMES_A_POD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-pod: theirs\r\n\r\nok"
ANSWERS["names-a-pod-of-its-own-accord"] = answering(lambda data: NAMES_A_POD)
ASKED: dict[str, dict[str, Any]] = {
    "head": {"method": "HEAD"},
    "no-content": {"expect_status": 204},
    "not-modified": {"expect_status": 304},
}


@pytest.mark.live
@pytest.mark.parametrize("name", ANSWERS)
def test_every_form_of_answer_that_an_application_may_give_is_well(programs: Programs, name: str) -> None:
    with accepting(ANSWERS[name]) as port:
        loader = programs.loader(flow_to(port, echoes=False, **ASKED.get(name, {})))
        eventually(lambda: loader.flow("http")["done"] >= 20)
        assert set(kinds(samples(loader))) == {(Outcome.OK, Cause.NONE)}


@pytest.mark.live
def test_a_body_that_is_cut_by_a_reset_is_not_taken_for_one_that_ends_with_its_connection(programs: Programs) -> None:
    with accepting(ending(b"HTTP/1.1 200 OK\r\n\r\nhello, and more", reset=True)) as port:
        loader = programs.loader(flow_to(port))
        eventually(lambda: loader.flow("http")["done"] >= 20)
        assert set(kinds(samples(loader))) == {(Outcome.UNKNOWN, Cause.RESET)}


@pytest.mark.live
def test_a_targets_sentinel_is_answered_well_by_the_loaders_own_health_check(programs: Programs) -> None:
    asked = programs.loader()
    loader = programs.loader(flow_to(asked.control, path="/healthz", sentinel=True, echoes=False))
    eventually(lambda: loader.flow("http")["done"] >= 20)
    assert set(kinds(samples(loader))) == {(Outcome.OK, Cause.NONE)}


@pytest.mark.live
def test_a_body_of_another_size_than_asked_for_is_noticed(programs: Programs) -> None:
    with accepting(answering(lambda data: b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nshort")) as port:
        loader = programs.loader(flow_to(port, answer_bytes=10))
        eventually(lambda: loader.flow("http")["done"] >= 10)
        assert set(kinds(samples(loader))) == {(Outcome.UNKNOWN, Cause.WRONG_BODY)}


@pytest.mark.live
def test_what_a_proxy_retried_is_flagged(programs: Programs) -> None:
    with accepting(
        answering(lambda data: b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-envoy-attempt-count: 2\r\n\r\n")
    ) as port:
        loader = programs.loader(flow_to(port))
        eventually(lambda: loader.flow("http")["done"] >= 10)
        assert np.all(samples(loader)["flags"] & Flag.RETRIED != 0)


@pytest.mark.live
def test_requests_beyond_the_bound_are_shed_and_still_counted(programs: Programs) -> None:
    with accepting(answering(lambda data: b"")) as port:
        loader = programs.loader(flow_to(port, in_flight=5, timeout=0.5))
        eventually(lambda: loader.flow("http")["done"] >= 50)
        found, flow = samples(loader), loader.flow("http")
    shed = found[found["cause"] == Cause.SHED]
    assert len(shed) > 20
    assert np.all(shed["outcome"] == Outcome.FAILED)
    assert np.all(shed["sent"] == 0)
    assert flow["shed"] >= len(shed)


@pytest.mark.live
def test_a_name_that_is_not_there_fails_as_a_name(programs: Programs) -> None:
    loader = programs.loader(flow_to(1, timeout=0.3) | {"target": "server.invalid:80"})
    eventually(lambda: loader.flow("http")["done"] >= 10)
    assert set(kinds(samples(loader))) == {(Outcome.FAILED, Cause.DNS)}


@pytest.mark.live
def test_latency_counts_from_when_a_request_was_due_while_the_server_stalls(programs: Programs) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(server.http, timeout=5))
    eventually(lambda: loader.flow("http")["ok"] >= 30)
    os.kill(server.process.pid, signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(server.process.pid, signal.SIGCONT)
    eventually(lambda: loader.flow("http")["ok"] >= 200)
    found = samples(loader)
    latency = (found["done"] - found["due"]) / 1e9
    slow = latency[(latency > 0.1) & (found["outcome"] == Outcome.OK)]
    # A hundred requests a second fell due during the stall: they waited from 1 s down to nothing, half a second on
    # average.
    assert 70 <= len(slow) <= 110
    assert 0.35 < slow.mean() < 0.75


@pytest.mark.live
def test_a_loader_that_was_late_marks_its_samples(programs: Programs) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(server.http, timeout=5))
    eventually(lambda: loader.flow("http")["ok"] >= 30)
    before = loader.flow("http")["late"]
    os.kill(loader.process.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(loader.process.pid, signal.SIGCONT)
    eventually(lambda: loader.flow("http")["late"] >= before + 30)
    found = samples(loader)
    gone = (found["sent"] - found["due"]) > 50_000_000
    assert gone.sum() >= 30
    assert np.all(found["flags"][gone] & Flag.LATE != 0)
    assert loader.state()["lateness"]["worst_ns"] > 300_000_000


@pytest.mark.live
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_after_a_server_went_and_came_every_protocol_is_served_again_at_once(
    programs: Programs, how: signal.Signals
) -> None:
    server = programs.server()
    names = ("http1", "http2", "grpc", "tcp")
    loader = programs.loader(
        *[
            flow_to(
                server.tcp if name == "tcp" else server.http, name, protocol=name, label=name, connections=2, rate=50
            )
            for name in names
        ]
    )
    eventually(lambda: all(loader.flow(name)["ok"] >= 20 for name in names))
    os.kill(server.process.pid, how)
    server.process.wait(5)
    eventually(lambda: all(loader.flow(name)["failed"] >= 5 for name in names))
    programs.server("server-2", ports=(server.http, server.tcp, server.control))
    back = time.time_ns()
    for name in names:
        before = loader.flow(name)["ok"]
        eventually(lambda name=name, before=before: loader.flow(name)["ok"] >= before + 20)  # type: ignore[misc]  # mypy infers no lambda with defaults
    found = samples(loader)
    assert loader.state()["servers"] == ["tenant-a/server-1", "tenant-a/server-2"]
    assert np.all(found["outcome"][found["due"] > back] == Outcome.OK)
    assert not np.any(found["cause"] == Cause.TIMEOUT)


@pytest.mark.live
def test_rates_and_gaps_are_kept_uniform_or_poisson(programs: Programs) -> None:
    server = programs.server()
    loader = programs.loader(
        flow_to(server.http, "even", rate=400),
        flow_to(server.http, "chance", rate=400, arrival="poisson", label="chance"),
    )
    eventually(lambda: loader.flow("chance")["done"] >= 800)
    found = samples(loader)
    for number, spread in ((0, 0.0), (1, 1.0)):
        gaps = np.diff(np.sort(found["due"][found["flow"] == number]))
        assert gaps.mean() == pytest.approx(2.5e6, rel=0.15)
        assert gaps.std() / gaps.mean() == pytest.approx(spread, abs=0.15)


@pytest.mark.live
def test_a_flow_is_changed_while_it_runs_and_keeps_its_counts(programs: Programs) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(server.http))
    eventually(lambda: loader.flow("http")["ok"] >= 20)
    loader.set(flow_to(server.http, rate=0))
    eventually(lambda: loader.state()["under_way"] == 0)
    stopped = loader.flow("http")["due"]
    time.sleep(0.1)
    assert loader.flow("http")["due"] == stopped
    loader.set(flow_to(server.http, protocol="http2", connections=1))
    flow = eventually(lambda: loader.flow("http") if loader.flow("http")["ok"] >= stopped + 20 else None)
    assert flow["id"] == 0
    assert server.stats()["http2-connections"] == 1


@pytest.mark.live
def test_a_sigterm_ends_the_loader_in_a_second(programs: Programs) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(server.http))
    eventually(lambda: loader.flow("http")["ok"] >= 5)
    begin = time.monotonic()
    loader.process.terminate()
    assert loader.process.wait(5) == 0
    assert time.monotonic() - begin < 1.5


def test_bad_orders_stop_a_loader_before_it_starts() -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "chaos.load.agent"],
        env={**os.environ, "LOADER_FLOWS": '[{"rate": "x"}]'},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert "rate is 'x', and should be a number" in done.stderr
    assert "target is missing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.live
def test_the_dtype_has_what_a_page_brings(programs: Programs) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(server.http))
    eventually(lambda: loader.flow("http")["ok"] >= 5)
    page = parse_page(loader.ask("/samples?from=2&limit=2"))
    assert page.records.dtype == SAMPLE
    assert len(page.records) == 2
    assert page.state["from"] == 2
