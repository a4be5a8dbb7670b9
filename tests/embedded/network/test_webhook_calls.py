"""The API server's calls to webhooks, in the kernel: over the fabric and the nodes' routes to a ready pod."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chaos.embedded.api.pki import Authority
from chaos.embedded.api.webhook_client import WebhookClient
from chaos.embedded.api.webhooks import NotCalled
from chaos.embedded.network.addresses import FABRIC_ADDRESS
from chaos.embedded.resources import NETWORK_POLICY
from tests.embedded.network.conftest import World

pytestmark = pytest.mark.privileged
InWorld = Callable[[Callable[[World], Awaitable[None]]], None]


@asynccontextmanager
async def webhook(world: World, where: str, authority: Authority, folder: Path) -> AsyncIterator[None]:
    """A TLS server in a pod's network that answers with its own name and its caller's address."""
    pair = authority.issue("hook", names=("hook.default.svc",))
    (folder / "crt").write_bytes(pair.certificate)
    (folder / "key").write_bytes(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = f"{where} {writer.get_extra_info('peername')[0]}".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    listener = world.namespaces[where].socket()
    listener.bind(("0.0.0.0", 8443))
    listener.setblocking(False)
    async with await asyncio.start_server(serve, sock=listener, ssl=context):
        yield


def service(world: World, *addresses: str) -> None:
    world.service("hook", "10.96.0.77", [(one, 8443) for one in addresses], ports=[{"port": 443, "name": "http"}])


def test_a_webhook_is_called_from_the_fabric_at_a_ready_pod_of_any_node(run_in_world: InWorld, tmp_path: Path) -> None:
    async def body(world: World) -> None:
        a, b = await world.pod("a", "node-1"), await world.pod("b", "node-2")
        authority = Authority()
        client = WebhookClient(world.store, world.network.socket_of_fabric)
        asked = {
            "caBundle": base64.b64encode(authority.pem).decode(),
            "service": {"name": "hook", "namespace": "default", "port": 443},
        }
        async with webhook(world, "a", authority, tmp_path), webhook(world, "b", authority, tmp_path):
            for address, name in ((a, "a"), (b, "b")):
                service(world, address) if name == "a" else world.endpoints("hook", [(address, 8443)])
                assert await client.call(asked, b"{}", 10) == f"{name} {FABRIC_ADDRESS}".encode()
            by_address = {"url": f"https://{b}:8443/", "caBundle": asked["caBundle"]}
            with pytest.raises(NotCalled, match=f"cannot validate certificate for {b}"):  # it was reached
                await client.call(by_address, b"{}", 10)

    run_in_world(body)


def test_a_policy_that_isolates_a_webhook_keeps_the_api_server_from_it(run_in_world: InWorld, tmp_path: Path) -> None:
    async def body(world: World) -> None:
        a = await world.pod("a", "node-1", labels={"app": "a"})
        authority = Authority()
        client = WebhookClient(world.store, world.network.socket_of_fabric)
        asked = {
            "caBundle": base64.b64encode(authority.pem).decode(),
            "service": {"name": "hook", "namespace": "default", "port": 443},
        }
        service(world, a)
        async with webhook(world, "a", authority, tmp_path):
            assert await client.call(asked, b"{}", 10)
            policy = {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Ingress"], "ingress": []}
            world.store.create(NETWORK_POLICY, {"metadata": {"name": "none", "namespace": "default"}, "spec": policy})
            await asyncio.sleep(0.5)
            with pytest.raises(NotCalled, match="context deadline exceeded"):
                await client.call(asked, b"{}", 1)

    run_in_world(body)
