"""Describes a mesh for people: its proxies, and whom the death of each would hurt."""

from __future__ import annotations

from chaos.external.description import MeshDescription
from chaos.kube.placement import describe
from chaos.model.fate import Outage, moved_by_outages, shares_of_outages
from chaos.model.placement import Placement


def describe_mesh(mesh: MeshDescription, placement: Placement) -> str:
    """Describe the placement, and for each proxy the flows behind it with their share."""
    lines = [f"{mesh.name}: {mesh.stands_for} ({mesh.status})", describe(placement), "when it dies"]
    outages = {str(instance): Outage((instance,)) for instance in placement.proxies}
    shares, moving = shares_of_outages(placement, outages), moved_by_outages(placement, outages)
    for instance in placement.proxies:
        hurt = [
            f"{client} -> {server} by "
            f"{share:.0%}{' (its clients may move: not judged)' if (client, server) in moving[str(instance)] else ''}"
            for (client, server), share in shares[str(instance)].items()
        ]
        lines.append(f"  {instance}: {', '.join(hurt) or 'nobody'}")
    return "\n".join(lines)
