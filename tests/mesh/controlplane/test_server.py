"""The control plane over real gRPC and TLS, with a cluster that answers TokenReviews and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from cryptography import x509
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from google.protobuf.any_pb2 import Any as AnyMessage

from chaos.mesh.ca import Authority
from chaos.mesh.controlplane.cache import KINDS
from chaos.mesh.controlplane.secrets import HandedLog, ProxySecrets
from chaos.mesh.controlplane.server import SERVER_NAMES, Plane, start_server
from chaos.mesh.controlplane.xds import ENDPOINTS, LISTENER, SECRET
from chaos.mesh.snapshot import ROOT_SECRET, MeshSnapshot
from chaos.model.modes import Layer, Scope
from chaos.model.placement import Proxy
from tests.mesh.controlplane.objects import (
    Object,
    config,
    namespace,
    node,
    pod,
    proxy_pod,
    service,
    sidecar_pod,
    slice_of,
)

A, B = "spiffe://cluster.local/ns/tenant-a/sa/server", "spiffe://cluster.local/ns/tenant-b/sa/server"


class Reviews:
    """Answers a TokenReview for tokens that are names of pods."""

    def __init__(self, *pods: Object) -> None:
        self.pods = {p["metadata"]["name"]: p for p in pods}

    def create(self, obj: Object) -> Object:
        found = self.pods.get(obj["spec"]["token"])
        if found is None:
            return {"status": {"authenticated": False, "error": "unknown token"}}
        meta = found["metadata"]
        return {
            "status": {
                "authenticated": True,
                "audiences": obj["spec"]["audiences"],
                "user": {
                    "username": f"system:serviceaccount:{meta['namespace']}:{found['spec']['serviceAccountName']}",
                    "extra": {
                        "authentication.kubernetes.io/pod-name": [meta["name"]],
                        "authentication.kubernetes.io/pod-uid": [meta["uid"]],
                    },
                },
            }
        }

    def find(self, kind: str, name: str, namespace: str) -> Object | None:
        return self.pods.get(name)


@dataclass(frozen=True)
class Item:
    name: str
    version: str
    packed: AnyMessage


@dataclass(frozen=True)
class Built:
    by_type: dict[str, dict[str, Item]]


def build(proxy: Proxy, world: MeshSnapshot) -> Built:
    """A listener for each pod served."""
    items = {p.name: Item(p.name, p.ip, AnyMessage(type_url=LISTENER)) for p in world.served_by(proxy)}
    return Built({LISTENER: items})


class Client:
    """A proxy's side of the stream."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, type_url: str, **fields: Any) -> None:
        await self._call.write(DeltaDiscoveryRequest(type_url=type_url, **fields))

    async def read(self, seconds: float = 3.0) -> DeltaDiscoveryResponse:
        found = await asyncio.wait_for(self._call.read(), seconds)
        assert isinstance(found, DeltaDiscoveryResponse), "the stream ended"
        return found


@asynccontextmanager
async def serving(*objects: Object, token: str = "node-proxy-1") -> AsyncIterator[tuple[Plane, Callable[..., Client]]]:
    plane = Plane(Reviews(*(o for o in objects if o["kind"] == "Pod")), Authority.new(), build=build)  # type: ignore[arg-type]
    for obj in objects:
        plane.fold(obj["kind"], "ADDED", obj)
    for kind in KINDS:
        plane.whole(kind)
    server, port = await start_server(plane, "127.0.0.1:0")
    credentials = grpc.ssl_channel_credentials(plane.authority.root_pem)
    options = [("grpc.ssl_target_name_override", SERVER_NAMES[0])]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        yield plane, lambda who=token: Client(stub.DeltaAggregatedResources(metadata=(("authorization", who),)))
    await server.stop(0)


CLUSTER_OBJECTS = (
    config(),
    node("node-1"),
    namespace("tenant-a"),
    namespace("tenant-b"),
    proxy_pod(),
    pod("a-1"),
    pod("b-1", namespace="tenant-b", node="node-2", ip="10.0.0.2"),
    service(),
)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def certificate(response: DeltaDiscoveryResponse) -> x509.Certificate:
    secret = Secret()
    response.resources[0].resource.Unpack(secret)
    return x509.load_pem_x509_certificate(secret.tls_certificate.certificate_chain.inline_bytes)


def test_a_proxy_gets_what_its_own_pods_need() -> None:
    async def test() -> None:
        async with serving(*CLUSTER_OBJECTS) as (_, connect):
            client = connect()
            await client.send(LISTENER)
            assert [r.name for r in (await client.read()).resources] == ["a-1"]

    run(test)


def test_an_unknown_token_is_refused_before_anything_is_sent() -> None:
    async def test() -> None:
        async with serving(*CLUSTER_OBJECTS, token="forged") as (plane, connect):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await connect().read()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "unknown token" in plane.status()["refused_streams"][0]["reason"]

    run(test)


def test_a_proxy_is_handed_the_identities_of_its_pods_and_no_other() -> None:
    async def test() -> None:
        async with serving(*CLUSTER_OBJECTS) as (plane, connect):
            client = connect()
            await client.send(SECRET, resource_names_subscribe=[A, B, ROOT_SECRET])
            given = await client.read()
            assert sorted(r.name for r in given.resources) == sorted([A, ROOT_SECRET])
            assert list((await client.read()).removed_resources) == [B]
            log = {(line["identity"], line["refused"]) for line in plane.status()["identities"]}
            assert log == {(A, False), (B, True)}

    run(test)


def test_the_log_shows_an_over_generous_control_plane() -> None:
    log, proxy = (
        HandedLog(),
        Proxy("s", "p", "proxy", "u", "node-1", frozenset(Layer), Scope.NODE, "node-1", "node-proxy"),
    )
    generous = ProxySecrets(proxy, Authority.new(), log, seconds=60, clock=time.time)
    generous.wanted([A, B], allowed=[A, B])  # the defect: whatever is asked for is allowed
    handed = {line["identity"] for line in log.as_json() if not line["refused"]}
    assert handed != {A}, "the log must show what the check compares with identities_held"


def test_an_update_reaches_a_proxy_within_half_a_second() -> None:
    async def test() -> None:
        async with serving(*CLUSTER_OBJECTS) as (plane, connect):
            client = connect()
            await client.send(LISTENER)
            await client.read()
            start = time.monotonic()
            plane.fold("Pod", "ADDED", pod("a-2", ip="10.0.0.9"))
            assert [r.name for r in (await client.read()).resources] == ["a-2"]
            assert time.monotonic() - start < 0.5

    run(test)


def test_a_pod_that_dies_takes_only_its_listener_and_ends_no_other_stream() -> None:
    async def test() -> None:
        async with serving(*CLUSTER_OBJECTS) as (plane, connect):
            client, silent = connect(), connect()
            await silent.send(LISTENER)  # never acknowledges anything
            await client.send(LISTENER)
            await client.read()
            plane.fold("Pod", "DELETED", pod("a-1"))
            assert list((await client.read()).removed_resources) == ["a-1"]

    run(test)


def test_a_stream_ends_when_its_own_pod_is_gone() -> None:
    async def test() -> None:
        async with serving(*CLUSTER_OBJECTS) as (plane, connect):
            client = connect()
            await client.send(LISTENER)
            await client.read()
            plane.fold("Pod", "DELETED", proxy_pod())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.read()
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    run(test)


def test_certificates_are_renewed_under_the_same_name_before_they_end() -> None:
    async def test() -> None:
        objects = (config(certificate_seconds=1.5), *CLUSTER_OBJECTS[1:])
        async with serving(*objects) as (_, connect):
            client = connect()
            await client.send(SECRET, resource_names_subscribe=[A])
            first = certificate(await client.read())
            second = certificate(await client.read())
            assert first.serial_number != second.serial_number
            assert second.not_valid_before_utc < first.not_valid_after_utc
            names = second.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.UniformResourceIdentifier) == [A]

    run(test)


def test_a_change_that_concerns_nobody_sends_nothing() -> None:
    async def test() -> None:
        async with serving(*CLUSTER_OBJECTS) as (plane, connect):
            client = connect()
            await client.send(LISTENER)
            await client.read()
            plane.fold("Pod", "MODIFIED", pod("b-1", namespace="tenant-b", node="node-2", ip="10.0.0.77"))
            with pytest.raises(TimeoutError):
                await client.read(0.2)

    run(test)


def test_settings_that_cannot_be_read_leave_the_last_world() -> None:
    async def test() -> None:
        async with serving(*CLUSTER_OBJECTS) as (plane, _):
            await asyncio.wait_for(plane.synced.wait(), 2)
            before = plane.snapshot
            plane.fold("ConfigMap", "MODIFIED", config(features={"retrys": True}))
            await asyncio.sleep(0.1)
            assert plane.snapshot is before

    run(test)


def test_services_follow_readiness_and_keep_the_accounts_behind_them() -> None:
    async def test() -> None:
        unready = pod("a-1", ready=False)
        async with serving(*CLUSTER_OBJECTS, slice_of(unready)) as (plane, _):
            await asyncio.wait_for(plane.synced.wait(), 2)
            assert plane.snapshot is not None
            [found] = plane.snapshot.services
            assert found.ports[0].endpoints == ()
            assert found.accounts == (A,)
            plane.fold("EndpointSlice", "MODIFIED", slice_of(pod("a-1")))
            await asyncio.sleep(0.1)
            assert [e.ip for e in plane.snapshot.services[0].ports[0].endpoints] == ["10.0.0.1"]
            assert replace(plane.snapshot) == plane.snapshot

    run(test)


def test_one_more_pod_reaches_a_hundred_proxies_within_half_a_second() -> None:
    from chaos.mesh.envoy.build import build as real

    async def test() -> None:
        pods = [sidecar_pod(f"p{n}", ip=f"10.0.1.{n}") for n in range(100)]
        objects = (config("sidecar"), node("node-1"), namespace("tenant-a"), service(), slice_of(*pods), *pods)
        async with serving(*objects) as (plane, connect):
            plane._build = real
            clients = [connect(p["metadata"]["name"]) for p in pods]
            for client in clients:
                await client.send(ENDPOINTS, resource_names_subscribe=["outbound|80|server.tenant-a"])
            await asyncio.gather(*(client.read(10) for client in clients))
            start = time.monotonic()
            plane.fold("EndpointSlice", "MODIFIED", slice_of(*pods[1:]))
            await asyncio.gather(*(client.read() for client in clients))
            assert time.monotonic() - start < 0.5

    run(test)
