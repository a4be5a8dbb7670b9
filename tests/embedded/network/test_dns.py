"""Names of Services and pods, after the Kubernetes DNS specification; then over the wire, from a pod."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chaos.embedded.network.dns import answer, publish_dns
from chaos.embedded.network.dnswire import (
    AAAA,
    CNAME,
    FORMERR,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    PTR,
    REFUSED,
    SOA,
    SRV,
    TXT,
    A,
    Malformed,
    Query,
    decode_query,
    encode_answer,
    encode_name,
)  # fmt: skip
from chaos.embedded.resources import ENDPOINT_SLICE, NAMESPACE, SERVICE
from chaos.embedded.store import Store
from tests.embedded.network.conftest import World, eventually


@pytest.fixture
def store() -> Store:
    store = Store()
    for name in ("default", "kube-system"):
        store.create(NAMESPACE, {"metadata": {"name": name}})
    publish_dns(store)

    def service(name: str, **spec: Any) -> None:
        store.create(SERVICE, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})

    service(
        "web",
        clusterIP="10.96.0.50",
        ports=[{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}],
    )
    service("db", clusterIP="None", ports=[{"name": "sql", "port": 5432}])
    service("idle", clusterIP="None", ports=[{"name": "sql", "port": 5432}])
    service("away", type="ExternalName", externalName="example.org")
    service("alias", type="ExternalName", externalName="web.default.svc.cluster.local")
    service("broken", type="ExternalName", externalName="x" * 64 + ".org")
    store.create(
        ENDPOINT_SLICE,
        {
            "metadata": {"name": "db-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.1.2"], "hostname": "db-0", "conditions": {"ready": True}},
                {"addresses": ["10.244.1.3"], "conditions": {"ready": True}},
                {"addresses": ["10.244.1.4"], "hostname": "db-2", "conditions": {"ready": False}},
            ],
        },
    )
    return store


def ask(store: Store, name: str, kind: int = A) -> tuple[int, list[tuple[str, int, bytes]]]:
    found = answer(store, Query(1, name, kind))
    return found.code, [(record.name, record.type, record.data) for record in found.records]


def addresses(store: Store, name: str) -> list[str]:
    return sorted(socket.inet_ntoa(data) for _, kind, data in ask(store, name)[1] if kind == A)


def test_a_service_has_its_address(store: Store) -> None:
    assert addresses(store, "web.default.svc.cluster.local") == ["10.96.0.50"]
    assert addresses(store, "kube-dns.kube-system.svc.cluster.local") == ["10.96.0.10"]


def test_a_name_without_an_ipv6_address_is_there_all_the_same(store: Store) -> None:
    found = answer(store, Query(1, "web.default.svc.cluster.local", AAAA))
    assert (found.code, found.records, found.authority[0].type) == (NOERROR, (), SOA)


def test_a_headless_service_has_its_ready_endpoints(store: Store) -> None:
    assert addresses(store, "db.default.svc.cluster.local") == ["10.244.1.2", "10.244.1.3"]
    assert addresses(store, "db-0.db.default.svc.cluster.local") == ["10.244.1.2"]
    assert addresses(store, "10-244-1-3.db.default.svc.cluster.local") == ["10.244.1.3"]


@pytest.mark.parametrize(
    "name",
    [
        "nobody.default.svc.cluster.local",
        "web.nowhere.svc.cluster.local",
        "idle.default.svc.cluster.local",
        "db-2.db.default.svc.cluster.local",
        "x.web.default.svc.cluster.local",
        "nowhere.svc.cluster.local",
        "a.b.c.d.pod.cluster.local",
        "web.cluster.local",
        "web.default.svc.cluster.local.default.svc.cluster.local",
        "300-1-1-1.default.pod.cluster.local",
        "99.0.96.10.in-addr.arpa",
    ],
)
def test_a_name_that_is_nobodys_is_denied(store: Store, name: str) -> None:
    assert ask(store, name)[0] == NXDOMAIN


@pytest.mark.parametrize(
    "name", ["cluster.local", "svc.cluster.local", "default.svc.cluster.local", "_tcp.web.default.svc.cluster.local"]
)
def test_a_name_that_only_has_names_below_is_empty_but_there(store: Store, name: str) -> None:
    assert ask(store, name) == (NOERROR, [])


@pytest.mark.parametrize("name", ["example.org", "localhost", "", "cluster.local.example.org", "notcluster.local"])
def test_a_name_outside_is_refused(store: Store, name: str) -> None:
    assert ask(store, name)[0] == REFUSED


def test_ports_have_srv_records(store: Store) -> None:
    code, [(_, kind, data)] = ask(store, "_http._tcp.web.default.svc.cluster.local", SRV)
    assert (code, kind, struct.unpack(">HHH", data[:6])) == (NOERROR, SRV, (0, 100, 80))
    assert data[6:] == encode_name("web.default.svc.cluster.local")
    found = answer(store, Query(1, "_sql._tcp.db.default.svc.cluster.local", SRV))
    targets = {encode_name(f"{one}.db.default.svc.cluster.local") for one in ("db-0", "10-244-1-3")}
    assert {record.data[6:] for record in found.records} == targets
    assert {record.data for record in found.additional} == {
        socket.inet_aton("10.244.1.2"),
        socket.inet_aton("10.244.1.3"),
    }
    assert ask(store, "_http._udp.web.default.svc.cluster.local", SRV)[0] == NXDOMAIN


def test_an_external_name_is_an_alias_followed_inside_the_cluster(store: Store) -> None:
    assert [record[1:] for record in ask(store, "away.default.svc.cluster.local")[1]] == [
        (CNAME, encode_name("example.org"))
    ]
    assert addresses(store, "alias.default.svc.cluster.local") == ["10.96.0.50"]


def test_a_name_in_the_store_that_cannot_be_written_does_no_harm(store: Store) -> None:
    assert ask(store, "broken.default.svc.cluster.local") == (2, [])


def test_pods_addresses_and_the_version_have_names(store: Store) -> None:
    assert addresses(store, "10-244-9-9.default.pod.cluster.local") == ["10.244.9.9"]
    assert ask(store, "dns-version.cluster.local", TXT)[1][0][2] == b"\x051.1.0"


def test_addresses_lead_back_to_names(store: Store) -> None:
    assert ask(store, "50.0.96.10.in-addr.arpa", PTR)[1][0][2] == encode_name("web.default.svc.cluster.local")
    assert ask(store, "2.1.244.10.in-addr.arpa", PTR)[1][0][2] == encode_name("db-0.db.default.svc.cluster.local")


def test_addresses_take_turns(store: Store) -> None:
    first = {answer(store, Query(1, "db.default.svc.cluster.local", A), turn=turn).records[0].data for turn in range(2)}
    assert len(first) == 2


def query(name: str, kind: int = A, *, flags: int = 0x0100, more: bytes = b"", extra: int = 0) -> bytes:
    return struct.pack(">HHHHHH", 7, flags, 1, 0, 0, extra) + encode_name(name) + struct.pack(">HH", kind, 1) + more


def test_case_is_kept_in_the_question_and_ignored_in_the_name(store: Store) -> None:
    asked = decode_query(query("Web.Default.svc.Cluster.local"))
    assert asked.name == "web.default.svc.cluster.local"
    assert encode_name("Web.Default.svc.Cluster.local") in encode_answer(asked, answer(store, asked))


def test_an_answer_that_is_too_long_is_marked_so_that_the_client_asks_over_tcp(store: Store) -> None:
    store.update(
        ENDPOINT_SLICE,
        {
            "metadata": {"name": "db-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5432}],
            "endpoints": [{"addresses": [f"10.244.1.{number}"]} for number in range(2, 60)],
        },
    )
    asked = decode_query(query("db.default.svc.cluster.local"))
    short, whole = (
        encode_answer(asked, answer(store, asked), limit=asked.size),
        encode_answer(asked, answer(store, asked)),
    )
    assert (short[2] & 0x02, len(short) <= 512, struct.unpack(">H", whole[6:8])) == (2, True, (58,))
    option = b"\0" + struct.pack(">HHIH", 41, 4096, 0, 0)
    roomy = decode_query(query("db.default.svc.cluster.local", more=option, extra=1))
    assert (roomy.edns, roomy.size) == (True, 4096)
    assert not encode_answer(roomy, answer(store, roomy), limit=roomy.size)[2] & 0x02


def test_another_kind_of_request_is_declined(store: Store) -> None:
    assert answer(store, decode_query(query("web.default.svc.cluster.local", flags=0x2800))).code == NOTIMP
    assert answer(store, decode_query(struct.pack(">HHHHHH", 7, 0, 2, 0, 0, 0) + b"\0" * 20)).code == FORMERR


def test_a_damaged_query_gets_an_answer_or_silence_and_never_an_exception(store: Store) -> None:
    chance = random.Random(5)
    good = query("web.default.svc.cluster.local", more=b"\0" + struct.pack(">HHIH", 41, 4096, 0, 0), extra=1)
    answered = 0
    for _ in range(5000):
        damaged = bytearray(good[: chance.randrange(len(good) + 1)] if chance.random() < 0.3 else good)
        for _ in range(chance.randrange(6)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            asked = decode_query(bytes(damaged))
        except Malformed:
            continue
        assert len(encode_answer(asked, answer(store, asked), limit=asked.size)) >= 12
        answered += 1
    assert answered > 1000


@pytest.mark.privileged
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_pod_asks_the_dns_service_over_udp_and_tcp(
    kind: int, run_in_world: Callable[[Callable[[World], Awaitable[None]]], None]
) -> None:
    async def body(world: World) -> None:
        await world.pod("a", "node-2")
        world.service("web", "10.96.0.50", [])

        async def resolves() -> bool:
            asked = query("web.default.svc.cluster.local")
            sent = asked if kind == socket.SOCK_DGRAM else struct.pack(">H", len(asked)) + asked
            loop = asyncio.get_running_loop()
            with world.namespaces["a"].socket(kind=kind) as client:
                client.setblocking(False)
                try:
                    async with asyncio.timeout(0.2):
                        await loop.sock_connect(client, ("10.96.0.10", 53))
                        await loop.sock_sendall(client, sent)
                        return socket.inet_aton("10.96.0.50") in await loop.sock_recv(client, 512)
                except (OSError, TimeoutError):
                    return False

        await eventually(resolves)

    run_in_world(body)
