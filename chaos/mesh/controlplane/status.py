"""The control plane's own HTTP port: /healthz, /readyz, and to whom holds the token (`chaos.control_key`) /debug, as
JSON. A few requests a minute. No library: h11 does no I/O, so it would take away the line that splits a request, and
bring thirty.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import Any

from chaos.control_key import HEADER, REFUSED, Gate

Answer = tuple[int, Any]
_PROBES = frozenset({"/healthz", "/readyz"})
_REASONS = {200: "OK", 403: "Forbidden", 404: "Not Found", 503: "Service Unavailable"}


async def start_status(pages: dict[str, Callable[[], Answer]], *, host: str, port: int, gate: Gate) -> asyncio.Server:
    """Serve the pages (path -> function that gives status and JSON value), one request per connection; what is no probe
    to whom the gate admits.
    """

    def page(head: bytes) -> Answer:
        line, _, fields = head.partition(b"\r\n")
        path = line.split(b" ", 2)[1].decode("latin-1").split("?")[0]
        if path not in _PROBES and not gate.admits(_token(fields)):
            return 403, {"error": REFUSED}
        return pages.get(path, lambda: (404, {"error": f"no such page: {', '.join(pages)}"}))()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
            status, value = page(head)
            body = json.dumps(value).encode()
            writer.write(
                b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                % (status, _REASONS[status].encode(), len(body))
                + body
            )
            await writer.drain()
        except (
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            ConnectionError,
            IndexError,
            HTTPException,
        ):
            pass  # a probe that went away, or not HTTP: nobody is left to answer
        finally:
            writer.close()

    return await asyncio.start_server(serve, host, port)


def _token(fields: bytes) -> bytes:
    return parse_headers(BytesIO(fields)).get(HEADER, "").strip().encode("latin-1")
