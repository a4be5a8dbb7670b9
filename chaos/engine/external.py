"""A mesh that is not ours under our own load: the `Deployment` that the trials of a target share.

Nothing of a mesh or of an application is deployed, and none is taken away. Loaders stand beside the clients; each call
of the file that says how its server is reached is what a reference tenant is elsewhere: a flow that is loaded, and
judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.clock import Clock
from chaos.cluster.consent import NAMESPACES_OPTION, Consent
from chaos.engine.deployment import Deployment
from chaos.engine.progress import Progress
from chaos.engine.settings import Settings
from chaos.engine.targets import proxy_on_path
from chaos.engine.topology import FLOW, REQUEST_TIMEOUT, plan_sentinel
from chaos.errors import EnvironmentUnfit, Forbidden, Misuse
from chaos.external.description import MeshDescription
from chaos.external.file import Call, CallProtocol, TargetSystem
from chaos.external.mesh import ExternalMesh
from chaos.external.placement import read_target_placement
from chaos.external.policies import NetworkObjects, detect_cuts, plan_allowances
from chaos.kube.client import Cluster
from chaos.kube.objects import is_live, workload_name
from chaos.model.modes import Layer
from chaos.model.placement import Placement, Proxy
from chaos.names import PORT_CONTROL

# How a loader speaks each of the protocols of requests to an application that is not ours.
_SPOKEN: Final = {CallProtocol.HTTP: "http1", CallProtocol.HTTP2: "http2", CallProtocol.GRPC: "grpc"}


@dataclass(frozen=True, slots=True)
class LoadedCall:
    """A loaded call of a target, treated as a tenant: its client is the loader beside the file's client."""

    name: str
    call: Call

    @property
    def namespace(self) -> str:
        return self.call.namespaces[0]

    @property
    def client(self) -> str:
        return self.call.client

    @property
    def server(self) -> str:
        return self.call.server

    @property
    def flow_name(self) -> str:
        return f"{FLOW}-{self.call.server.replace('/', '-')}"

    @property
    def reference_apps(self) -> bool:
        return False

    @property
    def accepted_only(self) -> bool:
        return self.call.accepted_only

    def rate(self, default: float) -> float:
        del default  # the file says how much of each call
        return self.call.rate

    def call_options(self) -> dict[str, Any]:
        call = self.call
        if not call.by_request:
            raise Misuse(
                f"{call.client} -> {call.server} speaks {call.protocol}, and overloads are of requests (http, http2, "
                "grpc): put a call that has them first, or leave overloads out"
            )
        return {
            "server": call.server,
            "address": call.reach,
            "path": call.path,
            "status": call.status,
            "echoes": False,
            "protocol": _SPOKEN[call.protocol],
            "method": call.method or ("POST" if call.body_bytes else "GET"),
            "headers": dict(call.headers),
        }

    def loader(self, cluster: Cluster) -> dict[str, Any]:
        namespace, _, name = self.client.partition("/")
        return cluster.get("Pod", name, namespace)

    def flows(self, cluster: Cluster, rate: float) -> list[dict[str, Any]]:
        del cluster
        call = self.call
        flow = {
            "name": self.flow_name,
            "server": call.server,
            "target": call.reach,
            "rate": rate,
            "echoes": False,
            "timeout": REQUEST_TIMEOUT,
            **(_of_requests(call) if call.by_request else call.exchange.order(tls=call.protocol is CallProtocol.TLS)),
        }
        sentinel = plan_sentinel(self.client, f"127.0.0.1:{PORT_CONTROL}", "/healthz")
        return [flow, {**sentinel, "echoes": False}]


def _of_requests(call: Call) -> dict[str, Any]:
    return {
        "path": call.path,
        "expect_status": call.status,
        "protocol": _SPOKEN[call.protocol],
        "method": call.method or ("POST" if call.body_bytes else "GET"),
        "headers": dict(call.headers),
        "body_bytes": call.body_bytes,
    }


def loaded_calls(target: TargetSystem) -> tuple[LoadedCall, ...]:
    """Return the calls of a target with loaders in it, in the file's order: the first is the noisy one, and its path is
    broken.
    """
    return tuple(LoadedCall(target.tenant_of(call.namespaces[0]), call) for call in target.calls)


def require_consent(cluster: Cluster, target: TargetSystem, consent: Consent) -> MeshDescription:
    """Read the target, and return its mesh; raise Misuse unless every namespace that its trials would harm was listed.
    Changes nothing.
    """
    mesh, placement = read_target_placement(cluster, target)
    refuse_unlisted(placement, target, consent.namespaces)
    return mesh


def refuse_unlisted(placement: Placement, target: TargetSystem, listed: Sequence[str]) -> None:
    """Raise Misuse unless every namespace that a trial would harm was listed: the tenants', and those of their proxies.

    A signal is no write to the API server, so the client's own guard would not see it.
    """
    touched = sorted({*target.namespaces, *(proxy.namespace for proxy in placement.proxies)})
    if missing := [name for name in touched if name not in listed]:
        raise Misuse(
            f"a trial would break proxies and place loaders in {', '.join(touched)}, and {', '.join(missing)} was not "
            "listed. "
            f"Nothing was changed. If they may be harmed: {NAMESPACES_OPTION} {','.join(touched)}"
        )


def breakable(placement: Placement, client: str, layer: Layer) -> Proxy | None:
    """Return the proxy that a trial breaks: the first of that layer (else of any) on the client's path outside the
    client's own pod, which is a loader's. None without a mesh. Pure.
    """
    own = next((pair.client.uid for pair in placement.pairs() if pair.client.workload_key == client), "")
    return (
        proxy_on_path(placement, client=client, layer=layer, outside=own)
        or proxy_on_path(placement, client=client, outside=own)
        or proxy_on_path(placement, client=client, layer=layer)
        or proxy_on_path(placement, client=client)
    )


def refuse_cut(deployment: Deployment) -> None:
    """Raise EnvironmentUnfit where NetworkPolicies keep a loader from its server, with the two lines that allow it.

    What policies say is held against a few requests first: not every network plugin enforces them. Where they may not
    be looked at, nothing is said.
    """
    cluster = deployment.cluster
    for tenant in deployment.tenants:
        assert isinstance(tenant, LoadedCall)
        call = tenant.call
        try:
            cuts = detect_cuts(call, tenant.loader(cluster), _servers(cluster, call), _surroundings(cluster, call))
        except Forbidden:
            continue
        if cuts and not deployment.is_answered(tenant):
            allowed = "; ".join(plan_allowances(call))
            raise EnvironmentUnfit(f"{'; '.join(cuts)}. To allow it: {allowed}")


def _servers(cluster: Cluster, call: Call) -> list[dict[str, Any]]:
    namespace, _, name = call.server.partition("/")
    return [pod for pod in cluster.list("Pod", namespace) if is_live(pod) and workload_name(pod) == name]


def _surroundings(cluster: Cluster, call: Call) -> NetworkObjects:
    names = dict.fromkeys(call.namespaces)
    return NetworkObjects(
        [policy for name in names for policy in cluster.list("NetworkPolicy", name)],
        {name: cluster.get("Namespace", name)["metadata"].get("labels") or {} for name in names},
        [service for name in names for service in cluster.list("Service", name)],
    )


def external_deployment(
    cluster: Cluster,
    target: TargetSystem,
    *,
    run: str,
    settings: Settings,
    progress: Progress,
    clock: Clock | None = None,
) -> Deployment:
    """Plan a target under load: only its loaders are deployed and taken away. Reads only."""
    description, before = read_target_placement(cluster, target)
    mesh = ExternalMesh(cluster, target, description, before, run=run)
    loaders = mesh.loaders()
    names = ", ".join(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in loaders)
    return Deployment(
        mesh,
        loaded_calls(mesh.target),
        loaders,
        breaks=breakable,
        settings=settings,
        progress=progress,
        clock=clock,
        elsewhere=sorted({*target.namespaces, *(proxy.namespace for proxy in before.proxies)}),
        first_word=refuse_cut,
        title=f"placing loaders {names} in {description.name} ({description.stands_for})",
    )
