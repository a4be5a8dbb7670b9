"""Where the reference tenants' pods lie, so that each node proxy is shared by several tenants and one tenant shares
none.

    tenant a   client on the first node, both servers there too
    tenant b   client on the second node, a server on each
    tenant c   everything on the second node

So the death of the first node's proxy must hurt a wholly and b by half, and must not touch c: a trial that shows both
directions at once. a is also the noisy one: its overload passes the first node alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chaos.errors import Misuse


class TenantLoad(Protocol):
    """Somebody whose client is under load: a reference tenant, or a loaded call of a system that is not ours.

    `client` and `server` are workloads, as `namespace/name`: the ends of the flow that is judged.
    """

    @property
    def name(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    @property
    def client(self) -> str: ...

    @property
    def server(self) -> str: ...


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


def plan_tenants(nodes: Sequence[str]) -> tuple[Tenant, ...]:
    """The three reference tenants on the first two of the nodes; raises Misuse when there are fewer."""
    if len(nodes) < 2:
        raise Misuse(f"the reference tenants need two nodes that take pods, and the cluster has {len(nodes)}")
    first, second = nodes[0], nodes[1]
    return (Tenant("a", (first,), (first,)), Tenant("b", (second,), (first, second)), Tenant("c", (second,), (second,)))
