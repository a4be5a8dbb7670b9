"""What strangers may make the server hold is bounded: connections, bodies, history, answers of pods."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from chaos.embedded import store as stores
from chaos.embedded.api import connections
from chaos.embedded.api.bootstrap import create_bootstrap
from chaos.embedded.api.connections import ConnectionLimits, Held
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.pki import Authority, server_context, write_private
from chaos.embedded.api.server import ApiServer
from chaos.embedded.api.streams import framing
from chaos.embedded.api.tokens import TokenIssuer
from chaos.embedded.resources import CONFIG_MAP, POD
from chaos.embedded.store import Expired, Store

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Pods:
    """A kubelet whose pods are a server in this process."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.port = 0
        self.heard: list[bytes] = []

    async def connect(self, *_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.heard.append(await reader.readuntil(b"\r\n\r\n"))
            assert self.answer is not None
            await self.answer(reader, writer)
        writer.close()


class Place:
    """A server, its only pod `p`, and a client with the administrator's certificate."""

    def __init__(self, directory: Path, limits: ConnectionLimits) -> None:
        self.directory, self.limits = directory, limits
        self.pods = Pods()
        self.store = Store()

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[Place]:
        authority = Authority()
        listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = listening.getsockname()
        self.url = f"https://127.0.0.1:{self.address[1]}"
        kubelets: Any = {"n": self.pods}
        server = ApiServer(self.store, TokenIssuer(self.store), kubelets=kubelets, limits=self.limits)
        create_bootstrap(self.store)
        meta = {"name": "p", "namespace": "default"}
        self.store.create(POD, {"metadata": meta, "spec": {"nodeName": "n", "containers": [{"name": "c"}]}})
        inner = await asyncio.start_server(self.pods.serve, "127.0.0.1", 0)
        self.pods.port = inner.sockets[0].getsockname()[1]
        pair = authority.issue("server", addresses=("127.0.0.1",))
        await server.serve([listening], server_context(authority, pair, self.directory))
        admin = authority.issue("admin", organizations=("system:masters",))
        for name, data in (("c", admin.certificate), ("k", admin.key)):
            write_private(self.directory / name, data)
        self.tls = ssl.create_default_context(cadata=authority.pem.decode())
        self.tls.load_cert_chain(self.directory / "c", self.directory / "k")
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls)) as self.client:
                yield self
        finally:
            await server.stop()
            inner.close()

    async def get(self, path: str = "/version") -> int:
        async with self.client.get(self.url + path) as response:
            await response.read()
            return response.status


def in_place(directory: Path, body: Callable[[Place], Awaitable[None]], **limits: Any) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60), Place(directory, ConnectionLimits(**limits)).up() as place:
            await body(place)

    asyncio.run(whole())


async def closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(5):
            while await reader.read(1000):
                pass
    except ConnectionError:
        return True
    return True


def test_a_connection_that_never_shakes_hands_is_closed(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        silent = [await asyncio.open_connection(*place.address) for _ in range(20)]
        assert await place.get() == 200
        assert all([await closed(reader) for reader, _ in silent])
        for _, writer in silent:
            writer.close()
        assert await place.get() == 200

    in_place(tmp_path, body, handshake=0.5)


@pytest.mark.parametrize("said", [b"", b"GET /version HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_connection_that_never_asks_is_closed_and_one_that_asked_is_not(tmp_path: Path, said: bytes) -> None:
    async def body(place: Place) -> None:
        assert await place.get() == 200  # by a connection that is kept
        kept = sum(len(rows) for rows in place.client.connector._conns.values())  # type: ignore[union-attr, misc]
        silent = [await asyncio.open_connection(*place.address, ssl=place.tls) for _ in range(20)]
        for _, writer in silent:
            writer.write(said)
        assert all([await closed(reader) for reader, _ in silent])
        for _, writer in silent:
            writer.close()
        assert sum(len(rows) for rows in place.client.connector._conns.values()) == kept == 1  # type: ignore[union-attr, misc]
        assert await place.get() == 200

    in_place(tmp_path, body, first_request=1.0)


def test_there_are_never_more_connections_than_the_limit(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        assert await place.get() == 200
        silent = [await asyncio.open_connection(*place.address) for _ in range(60)]
        await asyncio.sleep(0.3)
        done = [reader.at_eof() or reader.exception() is not None for reader, _ in silent]
        assert sum(done) >= 41
        assert await place.get() == 200  # by the connection that it has
        for _, writer in silent:
            writer.close()

    in_place(tmp_path, body, connections=20, handshake=30.0)


def test_a_connection_costs_little_before_it_asks(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        await place.get()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        silent = [await asyncio.open_connection(*place.address) for _ in range(200)]
        await asyncio.sleep(0.5)
        each = (tracemalloc.get_traced_memory()[0] - before) / len(silent)
        tracemalloc.stop()
        for _, writer in silent:
            writer.close()
        assert each < 4 * connections.CIPHERTEXT

    in_place(tmp_path, body)


def test_what_requests_hold_together_is_bounded_and_given_back() -> None:
    held = Held(100)
    held.take(1000)  # one alone is always served
    with pytest.raises(StatusError) as caught:
        held.take(1)
    assert (caught.value.code, caught.value.retry_after) == (429, 1)
    held.give(1000)
    held.take(60)
    held.take(40)
    held.give(100)
    assert held.now == 0


def test_bodies_that_are_sent_slowly_are_counted(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        begun = []
        for _ in range(8):
            reader, writer = await asyncio.open_connection(*place.address, ssl=place.tls)
            head = b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"
            writer.write(head + b" " * 300_000)
            begun.append((reader, writer))
        answers = []
        for reader, _ in begun:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    answers.append(await reader.readuntil(b"\r\n"))
        assert answers.count(b"HTTP/1.1 429 Too Many Requests\r\n") >= 4
        for _, writer in begun:
            writer.close()
        await asyncio.sleep(0.2)
        data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b" * 200_000}}
        async with place.client.post(f"{place.url}/api/v1/namespaces/default/configmaps", json=data) as response:
            assert response.status == 201

    in_place(tmp_path, body, held=1 << 20)


# The watch history and the store


def config_map(name: str, size: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "data": {"a": "x" * size}}


def test_history_is_bounded_by_bytes_and_says_what_it_has_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "HISTORY_BYTES", 1 << 20)
    store = Store()
    store.create(CONFIG_MAP, config_map("c", 0))
    first = store.version
    for number in range(200):
        store.update(CONFIG_MAP, config_map("c", 100_000 + number))
        assert store._history_size <= 1 << 20
    assert len(store._table(CONFIG_MAP).history) <= 11
    with pytest.raises(Expired):
        store.watch(CONFIG_MAP, since=first)
    store.watch(CONFIG_MAP, since=store.version - 3).close()
    store.create(POD, config_map("small", 10))
    assert store.size == sum(len(orjson.dumps(o)) for r in (CONFIG_MAP, POD) for o in store.list(r))
    store.remove(CONFIG_MAP, "default", "c")
    store.remove(POD, "default", "small")
    assert store.size == 0


def test_a_watch_that_sleeps_is_closed_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "BACKLOG_BYTES", 1 << 20)

    async def body() -> None:
        store = Store()
        awake, asleep = store.watch(CONFIG_MAP), store.watch(CONFIG_MAP)
        store.create(CONFIG_MAP, config_map("c", 0))
        for number in range(30):
            store.update(CONFIG_MAP, config_map("c", 100_000 + number))
            assert None not in await awake.batch(1)
        assert asleep not in store._table(CONFIG_MAP).watches
        assert awake in store._table(CONFIG_MAP).watches
        assert len(asleep._events) < 15

    asyncio.run(body())


# What comes in turn to one watch: a change, or how long (s) its reader waits. A timer is kept from wait to wait, so a
# short wait after a long one, a long one after a short one and one without an end must each be held.
WAITS: tuple[tuple[float | None, ...], ...] = ((5.0, 0.05), (0.05, 0.2), (0.05, 0.05), (5.0, 5.0, 0.05), (None, 0.05))


@pytest.mark.parametrize("waits", WAITS, ids=str)
def test_a_reader_waits_as_long_as_it_says_whatever_it_waited_before(waits: tuple[float | None, ...]) -> None:
    async def body() -> None:
        store, loop = Store(), asyncio.get_running_loop()
        watch = store.watch(CONFIG_MAP)
        for number, seconds in enumerate(waits[:-1]):  # each is ended by a change, soon
            obj = {"metadata": {"name": f"c-{number}", "namespace": "default"}}
            loop.call_later(0.01, store.create, CONFIG_MAP, obj)
            event = await watch.next(seconds)
            assert event is not None
            assert event.object["metadata"]["name"] == f"c-{number}"
        began = loop.time()
        with pytest.raises(TimeoutError):
            await watch.next(waits[-1])
        assert loop.time() - began >= float(waits[-1] or 0)
        watch.close()
        assert await watch.next(1) is None

    asyncio.run(asyncio.wait_for(body(), 4))


def test_a_cancelled_reader_loses_no_change() -> None:
    async def body() -> None:
        store = Store()
        watch = store.watch(CONFIG_MAP)
        reader = asyncio.create_task(watch.next())
        await asyncio.sleep(0)
        store.create(CONFIG_MAP, config_map("c", 0))
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        event = await watch.next(1)
        assert event is not None
        assert event.type == "ADDED"

    asyncio.run(body())


def test_a_full_store_refuses_what_grows_and_takes_what_shrinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chaos.embedded.api import rest

    monkeypatch.setattr(rest, "QUOTA", 1 << 20)

    async def body(place: Place) -> None:
        where = f"{place.url}/api/v1/namespaces/default/configmaps"
        codes = []
        for number in range(12):
            async with place.client.post(where, json=config_map(f"c{number}", 150_000)) as response:
                codes.append(response.status)
        assert codes.count(201) == 6
        assert codes.count(507) == 6
        async with place.client.put(f"{where}/c0", json=config_map("c0", 1)) as response:
            assert response.status == 200
        async with place.client.delete(f"{where}/c1") as response:
            assert response.status == 200
        async with place.client.post(where, json=config_map("after", 150_000)) as response:
            assert response.status == 201

    in_place(tmp_path, body)


# The proxy to pods

PROXY = "/api/v1/namespaces/default/pods/p:80/proxy"


def fixed(*parts: bytes) -> Answer:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked\r\n", b"Content-Length: %d\r\n", b""])
def test_an_answer_of_any_size_passes_through_a_little_memory(tmp_path: Path, head: bytes) -> None:
    size = 48 << 20
    peaks = []

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + (head % size if b"%" in head else head) + b"\r\n")
        if b"chunked" in head:
            writer.write(b"%x\r\n" % size)
        for _ in range(size >> 16):
            writer.write(b"x" * (1 << 16))
            await writer.drain()
        if b"chunked" in head:
            writer.write(b"\r\n0\r\n\r\n")

    async def body(place: Place) -> None:
        place.pods.answer = answer
        await place.get()
        tracemalloc.start()
        seen = 0
        async with place.client.get(place.url + PROXY + "/") as response:
            await asyncio.sleep(0.5)  # a slow reader: the pod waits, the server does not gather
            async for chunk in response.content.iter_any():
                seen += len(chunk)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seen == size

    in_place(tmp_path, body)
    assert peaks[0] < 8 << 20


OK = b"HTTP/1.1 200 OK\r\n"
BROKEN_AFTER_HEAD: list[bytes] = [
    OK + b"Content-Length: 10\r\n\r\nshort",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 100 + b"\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 100_000,
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n+5\r\nabcde\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5_0\r\nabcde\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\nabcde\n0\n\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n\xb2\r\nab\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 100_000 + b"\r\nabcde\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nabcde\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n",
    OK + b"Content-Length: 999999999999999999\r\n\r\nabc",
]
BROKEN_HEADS: list[bytes] = [
    b"",
    b"hello\r\n\r\n",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 -20 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
    OK + b"Content-Length: -5\r\n\r\n",
    OK + b"Content-Length: 5, 6\r\n\r\nabcde",
    OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"A: b\nSet-Cookie: c\r\n\r\n",
    OK + b"A: b\rc\r\n\r\n",
    OK + b"A b: c\r\n\r\n",
    OK + b"no colon\r\n\r\n",
    OK + b": empty\r\n\r\n",
    OK + b"A: b\0c\r\n\r\n",
    OK + b"A\0: b\r\n\r\n",
    OK + b"A: b\x7f\r\n\r\n",
    OK + b"A: b\n\r\n",
    OK + b"A: b\r\n folded: c\r\n\r\n",
    OK + b"A : b\r\n\r\n",
    OK + b"Content-Length: 0x5\r\n\r\nabcde",
    OK + b"Content-Length: 5\x0b\r\n\r\nabcde",
    OK + b"Content-Length: \xb2\r\n\r\nab",
    OK + b"Content-Length: 5\r\ncontent-length: 05\r\n\r\nabcde",
    OK + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\nabcde",
    OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: \r\n\r\n",
    OK + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" * 11 + OK + b"\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 199 OK\r\n\r\nhello\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n",
    b"HTTP/1.1 600 OK\r\n\r\n",
    b"HTTP/1.1 200\nOK: x\r\n\r\n",
    b"HTTP/1.1 200 O\0K\r\n\r\n",
    b"HTTP/1.1 200 O\rK\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/0.9 200 OK\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
    b"\r\n" + OK + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    OK + b"A: b",
    OK,
    b"HTTP/1.1 200 OK\n\n",
]


def test_an_answer_that_breaks_ends_the_callers_connection_and_no_other_request_sees_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(place: Place) -> None:
        for text in BROKEN_AFTER_HEAD:
            place.pods.answer = fixed(text)
            with pytest.raises(aiohttp.ClientError):
                await place.get(PROXY + "/")
            async with place.client.get(place.url + "/version") as response:
                assert (await response.json())["major"]
        for text in BROKEN_HEADS:
            place.pods.answer = fixed(text)
            assert await place.get(PROXY + "/") == 503, text[:60]
            assert await place.get() == 200

    in_place(tmp_path, body)
    assert [one.getMessage() for one in caplog.records if one.exc_info or one.levelno >= logging.WARNING] == []


def test_callers_that_go_away_in_the_middle_of_an_answer_leave_no_trace_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(place: Place) -> None:
        endless = OK + b"Content-Length: %d\r\n\r\n" % (8 << 20) + b"x" * (8 << 20)
        place.pods.answer = fixed(endless)
        for path in (PROXY + "/", "/api/v1/pods?watch=1", "/openapi/v2", "/api/v1/pods"):
            for bytes_read in (0, 20):
                reader, writer = await asyncio.open_connection(*place.address, ssl=place.tls)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                await reader.readexactly(bytes_read)
                writer.transport.abort()
                assert await place.get() == 200
        await asyncio.sleep(0.2)

    in_place(tmp_path, body)
    assert [one.getMessage() for one in caplog.records if one.exc_info or one.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "query",
    [
        "a=%0d%0aX-Evil:%201",
        "a=%0D%0A%0D%0AGET%20/x",
        "%0a",
        "a=b%20c&d=%C3%A9",
        "a=%2525",
        "x=1;y=2",
        "a=b+c",
        "%00",
        "a=%26b",
        "?",
        "a=/../../x",
        "a=%",
        "a=%zz",
        "a=%0",
        "%E2%80%A8",
        "%ff%fe",
        "a=&&=&",
        "command=x&tty=true&watch=1&fieldSelector=%00",
        'a={}|^`"<>',
    ],
)
def test_a_query_reaches_the_pod_as_it_was_written(tmp_path: Path, query: str) -> None:
    async def body(place: Place) -> None:
        place.pods.answer = fixed(OK + b"Content-Length: 0\r\n\r\n")
        reader, writer = await asyncio.open_connection(*place.address, ssl=place.tls)
        writer.write(f"GET {PROXY}/a%0d%0ab?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n")
        writer.close()
        (heard,) = place.pods.heard
        line = heard.split(b"\r\n")[0].decode()
        assert line == f"GET /a%0D%0Ab?{query} HTTP/1.1"
        assert b"evil" not in heard.lower().split(b"\r\n", 1)[1]

    in_place(tmp_path, body)


PODS_AT = PROXY.removesuffix("p:80/proxy")
PATHS: dict[str, tuple[int, str]] = {  # what follows the pods: the answer, and the path that the pod hears
    "p:80/proxy": (301, ""),
    "p:80/proxy?a=%0d%0aX-Evil:1": (301, ""),
    "p%0d%0aX-Evil%201:80/proxy": (301, ""),
    "..%0aX-Evil:80/proxy": (301, ""),
    "p%0d%0aX-Evil:%201:80/proxy": (501, ""),
    "p%C3%A9:80/proxy": (301, ""),
    "p%00:80/proxy/": (404, ""),
    "p%0d%0aX-Evil:80/proxy/": (404, ""),
    "p:80/proxy/%2e%2e/%2e%2e/secrets": (200, "/../../secrets"),
    "p:80/proxy/..%2f..%2fx": (200, "/../../x"),
    "p:80/proxy/%20HTTP/1.0%0d%0aX-Evil:%201%0d%0a%0d%0a": (200, "/%20HTTP/1.0%0D%0AX-Evil:%201%0D%0A%0D%0A"),
    "p:80/proxy/%00%01%7f": (200, "/%00%01%7F"),
    "p:80/proxy/a%3fb%23c": (200, "/a%3Fb%23c"),
    "p:80/proxy/%2525": (200, "/%2525"),
    "p:80/proxy//evil.org/x": (200, "//evil.org/x"),
    "p:80/proxy/@evil.org:1/": (200, "/@evil.org:1"),
    "p:0/proxy/": (503, ""),
    "p:65536/proxy/": (503, ""),
    "p:-1/proxy/": (503, ""),
    "p:%D9%A1/proxy/": (503, ""),
    "p:8%0a0/proxy/": (503, ""),
    "https:p:80/proxy/": (501, ""),
    "a:b:c:d/proxy/": (400, ""),
    "p:%C2%B2/proxy/": (503, ""),
}


@pytest.mark.parametrize("way", PATHS)
def test_a_hostile_path_makes_no_header_and_leads_to_no_other_place(tmp_path: Path, way: str) -> None:
    status, asked = PATHS[way]

    async def body(place: Place) -> None:
        place.pods.answer = fixed(OK + b"Content-Length: 0\r\n\r\n")
        reader, writer = await asyncio.open_connection(*place.address, ssl=place.tls)
        writer.write(f"GET {PODS_AT}{way} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        lines = head.split("\r\n")
        assert int(lines[0].split()[1]) == status, head
        assert not [line for line in lines if line.lower().startswith("x-evil")]
        heard = [text.split(b"\r\n") for text in place.pods.heard]
        assert [one[0].decode() for one in heard] == ([f"GET {asked} HTTP/1.1"] if asked else [])
        assert not [line for one in heard for line in one if line.lower().startswith(b"x-evil")]
        if status == 301:
            (location,) = (line.removeprefix("Location: ") for line in lines if line.startswith("Location: "))
            before, _, query = way.partition("?")
            assert location.lower() == f"{PODS_AT}{before}/{'?' if query else ''}{query}".lower()

    in_place(tmp_path, body)


@pytest.mark.parametrize("slashes", ["/", "//", "///", "/%2f"])
def test_a_redirect_stays_on_the_server(tmp_path: Path, slashes: str) -> None:
    async def body(place: Place) -> None:
        reader, writer = await asyncio.open_connection(*place.address, ssl=place.tls)
        writer.write(f"GET {slashes}{PROXY.lstrip('/')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        assert "\r\nLocation: //" not in head
        assert "\r\nLocation: http" not in head

    in_place(tmp_path, body)


def test_framing_is_what_two_readers_agree_upon() -> None:
    assert framing([]) == (None, False)
    assert framing([("Content-Length", "7"), ("content-length", "7")]) == (7, False)
    assert framing([("Transfer-Encoding", "Chunked")]) == (None, True)
    for headers in ([("Content-Length", "+7")], [("Content-Length", "")], [("Transfer-Encoding", "identity")]):
        with pytest.raises(ValueError, match=r"invalid|unsupported"):
            framing(headers)
