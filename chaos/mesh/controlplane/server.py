"""The control plane's core: one `MeshSnapshot`, one stream per proxy, each brought up to date on its own.

A change of the cluster waits for its company (20 ms), then becomes a new snapshot; every stream whose resources differ
gets the difference. A stream never waits for another one, nor for an answer of its own proxy.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.secret.v3 import sds_pb2_grpc

from chaos.errors import Misuse
from chaos.kube.client import Cluster, Object
from chaos.mesh.ca import Authority
from chaos.mesh.controlplane.auth import Refused, detect_proxy, detect_reviewed
from chaos.mesh.controlplane.cache import KINDS, ObjectCache
from chaos.mesh.controlplane.injected_failures import InjectedFailures
from chaos.mesh.controlplane.secrets import HandedLog, ProxySecrets
from chaos.mesh.controlplane.xds import SECRET, Offered, XdsSession
from chaos.mesh.snapshot import MeshSnapshot, ProxyRole
from chaos.model.placement import Proxy
from chaos.names import CONTROL_PLANE, SYSTEM_NAMESPACE, TOKEN_AUDIENCE

log = logging.getLogger(__name__)
DEBOUNCE: Final = 0.02
SERVER_CERTIFICATE_SECONDS: Final = 86_400.0
_NAME: Final = f"{CONTROL_PLANE}.{SYSTEM_NAMESPACE}"
SERVER_NAMES: Final = (f"{_NAME}.svc", f"{_NAME}.svc.cluster.local", _NAME)


class Built(Protocol):
    """One proxy's configuration; chaos.mesh.envoy.Resources is one."""

    @property
    def by_type(self) -> Mapping[str, Mapping[str, Offered]]: ...


Build = Callable[[Proxy, MeshSnapshot], Built]


@dataclass(eq=False, slots=True)
class ConnectedProxy:
    """A connected proxy."""

    proxy: Proxy
    secrets: ProxySecrets
    since: float
    session: XdsSession = field(default_factory=XdsSession)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    snapshot: MeshSnapshot | None = None  # what `built` was built from
    built: Mapping[str, Mapping[str, Offered]] = field(default_factory=dict)
    pushed_at: float = 0.0
    ended: bool = False


class Plane:
    """Keeps the snapshot, and serves it. All methods on one event loop.

    Args:
        authority: of the proxies' certificates.
        own: of the control plane's own certificate; None: the same.
    """

    def __init__(
        self,
        cluster: Cluster,
        authority: Authority,
        *,
        own: Authority | None = None,
        build: Build,
        on_snapshot: Callable[[ObjectCache], None] = lambda cache: None,
        mutable: bool = False,
    ) -> None:
        self.cluster = cluster
        self.authority = authority
        self.own = own or authority
        self.cache = ObjectCache(mutable=mutable)
        self.snapshot: MeshSnapshot | None = None
        self.snapshot_at = 0.0
        self.injected_failures = InjectedFailures()
        self.settings: dict[str, str] = {}  # versions of the settings that the snapshot was made of
        self.streams: set[ConnectedProxy] = set()
        self.handed = HandedLog()
        self.refusals: list[dict[str, Any]] = []
        self.synced = asyncio.Event()
        self._build = build
        self._on_world = on_snapshot
        self._missing = set(KINDS)
        self._timer: asyncio.TimerHandle | None = None

    # ---- the snapshot

    def fold(self, kind: str, change: str, obj: Object) -> None:
        """Take one watch event (see Watches)."""
        self.cache.fold(kind, change, obj)
        self._later()

    def whole(self, kind: str) -> None:
        """Record that every object of this kind is known."""
        self._missing.discard(kind)
        self._later()

    def _later(self) -> None:
        if self._timer is None and not self._missing:
            self._timer = asyncio.get_running_loop().call_later(DEBOUNCE, self.refresh)

    def refresh(self) -> None:
        """Make the snapshot again from the cache, and wake the streams when it differs."""
        self._timer = None
        try:
            self.injected_failures = self.cache.injected_failures()
            snapshot = self.cache.snapshot()
        except (Misuse, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("the mesh's settings cannot be used, the last snapshot stays: %s", error)
            return
        if snapshot is None:
            return
        if snapshot != self.snapshot:
            self.snapshot, self.snapshot_at = snapshot, time.time()
        self.settings = self.cache.settings_versions()
        for stream in self.streams:
            stream.wake.set()
        self.synced.set()
        self._on_world(self.cache)

    # ---- streams

    async def recognise(self, token: str) -> Proxy:
        """Return the proxy that this token belongs to; raises Refused."""
        review = await asyncio.to_thread(
            self.cluster.create,
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "metadata": {},
                "spec": {"token": token, "audiences": [TOKEN_AUDIENCE]},
            },
        )
        reviewed = detect_reviewed(review, TOKEN_AUDIENCE)
        pod = self.cache.pod(reviewed.pod_uid)
        if pod is None or not (pod.get("spec") or {}).get("nodeName"):  # newer than our watch
            pod = await asyncio.to_thread(self.cluster.find, "Pod", reviewed.pod, reviewed.namespace)
        assert self.snapshot is not None, "streams wait for the first snapshot"
        return detect_proxy(reviewed, pod, self.snapshot.mode, self.cache.homes())

    async def serve(self, context: Any) -> None:
        """Serve one delta stream, from its token to its end."""
        metadata = dict(context.invocation_metadata() or ())
        token = str(metadata.get("authorization", "")).removeprefix("Bearer ").strip()
        await self.synced.wait()
        if self.injected_failures.refuse:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "out of order, on request")
        try:
            proxy = await self.recognise(token)
        except Refused as error:
            self.refusals.append({"at": time.time(), "peer": context.peer(), "reason": str(error)})
            del self.refusals[:-500]
            log.warning("refused a stream from %s: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        secrets = ProxySecrets(proxy, self.authority, self.handed, seconds=self._certificate_seconds(), clock=time.time)
        stream = ConnectedProxy(proxy, secrets, time.time())
        self.streams.add(stream)
        reader = asyncio.create_task(self._read(context, stream))
        try:
            await self._write(context, stream)
        finally:
            self.streams.discard(stream)
            reader.cancel()

    async def _read(self, context: Any, stream: ConnectedProxy) -> None:
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                answer = stream.session.request(request, time.monotonic())
                if answer.refused:
                    log.warning(
                        "%s/%s refused %s: %s",
                        stream.proxy.namespace,
                        stream.proxy.pod,
                        ", ".join(answer.refused),
                        answer.message,
                    )
                stream.wake.set()
        except (grpc.aio.AioRpcError, grpc.aio.UsageError):
            log.info("%s/%s: the stream broke", stream.proxy.namespace, stream.proxy.pod)
        finally:
            stream.ended = True
            stream.wake.set()

    async def _write(self, context: Any, stream: ConnectedProxy) -> None:
        seen = False
        while not stream.ended:
            stream.wake.clear()
            there = self.cache.pod(stream.proxy.uid) is not None
            if seen and not there:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the pod of this proxy is gone")
            seen = seen or there
            if self.injected_failures.refuse:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "out of order, on request")
            if self.injected_failures.delay:
                await asyncio.sleep(self.injected_failures.delay)
            for response in self.responses(stream):
                await context.write(response)
                stream.pushed_at = time.time()
            try:
                async with asyncio.timeout(self._patience(stream)):
                    await stream.wake.wait()
            except TimeoutError:
                continue

    def responses(self, stream: ConnectedProxy) -> list[Any]:
        """Return the responses that bring the stream up to date."""
        snapshot = self.snapshot
        assert snapshot is not None
        if stream.snapshot is not snapshot:
            stream.built, stream.snapshot = self._build(stream.proxy, snapshot).by_type, snapshot
        asked = stream.session.subscribed(SECRET)
        life = self.injected_failures.certificate_seconds
        stream.secrets.seconds = self._certificate_seconds()
        secrets = stream.secrets.wanted(asked, snapshot.identities(stream.proxy), life=life) if asked else {}
        return stream.session.plan({**stream.built, SECRET: secrets}, time.monotonic())

    def _certificate_seconds(self) -> float:
        """The usual life of a proxy's certificate, by the mesh's settings."""
        return float((self.cache.config() or {}).get("certificate_seconds", 3600))

    @staticmethod
    def _patience(stream: ConnectedProxy) -> float | None:
        waits = []
        if (renewal := stream.secrets.next_renewal()) is not None:
            waits.append(renewal - time.time())
        if (retry := stream.session.next_retry()) is not None:
            waits.append(retry - time.monotonic())
        return max(0.01, min(waits)) if waits else None

    def status(self) -> dict[str, Any]:
        """For /debug: who is connected with what, and which identities were handed to whom."""
        return {
            "snapshot_at": self.snapshot_at,
            "mode": self.snapshot.mode.name if self.snapshot else None,
            "injected_failures": self.injected_failures.as_json(),
            "settings": self.settings,
            "proxies": [
                {
                    "namespace": s.proxy.namespace,
                    "pod": s.proxy.pod,
                    "uid": s.proxy.uid,
                    "node": s.proxy.node,
                    "role": ProxyRole.of(s.proxy),
                    "scope": s.proxy.scope,
                    "key": s.proxy.key,
                    "since": s.since,
                    "pushed_at": s.pushed_at,
                    "current": s.snapshot is self.snapshot,
                    "resources": s.session.status(),
                }
                for s in sorted(self.streams, key=lambda s: (s.proxy.namespace, s.proxy.pod))
            ],
            "identities": self.handed.as_json(),
            "refused_streams": self.refusals,
            "unreadable": self.cache.unreadable,
            "impostors": self.cache.impostors,
            "nameless": self.cache.nameless,
        }


class _Discovery(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def DeltaAggregatedResources(self, _: Any, context: Any) -> None:  # noqa: N802 (gRPC's name)
        await self._plane.serve(context)


class _Secrets(sds_pb2_grpc.SecretDiscoveryServiceServicer):  # type: ignore[misc]
    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def DeltaSecrets(self, _: Any, context: Any) -> None:  # noqa: N802 (gRPC's name)
        await self._plane.serve(context)


async def start_server(plane: Plane, address: str) -> tuple[grpc.aio.Server, int]:
    """Serve delta ADS and delta SDS over TLS, the server's certificate from the mesh's own authority."""
    server = grpc.aio.server(
        options=[
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.so_reuseport", 0),
        ]
    )
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(_Discovery(plane), server)
    sds_pb2_grpc.add_SecretDiscoveryServiceServicer_to_server(_Secrets(plane), server)
    made_at = time.time()

    def configuration() -> Any:
        issued = plane.own.issue_server(*SERVER_NAMES, seconds=SERVER_CERTIFICATE_SECONDS)
        return grpc.ssl_server_certificate_configuration([(issued.key, issued.certificate)])

    def fresh() -> Any:  # called for each handshake, on gRPC's own thread; None keeps the one in use
        nonlocal made_at
        if time.time() - made_at < SERVER_CERTIFICATE_SECONDS / 2:
            return None
        made_at = time.time()
        return configuration()

    port = server.add_secure_port(address, grpc.dynamic_ssl_server_credentials(configuration(), fresh))
    await server.start()
    return server, port
