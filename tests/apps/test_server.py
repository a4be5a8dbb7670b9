"""The reference server: answers, misbehaviour, and a good end."""

from __future__ import annotations

import json
import resource
import socket
import time
import urllib.error
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos.apps.misbehaviour import Action, Misbehaviour, Temper
from chaos.apps.wire import FRAME, BadMessage, cut_chunked
from tests.load.programs import Programs, fetch


def exchange(port: int, *parts: bytes, seconds: float = 0.5) -> bytes:
    """Send the parts one after the other, then read until the server closes, or says nothing for that long."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        for part in parts:
            sock.sendall(part)
            time.sleep(0.02)
        sock.settimeout(seconds)
        found = b""
        try:
            while data := sock.recv(65536):
                found += data
        except TimeoutError:
            pass
        return found


def resident(pid: int) -> int:
    """Bytes that the process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.live
def test_requests_of_one_connection_are_answered_in_order_however_they_are_cut(programs: Programs) -> None:
    server = programs.server()
    one = b"POST /echo HTTP/1.1\r\nhost: x\r\nX-Seq: %d\r\ncontent-length: 3\r\n\r\nab%d"
    requests = b"".join(one % (n, n) for n in range(4))
    for cut in (1, 30, 70, len(requests)):
        answer = exchange(server.http, requests[:cut], requests[cut:])
        assert [part[:3] for part in answer.split(b"\r\n\r\n")[1:]] == [b"ab0", b"ab1", b"ab2", b"ab3"]
        assert [f"x-seq: {n}".encode() in answer for n in range(4)] == [True] * 4


@pytest.mark.live
def test_a_chunked_body_comes_back_whole(programs: Programs) -> None:
    server = programs.server()
    head = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert exchange(server.http, head + b"3\r\nabc\r\n2", b"\r\nde\r\n0\r\n\r\n").endswith(b"\r\n\r\nabcde")


def test_chunks_are_cut_whole_or_not_at_all() -> None:
    data = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nNEXT"
    assert cut_chunked(data, 0) == (b"abcde", len(data) - 4)
    assert all(cut_chunked(data[:size], 0) is None for size in range(len(data) - 4))
    with pytest.raises(BadMessage):
        cut_chunked(b"xyz\r\n", 0)


@pytest.mark.live
@pytest.mark.parametrize(
    "garbage", [b"HELLO\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"]
)
def test_what_is_no_request_is_refused(programs: Programs, garbage: bytes) -> None:
    assert exchange(programs.server().http, garbage, seconds=5.0).startswith(b"HTTP/1.1 400")  # and it closes


@pytest.mark.live
def test_streams_echo_in_order_and_give_as_much_as_was_asked(programs: Programs) -> None:
    server = programs.server()
    with socket.create_connection(("127.0.0.1", server.tcp), timeout=5) as sock:
        sock.sendall(FRAME.pack(3, 0, 7) + b"abc" + FRAME.pack(0, 5, 8))
        wanted = 2 * (16 + len("server-1")) + 3 + 5
        found = b""
        while len(found) < wanted:
            found += sock.recv(65536)
    assert found == FRAME.pack(3, 8, 7) + b"server-1abc" + FRAME.pack(5, 8, 8) + b"server-1xxxxx"


@pytest.mark.live
def test_a_large_answer_comes_whole_and_the_next_after_it(programs: Programs) -> None:
    server, size = programs.server(), 3_000_001
    asked = b"GET /bytes/%d HTTP/1.1\r\nhost: x\r\n\r\n" % size
    answer = exchange(server.http, asked + b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok", seconds=2.0)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"content-length: %d" % size in head
    assert rest[:size] == b"x" * size
    assert rest[size:].startswith(b"HTTP/1.1 200")
    assert rest.endswith(b"\r\n\r\nok")


@pytest.mark.live
def test_large_answers_that_nobody_reads_cost_no_memory(programs: Programs) -> None:
    server = programs.server()
    asked = b"GET /bytes/67108864 HTTP/1.1\r\nhost: x\r\n\r\n"
    before = resident(server.process.pid)
    with ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.http), timeout=5))
            sock.sendall(asked)
            assert sock.recv(1)
        assert fetch(server.http, "/echo") == b""  # others are served meanwhile
        assert resident(server.process.pid) - before < 32 << 20  # one answer is larger


@pytest.mark.live
def test_headers_show_what_arrived(programs: Programs) -> None:
    shown = json.loads(fetch(programs.server().http, "/headers"))
    assert shown["pod"] == "server-1"
    assert "host" in shown["headers"]


@pytest.mark.live
def test_misbehaviour_is_the_applications_and_never_the_control_ports(programs: Programs) -> None:
    server = programs.server()
    server.misbehaviour(error_share=1.0, error_status=503, seconds=0.5)
    with pytest.raises(urllib.error.HTTPError, match="503") as caught:
        fetch(server.http, "/")
    caught.value.close()
    assert fetch(server.control, "/sentinel") == b""
    time.sleep(0.5)
    assert fetch(server.http, "/") == b""  # the deadline turned it back


@pytest.mark.parametrize("wrong", ['{"error_share": 2}', '{"delay_ms": -1}', '{"wish": 1}', '{"stall": 1}', "[]", "{"])
def test_wrong_misbehaviour_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        Misbehaviour.parse(wrong.encode())


def test_misbehaviour_hits_about_its_share_and_the_same_requests_for_the_same_seed() -> None:
    def actions() -> list[tuple[Action, float]]:
        temper = Temper()
        temper.set(Misbehaviour(error_share=0.1, reset_share=0.1, delay_ms=5, delay_share=0.5, seed=3))
        return [temper.decide() for _ in range(4000)]

    first = actions()
    assert first == actions()
    for action in (Action.ERROR, Action.RESET):
        assert 0.08 < sum(one is action for one, _ in first) / 4000 < 0.12
    assert 0.45 < sum(delay > 0 for _, delay in first) / 4000 < 0.55


@pytest.mark.live
def test_a_stall_holds_answers_until_it_is_lifted(programs: Programs) -> None:
    server = programs.server()
    server.misbehaviour(stall=True, seconds=0.4)
    begin = time.monotonic()
    fetch(server.http, "/")
    assert 0.3 < time.monotonic() - begin < 3


@pytest.mark.live
def test_a_sigterm_ends_what_is_under_way_and_refuses_what_is_new(programs: Programs) -> None:
    server = programs.server()
    with (
        socket.create_connection(("127.0.0.1", server.http), timeout=5) as busy,
        socket.create_connection(("127.0.0.1", server.http), timeout=5) as idle,
    ):
        idle.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        busy.sendall(b"GET /delay/300 HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(0.1)
        begin = time.monotonic()
        server.process.terminate()
        assert idle.recv(1000) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.http), timeout=1)
        answer = busy.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        assert server.process.wait(5) == 0
        assert time.monotonic() - begin < 1.3
