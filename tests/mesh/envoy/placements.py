"""Made-up worlds for pure tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chaos.mesh.envoy.ports import l7_hop
from chaos.mesh.snapshot import AppProtocol, Endpoint, Features, MeshSnapshot, Service, ServicePort, Waypoint, Workload
from chaos.model.modes import MODES, Layer, Scope
from chaos.model.placement import Proxy

MESHED = [name for name, mode in MODES.items() if mode.hops]


def uid(number: int) -> str:
    return f"{number:08d}-0000-0000-0000-000000000000"


def pod(number: int, tenant: str, account: str, node: str = "node-1") -> Workload:
    return Workload(
        uid(number),
        f"tenant-{tenant}",
        f"{account}-{number}",
        node,
        f"10.244.{number // 200 + 1}.{number % 200 + 2}",
        account,
        ready=True,
        sandbox=f"{uid(number)}-{4026530000 + number}",
    )


def world(mode: str, *, pods: int = 9, **changes: Any) -> MeshSnapshot:
    """Three tenants on two nodes; pods beyond nine are clients of tenant c on node-1."""
    found = [
        pod(3 * n + k, tenant, account, f"node-{(n + k) % 2 + 1}")
        for n, tenant in enumerate("abc")
        for k, account in enumerate(("client", "server", "server"))
    ]
    found += [pod(100 + n, "c", "client") for n in range(pods - 9)]
    services = tuple(
        Service(
            f"tenant-{tenant}",
            "server",
            f"10.96.0.{ord(tenant)}",
            tuple(
                ServicePort(
                    port,
                    protocol,
                    tuple(
                        Endpoint(p.uid, p.ip, target)
                        for p in found
                        if p.namespace == f"tenant-{tenant}" and p.service_account == "server"
                    ),
                    target,
                )
                for port, target, protocol in ((80, 8080, AppProtocol.HTTP), (9000, 9000, AppProtocol.TCP))
            ),
            (f"spiffe://cluster.local/ns/tenant-{tenant}/sa/server",),
        )
        for tenant in "abc"
    )
    made = MeshSnapshot(
        MODES[mode], Features(), {"node-1": "172.30.0.11", "node-2": "172.30.0.12"}, {p.uid: p for p in found}, services
    )
    return replace(made, waypoints=waypoints(made), **changes)


def waypoints(made: MeshSnapshot) -> tuple[Waypoint, ...]:
    hop = l7_hop(made)
    if hop is None:
        return ()
    keys = {
        Scope.NAMESPACE: [(f"tenant-{t}", f"tenant-{t}") for t in "abc"],
        Scope.NODE: [(node, "sharedfate-system") for node in made.nodes],
        Scope.POD: [(p.uid, p.namespace) for p in made.pods.values() if p.service_account == "server"],
    }[hop.scope]
    return tuple(
        sorted(
            Waypoint(
                Proxy(namespace, f"w-{n}", "proxy", f"w-{n}", "node-1", hop.layers, hop.scope, key, "waypoint"),
                f"10.244.9.{n + 1}",
            )
            for n, (key, namespace) in enumerate(keys)
        )
    )


def proxies(made: MeshSnapshot) -> list[Proxy]:
    """One of each kind that the mode has."""
    mode, first = made.mode, made.pods[uid(1)]
    both, l4 = frozenset(Layer), frozenset({Layer.L4})
    if mode.in_pod:
        return [
            Proxy(
                first.namespace,
                first.name,
                "proxy",
                first.uid,
                first.node,
                both,
                Scope.POD,
                first.uid,
                first.service_account,
            )
        ]
    layers = l4 if mode.separate_layers else both
    found = [
        Proxy("sharedfate-system", "node-proxy", "proxy", "np", "node-1", layers, Scope.NODE, "node-1", "node-proxy")
    ]
    return found + [one.proxy for one in made.waypoints[:1]]
