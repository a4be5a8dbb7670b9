"""`kubectl port-forward`: SPDY/3.1 tunnelled in a WebSocket (sub-protocol `SPDY/3.1+portforward.k8s.io`).

kubectl opens two SPDY streams per local connection, `error` and `data`, with headers streamtype, port and requestid.
The codec is pure (bytes in, frames out); flow control is left out, as in kubectl's own SPDY library. After the SPDY
draft 3.1 and k8s.io/kubelet/pkg/cri/streaming/portforward. Called by the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import WSMsgType, web

from chaos.embedded.node_api import Kubelet
from chaos.embedded.resources import Object
from chaos.fields import whole_number

PROTOCOL: Final = "SPDY/3.1+portforward.k8s.io"
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN: Final = 1
_CHUNK: Final = 32768
_MOST_STREAMS: Final = 1000  # of one tunnel at once
_MOST_MESSAGE: Final = 1 << 20  # bytes; kubectl sends a frame, of 32 KiB at most, in each
_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location "
    "content-md5 content-range content-type date etag expect expires from host if-match if-modified-since "
    "if-none-match "
    "if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization "
    "range "
    "referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate "
    "method get "
    "status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin"
)
_TAIL: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server "
    "Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, "
    "Tue, Wed, "
    "Thu, Fri, Sat, Sun, "
    "GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
# the dictionary that the draft prescribes for compressed headers (2.6.10.1); its Adler-32 is e3c6a7c2
DICTIONARY: Final = (
    b"".join(struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split()) + _TAIL.encode()
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. A data frame has `kind` 0 and its `stream`."""

    kind: int
    stream: int
    flags: int
    payload: bytes


class Codec:
    """Both directions of one connection, whose header compression has state."""

    def __init__(self) -> None:
        self._buffer = b""
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Add bytes; the frames completed by them."""
        buffer, at = self._buffer + data, 0
        try:
            while len(buffer) - at >= 8:
                first, second, length = struct.unpack_from(">HHI", buffer, at)
                flags, length = length >> 24, length & 0xFFFFFF
                if len(buffer) - at < 8 + length:
                    return
                payload = buffer[at + 8 : at + 8 + length]
                at += 8 + length
                if not first & 0x8000:
                    yield Frame(0, first << 16 | second, flags, payload)
                else:
                    stream = struct.unpack(">I", payload[:4])[0] & 0x7FFFFFFF if len(payload) >= 4 else 0
                    yield Frame(second, stream, flags, payload)
        finally:
            self._buffer = buffer[at:]

    def headers(self, syn_stream: Frame) -> dict[str, str]:
        """The headers of a SYN_STREAM; raises ValueError for malformed ones."""
        try:
            block = self._inflate.decompress(syn_stream.payload[10:], 1 << 16)
            (count,), at = struct.unpack_from(">I", block), 4
            texts = []
            for _ in range(2 * count):
                (size,) = struct.unpack_from(">I", block, at)
                texts.append(block[at + 4 : at + 4 + size].decode())
                at += 4 + size
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"malformed headers: {error}") from error
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def reply(self, stream: int) -> bytes:
        """A SYN_REPLY without headers, which accepts the stream."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return control(_SYN_REPLY, struct.pack(">I", stream) + block)


def control(kind: int, payload: bytes) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, len(payload)) + payload


def data(stream: int, payload: bytes, *, last: bool = False) -> bytes:
    return struct.pack(">II", stream, (_FIN << 24 if last else 0) | len(payload)) + payload


@dataclass(slots=True)
class _Pair:
    """One forwarded connection."""

    request: str
    port: int
    error: int = 0
    data: int = 0
    writer: asyncio.StreamWriter | None = None
    task: asyncio.Task[None] | None = None


class _Tunnel:
    def __init__(self, socket: web.WebSocketResponse, kubelet: Kubelet, pod: Object) -> None:
        self._socket, self._kubelet = socket, kubelet
        self._namespace, self._pod = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self._codec = Codec()
        self._requests: dict[str, _Pair] = {}
        self._streams: dict[int, _Pair] = {}

    async def run(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:
                    return
                for frame in self._codec.feed(message.data):
                    if frame.kind == _GOAWAY:
                        return
                    await self._take(frame)
        except ValueError:
            return  # not SPDY: there is nothing to say that the client would understand
        finally:
            tasks = [pair.task for pair in self._requests.values() if pair.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, frame: Frame) -> None:
        if frame.kind == _PING:
            await self._socket.send_bytes(control(_PING, frame.payload))
        elif frame.kind == _SYN_STREAM:
            await self._open(frame)
        elif frame.kind == _RST_STREAM:
            pair = self._streams.get(frame.stream)
            if pair is not None and pair.task is not None:
                pair.task.cancel()
        elif frame.kind == 0:
            pair = self._streams.get(frame.stream)
            if pair is None or frame.stream != pair.data or pair.writer is None:
                return
            with contextlib.suppress(ConnectionError, RuntimeError):
                pair.writer.write(frame.payload)
                if frame.flags & _FIN and pair.writer.can_write_eof():
                    pair.writer.write_eof()
                await pair.writer.drain()

    async def _open(self, frame: Frame) -> None:
        headers = self._codec.headers(frame)
        if len(self._streams) >= _MOST_STREAMS:
            raise ValueError("too many streams at once")
        request = headers.get("requestid", "")
        pair = self._requests.setdefault(request, _Pair(request, whole_number(headers.get("port")) or 0))
        error = headers.get("streamtype") == "error"
        if frame.stream in self._streams or (pair.error if error else pair.data):
            raise ValueError("a stream is opened twice")
        self._streams[frame.stream] = pair
        await self._socket.send_bytes(self._codec.reply(frame.stream))
        if error:
            pair.error = frame.stream
            return
        pair.data = frame.stream
        try:
            reader, pair.writer = await self._kubelet.connect(self._namespace, self._pod, pair.port)
        except (OSError, LookupError) as error:
            words = f"error forwarding port {pair.port} to pod {self._pod}: {error}"
            await self._socket.send_bytes(data(pair.error, words.encode(), last=True) + data(pair.data, b"", last=True))
            self._forget(pair)
            return
        pair.task = asyncio.create_task(self._pump(pair, reader))

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while chunk := await reader.read(_CHUNK):
                    await self._socket.send_bytes(data(pair.data, chunk))
                await self._socket.send_bytes(data(pair.data, b"", last=True) + data(pair.error, b"", last=True))
        finally:
            if pair.writer is not None:
                pair.writer.close()
            self._forget(pair)

    def _forget(self, pair: _Pair) -> None:
        """Let go of a connection that is over, with its two streams."""
        self._requests.pop(pair.request, None)
        for stream in (pair.error, pair.data):
            self._streams.pop(stream, None)


async def tunnel(request: web.BaseRequest, kubelet: Kubelet, pod: Object) -> web.StreamResponse:
    """Forward connections until the client disconnects."""
    socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=_MOST_MESSAGE, compress=False, timeout=1.0)
    await socket.prepare(request)
    await _Tunnel(socket, kubelet, pod).run()
    return socket
