"""Places the reference tenants' pods so that each node proxy is shared by several tenants and one tenant shares none.

    tenant a   client on the first node, both servers there too
    tenant b   client on the second node, a server on each
    tenant c   everything on the second node

So the death of the first node's proxy must hurt a wholly and b by half, and must not touch c: a trial that shows both
directions at once. a is also the noisy one: its overload passes the first node alone.

A `Topology` adds tenants to these three, or puts others in their place (docs/suite.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from chaos.documents import read_yaml, shown
from chaos.errors import Misuse
from chaos.faults.selection import Pick, pick
from chaos.fields import Fields
from chaos.kube.client import Cluster
from chaos.kube.nodes import ZONE
from chaos.kube.objects import is_deleting, pods_of
from chaos.model.spreading import Spread, spread_over
from chaos.names import PORT_CONTROL

REQUEST_TIMEOUT: Final = 1.0  # seconds from when a request was due
SENTINEL_RATE: Final = 50.0  # requests a second of the flow that no mesh carries, at the most
FLOW: Final = "http"  # name of a reference tenant's own flow at its loader
ANSWER_BYTES: Final = 16  # of its answers' bodies: HTTP/2's flow control holds up no answer without one


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
    servers: int = 2
    requests: float = 0.0  # a second, of its own flow; 0: as many as the run's settings ask for

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
        return self.requests or default

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
            {
                "name": FLOW,
                "server": self.server,
                "target": "server:80",
                "rate": rate,
                "timeout": REQUEST_TIMEOUT,
                "answer_bytes": ANSWER_BYTES,
            },
            plan_sentinel(self.server, f"{address}:{PORT_CONTROL}", "/sentinel", beside=rate),
        ]


def servers_of(cluster: Cluster, tenant: TenantLoad) -> list[dict[str, Any]]:
    """Return the pods of a tenant's reference servers; none where its servers are other applications."""
    return _pods_behind(cluster, tenant.server) if tenant.reference_apps else []


def _pods_behind(cluster: Cluster, workload: str) -> list[dict[str, Any]]:
    """Return the pods of the Deployment NAMESPACE/NAME: a pod that a tenant labels like them is none of them."""
    namespace, _, name = workload.partition("/")
    found = cluster.find("Deployment", name, namespace)
    return pods_of(cluster, found) if found else []


def plan_sentinel(server: str, target: str, path: str, *, beside: float = SENTINEL_RATE) -> dict[str, Any]:
    """Plan the flow to a port that no mesh captures: only the machine, or the loader itself, can disturb it.

    Args:
        beside: requests a second of the flow that it stands beside; it makes no more.
    """
    return {
        "name": "sentinel",
        "server": server,
        "target": target,
        "path": path,
        "rate": min(SENTINEL_RATE, beside),
        "sentinel": True,
        "timeout": REQUEST_TIMEOUT,
    }


@dataclass(frozen=True, slots=True)
class Places:
    """Where a tenant of a topology's file stands: numbers of nodes that take pods, from 1."""

    name: str
    client: int
    servers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """Which reference tenants there are, and where.

    Attributes:
        places: of tenants one by one; none: the three reference tenants, and further ones by rule until there are
            `tenants`.
        servers, spread: of those further ones.
        rate: requests a second of each tenant's flow; 0: as many as the run's settings ask for.
    """

    places: tuple[Places, ...] = ()
    tenants: int = 3
    servers: int = 2
    spread: Spread = Spread.NODE
    rate: float = 0.0


REFERENCE: Final = Topology()
MOST_TENANTS: Final = 2000
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_WORDS: Final = ("tenants", "servers", "spread", "rate")


def read_topology(text: str) -> Topology:
    """Read what `--chaos-topology` says: `tenants=60,servers=3,spread=zone,rate=20`, or a YAML file. Raises one Misuse
    with every problem.
    """
    if "=" in text and not Path(text).exists():
        pairs = [part.partition("=") for part in text.split(",")]
        keys = [key.strip() for key, _, _ in pairs]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise Misuse(f"topology {text}: {', '.join(twice)} said twice")
        return parse_topology({key: _number(value) for key, (_, _, value) in zip(keys, pairs, strict=True)}, text)
    return parse_topology(read_yaml(Path(text)), shown(Path(text)))


def _number(text: str) -> object:
    return int(text) if text.strip().isascii() and text.strip().isdigit() else text.strip()


def parse_topology(document: Any, source: str) -> Topology:
    """Parse a topology: the generator's words, or `tenants` as a list of `name`, `client` and `servers`."""
    problems: list[str] = []
    top = Fields(document, "", problems, known=("version", *_WORDS))
    if top.values.get("version", 1) != 1:
        top.wrong("version", f"is {top.values['version']!r}, and should be 1")
    listed = isinstance(top.values.get("tenants"), list)
    places = tuple(
        _places(one, f"tenants[{number}]", problems)
        for number, one in enumerate(top.items("tenants", needed=True) if listed else ())
    )
    names = [one.name for one in places]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        top.wrong("tenants", f"have {', '.join(twice)} more than once")
    for word in ("servers", "spread") if listed else ():
        if word in top.values:
            top.wrong(word, "says how tenants are placed that are not listed: leave it out, or the list")
    spread = top.text("spread", default=Spread.NODE.value, one_of=[*Spread])
    rate = top.number("rate", default=1.0, low=1.0, high=2000.0) if "rate" in top.values else 0.0
    found = Topology(
        places,
        len(places) if listed else _whole(top, "tenants", 3, 3, MOST_TENANTS),
        2 if listed else _whole(top, "servers", 2, 1, 100),
        Spread(spread) if spread in tuple(Spread) else Spread.NODE,
        rate,
    )
    if problems:
        raise Misuse(f"topology {source}: {'; '.join(problems)}")
    return found


def _places(value: Any, where: str, problems: list[str]) -> Places:
    entry = Fields(value, where, problems, known=("name", "client", "servers"))
    name = entry.text("name")
    if name and not _NAME.fullmatch(name):
        entry.wrong("name", f"is {name!r}, and should be a DNS label of at most 40 letters")
    servers = entry.items("servers", needed=True)
    nodes = [entry.values.get("client"), *servers]
    if bad := [one for one in nodes if isinstance(one, bool) or not isinstance(one, int) or one < 1]:
        entry.wrong("client and servers", f"hold {bad[0]!r}, and should be numbers of nodes, from 1")
        return Places(name, 1, (1,))
    return Places(name, nodes[0], tuple(nodes[1:]))


def _whole(entry: Fields, name: str, default: int, least: int, most: int) -> int:
    value = entry.values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        entry.wrong(name, f"is {value!r}, and should be {least} to {most}")
        return default
    return value


def plan_tenants(
    nodes: Sequence[str], topology: Topology = REFERENCE, zones: Mapping[str, str] | None = None
) -> tuple[Tenant, ...]:
    """Place the tenants of a topology; by default the three reference tenants, on the first two of the nodes.

    Args:
        nodes: those that take our pods.
        zones: node -> zone.

    Raises Misuse when there are fewer nodes than it needs, or no zones where it goes by them.
    """
    if len(nodes) < 2:
        raise Misuse(f"the reference tenants need two nodes that take pods, and the cluster has {len(nodes)}")
    if topology.places:
        most = max(max(one.client, *one.servers) for one in topology.places)
        if most > len(nodes):
            raise Misuse(f"the topology names node {most}, and {len(nodes)} nodes take pods: {', '.join(nodes)}")
        return tuple(
            Tenant(
                one.name,
                (nodes[one.client - 1],),
                tuple(dict.fromkeys(nodes[number - 1] for number in one.servers)),
                len(one.servers),
                topology.rate,
            )
            for one in topology.places
        )
    first, second = nodes[0], nodes[1]
    reference = (("a", first, (first,)), ("b", second, (first, second)), ("c", second, (second,)))
    found = [Tenant(name, (client,), servers, requests=topology.rate) for name, client, servers in reference]
    if topology.spread is Spread.ZONE:
        _refuse_without_zones(nodes, zones or {})
    for number in range(3, topology.tenants):
        there = spread_over(nodes, topology.spread, start=number, count=topology.servers, zones=zones)
        servers = tuple(dict.fromkeys(there))
        found.append(Tenant(f"t{number + 1}", (there[0],), servers, topology.servers, topology.rate))
    return tuple(found)


def _refuse_without_zones(nodes: Sequence[str], zones: Mapping[str, str]) -> None:
    without = [node for node in nodes if not zones.get(node)]
    if without or len({zones[node] for node in nodes}) < 2:
        raise Misuse(
            f"spread=zone needs nodes of two zones at least, by their label {ZONE}; without it: "
            f"{', '.join(without) or 'none'}"
        )
