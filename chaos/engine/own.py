"""Applications of the user's own in a mode of the reference mesh, under load: what the trials of their own tests share.

The mesh is deployed and nothing else. Applications come through `mesh.deploy`; each call that is added is what a
reference tenant is elsewhere, a flow that is loaded and judged, from a loader that stands beside its client.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from chaos.clock import Clock
from chaos.engine.deployment import Deployment
from chaos.engine.external import LoadedCall, breakable
from chaos.engine.progress import Progress
from chaos.engine.settings import Settings
from chaos.errors import ExperimentFailure, Misuse
from chaos.external.description import LoaderRule
from chaos.external.file import Call, parse_call
from chaos.external.loaders import loader_name, plan_loader
from chaos.kube.client import Cluster
from chaos.kube.nodes import read_nodes
from chaos.kube.objects import is_live, workload_name
from chaos.mesh.budget import Budget
from chaos.mesh.controlplane.reading import protocol as protocol_of
from chaos.mesh.install import Mesh
from chaos.mesh.snapshot import AppProtocol
from chaos.model.fate import flow_shares
from chaos.model.flow import Flow
from chaos.model.modes import Balancing, Layer, ProxyMode, Route
from chaos.model.placement import Placement, Proxy
from chaos.names import LABEL_TENANT


class OwnDeployment(Deployment):
    """A mode without the reference tenants: applications are deployed, and calls added, while it runs."""

    def __init__(self, mesh: Mesh, *, settings: Settings, progress: Progress, clock: Clock | None = None) -> None:
        super().__init__(
            mesh,
            (),
            (),
            breaks=breakable,
            settings=settings,
            progress=progress,
            clock=clock,
            title="deploying the mesh, for applications of your own",
        )
        self.trying = False  # a trial has begun: it would not see a call that is added now

    def add(
        self,
        client: str,
        server: str,
        *,
        reach: str,
        rate: float = 200.0,
        protocol: str = "http",
        path: str = "/",
        method: str = "",
        headers: Mapping[str, str] | None = None,
        body_bytes: int = 0,
        status: int | None = None,
        send: str | bytes = b"",
        answer: str | int | None = None,
        keep: bool = False,
        ca: str | Path = "",
        sni: str = "",
        insecure: bool = False,
    ) -> Flow:
        """Load a call between running applications: every trial that begins from now on judges it.

        Args:
            client, server: workloads, `namespace/name`. The loader stands beside a pod of the client's: on its node,
                under its account, with its labels, carried by the mesh as it is.
            reach: HOST:PORT by which the client's namespace reaches the server.
            rate: requests a second.
            protocol: `http`, `http2`, `grpc`; `tcp`, and `tls` that is the application's own: bytes, not
                looked into, so that who answered is not known.
            path, method, headers, body_bytes: of the requests.
            status: the expected one (default: 200; of gRPC 0).
            send: over TCP and TLS, at the beginning of each request; by default nothing.
            answer: what ends one: `any` (the first bytes), a number of bytes, or `connected` (the connection, over TLS
                the handshake). By default `any` where something is sent, else `connected`.
            keep: keep connections, instead of a new one for each request; wants a number of bytes.
            ca: trust anchors of `tls`, a PEM file or its text; by default those of the loader's image. sni: the
                server's name in the handshake; by default the host of `reach`. insecure: believe any certificate.

        Returns the flow as the report names it. Raises Misuse for a wrong word, for a Service's port that the mesh
        takes for another protocol, or while a trial is under way, and ExperimentFailure when the client has no pod that
        runs.
        """
        optional = {
            "path": None if path == "/" else path,
            "method": method or None,
            "headers": dict(headers) if headers else None,
            "body-bytes": body_bytes or None,
            "status": status,
            "send": send or None,
            "answer": answer,
            "keep": keep or None,
            "ca": str(ca) or None,
            "sni": sni or None,
            "insecure": insecure or None,
        }
        stated = {"client": client, "server": server, "reach": reach, "rate": rate, "protocol": protocol}
        stated |= {name: value for name, value in optional.items() if value is not None}
        call = parse_call(stated, source=f"load.add({client!r}, {server!r})")
        if self.trying:
            raise Misuse(f"{client} -> {server}: a trial has begun without it: add it before the trial is asked for")
        if any((one.client, one.server) == (_loaded_from(client), server) for one in self.tenants):
            raise Misuse(f"{client} -> {server} is loaded already: one flow is judged of each")
        beside = self._beside(client)
        namespace = client.partition("/")[0]
        tenant = str((beside["metadata"].get("labels") or {}).get(LABEL_TENANT, namespace))
        reached = self.cluster.list("Service", namespace_reached(call))
        if wrong := detect_unseen(call, reached, self.mesh.mode):
            raise Misuse(f"{client} -> {server}: {wrong}")
        services = self.cluster.list("Service", namespace)
        loader = plan_loader(client, tenant, beside, LoaderRule(), run=self.run, services=services)
        added = LoadedCall(tenant, replace(call, client=_loaded_from(client)))
        self.progress.step(f"{self.mesh.mode.name}: loading {client} -> {server} at {rate:g}/s")
        self.mesh.deploy([loader])
        self.tenants = (*self.tenants, added)
        self._elsewhere = list(dict.fromkeys([*self._elsewhere, *call.namespaces]))
        if self.recorder is not None:
            self.recorder.stop()
        self._begin_load()
        return Flow(added.client, added.server)

    def placement(self) -> Placement:
        """Read the current placement, each pair with how its call finds servers."""
        return route_bytes(super().placement(), [one.call for one in self.tenants if isinstance(one, LoadedCall)])

    def proxy_serving(self, workload: str, layer: Layer | None = None) -> Proxy:
        """Return the proxy that carries a workload's traffic (`namespace/name`), of that layer if one is given; of
        several, the one with most of the load.

        Raises ExperimentFailure that names the workloads there are, or says that nothing carries it.
        """
        placement = self.placement()
        pods = [pod for pod in placement.pods if pod.workload_key == workload]
        if not pods:
            there = ", ".join(sorted({pod.workload_key for pod in placement.pods})) or "none"
            raise ExperimentFailure(f"no pod of {workload} runs in the mesh: those that do are of {there}")
        carry = [proxy for proxy in placement.proxies if any(proxy.serves(pod) for pod in pods)]
        found = [proxy for proxy in carry if layer is None or layer in proxy.layers]
        if not found:
            raise ExperimentFailure(f"no proxy{f' of layer {layer}' if layer else ''} serves {workload}")
        calls = [(one.client, one.server) for one in self.tenants]
        return max(
            found, key=lambda proxy: (sum(flow_shares(placement, [proxy]).get(call, 0.0) for call in calls), proxy.pod)
        )

    def _beside(self, client: str) -> dict[str, Any]:
        namespace, _, name = client.partition("/")
        live = [pod for pod in self.cluster.list("Pod", namespace) if is_live(pod)]
        mine = sorted((pod for pod in live if workload_name(pod) == name), key=lambda pod: str(pod["metadata"]["name"]))
        if not mine:
            there = ", ".join(sorted({f"{namespace}/{workload_name(pod)}" for pod in live})) or "none"
            raise ExperimentFailure(
                f"no pod of {client} runs, so its loader cannot be placed: in namespace {namespace} run {there}"
            )
        return mine[0]


def detect_unseen(call: Call, services: Iterable[Mapping[str, Any]], mode: ProxyMode) -> str:
    """Return why the mesh takes a loaded call for another than it is: its requests for plain bytes, which it does not
    spread over servers one by one, or its bytes for requests, which it answers itself; "" where it does neither. Pure.

    Args:
        services: of the namespace in which the call reaches its server.
    """
    host, _, port = call.reach.rpartition(":")
    for service in services:
        for one in service["spec"].get("ports") or ():
            if service["metadata"]["name"] != host.partition(".")[0] or str(one["port"]) != port:
                continue
            read = protocol_of(one) is AppProtocol.HTTP
            if call.by_request and not read and mode.balancing is Balancing.REQUEST:
                return (
                    f"port {port} of Service {host} is not said to speak HTTP: the mesh carries connections there and "
                    "balances no requests: name the port `http` or `grpc`, or give it an appProtocol"
                )
            if not call.by_request and read and mode.hops:
                return (
                    f"port {port} of Service {host} is said to speak HTTP: the mesh would read the bytes as requests, "
                    "and answer itself what is none: name it `tcp`, give it another appProtocol, or load it as http"
                )
    return ""


def route_bytes(placement: Placement, calls: Iterable[Call]) -> Placement:
    """Return the placement of a mode of ours with the routes of calls of bytes: whoever balances requests has only
    their connections to balance, and a connection for each request is spread like requests. Pure.
    """
    kinds = {pod.uid: pod.workload_key for pod in placement.pods} | dict(placement.kinds)
    by_workload: dict[str, set[str]] = {}
    for pod in placement.pods:
        by_workload.setdefault(pod.workload_key, set()).add(kinds[pod.uid])
    routes = dict(placement.routes)
    for call in (one for one in calls if not one.by_request):
        balancing = Balancing.REQUEST if call.spread else Balancing.CONNECTION
        for ends in product(by_workload.get(call.client, ()), by_workload.get(call.server, ())):
            hops = placement.routes[ends].hops if ends in placement.routes else placement.mode.hops
            routes[ends] = Route(hops, balancing)
    return replace(placement, routes=routes, kinds=kinds) if routes else placement


def namespace_reached(call: Call) -> str:
    """Return the namespace of the Service that a call names: NAME.NAMESPACE..., or NAME in the client's own."""
    return call.reach.rpartition(":")[0].partition(".")[2].partition(".")[0] or call.namespaces[0]


def _loaded_from(client: str) -> str:
    return f"{client.partition('/')[0]}/{loader_name(client)}"


def own_deployment(
    cluster: Cluster,
    mode: ProxyMode | str,
    *,
    run: str,
    settings: Settings,
    progress: Progress,
    mesh: type[Mesh] = Mesh,
    opens: bool = False,
) -> OwnDeployment:
    """Plan the mode's mesh alone. Reads the nodes, changes nothing."""
    made = mesh(cluster, mode, run=run, budget=Budget(settings.budget))
    made.opens = opens
    made.nodes = read_nodes(cluster)
    return OwnDeployment(made, settings=settings, progress=progress)
