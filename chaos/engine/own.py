"""Applications of the user's own in a mode of the reference mesh, under load: what the trials of their own tests share.

The mesh is deployed and nothing else. Applications come through `mesh.deploy`; each call that is added is what a
reference tenant is elsewhere, a flow that is loaded and judged, from a loader that stands beside its client.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from chaos.clock import Clock
from chaos.cluster.nodes import read_nodes
from chaos.engine.deployment import Deployment
from chaos.engine.external import LoadedCall, breakable
from chaos.engine.progress import Progress
from chaos.engine.settings import Settings
from chaos.errors import ExperimentFailure, Misuse
from chaos.external.description import LoaderRule
from chaos.external.file import Call, parse_call
from chaos.external.loaders import loader_name, plan_loader
from chaos.kube.client import Cluster
from chaos.kube.objects import is_live, workload_name
from chaos.mesh.budget import Budget
from chaos.mesh.controlplane.reading import protocol as protocol_of
from chaos.mesh.install import Mesh
from chaos.mesh.snapshot import AppProtocol
from chaos.model.fate import flow_shares
from chaos.model.flow import Flow
from chaos.model.modes import Balancing, Layer, ProxyMode
from chaos.model.placement import Proxy
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
    ) -> Flow:
        """Load a call between running applications: every trial that begins from now on judges it.

        Args:
            client, server: workloads, `namespace/name`. The loader stands beside a pod of the client's: on its node,
                under its account, with its labels, carried by the mesh as it is.
            reach: HOST:PORT by which the client's namespace reaches the server.
            rate: requests a second.
            protocol: `http`, `http2` or `grpc`. Of `tcp`, and of `tls` that is the application's, a loader cannot tell
                one answer from the next.
            path, method, headers, body_bytes: of the requests.
            status: the expected one (default: 200; of gRPC 0).

        Returns the flow as the report names it. Raises Misuse for a wrong word, for a Service's port whose requests the
        mesh does not see, or while a trial is under way, and ExperimentFailure when the client has no pod that runs.
        """
        optional = {
            "path": None if path == "/" else path,
            "method": method or None,
            "headers": dict(headers) if headers else None,
            "body-bytes": body_bytes or None,
            "status": status,
        }
        stated = {"client": client, "server": server, "reach": reach, "rate": rate, "protocol": protocol}
        stated |= {name: value for name, value in optional.items() if value is not None}
        call = parse_call(stated, source=f"load.add({client!r}, {server!r})")
        if not call.loaded:
            raise Misuse(f"{client} -> {server}: {protocol} is not loaded: want http, http2 or grpc")
        if self.trying:
            raise Misuse(f"{client} -> {server}: a trial has begun without it: add it before the trial is asked for")
        if any((one.client, one.server) == (_loaded_from(client), server) for one in self.tenants):
            raise Misuse(f"{client} -> {server} is loaded already: one flow is judged of each")
        beside = self._beside(client)
        namespace = client.partition("/")[0]
        tenant = str((beside["metadata"].get("labels") or {}).get(LABEL_TENANT, namespace))
        reached = self.cluster.list("Service", namespace_reached(call))
        if self.mesh.mode.balancing is Balancing.REQUEST and (unseen := detect_unseen(call, reached)):
            raise Misuse(f"{client} -> {server}: {unseen}")
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


def detect_unseen(call: Call, services: Iterable[Mapping[str, Any]]) -> str:
    """Return why the mesh treats a loaded call's requests as plain bytes, and so does not spread them over servers one
    by one; "" where it reads them. Pure.

    Args:
        services: of the namespace in which the call reaches its server.
    """
    host, _, port = call.reach.rpartition(":")
    for service in services:
        for one in service["spec"].get("ports") or ():
            named = service["metadata"]["name"] == host.partition(".")[0] and str(one["port"]) == port
            if named and protocol_of(one) is not AppProtocol.HTTP:
                return (
                    f"port {port} of Service {host} is not said to speak HTTP: the mesh carries connections there and "
                    "balances no requests: name the port `http` or `grpc`, or give it an appProtocol"
                )
    return ""


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
