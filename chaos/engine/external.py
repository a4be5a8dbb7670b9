"""A mesh that is not ours, under load of our own: what the trials of a target share, in a `Deployment`'s place.

Nothing of a mesh or of an application is deployed, and none is taken away. Loaders stand beside the clients; each call
of the file that says how its server is reached is what a reference tenant is elsewhere: a flow that is loaded, and
judged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chaos.clock import Clock
from chaos.cluster.consent import NAMESPACES_OPTION, Consent
from chaos.engine.deployment import REQUEST_TIMEOUT, SENTINEL_RATE, Deployment
from chaos.engine.progress import Progress
from chaos.engine.settings import Settings
from chaos.engine.targets import placebo, proxy_on_path
from chaos.engine.topology import TenantLoad
from chaos.errors import Misuse
from chaos.external.file import Call, Target
from chaos.external.mesh import ExternalMesh
from chaos.external.placement import read_target_placement
from chaos.kube.client import Cluster
from chaos.model.flow import Flow
from chaos.model.modes import Layer
from chaos.model.placement import Placement, Proxy
from chaos.names import PORT_CONTROL, SYSTEM_NAMESPACE


@dataclass(frozen=True, slots=True)
class LoadedCall:
    """A loaded call of a target, seen as a tenant: its client is the loader that stands beside the file's client."""

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
        """Of the call's flow at the loader, which may have several."""
        return f"http-{self.call.server.replace('/', '-')}"


def loaded_calls(target: Target) -> tuple[LoadedCall, ...]:
    """The calls of a target with loaders in it, in the file's order: the first is the noisy one, and its path is
    broken.
    """
    return tuple(LoadedCall(target.tenant_of(call.namespaces[0]), call) for call in target.calls)


def require_consent(cluster: Cluster, target: Target, consent: Consent) -> None:
    """Looks at the target, and raises Misuse unless all that its trials would harm was listed. Changes nothing."""
    _, placement = read_target_placement(cluster, target)
    refuse_unlisted(placement, target, consent.namespaces)


def refuse_unlisted(placement: Placement, target: Target, listed: Sequence[str]) -> None:
    """Raises Misuse unless every namespace that a trial would harm was listed: the tenants', and those of their
    proxies.

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
    """The proxy that a trial breaks: the first of that layer (else of any) on the client's path that is not in the
    client's own pod, which is a loader's. None where there is no mesh. Pure."""
    own = next((pair.client.uid for pair in placement.pairs() if pair.client.workload_key == client), "")
    return (
        proxy_on_path(placement, client=client, layer=layer, outside=own)
        or proxy_on_path(placement, client=client, outside=own)
        or proxy_on_path(placement, client=client, layer=layer)
        or proxy_on_path(placement, client=client)
    )


class ExternalDeployment(Deployment):
    """A target under load. `start` places the loaders and waits until they are carried; `stop` leaves what was there
    before.
    """

    mesh: ExternalMesh

    def __init__(
        self,
        cluster: Cluster,
        target: Target,
        *,
        run: str,
        settings: Settings,
        progress: Progress,
        clock: Clock | None = None,
    ) -> None:
        description, before = read_target_placement(cluster, target)
        super().__init__(cluster, before.mode, run=run, settings=settings, progress=progress, clock=clock)
        self.mesh = ExternalMesh(cluster, target, description, before, run=run)
        self.target = self.mesh.target
        self.tenants = loaded_calls(self.target)
        self._elsewhere = sorted(
            {proxy.namespace for proxy in before.proxies} - {SYSTEM_NAMESPACE, *self.target.namespaces}
        )

    @property
    def namespaces(self) -> list[str]:
        return [SYSTEM_NAMESPACE, *self.target.namespaces, *self._elsewhere]

    def start(self) -> None:
        """Place the loaders, and start the load."""
        loaders = self.mesh.loaders()
        names = ", ".join(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in loaders)
        self.progress.step(f"{self.target.name} ({self.mesh.description.stands_for}): placing loaders {names}")
        begin = time.monotonic()
        try:
            self.mesh.start(loaders)
        except BaseException:
            self.stop()  # what is half placed is of no use, and stands in a namespace of somebody else
            raise
        self.ready_seconds = time.monotonic() - begin
        self.progress.step(f"{self.target.name}: ready in {self.ready_seconds:.1f} s; starting the load")
        self._begin_load()

    def client_pod(self, tenant: TenantLoad) -> dict[str, Any]:
        """The pod of a call's loader."""
        namespace, _, name = tenant.client.partition("/")
        return self.cluster.get("Pod", name, namespace)

    def loaders(self) -> Sequence[Any]:
        """The loaders' pods, each once: one may carry several calls."""
        return list(dict.fromkeys(super().loaders()))

    def proxy_to_break(self, layer: Layer = Layer.L4) -> Proxy:
        """A proxy on the first call's path; see `breakable`. Without a mesh the placebo."""
        placement = self.placement()
        return breakable(placement, self.tenants[0].client, layer) or placebo(placement)

    @contextmanager
    def streams(self, number: int) -> Iterator[list[Flow]]:
        """None: what answers on a long-lived connection of ours is not known of an application that is not ours."""
        del number
        yield []

    # ---- the load

    def rate(self, tenant: TenantLoad) -> float:
        return _call(tenant).rate

    def call_options(self, tenant: TenantLoad) -> dict[str, Any]:
        call = _call(tenant)
        return {"server": tenant.server, "address": call.reach, "path": call.path, "status": call.status}

    def own_servers(self, flow: Flow, names: frozenset[str]) -> None:
        """Not known: an application that is not ours does not name its pod in its answers."""
        del flow, names

    def read_counts(self) -> dict[str, dict[str, Any]]:
        """None: an application that is not ours does not say how much it answered."""
        return {}

    def _ledger(self, tenant: TenantLoad, name: str = "") -> dict[str, Any]:
        assert isinstance(tenant, LoadedCall)
        return super()._ledger(tenant, name or tenant.flow_name)

    def _set_flows(self, tenant: TenantLoad, rate: float) -> None:
        assert isinstance(tenant, LoadedCall)
        call = tenant.call
        flow = {
            "name": tenant.flow_name,
            "server": tenant.server,
            "target": call.reach,
            "path": call.path,
            "rate": rate,
            "expect_status": call.status,
            "timeout": REQUEST_TIMEOUT,
        }
        # No mesh carries a pod's loop-back: what moves this flow is the machine, or the loader itself.
        sentinel = {
            "name": "sentinel",
            "server": tenant.client,
            "target": f"127.0.0.1:{PORT_CONTROL}",
            "path": "/healthz",
            "rate": SENTINEL_RATE,
            "sentinel": True,
            "timeout": REQUEST_TIMEOUT,
        }
        self._tell_loader(tenant, [flow, sentinel])


def _call(tenant: TenantLoad) -> Call:
    assert isinstance(tenant, LoadedCall)
    return tenant.call
