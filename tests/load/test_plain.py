"""Bytes over TCP and over TLS against real servers, good and bad: each sample says how it ended."""

from __future__ import annotations

import signal
import socket
import ssl
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from chaos.history.model import NO_POD, Cause, Flag, Outcome
from chaos.load.client import parse_page
from chaos.mesh.ca import Authority
from tests.load.programs import Loader, Programs, accepting, eventually, flow_to, free_port

Treat = Callable[[socket.socket], None]
PING = b64encode(b"PING\r\n").decode()
END = tuple[Outcome, Cause]
OK, UNANSWERED = (Outcome.OK, Cause.NONE), (Outcome.UNKNOWN, Cause.TIMEOUT)
CUT, WRONG, UNSAID = (
    (Outcome.UNKNOWN, Cause.RESET),
    (Outcome.UNKNOWN, Cause.WRONG_BODY),
    (Outcome.FAILED, Cause.RESET),
)
HANDSHAKE, NOT_IN_TIME = (Outcome.FAILED, Cause.TLS), (Outcome.FAILED, Cause.CONNECT_TIMEOUT)


@contextmanager
def serving(treat: Treat, *, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Accept connections, with a handshake where there is a context, and treat each in a thread of its own."""

    def one(sock: socket.socket) -> None:
        with suppress(OSError):  # a loader that gave up resets, and one that believes nobody says so
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True)
            with sock:
                treat(sock)

    with accepting(one) as port:
        yield port


def saying(*answers: bytes, first: bool = False, pause: float = 0.0) -> Treat:
    """Answer what comes with those parts; `first`: speak without being asked, once."""

    def treat(sock: socket.socket) -> None:
        while first or sock.recv(65536):
            for answer in answers:
                sock.sendall(answer)
                time.sleep(pause)
            if first:
                sock.recv(65536)
                return

    return treat


def silent(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def resets(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def hangs_up(sock: socket.socket) -> None:
    del sock


def hangs_up_on(data: bytes) -> Treat:
    def treat(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(data)

    return treat


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@pytest.fixture(scope="module")
def context(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server that calls itself db.shop."""
    issued = authority.issue_server("db.shop", seconds=3600)
    file: Path = tmp_path_factory.mktemp("tls") / "pair.pem"
    file.write_bytes(issued.certificate + issued.key)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


def ended(loader: Loader, number: int = 20) -> Counter[END]:
    """How the requests ended; what fell due before the loader was on its feet is left out."""
    eventually(lambda: loader.flow("bytes")["done"] >= number + 5)
    found = parse_page(loader.ask("/samples?from=0")).records[5:]
    return Counter((Outcome(one["outcome"]), Cause(one["cause"])) for one in found)


def mostly(seen: Counter[END]) -> END:
    """How most ended: a busy machine may stall the first."""
    kind, number = seen.most_common(1)[0]
    assert number >= 0.9 * seen.total(), seen
    return kind


def flow(port: int, **more: Any) -> dict[str, Any]:
    said = {"protocol": "plain", "new_connections": True, "timeout": 0.4, **more}
    return flow_to(port, "bytes", **said)


TCP = [
    ("a ping that is answered", saying(b"+PONG\r\n"), {"send": PING}, OK),
    ("an answer of the stated length", saying(b"+PONG\r\n"), {"send": PING, "answer": "7"}, OK),
    (
        "the same over kept connections",
        saying(b"+PONG\r\n"),
        {"send": PING, "answer": "7", "new_connections": False},
        OK,
    ),
    ("an answer in parts", saying(b"+PO", b"NG\r\n", pause=0.01), {"send": PING, "answer": "7"}, OK),
    ("a server that speaks first", saying(b"SSH-2.0\r\n", first=True), {}, OK),
    ("a server that speaks first, and closes", hangs_up_on(b"12:00\n"), {"send": PING, "answer": "6"}, OK),
    ("a connection alone", silent, {"answer": "connected"}, OK),
    ("a connection to one that speaks first", saying(b"hello", first=True), {"answer": "connected"}, OK),
    ("a large answer", saying(b"x" * 300_000), {"send": PING, "answer": "300000", "rate": 30, "timeout": 5}, OK),
    ("an answer that is too long", saying(b"+PONG\r\n!"), {"send": PING, "answer": "7"}, WRONG),
    ("an answer that is cut short", hangs_up_on(b"+PO"), {"send": PING, "answer": "7"}, CUT),
    ("half an answer, and then nothing", saying(b"+PO"), {"send": PING, "answer": "7"}, UNANSWERED),
    ("no answer", silent, {"send": PING}, UNANSWERED),
    ("nobody speaks", silent, {}, (Outcome.FAILED, Cause.TIMEOUT)),
    ("a reset", resets, {"send": PING}, CUT),
    ("closed before anything was sent", hangs_up, {}, UNSAID),
    ("a connection that does not last", hangs_up, {"answer": "connected"}, UNSAID),
]


@pytest.mark.live
@pytest.mark.parametrize(("treat", "said", "end"), [row[1:] for row in TCP], ids=[row[0] for row in TCP])
def test_bytes_over_tcp_end_as_they_ended(programs: Programs, treat: Treat, said: dict[str, Any], end: END) -> None:
    with serving(treat) as port:
        loader = programs.loader(flow(port, **said))
        assert mostly(ended(loader)) == end
        records = parse_page(loader.ask("/samples?from=0")).records
    assert set(records["server"]) == {NO_POD}  # who answered is not known
    fresh = records["flags"] & Flag.NEW_CONNECTION != 0
    assert fresh.all() if said.get("new_connections", True) else fresh.sum() < len(records) / 2


@pytest.mark.live
@pytest.mark.parametrize("protocol", ["plain", "tls"])
def test_where_nobody_listens_bytes_are_refused(programs: Programs, protocol: str) -> None:
    loader = programs.loader(flow(free_port(), protocol=protocol, send=PING, insecure=True))
    assert mostly(ended(loader)) == (Outcome.FAILED, Cause.REFUSED)


TRUSTED = {"protocol": "tls", "sni": "db.shop", "timeout": 2.0, "rate": 50}
TLS = [
    ("a ping that is answered", saying(b"+PONG\r\n"), {"send": PING}, OK),
    (
        "the same over kept connections",
        saying(b"+PONG\r\n"),
        {"send": PING, "answer": "7", "new_connections": False},
        OK,
    ),
    ("a handshake alone", silent, {"answer": "connected"}, OK),
    ("a large answer", saying(b"x" * 300_000), {"send": PING, "answer": "300000", "rate": 20}, OK),
    ("an answer and the end", hangs_up_on(b"+PONG\r\n"), {"send": PING, "answer": "7"}, OK),
    ("any certificate", saying(b"+PONG\r\n"), {"send": PING, "ca": "", "insecure": True, "sni": "other"}, OK),
    ("an answer that is cut short", hangs_up_on(b"+PO"), {"send": PING, "answer": "7"}, CUT),
    ("an answer that is too long", saying(b"+PONG\r\n!"), {"send": PING, "answer": "7"}, WRONG),
    ("no answer", silent, {"send": PING, "timeout": 0.5}, UNANSWERED),
    ("a name that is not the certificate's", silent, {"sni": "web.shop", "answer": "connected"}, HANDSHAKE),
    ("a name that is taken from the address", silent, {"sni": "", "answer": "connected"}, HANDSHAKE),
    ("an authority that is not ours", silent, {"ca": "", "answer": "connected"}, HANDSHAKE),
]


@pytest.mark.live
@pytest.mark.parametrize(("treat", "said", "end"), [row[1:] for row in TLS], ids=[row[0] for row in TLS])
def test_bytes_over_tls_end_as_they_ended(
    programs: Programs, authority: Authority, context: ssl.SSLContext, treat: Treat, said: dict[str, Any], end: END
) -> None:
    with serving(treat, context=context) as port:
        loader = programs.loader(flow(port, **{**TRUSTED, "ca": authority.root_pem.decode(), **said}))
        assert mostly(ended(loader)) == end
        words = loader.flow("bytes")["said"]
    assert words.startswith("handshake: ") == (end == HANDSHAKE)


@pytest.mark.live
@pytest.mark.parametrize(
    ("treat", "end"),
    [
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), HANDSHAKE),  # no TLS is spoken there
        (hangs_up, HANDSHAKE),
        (resets, HANDSHAKE),
        (silent, NOT_IN_TIME),
    ],
    ids=["plain", "closed", "reset", "silent"],
)
def test_a_handshake_that_fails_is_told_from_one_that_hangs(programs: Programs, treat: Treat, end: END) -> None:
    with serving(treat) as port:
        loader = programs.loader(flow(port, protocol="tls", insecure=True, answer="connected"))
        assert mostly(ended(loader)) == end


@pytest.mark.live
def test_a_server_that_hangs_and_wakes_is_seen_by_handshakes_and_not_by_its_kernel(programs: Programs) -> None:
    """A kernel goes on to accept for a process that is stopped: a connection over TCP says nothing of it."""
    server = programs.server()
    loader = programs.loader(
        flow(server.tcp, answer="connected"), {**flow(server.tcp, protocol="tls", insecure=True), "name": "tls"}
    )
    server.process.send_signal(signal.SIGSTOP)
    try:
        before = loader.flow("bytes")["ok"], loader.flow("tls")["done"]
        eventually(
            lambda: loader.flow("bytes")["ok"] >= before[0] + 20 and loader.flow("tls")["done"] >= before[1] + 20
        )
        assert loader.flow("tls")["ok"] == 0
    finally:
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.live
def test_a_kept_connection_that_the_server_closes_is_made_again_by_the_next_request(programs: Programs) -> None:
    def thrice(sock: socket.socket) -> None:
        for _ in range(3):
            sock.recv(65536)
            sock.sendall(b"+PONG\r\n")

    with serving(thrice) as port:
        loader = programs.loader(flow(port, send=PING, answer="7", new_connections=False))
        assert mostly(ended(loader, 60)) == OK
        counts = loader.flow("bytes")
    assert counts["opened"] >= counts["ok"] / 3
