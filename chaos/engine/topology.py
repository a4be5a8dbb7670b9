"""Places the reference tenants' pods so that each node proxy is shared by several tenants and one tenant shares none.

    tenant a   client on the first node, both servers there too
    tenant b   client on the second node, a server on each
    tenant c   everything on the second node

So the death of the first node's proxy must hurt a wholly and b by half, and must not touch c: a trial that shows both
directions at once. a is also the noisy one: its overload passes the first node alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from chaos.errors import Misuse
from chaos.faults.selection import Pick, pick
from chaos.kube.client import Cluster
from chaos.kube.objects import is_deleting, pods_of
from chaos.names import PORT_CONTROL

REQUEST_TIMEOUT: Final = 1.0  # seconds from when a request was due
SENTINEL_RATE: Final = 50.0  # requests a second of the flow that no mesh carries
FLOW: Final = "http"  # name of a reference tenant's own flow at its loader


class TenantLoad(Protocol):
    """A tenant whose client is under load: a reference tenant, or a loaded call of a system that is not ours.

    Attributes:
        client, server: workloads, as `namespace/name`: the ends of the flow that is judged.
        flow_name: of that flow at the loader, which may have several.
        reference_apps: its servers are the reference application, which names its pod in its answers, counts them, and
            takes long-lived streams. Of other applications none of that is known.
        accepted_only: its requests end well once somebody accepts a connection, so a server or a proxy that hangs is
            not seen by them.
    """

    @property
    def name(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    @property
    def client(self) -> str: ...

    @property
    def server(self) -> str: ...

    @property
    def flow_name(self) -> str: ...

    @property
    def reference_apps(self) -> bool: ...

    @property
    def accepted_only(self) -> bool: ...

    def rate(self, default: float) -> float:
        """Requests a second of its own flow; `default`: what the run's settings ask for."""
        ...

    def call_options(self) -> dict[str, Any]:
        """Return whom and how its loader calls, for the fault `Overload`."""
        ...

    def loader(self, cluster: Cluster) -> dict[str, Any]:
        """Read the current pod of its loader."""
        ...

    def flows(self, cluster: Cluster, rate: float) -> list[dict[str, Any]]:
        """Return its own flow at that rate and its sentinel, as the loader takes them."""
        ...


@dataclass(frozen=True, slots=True)
class Tenant:
    """A reference tenant and the nodes of its pods."""

    name: str
    client_nodes: tuple[str, ...]
    server_nodes: tuple[str, ...]

    @property
    def namespace(self) -> str:
        return f"tenant-{self.name}"

    @property
    def client(self) -> str:
        return f"{self.namespace}/client"

    @property
    def server(self) -> str:
        return f"{self.namespace}/server"

    @property
    def flow_name(self) -> str:
        return FLOW

    @property
    def reference_apps(self) -> bool:
        return True

    @property
    def accepted_only(self) -> bool:
        return False

    def rate(self, default: float) -> float:
        return default

    def call_options(self) -> dict[str, Any]:
        return {"server": self.server}

    def loader(self, cluster: Cluster) -> dict[str, Any]:
        live = [pod for pod in _pods_behind(cluster, self.client) if not is_deleting(pod)]
        return pick(
            live, Pick.ONE, what=f"loader of tenant {self.name}", name=lambda pod: str(pod["metadata"]["name"])
        )[0]

    def flows(self, cluster: Cluster, rate: float) -> list[dict[str, Any]]:
        address = min(pod["status"]["podIP"] for pod in servers_of(cluster, self))
        return [
            {"name": FLOW, "server": self.server, "target": "server:80", "rate": rate, "timeout": REQUEST_TIMEOUT},
            plan_sentinel(self.server, f"{address}:{PORT_CONTROL}", "/sentinel"),
        ]


def servers_of(cluster: Cluster, tenant: TenantLoad) -> list[dict[str, Any]]:
    """Return the pods of a tenant's reference servers; none where its servers are other applications."""
    return _pods_behind(cluster, tenant.server) if tenant.reference_apps else []


def _pods_behind(cluster: Cluster, workload: str) -> list[dict[str, Any]]:
    """Return the pods of the Deployment NAMESPACE/NAME: a pod that a tenant labels like them is none of them."""
    namespace, _, name = workload.partition("/")
    found = cluster.find("Deployment", name, namespace)
    return pods_of(cluster, found) if found else []


def plan_sentinel(server: str, target: str, path: str) -> dict[str, Any]:
    """Plan the flow to a port that no mesh captures: only the machine, or the loader itself, can disturb it."""
    return {
        "name": "sentinel",
        "server": server,
        "target": target,
        "path": path,
        "rate": SENTINEL_RATE,
        "sentinel": True,
        "timeout": REQUEST_TIMEOUT,
    }


def plan_tenants(nodes: Sequence[str]) -> tuple[Tenant, ...]:
    """Place the three reference tenants on the first two of the nodes; raises Misuse when there are fewer."""
    if len(nodes) < 2:
        raise Misuse(f"the reference tenants need two nodes that take pods, and the cluster has {len(nodes)}")
    first, second = nodes[0], nodes[1]
    return (Tenant("a", (first,), (first,)), Tenant("b", (second,), (first, second)), Tenant("c", (second,), (second,)))
