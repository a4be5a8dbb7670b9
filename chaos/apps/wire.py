"""The byte formats that both ends of the reference traffic share: HTTP/1.1 headers and chunks, frames of TCP
streams.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

# Raw TCP, little endian. The client speaks first (a proxy that inspects the first bytes must not wait for ever).
# Request: u32 size, u32 answer, u64 sequence, then `size` bytes.
# Answer: u32 size, u32 pod, u64 sequence, the pod's name of `pod` bytes, then `size` bytes: the request's own, or
# `answer` bytes when that is not 0.
FRAME: Final = Struct("<IIQ")
MAX_FRAME: Final = 64 * 1024 * 1024


class BadMessage(ValueError):
    """The bytes are not the HTTP/1.1 that is spoken here."""


def header(head: bytes, name: bytes) -> bytes:
    """Return a header's value, empty when absent. `name` is lower case; `head` holds the CRLF before each header."""
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        at = head.lower().find(b"\r\n" + name + b":")
        if at < 0:
            return b""
    begin = at + len(name) + 3
    end = head.find(b"\r\n", begin)
    return head[begin : end if end >= 0 else len(head)].strip()


def cut_chunked(data: bytes | bytearray, begin: int) -> tuple[bytes, int] | None:
    """Return the body of a chunked message that starts at `begin`, and where it ends; None while it is incomplete."""
    parts: list[bytes] = []
    while True:
        line = data.find(b"\r\n", begin)
        if line < 0:
            return None
        try:
            size = int(bytes(data[begin:line]).split(b";")[0], 16)
        except ValueError as error:
            raise BadMessage("bad chunk size") from error
        begin = line + 2
        if size == 0:  # trailers, then an empty line
            if data[begin : begin + 2] == b"\r\n":
                return b"".join(parts), begin + 2
            end = data.find(b"\r\n\r\n", begin)
            return None if end < 0 else (b"".join(parts), end + 4)
        if len(data) < begin + size + 2:
            return None
        parts.append(bytes(data[begin : begin + size]))
        begin += size + 2
