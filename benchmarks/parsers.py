"""What our own parsers cost beside the libraries that could take their place: why they are kept.

    pip install dnspython h11 && python -m benchmarks.parsers

Prints microseconds of CPU for one DNS query with its answer and for one HTTP request with its answer, the best of five.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import dns.message
import dns.rrset
import h11

from chaos.apps.http1 import Http1
from chaos.apps.service import AppPort
from chaos.embedded.network.dnswire import DnsAnswer, address_record, decode_query, encode_answer

QUERY = dns.message.make_query("server.tenant-a.svc.cluster.local", "A", use_edns=0).to_wire()
REQUEST = b"GET /x HTTP/1.1\r\nhost: server\r\nuser-agent: bench\r\nx-seq: 17\r\n\r\n"
ROUNDS = 2000


def microseconds(call: Callable[[], object]) -> float:
    """CPU time of one call, the best of five series."""
    series = []
    for _ in range(5):
        begin = time.process_time()
        for _ in range(ROUNDS):
            call()
        series.append(time.process_time() - begin)
    return min(series) / ROUNDS * 1e6


def our_dns() -> bytes:
    query = decode_query(QUERY)
    return encode_answer(query, DnsAnswer(0, (address_record(query.name, "10.0.0.1", 5),)), limit=1232)


def dnspython() -> bytes:
    query = dns.message.from_wire(QUERY)
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text(query.question[0].name, 5, "IN", "A", "10.0.0.1"))
    return bytes(answer.to_wire(max_size=1232))


class Sink:
    """Takes what a connection writes."""

    def write(self, data: bytes) -> None:
        self.written = data

    def is_closing(self) -> bool:
        return False


def our_http() -> Callable[[], None]:
    connection = Http1(AppPort("server-1"), None)
    connection.connection_made(cast(asyncio.BaseTransport, Sink()))
    return lambda: connection.data_received(REQUEST)


def with_h11() -> Callable[[], None]:
    connection = h11.Connection(h11.SERVER)
    head = h11.Response(status_code=200, headers=[("content-length", "0")])

    def serve() -> None:
        connection.receive_data(REQUEST)
        event: Any = None
        while type(event) is not h11.EndOfMessage:
            event = connection.next_event()
        connection.send(head)
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()

    return serve


def main() -> None:
    for name, call in (
        ("dns, ours", our_dns),
        ("dns, dnspython", dnspython),
        ("http, ours", our_http()),
        ("http, h11", with_h11()),
    ):
        print(f"{name:<16} {microseconds(call):7.1f} us")


if __name__ == "__main__":
    main()
