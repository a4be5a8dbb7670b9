"""Bodies in Kubernetes' protobuf form, as objects in JSON's: kubectl's typed commands (create ns, auth can-i, drain,
token) send nothing else. Answers are JSON, which every client accepts beside it. Called by `decode`.

`wire.json` holds the numbers: {message: {field number: [JSON name, kind]}}, asked of the Go types by
proof.kubernetes.gotypes. Kinds: string, bool, int, bytes, time, micro, quantity, intorstring, raw, duration, float64 or
a message; `*` repeats it, `%` maps strings to it, `!` marks a pointer, whose zero value is meant; an empty name is
inlined.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from chaos.embedded.clock import micro_stamp, stamp

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"
_DEEPEST: Final = 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO: Final = ("", 0, False, 0.0)
_NOTHING: Final = object()


@cache
def _table() -> dict[str, dict[int, tuple[str, str]]]:
    held = orjson.loads(Path(__file__).with_name("wire.json").read_bytes())
    return {
        name: {int(number): (json, kind) for number, (json, kind) in fields.items()} for name, fields in held.items()
    }


def decode(body: bytes) -> dict[str, Any]:
    """The object; raises ValueError that says what is wrong."""
    if not body.startswith(_MAGIC):
        raise ValueError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    envelope = {number: value for number, _, value in _fields(body[len(_MAGIC) :])}
    header, raw = envelope.get(1, b""), envelope.get(2, b"")
    if not isinstance(header, bytes) or not isinstance(raw, bytes):
        raise ValueError("malformed envelope")
    about = {number: _text(value) for number, _, value in _fields(header) if isinstance(value, bytes)}
    version, kind = about.get(1, ""), about.get(2, "")
    group, _, number = version.rpartition("/")
    message = (
        "meta.v1.DeleteOptions" if kind == "DeleteOptions" else f"{group.partition('.')[0] or 'core'}.{number}.{kind}"
    )
    if message not in _table():
        raise ValueError(f"{kind} in version {version} is not served in protobuf; use JSON")
    return {"apiVersion": version, "kind": kind, **_message(raw, message, 0)}


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, wire type, value) of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at > len(data):
            raise ValueError("unexpected EOF")
        yield number, wire, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("unexpected EOF")


def _message(data: bytes, name: str, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    known = _table()[name]
    found: dict[str, Any] = {}
    for number, _, value in _fields(data):
        if number not in known:
            continue  # a field of a later Kubernetes
        json, kind = known[number]
        pointer = kind.startswith("!")
        kind = kind.removeprefix("!")
        if kind.startswith("*"):
            found.setdefault(json, []).append(_value(value, kind[1:], depth))
        elif kind.startswith("%"):
            key, entry = _entry(value, kind[1:], depth)
            found.setdefault(json, {})[key] = entry
        else:
            one = _value(value, kind, depth)
            if not json:
                found.update(one)
            elif one is not None and (pointer or one not in _ZERO):
                found[json] = one
    return found


def _entry(value: int | bytes, kind: str, depth: int) -> tuple[str, Any]:
    """One entry of a map: key 1, value 2. A map of lists wraps each list in a message of its own."""
    key, held = "", _NOTHING
    for number, _, part in _fields(_bytes(value)):
        if number == 1:
            key = _text(_bytes(part))
        elif number == 2 and kind.startswith("*"):
            held = [_value(item, kind[1:], depth) for _, _, item in _fields(_bytes(part))]
        elif number == 2:
            held = _value(part, kind, depth)
    if held is _NOTHING:
        held = [] if kind.startswith("*") else _value(b"" if kind not in ("int", "bool") else 0, kind, depth)
    return key, held


def _value(value: int | bytes, kind: str, depth: int) -> Any:
    if kind in ("int", "bool"):
        if isinstance(value, bytes):
            raise ValueError(f"expected a number, got {len(value)} bytes")
        return bool(value) if kind == "bool" else value - (1 << 64) if value >= 1 << 63 else value
    data = _bytes(value)
    if kind == "string":
        return _text(data)
    if kind == "bytes":
        return base64.b64encode(data).decode()
    if kind in ("float64", "float32"):
        return struct.unpack("<d" if len(data) == 8 else "<f", data)[0] if len(data) in (4, 8) else None
    if kind in ("time", "micro", "duration", "intorstring", "quantity", "raw"):
        return _special({number: part for number, _, part in _fields(data)}, kind)
    return _message(data, kind, depth + 1)


def _special(parts: dict[int, int | bytes], kind: str) -> Any:
    """Types that JSON spells in a way of their own."""
    if kind == "quantity":
        return _text(_bytes(parts.get(1, b"")))
    if kind == "intorstring":
        return _text(_bytes(parts.get(3, b""))) if parts.get(1, 0) else _value(parts.get(2, 0), "int", 0)
    if kind == "raw":
        try:
            return orjson.loads(_bytes(parts.get(1, b"null")))
        except orjson.JSONDecodeError as error:
            raise ValueError(str(error)) from error
    if not parts:
        return None
    seconds, nanoseconds = (_value(parts.get(number, 0), "int", 0) for number in (1, 2))
    if kind == "duration":
        return f"{seconds}ns"
    try:
        at = _EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
    except OverflowError as error:
        raise ValueError(f"{seconds} s is not a valid time") from error
    return micro_stamp(at) if kind == "micro" else stamp(at)


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("expected bytes, got a number")
    return value


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError("string is not UTF-8") from error
