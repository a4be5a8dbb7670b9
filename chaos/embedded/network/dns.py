"""The cluster's DNS: names of Services and pods, answered from the store over UDP and TCP on the fabric's address.

After the Kubernetes DNS specification 1.1.0 (kubernetes/dns, docs/specification.md), with CoreDNS' choices where it
leaves some (TTL 5, "insecure" pod records). There is no upstream: a name outside cluster.local is REFUSED at once, so
that a pod which resolves an outside name fails quickly. Pods reach it as Service kube-dns, 10.96.0.10, which
`publish_dns` puts in the store.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, cast

from chaos.embedded.network import addresses
from chaos.embedded.network.dnswire import (
    ANY,
    CNAME,
    FORMERR,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    PTR,
    REFUSED,
    SERVFAIL,
    SRV,
    A,
    DnsAnswer,
    DnsRecord,
    Malformed,
    Query,
    address_record,
    authority_record,
    decode_query,
    encode_answer,
    name_record,
    service_record,
    text_record,
)  # fmt: skip
from chaos.embedded.network.fabric import ClusterNetwork
from chaos.embedded.network.services import SERVICE_NAME, cluster_ip
from chaos.embedded.resources import ENDPOINT_SLICE, NAMESPACE, SERVICE, Object
from chaos.embedded.store import Store

ZONE: Final = "cluster.local"
TTL: Final = 5
IDLE_SECONDS: Final = 10.0  # a TCP client that asks nothing is let go
_DASHED: Final = re.compile(r"(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})")
_CNAMES_MOST: Final = 8


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A ready endpoint of a headless Service, with its host name in the Service."""

    label: str
    address: str
    ports: tuple[tuple[str, str, int], ...]  # name, protocol, number


def answer(store: Store, query: Query, *, turn: int = 0) -> DnsAnswer:
    """Answer a query from the store. `turn` rotates lists of addresses. Never raises."""
    if query.faulty:
        return DnsAnswer(FORMERR)
    if query.opcode != 0:
        return DnsAnswer(NOTIMP)
    try:
        return _answer(store, query, turn)
    except (
        ValueError
    ):  # a name in the store that cannot be written as one, such as an ExternalName with an endless label
        return DnsAnswer(SERVFAIL)


def _answer(store: Store, query: Query, turn: int) -> DnsAnswer:
    if query.name.endswith(".in-addr.arpa"):
        found = _reverse(store, query.name)
    elif query.name == ZONE or query.name.endswith("." + ZONE):
        found = _forward(store, query.name)
    else:
        return DnsAnswer(REFUSED)
    if found is None:
        return DnsAnswer(NXDOMAIN, authority=(authority_record(ZONE, TTL),))
    records = [record for record in found if query.type in (record.type, ANY) or record.type == CNAME]
    if not records:
        return DnsAnswer(NOERROR, authority=(authority_record(ZONE, TTL),))
    records = _chase(store, query, records)
    cut = turn % len(records)
    if all(record.type == A for record in records):
        records = records[cut:] + records[:cut]
    additional: tuple[DnsRecord, ...] = ()
    if query.type == SRV:
        additional = tuple(
            record
            for target in dict.fromkeys(_target(one) for one in records)
            for record in _forward(store, target) or ()
            if record.type == A
        )
    return DnsAnswer(NOERROR, tuple(records), additional=additional)


def _target(record: DnsRecord) -> str:
    """The target name of an SRV or CNAME record."""
    wire, at, labels = record.data, 6 if record.type == SRV else 0, []
    while wire[at]:
        labels.append(wire[at + 1 : at + 1 + wire[at]].decode())
        at += 1 + wire[at]
    return ".".join(labels)


def _chase(store: Store, query: Query, records: list[DnsRecord]) -> list[DnsRecord]:
    """Follow an alias while it stays in the cluster."""
    chain = list(records)
    for _ in range(_CNAMES_MOST):
        last = chain[-1]
        if last.type != CNAME or query.type == CNAME:
            break
        target = _target(last)
        if not target.endswith("." + ZONE):
            break
        more = [record for record in _forward(store, target) or () if record.type in (query.type, CNAME)]
        if not more:
            break
        chain += more
    return chain


def _forward(store: Store, name: str) -> list[DnsRecord] | None:
    """All records of a name below cluster.local; None when it does not exist, empty when only names below it do."""
    labels = name.removesuffix(ZONE).rstrip(".").split(".")
    match labels:
        case [""] | ["svc"] | ["pod"]:
            return []
        case ["dns-version"]:
            return [text_record(name, "1.1.0", TTL)]
        case [namespace, "svc" | "pod"]:
            return [] if store.find(NAMESPACE, "", namespace) else None
        case [dashed, namespace, "pod"]:
            address = _undashed(dashed)
            return [address_record(name, address, TTL)] if address and store.find(NAMESPACE, "", namespace) else None
        case [*below, service, namespace, "svc"]:
            held = store.find(SERVICE, namespace, service)
            return _service(store, held, below, name) if held is not None else None
    return None


def _undashed(label: str) -> str | None:
    found = _DASHED.fullmatch(label)
    return ".".join(found.groups()) if found and all(int(part) < 256 for part in found.groups()) else None


def _service(store: Store, service: Object, below: list[str], name: str) -> list[DnsRecord] | None:
    spec, meta = service["spec"], service["metadata"]
    own = f"{meta['name']}.{meta['namespace']}.svc.{ZONE}"
    if spec.get("type") == "ExternalName":
        return None if below else [name_record(CNAME, name, spec["externalName"], TTL)]
    address = cluster_ip(service)
    if address is not None:
        ports = [
            (port.get("name") or "", port.get("protocol", "TCP").lower(), port["port"])
            for port in spec.get("ports") or ()
        ]
        if not below:
            weight = max(1, 100 // max(1, len(ports)))
            return [address_record(name, address, TTL)] + [
                service_record(name, own, port[2], weight, TTL) for port in ports
            ]
        return _ports(name, below, [(port, own) for port in ports])
    endpoints = list(_endpoints(store, meta["namespace"], meta["name"]))
    if not below:
        records = [address_record(name, one.address, TTL) for one in endpoints]
        targets = [(port, f"{one.label}.{own}") for one in endpoints for port in one.ports]
        records += [service_record(name, target, port[2], max(1, 100 // len(targets)), TTL) for port, target in targets]
        return records or None
    if len(below) == 1:
        same = [address_record(name, one.address, TTL) for one in endpoints if one.label == below[0]]
        if same:
            return same
    return _ports(name, below, [(port, f"{one.label}.{own}") for one in endpoints for port in one.ports])


def _ports(name: str, below: list[str], ports: list[tuple[tuple[str, str, int], str]]) -> list[DnsRecord] | None:
    """SRV records of `_port._protocol`; the protocol's label alone has no records of its own."""
    if len(below) == 2 and below[0].startswith("_") and below[1].startswith("_"):
        wanted = (below[0][1:], below[1][1:])
        chosen = [(number, target) for (port, protocol, number), target in ports if (port, protocol) == wanted]
        return [
            service_record(name, target, number, max(1, 100 // len(chosen)), TTL) for number, target in chosen
        ] or None
    if len(below) == 1 and any(below[0] == "_" + protocol for (port, protocol, _), _ in ports if port):
        return []
    return None


def _endpoints(store: Store, namespace: str, service: str) -> Iterator[_Endpoint]:
    for piece in store.list(ENDPOINT_SLICE, namespace):
        if (piece["metadata"].get("labels") or {}).get(SERVICE_NAME) != service or piece.get(
            "addressType", "IPv4"
        ) != "IPv4":
            continue
        ports = tuple(
            (port.get("name") or "", port.get("protocol", "TCP").lower(), port["port"])
            for port in piece.get("ports") or ()
            if port.get("port")
        )
        for endpoint in piece.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses"):
                address = endpoint["addresses"][0]
                yield _Endpoint((endpoint.get("hostname") or address.replace(".", "-")).lower(), address, ports)


def _reverse(store: Store, name: str) -> list[DnsRecord] | None:
    """PTR of a Service's address, or of a headless Service's endpoint that has a host name."""
    address = ".".join(reversed(name.removesuffix(".in-addr.arpa").split(".")))
    for service in store.list(SERVICE):
        meta = service["metadata"]
        own = f"{meta['name']}.{meta['namespace']}.svc.{ZONE}"
        if cluster_ip(service) == address:
            return [name_record(PTR, name, own, TTL)]
        if service["spec"].get("clusterIP") == "None":
            for one in _endpoints(store, meta["namespace"], meta["name"]):
                if one.address == address:
                    return [name_record(PTR, name, f"{one.label}.{own}", TTL)]
    return None


def publish_dns(store: Store) -> None:
    """Put the kube-dns Service and its endpoint into the store, unless they exist."""
    meta: dict[str, Any] = {
        "name": "kube-dns",
        "namespace": "kube-system",
        "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
    }
    ports: list[dict[str, Any]] = [
        {"name": name, "protocol": protocol, "port": addresses.DNS_PORT}
        for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    if store.find(SERVICE, "kube-system", "kube-dns") is None:
        store.create(
            SERVICE,
            {
                "metadata": meta,
                "spec": {
                    "type": "ClusterIP",
                    "clusterIP": addresses.DNS_ADDRESS,
                    "clusterIPs": [addresses.DNS_ADDRESS],
                    "ipFamilies": ["IPv4"],
                    "ipFamilyPolicy": "SingleStack",
                    "internalTrafficPolicy": "Cluster",
                    "sessionAffinity": "None",
                    "ports": [port | {"targetPort": addresses.DNS_PORT} for port in ports],
                },
                "status": {"loadBalancer": {}},
            },
        )
    if store.find(ENDPOINT_SLICE, "kube-system", "kube-dns") is None:
        store.create(
            ENDPOINT_SLICE,
            {
                "metadata": {**meta, "labels": {**meta["labels"], SERVICE_NAME: "kube-dns"}},
                "addressType": "IPv4",
                "ports": ports,
                "endpoints": [
                    {
                        "addresses": [addresses.FABRIC_ADDRESS],
                        "conditions": {"ready": True, "serving": True, "terminating": False},
                    }
                ],
            },
        )


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns = count()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # asyncio's own is one without deriving from it

    def datagram_received(self, data: bytes, address: tuple[str | Any, int]) -> None:
        try:
            query = decode_query(data)
        except Malformed:
            return
        if self._transport is not None:
            reply = encode_answer(query, answer(self._store, query, turn=next(self._turns)), limit=query.size)
            self._transport.sendto(reply, address)


async def serve_dns(store: Store, network: ClusterNetwork) -> None:
    """Publish Service kube-dns and answer queries on the fabric's address until cancelled."""
    publish_dns(store)
    writers: set[asyncio.StreamWriter] = set()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    (length,) = struct.unpack(">H", await reader.readexactly(2))
                    query = decode_query(await reader.readexactly(length))
                reply = encode_answer(query, answer(store, query))
                writer.write(struct.pack(">H", len(reply)) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, TimeoutError, Malformed, ConnectionError):
            pass  # the client is done, idle, or speaks something else
        finally:
            writers.discard(writer)
            writer.close()

    loop = asyncio.get_running_loop()
    datagrams = network.listen(addresses.DNS_PORT, kind=socket.SOCK_DGRAM)
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(store), sock=datagrams)
    try:
        async with await asyncio.start_server(stream, sock=network.listen(addresses.DNS_PORT)) as server:
            await server.serve_forever()
    finally:
        transport.close()
        for writer in tuple(writers):
            writer.close()
