"""DNS messages: decode a query, encode an answer (RFC 1035, EDNS0 of RFC 6891). No I/O.

Not dnspython: a query and its answer take 15 us of CPU here and 270 there (`benchmarks/parsers.py`), in the process
that is also the API server; a name without a trailing dot costs a pod up to five queries.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

A, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 5, 6, 12, 16, 28, 33, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
CLASSIC_SIZE: Final = 512  # of an answer over UDP to a client that names no larger one
_POINTERS_MOST: Final = 32


class Malformed(ValueError):
    """A message that cannot be answered, not even with an error."""


@dataclass(frozen=True, slots=True)
class Query:
    """A client's question."""

    id: int
    name: str  # lower case, without the last dot
    type: int
    opcode: int = 0
    recursion_desired: bool = False
    question: bytes = b""  # as it came: answers repeat it to the letter
    edns: bool = False
    size: int = CLASSIC_SIZE
    faulty: bool = False  # readable enough to answer FORMERR


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A resource record; `data` is its payload on the wire."""

    name: str
    type: int
    ttl: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """The response to a query."""

    code: int
    records: tuple[DnsRecord, ...] = ()
    authority: tuple[DnsRecord, ...] = ()
    additional: tuple[DnsRecord, ...] = field(default=())


def address_record(name: str, address: str, ttl: int) -> DnsRecord:
    return DnsRecord(name, A, ttl, socket.inet_aton(address))


def name_record(kind: int, name: str, target: str, ttl: int) -> DnsRecord:
    """A CNAME or PTR record."""
    return DnsRecord(name, kind, ttl, encode_name(target))


def service_record(name: str, target: str, port: int, weight: int, ttl: int) -> DnsRecord:
    return DnsRecord(name, SRV, ttl, struct.pack(">HHH", 0, weight, port) + encode_name(target))


def text_record(name: str, text: str, ttl: int) -> DnsRecord:
    data = text.encode()
    return DnsRecord(name, TXT, ttl, bytes([len(data)]) + data)


def authority_record(zone: str, ttl: int) -> DnsRecord:
    """The zone's SOA record, whose minimum is the TTL of negative answers."""
    data = (
        encode_name(f"ns.dns.{zone}")
        + encode_name(f"hostmaster.{zone}")
        + struct.pack(">IIIII", 1, 7200, 1800, 86400, ttl)
    )
    return DnsRecord(zone, SOA, ttl, data)


def encode_name(name: str) -> bytes:
    """Encode a name without compression; ValueError when a label or the name is too long or empty."""
    wire = b""
    for label in filter(None, name.rstrip(".").split(".")):
        part = label.encode()
        if len(part) > 63:
            raise ValueError(f"DNS label of {len(part)} bytes: at most 63")
        wire += bytes([len(part)]) + part
    if len(wire) > 254:
        raise ValueError(f"DNS name of {len(wire)} bytes: at most 255")
    return wire + b"\0"


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    end, jumps = -1, 0
    while True:
        if at >= len(message):
            raise Malformed("a name runs past the end")
        length = message[at]
        if length & 0xC0 == 0xC0:
            jumps += 1
            if at + 1 >= len(message) or jumps > _POINTERS_MOST:
                raise Malformed("a name points past the end or round in circles")
            end = end if end >= 0 else at + 2
            at = (length & 0x3F) << 8 | message[at + 1]
            continue
        if length & 0xC0:
            raise Malformed("a label of unknown kind")
        if length == 0:
            return ".".join(labels), end if end >= 0 else at + 1
        if at + 1 + length > len(message):
            raise Malformed("a label runs past the end")
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length


def decode_query(message: bytes) -> Query:
    """Decode a message's question. Raises Malformed when it cannot be answered."""
    if len(message) < 12:
        raise Malformed("shorter than a header")
    identity, flags, questions, answers, authorities, additionals = struct.unpack_from(">HHHHHH", message)
    if flags & 0x8000:
        raise Malformed("an answer, not a query")
    opcode, desired = flags >> 11 & 0xF, bool(flags & 0x100)
    faulty = Query(identity, "", 0, opcode, desired, faulty=True)
    try:
        if questions != 1:
            return faulty
        name, at = _read_name(message, 12)
        if at + 4 > len(message):
            return faulty
        kind, _class = struct.unpack_from(">HH", message, at)
        question, at = message[12 : at + 4], at + 4
        edns, size = False, CLASSIC_SIZE
        for _ in range(answers + authorities + additionals):
            _, at = _read_name(message, at)
            if at + 10 > len(message):
                return faulty
            record_type, record_class, _, length = struct.unpack_from(">HHIH", message, at)
            at += 10 + length
            if record_type == OPT:
                edns, size = True, max(CLASSIC_SIZE, min(record_class, 4096))
    except Malformed:
        return faulty
    return Query(identity, name, kind, opcode, desired, question, edns, size)


def encode_answer(query: Query, answer: DnsAnswer, *, limit: int | None = None) -> bytes:
    """Encode a response; beyond `limit` bytes it is sent empty with the TC bit, so that the client retries over TCP."""
    additional = answer.additional
    option = b"\0" + struct.pack(">HHIH", OPT, 4096, 0, 0) if query.edns else b""
    flags = 0x8000 | query.opcode << 11 | 0x0400 | (0x0100 if query.recursion_desired else 0) | 0x0080 | answer.code

    def message(
        flags: int, records: Sequence[DnsRecord], authority: Sequence[DnsRecord], more: Sequence[DnsRecord]
    ) -> bytes:
        counts = (bool(query.question), len(records), len(authority), len(more) + bool(option))
        head = struct.pack(">HHHHHH", query.id, flags, *counts)
        return head + query.question + b"".join(_wire(one) for one in (*records, *authority, *more)) + option

    whole = message(flags, answer.records, answer.authority, additional)
    if limit is not None and len(whole) > limit:
        whole = message(flags, answer.records, answer.authority, ())
    if limit is not None and len(whole) > limit:
        whole = message(flags | 0x0200, (), (), ())
    return whole


def _wire(record: DnsRecord) -> bytes:
    return encode_name(record.name) + struct.pack(">HHIH", record.type, 1, record.ttl, len(record.data)) + record.data
