"""Describes a mesh for people: its proxies, and whom the death of each would hurt."""

from __future__ import annotations

from chaos.external.description import MeshDescription
from chaos.kube.placement import describe
from chaos.model.fate import flow_shares, may_move
from chaos.model.placement import Placement


def describe_mesh(mesh: MeshDescription, placement: Placement) -> str:
    """Describe the placement, and for each proxy the flows behind it with their share."""
    lines = [f"{mesh.name}: {mesh.stands_for} ({mesh.status})", describe(placement), "when it dies"]
    for instance in placement.proxies:
        moving = may_move(placement, [instance])
        hurt = [
            f"{client} -> {server} by "
            f"{share:.0%}{' (its clients may move: not judged)' if (client, server) in moving else ''}"
            for (client, server), share in flow_shares(placement, [instance]).items()
            if share
        ]
        lines.append(f"  {instance}: {', '.join(hurt) or 'nobody'}")
    return "\n".join(lines)
