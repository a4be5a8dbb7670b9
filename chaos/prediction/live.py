"""A world from a running cluster; nothing is changed there."""

from __future__ import annotations

from chaos.errors import Misuse
from chaos.external.file import TargetSystem
from chaos.external.placement import read_target_placement
from chaos.kube.access import list_readable
from chaos.kube.client import Cluster
from chaos.kube.placement import read_placement
from chaos.mesh.find import find_mesh
from chaos.prediction.world import World, make_world


def read_world(cluster: Cluster, target: TargetSystem | None) -> World:
    """Read the placement of a target; without one, of the run of our own mesh that is there.

    Raises Misuse where neither is there, and for what the model cannot express.
    """
    nodes = list_readable(cluster, "Node")
    caveats = [] if nodes else ["the nodes may not be listed: there are no zones, and nodes without pods are not known"]
    if target is not None:
        mesh, placement = read_target_placement(cluster, target)
        return make_world(placement, nodes, source=cluster.name, mesh=mesh.name, caveats=caveats)
    found = find_mesh(cluster)
    if found is None:
        raise Misuse(
            f"no mesh of ours is in {cluster.name}, so who calls whom is not known: say it in a target file (--target; "
            "`sharedfate target --discover` writes one)"
        )
    placement = read_placement(cluster, found.mode, run=found.run)
    return make_world(
        placement, nodes, source=cluster.name, mesh=f"sharedfate, mode {found.mode.name}", caveats=caveats
    )
