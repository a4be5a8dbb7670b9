"""What a pod's checks send: one request to one place, whatever their texts hold."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from chaos.embedded.kubelet.probes import ProbeFailed, ProbeTarget, http_get


async def _nothing(command: list[str], timeout: float) -> tuple[int, str]:
    raise AssertionError(f"{command} was run within {timeout}")


async def _sent(action: dict[str, Any]) -> tuple[bytes, str]:
    """(what a server of the pod reads, why the check failed)."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        target = ProbeTarget("127.0.0.1", {}, lambda: socket.socket(socket.AF_INET), _nothing)
        why = ""
        try:
            await http_get({"port": port, **action}, target, 5)
        except ProbeFailed as error:
            why = str(error)
    return (heads or [b""])[0], why


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/ HTTP/1.1\r\nX-Evil: 1", b"GET /%20HTTP/1.1%0D%0AX-Evil:%201 HTTP/1.1"),
        ("/a\n\nGET /b", b"GET /a%0A%0AGET%20/b HTTP/1.1"),
        ("x\ty", b"GET /x%09y HTTP/1.1"),
        ("/\u00fc", b"GET /%C3%BC HTTP/1.1"),
        ("/a%20b?c=d&e=[f]", b"GET /a%20b?c=d&e=[f] HTTP/1.1"),
    ],
)
def test_the_path_of_a_check_is_a_path(path: str, line: bytes) -> None:
    head, why = asyncio.run(_sent({"path": path}))
    assert why == ""
    assert head.split(b"\r\n")[0] == line
    assert b"X-Evil" not in head.partition(b"\r\n")[2]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0", "\x7f"])
def test_a_header_of_a_check_with_control_characters_is_not_sent(value: str) -> None:
    head, why = asyncio.run(_sent({"httpHeaders": [{"name": "X-A", "value": value}]}))
    assert head == b""
    assert 'invalid header field value for "X-A"' in why
    assert asyncio.run(_sent({"httpHeaders": [{"name": "X-A", "value": "a\tb"}]}))[1] == ""
