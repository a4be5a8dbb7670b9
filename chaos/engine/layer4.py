"""One tenant's load on a proxy of connections alone: raw TCP to a server that has no waypoint before it."""

from __future__ import annotations

from typing import Final

from chaos.engine.beside import Beside
from chaos.engine.designs import overload
from chaos.engine.ramp import at_rate, ramp
from chaos.engine.targets import proxies_of_client
from chaos.engine.trial import Trial
from chaos.faults.overload import Overload
from chaos.mesh import manifests
from chaos.names import PORT_TCP

SERVER: Final = "plain"  # of the tenant: workload and Service
SECONDS: Final = 20.0  # of an overload


def overload_layer4(trial: Trial, *, profile: str, start_rate: float, in_flight: int) -> None:
    """The first tenant fills the L4 proxy before its client, by calls of raw TCP that pass no waypoint: by how much is
    found by a ramp before. Whoever else has a path through that proxy must be hurt, and nobody else.
    """
    noisy = trial.deployment.tenants[0]
    server = f"{noisy.namespace}/{SERVER}"
    nodes = trial.placement.nodes_of(noisy.client)
    fault = Overload(
        server=server,
        address=f"{SERVER}:{PORT_TCP}",
        protocol="tcp",
        profile=profile,
        seconds=SECONDS,
        start_rate=start_rate,
        in_flight=in_flight,
    )
    with Beside(trial, manifests.plain(SERVER, tenant=noisy.name, nodes=nodes), {SERVER: 1}):
        path = proxies_of_client(trial.mesh.placement([(noisy.client, server)]), noisy.client, whole=True)
        found = ramp(trial, fault, noisy, path[0])
        overload(trial, at_rate(fault, found), noisy, path=path, asked=path[0])
