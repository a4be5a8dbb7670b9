"""The API server: HTTP over TLS, from a request's path to the verb that answers it.

One low-level aiohttp handler: authenticate, parse, authorize, answer, write the audit log. A StatusError raised below
becomes a `Status`; any other exception is a defect, logged, and the only way to a 500. It listens on sockets that are
open already, so that one of them may be in the cluster's own network namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any, Final

import orjson
from aiohttp import web

from chaos.embedded.api import decode, discovery, negotiate, openapi2, streams, subresources, warnings
from chaos.embedded.api.asked import Said
from chaos.embedded.api.audit import AuditLog
from chaos.embedded.api.auth import Attributes, Authorizer, User, authenticate
from chaos.embedded.api.calls import Call, Reply
from chaos.embedded.api.connecting import connecting
from chaos.embedded.api.connections import ConnectionLimits, Connections, Held, NoAnswer, abort
from chaos.embedded.api.errors import StatusError, bad_request, method_not_allowed, no_such_path
from chaos.embedded.api.escalation import impersonated, refuse_escalation
from chaos.embedded.api.gate import AdmissionGate
from chaos.embedded.api.metrics import metrics
from chaos.embedded.api.paths import VERBS, RequestPath, parse_path, split_port, verb_of
from chaos.embedded.api.responses import (
    as_read,
    form_of_errors,
    found_response,
    json_response,
    public_response,
    text_response,
    warn,
    written_response,
)
from chaos.embedded.api.rest import Rest
from chaos.embedded.api.reviews import Reviews
from chaos.embedded.api.spdy import tunnel
from chaos.embedded.api.tokens import TokenIssuer, discovery_document
from chaos.embedded.api.trouble import Troubles
from chaos.embedded.api.watching import watch_lines
from chaos.embedded.api.webhook_client import Opener, WebhookClient
from chaos.embedded.clock import Clock, SystemClock
from chaos.embedded.network.addresses import API_PORT, FABRIC_ADDRESS
from chaos.embedded.node_api import Kubelet
from chaos.embedded.resources import ENDPOINT_SLICE, POD, Object
from chaos.embedded.store import Store

log = logging.getLogger(__name__)

_noted: Final[ContextVar[str]] = ContextVar("noted", default="")  # of this request, for the audit log
_asked: Final[ContextVar[Said]] = ContextVar("asked")  # what those who were asked about this request said
_LARGE: Final = 1 << 18  # bytes of an answer that is counted while it is sent
_STREAMING: Final = ("exec", "attach", "portforward", "log", "proxy")
_ACTING: Final = ("exec", "attach", "portforward")  # asked for by GET too, which takes the right to create all the same

# what can be done to a node from outside, by name: `POST /embedded/nodes/NODE/power-off`; not a part of Kubernetes' API
Operations = Mapping[str, Callable[[str], Awaitable[None]]]


class ApiServer:
    """The API server of a store."""

    def __init__(
        self,
        store: Store,
        issuer: TokenIssuer,
        *,
        kubelets: Mapping[str, Kubelet],
        clock: Clock | None = None,
        audit: Path | None = None,
        operations: Operations | None = None,
        nodes: Callable[[], Mapping[str, Any]] = dict,
        limits: ConnectionLimits | None = None,
        opener: Opener | None = None,
    ) -> None:
        self.store = store
        self._limits = limits or ConnectionLimits()
        self._held = Held(self._limits.held)
        self._connections: Connections | None = None
        self.clock = clock or SystemClock()
        self._issuer = issuer
        self._kubelets = kubelets
        self._authorizer = Authorizer(store)
        self.gate = AdmissionGate(store, WebhookClient(store, opener))
        self._rest = Rest(store, self.clock, self._guard, self.gate)
        self._reviews = Reviews(issuer, self._authorizer)
        self._operations = operations or {}
        self._nodes = nodes
        self._troubles = Troubles()
        self._operating: set[asyncio.Future[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        self._audit = AuditLog(audit) if audit is not None else None
        self._document: tuple[tuple[int, str], bytes] = ((-1, ""), b"")  # OpenAPI version 2, when last asked for
        self._runner: web.ServerRunner | None = None

    async def serve(self, sockets: Sequence[socket], context: ssl.SSLContext) -> None:
        """Start serving on listening sockets; `stop` ends it."""
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,  # as Kubernetes: a body is what was sent
            keepalive_timeout=self._limits.idle,
            max_line_size=65536,
            max_field_size=65536,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await self._runner.setup()
        self._connections = Connections(server, context, self._limits)
        self._connections.start(list(sockets))

    async def stop(self) -> None:
        """Close all connections."""
        if self._connections is not None:
            await self._connections.stop()
            self._connections = None
        if self._runner is not None:
            server = self._runner.server
            transports = [one.transport for one in server.connections if one.transport is not None] if server else []
            with contextlib.suppress(TimeoutError):
                await self._runner.cleanup()
            for transport in transports:
                abort(transport)  # a TLS transport would wait half a minute for a good-bye from a client that has gone
            self._runner = None
        if self._audit is not None:
            self._audit.close()

    # ---- one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        begun = time.perf_counter()
        _noted.set("")
        _asked.set(Said())
        if self._connections is not None:
            self._connections.used(request)
        user, code, verb = User("?"), 500, request.method
        response: web.StreamResponse
        try:
            user = self._user(request)
            await self._troubles.meet(user, request)
            response, verb = await self._answer(request, user)
            code = response.status
        except StatusError as error:
            code = error.code
            response = written_response(error.status(), form_of_errors(request), error.code)
            warn(response, _asked.get().warnings)
            if error.retry_after is not None:
                response.headers["Retry-After"] = str(error.retry_after)
        except ConnectionError:
            response = NoAnswer()  # the client went away, or was cut off: there is nobody to answer
        except Exception as error:  # the one place where any fault of ours is an answer
            log.exception("%s %s", request.method, request.rel_url)
            response = json_response(
                StatusError(500, f"Internal error occurred: {type(error).__name__}: {error}").status(), 500
            )
        finally:
            if self._audit is not None:
                self._audit.write(
                    user.name,
                    verb,
                    str(request.rel_url),
                    code,
                    time.perf_counter() - begun,
                    _noted.get(),
                    _asked.get().annotations,
                )
        return response

    def _user(self, request: web.BaseRequest) -> User:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        user = authenticate(self._issuer, request.headers.get("Authorization", ""), certificate)
        return impersonated(user, list(request.headers.items()), self._authorize)

    def _authorize(self, user: User, asked: Attributes) -> None:
        decision = self._authorizer.decide(user, asked)
        if decision.allowed:
            return
        why = f": {decision.reason}" if decision.reason else ""
        if asked.path:
            told = f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"{why}'
            raise StatusError(403, told, details={})
        scope = f' in the namespace "{asked.namespace}"' if asked.namespace else " at the cluster scope"
        subject = f"{asked.resource}{'.' + asked.group if asked.group else ''}"
        details: dict[str, Any] = {"kind": asked.resource}
        if asked.name:
            subject, details = f'{subject} "{asked.name}"', details | {"name": asked.name}
        if asked.group:
            details["group"] = asked.group
        raise StatusError(
            403,
            f'{subject} is forbidden: User "{user.name}" cannot {asked.verb} resource "{asked.target}" in API group '
            f'"{asked.group}"{scope}{why}',
            details=details,
        )

    async def _answer(self, request: web.BaseRequest, user: User) -> tuple[web.StreamResponse, str]:
        path = urllib.parse.unquote(request.rel_url.raw_path, errors="replace")
        if request.method not in VERBS:
            raise method_not_allowed()
        target = parse_path(path)
        if not target.resource:
            verb = request.method.lower()  # of what is no resource, as RBAC names it
            self._authorize(user, Attributes(verb, path=path))
            if path.startswith("/embedded/"):
                return await self._embedded(request, path), verb
            return self._static(request, path), verb
        if target.resource == "watch":  # the deprecated way to ask for a watch
            target = parse_path(path.replace("/watch/", "/", 1))
            query = _first_values(request) | {"watch": "1"}
            if target.name:
                query["fieldSelector"] = f"metadata.name={target.name}"
                target = replace(target, name="")
        else:
            query = _first_values(request)
        verb = verb_of(request.method, target, query)
        port = ""
        if target.resource in ("pods", "services") and target.subresource == "proxy":
            name, port = split_port(target.name)
            target = replace(target, name=name)
        asked = Attributes(verb, target.group, target.resource, target.subresource, target.namespace, target.name)
        self._authorize(user, asked)
        if target.resource == "pods" and target.subresource in _ACTING and verb != "create":
            self._authorize(user, replace(asked, verb="create"))  # whoever may only look runs nothing
        call = self._call(user, verb, target, query, request)
        for warning in warnings.of_list(call.resource):  # which an error carries too
            call.said.warn(warning)
        media = negotiate.choose(
            request.headers.get("Accept", ""), text=target.subresource in _STREAMING, watching=verb == "watch"
        )
        call = replace(call, accept=media.clause)
        if target.subresource in _STREAMING:
            return await self._stream(request, call, target, port), verb
        if verb == "watch":
            return await self._watch(request, call), verb
        if request.body_exists:
            async with self._body(request) as body:
                reply = await self._reply(replace(call, body=body))
        else:
            reply = await self._reply(call)
        _noted.set(reply.audit)
        response = written_response(reply.body, as_read(request, media), reply.code)
        for warning in reply.warnings:
            _asked.get().warn(warning)
        warn(response, _asked.get().warnings)
        size = len(response.body) if isinstance(response.body, bytes) else 0
        if size > _LARGE:  # held until it is sent: whoever reads slowly is counted
            async with self._held.holding(size):
                await response.prepare(request)
                await response.write_eof()
        return response, verb

    @contextlib.asynccontextmanager
    async def _body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """Read a request's body, counted while held. Raises StatusError 413 and 429."""
        body = bytearray()
        try:
            async for chunk in request.content.iter_any():
                if len(body) + len(chunk) > decode.MAX_BODY:
                    raise StatusError(413, f"Request entity too large: limit is {decode.MAX_BODY}")
                self._held.take(len(chunk))
                body += chunk
            yield bytes(body)
        finally:
            self._held.give(len(body))

    def _call(
        self, user: User, verb: str, target: RequestPath, query: Mapping[str, str], request: web.BaseRequest
    ) -> Call:
        key = (target.group, target.version, target.resource)
        resource = discovery.find(self.store.kinds, *key)
        if resource is None:
            raise no_such_path()
        if target.subresource and target.subresource not in resource.subresources:
            raise no_such_path()
        if not resource.namespaced and target.namespace:
            raise no_such_path()
        if target.subresource and verb not in discovery.verbs_of(resource, target.subresource):
            raise method_not_allowed()
        if target.rest and target.subresource != "proxy":
            raise no_such_path()
        if resource.namespaced and not target.namespace and (target.name or verb not in ("list", "watch")):
            raise method_not_allowed() if not target.name else no_such_path()
        if (not target.subresource and verb not in resource.verbs) or (
            request.method == "HEAD" and target.subresource != "proxy"
        ):
            raise method_not_allowed()
        if target.name in ("", None) and verb in ("update", "patch"):
            raise method_not_allowed()
        if target.name and verb == "create" and not target.subresource:
            raise method_not_allowed()
        return Call(
            user,
            verb,
            resource,
            target.namespace,
            target.name,
            target.subresource,
            query,
            request.headers.get("Content-Type", "application/json"),
            said=_asked.get(),
            agent=request.headers.get("User-Agent", ""),
        )

    async def _reply(self, call: Call) -> Reply:
        group = call.resource.group
        if group in ("authentication.k8s.io", "authorization.k8s.io"):
            return self._reviews.answer(call)
        if group == "metrics.k8s.io":
            return metrics(self.store, self._kubelets, call)
        if (call.subresource or call.resource.plural == "bindings") and (
            reply := await subresources.dispatch(self._rest, self._issuer, call)
        ) is not None:
            return reply
        if call.subresource and call.verb not in ("get", "update", "patch"):
            raise method_not_allowed()
        if call.verb in ("get", "list"):
            return self._rest.get(call) if call.verb == "get" else self._rest.list(call)
        verbs = {
            "create": self._rest.create,
            "update": self._rest.update,
            "patch": self._rest.patch,
            "delete": self._rest.delete,
            "deletecollection": self._rest.delete_collection,
        }
        return await verbs[call.verb](call)

    def _guard(self, call: Call, old: Object | None, new: Object) -> None:
        """A guard for writes beyond the verb: an apply or update that creates needs the right to create, and roles must
        not escalate.
        """
        if old is None and call.verb in ("patch", "update"):
            asked = Attributes("create", call.resource.group, call.resource.plural, "", call.namespace, call.name)
            self._authorize(call.user, asked)
        refuse_escalation(self._authorizer, call, old, new)

    # ---- what is not a resource

    async def _embedded(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer paths beside Kubernetes': node faults and injected API failures."""
        if path.startswith("/embedded/trouble"):
            return json_response(await self._troubles.answer(request, path, self._server()))
        if request.method == "POST":
            return await self._operate(path)
        if path == "/embedded/nodes":
            return json_response(self._nodes())
        raise no_such_path()

    def _server(self) -> web.Server | None:
        return self._runner.server if self._runner is not None else None

    async def _operate(self, path: str) -> web.StreamResponse:
        """Apply a node fault: power, link, kubelet."""
        parts = path.strip("/").split("/")
        if len(parts) != 4 or parts[3] not in self._operations:
            raise bad_request(f"want /embedded/nodes/NODE/OPERATION with OPERATION one of {sorted(self._operations)}")
        # A client that goes away must not leave a node half switched: what was begun is finished, one after the other.
        operation = asyncio.ensure_future(self._exclusively(self._operations[parts[3]], parts[2]))
        self._operating.add(operation)
        operation.add_done_callback(self._operating.discard)
        try:
            await asyncio.shield(operation)
        except KeyError:
            raise StatusError(404, f'there is no node "{parts[2]}", or it is off') from None
        return json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    async def _exclusively(self, operation: Callable[[str], Awaitable[None]], node: str) -> None:
        async with self._one_at_a_time:
            await operation(node)

    def _static(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        parts, kinds = path.strip("/").split("/"), self.store.kinds
        if parts[0] in ("healthz", "livez", "readyz"):
            return _health(parts, request.query)
        if request.method not in ("GET", "HEAD") and parts != ["apis"]:
            raise method_not_allowed()
        whole = "as=APIGroupDiscoveryList" in request.headers.get("Accept", "") and "v=v2" in request.headers.get(
            "Accept", ""
        )
        if parts == ["version"]:
            return json_response(discovery.VERSION)
        if parts in (["api"], ["apis"]):
            if whole:
                kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                return json_response(discovery.aggregated(kinds, core=parts == ["api"]), content_type=kind)
            return json_response(discovery.api_versions() if parts == ["api"] else discovery.api_groups(kinds))
        if parts[0] == "api" and len(parts) == 2:
            return found_response(discovery.resource_list(kinds, "", parts[1]))
        if parts[0] == "apis" and len(parts) == 2:
            known = discovery.api_group(kinds, parts[1])
            return json_response(known) if known is not None else text_response("404 page not found\n", 404)
        if parts[0] == "apis" and len(parts) == 3 and discovery.api_group(kinds, parts[1]) is not None:
            return found_response(discovery.resource_list(kinds, parts[1], parts[2]))
        if parts == ["openapi", "v2"]:
            return self._openapi2(request.headers.get("Accept", ""))
        if parts == ["openapi", "v3"]:
            return json_response(discovery.openapi_index(kinds), content_type="text/plain; charset=utf-8")
        if parts[:2] == ["openapi", "v3"] and len(parts) in (4, 5):
            group, version = (parts[3], parts[4]) if len(parts) == 5 else ("", parts[3])
            document = discovery.openapi(kinds, group, version)
            if document is not None:
                return web.Response(body=document, content_type="application/json")
            return web.Response(status=404, headers={"Content-Type": ""})
        if parts == [".well-known", "openid-configuration"]:
            address = f"{FABRIC_ADDRESS}:{API_PORT}"  # where pods reach it
            return public_response(discovery_document(address), "application/json")
        if parts == ["openid", "v1", "jwks"]:
            return public_response(self._issuer.keys(), "application/jwk-set+json")
        if parts == [""]:
            return json_response(
                {
                    "paths": [
                        "/.well-known/openid-configuration",
                        "/api",
                        "/apis",
                        "/healthz",
                        "/livez",
                        "/metrics",
                        "/openapi/v3",
                        "/openid/v1/jwks",
                        "/readyz",
                        "/version",
                    ]
                }
            )
        return text_response("404 page not found\n", 404)

    def _openapi2(self, accept: str) -> web.StreamResponse:
        """The OpenAPI version 2 document, cached in the last requested form until the kinds change."""
        wire = any(one in accept for one in openapi2.ASKED)
        kind = openapi2.MEDIA_TYPE if wire else "application/json"
        key = (self.store.kinds.changes, kind)
        if self._document[0] != key:
            whole = discovery.openapi2(self.store.kinds)
            self._document = key, openapi2.encoded(whole) if wire else orjson.dumps(whole)
        return web.Response(body=self._document[1], headers={"Content-Type": kind})

    # ---- streams

    async def _watch(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        lines = watch_lines(self._rest, call)
        await anext(lines)  # raises for a bad request, before the answer begins
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        warn(response, _asked.get().warnings)
        response.enable_chunked_encoding()
        await response.prepare(request)
        async with contextlib.aclosing(lines):
            async for line in lines:
                if line:
                    await response.write(line)
        await response.write_eof()
        return response

    async def _stream(self, request: web.BaseRequest, call: Call, target: RequestPath, port: str) -> web.StreamResponse:
        if request.method in ("GET", "HEAD") and request.path.endswith("/proxy") and not target.rest:
            # so that what the answer links to is found beside it
            way = urllib.parse.quote(f"/{request.path.strip('/')}/", safe="/:@!$&'()*+,;=~")
            query = request.rel_url.raw_query_string
            location = f"{way}?{query}" if query else way
            return web.Response(status=301, headers={"Location": location, "Content-Type": ""})
        if call.subresource != "log":
            await self.gate.validate(connecting(call, request.query.getall, target.rest))
        if call.resource.kind == "Service":
            pod, number = self._behind(call, port)
            return await self._proxy(request, pod, number, target.rest)
        pod = self._rest.find(call)
        if call.subresource == "proxy":
            return await self._proxy(request, pod, streams.proxied_port(pod, port), target.rest)
        if call.subresource == "log":
            return await self._log(request, pod, call)
        if call.subresource == "exec":
            return await streams.exec_in(request, self._kubelets, pod, call, streams.exec_command(request.query))
        if call.subresource == "attach":
            return await streams.attach(request, self._kubelets, pod, call)
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {call.name} does not have a host assigned")
        protocols = request.headers.get("Sec-WebSocket-Protocol", "")
        if "SPDY/3.1+portforward.k8s.io" in protocols:
            return await tunnel(request, streams.kubelet_of(self._kubelets, pod), pod)
        if "Upgrade" not in request.headers:
            raise bad_request("Upgrade request required")
        return await streams.portforward(
            request, self._kubelets, pod, call, streams.parse_ports(request.query.getall("ports", []))
        )

    async def _proxy(self, request: web.BaseRequest, pod: Object, port: int, rest: str) -> web.StreamResponse:
        path = "/" + urllib.parse.quote(rest, safe="/:@!$&'()*+,;=~")
        kubelet = streams.kubelet_of(self._kubelets, pod)
        async with self._body(request) as body:
            return await streams.proxy(request, kubelet, pod, port, path, body)

    def _behind(self, call: Call, port: str) -> tuple[Object, int]:
        """(a ready pod behind a Service, its port for the Service's port)."""
        service = self._rest.find(call)
        ports = service["spec"].get("ports") or []
        asked = call.name + (f":{port}" if port else "")
        chosen = next((p for p in ports if port in (p.get("name", ""), str(p["port"]))), None)
        if chosen is None and port.isascii() and port.isdigit():
            raise StatusError(
                503, f'no service port {port} found for service "{call.name}"', reason="ServiceUnavailable"
            )
        pieces = [
            piece
            for piece in self.store.list(ENDPOINT_SLICE, call.namespace)
            if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == call.name
        ]
        if not any(piece.get("endpoints") for piece in pieces):
            asked = call.name
        for piece in pieces if chosen is not None else ():
            name = (chosen or {}).get("name", "")
            number = next((p["port"] for p in piece.get("ports") or [] if p.get("name", "") == name), None)
            for endpoint in piece.get("endpoints") or []:
                reference = endpoint.get("targetRef") or {}
                if number and endpoint.get("conditions", {}).get("ready") and reference.get("kind") == "Pod":
                    pod = self.store.find(POD, call.namespace, reference["name"])
                    if pod is not None:
                        return pod, int(number)
        raise StatusError(503, f'no endpoints available for service "{asked}"', reason="ServiceUnavailable")

    async def _log(self, request: web.BaseRequest, pod: Object, call: Call) -> web.StreamResponse:
        chunks = streams.log_chunks(self._kubelets, pod, call, self.clock.now())
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        async for chunk in chunks:
            if not response.prepared:
                await response.prepare(request)
            await response.write(chunk)
        if not response.prepared and not pod["spec"].get("nodeName"):
            return web.Response(status=204, headers={"Content-Type": ""})
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response


def _first_values(request: web.BaseRequest) -> dict[str, str]:
    """The query; of a name that is given twice the first value."""
    return {name: request.query[name] for name in request.query}


_CHECKS: Final = ("ping", "log", "etcd", "informer-sync")  # by name, of /healthz, /livez and /readyz


def _health(parts: Sequence[str], query: Mapping[str, str]) -> web.Response:
    if len(parts) > 2 or (len(parts) == 2 and parts[1] not in _CHECKS):
        return text_response("404 page not found\n", 404)
    if "verbose" in query and len(parts) == 1:
        lines = [f"[+]{check} {'excluded: ' if check == query.get('exclude') else ''}ok\n" for check in _CHECKS]
        return text_response("".join(lines) + f"{parts[0]} check passed\n")
    return text_response("ok")
