"""HTTPS calls to webhooks, at a Service's address or a URL, checked against the caBundle.

A Service is called as by kube-apiserver: at its own address, which leads to one ready endpoint (chosen here instead
of by kube-proxy), from the fabric, over the nodes' routes and policies. A URL of the cluster's own addresses is
called from the fabric, any other from the machine of this server. Each call opens a new connection. Every failure is
worded as by Go's net, crypto/tls and client-go.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import random
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult

from chaos.embedded.api.connections import abort
from chaos.embedded.api.serving_certificates import BadBundle, trusting, why_refused
from chaos.embedded.api.webhooks import NotCalled
from chaos.embedded.network import addresses
from chaos.embedded.network.services import plan_services
from chaos.embedded.resources import ENDPOINT_SLICE, SERVICE
from chaos.embedded.store import Store

MOST_BYTES: Final = 4 << 20  # of a response: an object of the largest size, and its patch
_CLUSTER: Final = ("10.244.0.0/16", f"{addresses.FABRIC_ADDRESS}/{addresses.FABRIC_PREFIX}")

Opener = Callable[[], socket.socket]  # a TCP socket of the cluster's own network


@dataclass(frozen=True, slots=True)
class Destination:
    """The target of a call: its name in messages, and the addresses to dial."""

    url: str
    host: str  # whose name the certificate must carry
    named: str  # address and port as a dial names them
    addresses: tuple[tuple[str, int], ...]
    inside: bool  # dialled from the fabric


class WebhookClient:
    """Calls webhooks of the cluster in `store`. `opener` is None without a network."""

    def __init__(self, store: Store, opener: Opener | None = None) -> None:
        self._store = store
        self._opener = opener

    async def call(self, client: Mapping[str, Any], body: bytes, seconds: int) -> bytes:
        """Call a webhook; the response's body. Raises NotCalled."""
        try:
            context = trusting(client.get("caBundle") or "")
        except BadBundle as error:
            raise NotCalled(f"could not get REST client: unable to load root certificates: {error}") from None
        url = _url(client, seconds)
        try:
            async with asyncio.timeout(seconds):
                return await self._post(self._destination(client, url), context, client, body)
        except TimeoutError:
            raise NotCalled(f'failed to call webhook: Post "{url}": context deadline exceeded') from None

    def _destination(self, client: Mapping[str, Any], url: str) -> Destination:
        service = client.get("service")
        if service is None:
            host, port = _split(client["url"])
            return Destination(url, host, "", ((host, port),), self._opener is not None and _is_inside(host))
        name, namespace, port = service["name"], service["namespace"], int(service.get("port", 443))
        host = f"{name}.{namespace}.svc"
        found = self._store.find(SERVICE, namespace, name)
        if found is None:
            raise _not_posted(url, f'service "{name}" not found')
        spec = found["spec"]
        if spec.get("type") == "ExternalName":
            return Destination(url, host, "", ((spec["externalName"], port),), False)
        if spec.get("clusterIP") == "None":
            raise _not_posted(url, 'cannot route to service with ClusterIP "None"')
        if not any(one["port"] == port for one in spec.get("ports") or ()):
            raise _not_posted(url, f'no service port {port} found for service "{name}"')
        planned = plan_services([found], self._store.list(ENDPOINT_SLICE, namespace), "")
        ready = next((one.backends for one in planned if one.port == port and one.protocol == "tcp"), ())
        dialled = f"{spec['clusterIP']}:{port}"
        if not ready:
            raise _not_posted(url, f"dial tcp {dialled}: connect: connection refused")
        return Destination(url, host, dialled, (random.choice(ready),), self._opener is not None)

    async def _post(self, to: Destination, context: ssl.SSLContext, client: Mapping[str, Any], body: bytes) -> bytes:
        opener = self._opener if to.inside else None
        connector = aiohttp.TCPConnector(
            ssl=context,
            resolver=_Fixed(to.addresses) if to.named else None,
            socket_factory=(lambda _info: opener()) if opener is not None else None,
            force_close=True,
            family=socket.AF_INET,
        )
        headers = {
            "Accept": "application/json, */*",
            "Content-Type": "application/json",
            "User-Agent": "kube-apiserver-admission",
        }
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session,
                session.post(to.url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                got = await _body(response)
                return _understood(response, got)
        except aiohttp.ClientConnectorCertificateError as error:
            why = await self._refused(to, opener, client, error)
            raise _not_posted(to.url, f"tls: failed to verify certificate: {why}") from None
        except aiohttp.ClientConnectorDNSError:
            raise _not_posted(to.url, f"dial tcp: lookup {to.host}: no such host") from None
        except aiohttp.ClientConnectorSSLError as error:
            raise _not_posted(to.url, _of_handshake(error)) from None
        except aiohttp.ClientConnectorError as error:
            dialled = to.named or "{}:{}".format(*to.addresses[0])
            raise _not_posted(to.url, f"dial tcp {dialled}: {_of_dial(error.os_error)}") from None
        except aiohttp.ServerDisconnectedError:
            raise _not_posted(to.url, "EOF") from None
        except (aiohttp.ClientOSError, ConnectionError) as error:
            raise _not_posted(to.url, f"read tcp: read: {_of_errno(error)}") from None
        except aiohttp.ClientPayloadError:
            why = "unexpected error when reading response body. Please retry. Original error: unexpected EOF"
            raise NotCalled(f"failed to call webhook: {why}") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise _not_posted(to.url, f"net/http: HTTP/1.x transport connection broken: {error}") from None

    async def _refused(self, to: Destination, opener: Opener | None, client: Mapping[str, Any], error: Any) -> str:
        """Why the certificate was refused, in Go's words; it is fetched once more, for the message alone."""
        look = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        look.check_hostname, look.verify_mode = False, ssl.CERT_NONE
        der = b""
        with contextlib.suppress(OSError, ssl.SSLError):
            opened = opener() if opener is not None else socket.socket()
            opened.setblocking(False)
            await asyncio.get_running_loop().sock_connect(opened, to.addresses[0])
            _, writer = await asyncio.open_connection(sock=opened, ssl=look, server_hostname=to.host)
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
            abort(writer.transport)
        return why_refused(der, to.host, client.get("caBundle") or "", str(error.certificate_error))


class _Fixed(AbstractResolver):
    """A resolver of known addresses."""

    def __init__(self, found: tuple[tuple[str, int], ...]) -> None:
        self._found = found

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=address, port=number, family=family, proto=0, flags=int(socket.AI_NUMERICHOST)
            )
            for address, number in self._found
        ]

    async def close(self) -> None:
        return


def _url(client: Mapping[str, Any], seconds: int) -> str:
    service = client.get("service")
    if service is None:
        base = client["url"]
        host = base.partition("://")[2]
        return f"{base}{'' if '/' in host else '/'}?timeout={seconds}s"
    path = service.get("path") or "/"
    return f"https://{service['name']}.{service['namespace']}.svc:{service.get('port', 443)}{path}?timeout={seconds}s"


def _split(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 443


def _is_inside(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(one, strict=False) for one in _CLUSTER)


def _not_posted(url: str, why: str) -> NotCalled:
    return NotCalled(f'failed to call webhook: Post "{url}": {why}')


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            why = f"Original error: more than {MOST_BYTES} bytes"
            raise NotCalled(f"failed to call webhook: unexpected error when reading response body. {why}")
    return bytes(body)


_ANSWERS: Final[Mapping[int, str]] = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    406: "the server was unable to respond with a content type that the client supports",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


def _understood(response: aiohttp.ClientResponse, body: bytes) -> bytes:
    """The body of a successful response; raises NotCalled as worded by client-go's NewGenericServerResponse."""
    code = response.status
    if 200 <= code <= 206:
        if not body:
            kind = response.headers.get("Content-Type", "application/json")
            raise NotCalled(
                f"failed to call webhook: 0-length response with status code: {code} and content type: {kind}"
            )
        return body
    textual = response.headers.get("Content-Type", "text/").startswith("text/")
    message = body[:2048].decode(errors="replace").strip() if textual else "unknown"
    if code in (403, 415) or (code == 406 and message not in ("", "unknown")):
        why = message
    elif code in _ANSWERS:
        why = _ANSWERS[code]
    elif code >= 500:
        why = f"an error on the server ({_quoted(message)}) has prevented the request from succeeding"
    else:
        why = f"the server responded with the status code {code} but did not return more information"
    raise NotCalled(f"failed to call webhook: {_status_of(body) or why}")


def _status_of(body: bytes) -> str:
    """The message of a Status object, which takes precedence over the code's words."""
    with contextlib.suppress(orjson.JSONDecodeError):
        found = orjson.loads(body)
        if isinstance(found, dict) and found.get("kind") == "Status" and found.get("apiVersion") == "v1":
            return str(found.get("message", ""))
    return ""


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def _of_dial(error: OSError) -> str:
    return f"connect: {_of_errno(error)}"


def _of_errno(error: OSError) -> str:
    """An errno as Go prints it, in lower case."""
    number = error.errno or errno.ECONNRESET
    return os.strerror(number).lower()


def _of_handshake(error: aiohttp.ClientConnectorSSLError) -> str:
    text = str(error.os_error)
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text or "HTTP_REQUEST" in text:
        return "http: server gave HTTP response to HTTPS client"
    if "CERTIFICATE_REQUIRED" in text:
        return "remote error: tls: certificate required"
    if "ALERT_HANDSHAKE_FAILURE" in text:
        return "remote error: tls: handshake failure"
    if "PROTOCOL_VERSION" in text:
        return "remote error: tls: protocol version not supported"
    if "EOF" in text:
        return "EOF"
    return f"tls: {text}"
