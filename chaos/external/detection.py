"""Detects the mesh of the tenants' namespaces, from labels and annotations that its documentation names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chaos.errors import Misuse
from chaos.external.description import Marks, MeshDescription

Object = Mapping[str, Any]


def why_it_is(description: MeshDescription, namespaces: Iterable[Object], pods: Iterable[Object]) -> list[str]:
    """Return the evidence for a mesh, a line each; empty when there is none. `pods`: of the tenants, and those of
    DaemonSets.
    """
    reasons = []
    for space in namespaces:
        reasons += [f"namespace {space['metadata']['name']} has {mark}" for mark in description.namespaces.found(space)]
    for pod in pods:
        name = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        reasons += [f"{name} has {mark}" for mark in description.pods.found(pod)]
        if description.daemons and not Marks(description.daemons).missing(pod):
            reasons.append(f"{name} is there")
    return reasons


def detect_mesh(
    known: Iterable[MeshDescription], namespaces: Sequence[Object], pods: Sequence[Object]
) -> MeshDescription:
    """Return the one mesh with evidence. Raises Misuse when there is none, or more than one: then the file must say."""
    found = [(one, reasons) for one in known if (reasons := why_it_is(one, namespaces, pods))]
    if not found:
        raise Misuse(
            "mesh: auto finds no mesh: no namespace or pod of the tenants carries a label of one. Name it in the "
            "target file"
        )
    if len(found) > 1:
        said = "; ".join(f"{one.name} ({reasons[0]})" for one, reasons in found)
        raise Misuse(
            f"mesh: auto finds more than one: {said}. Name the one that carries the tenants' traffic in the target file"
        )
    return found[0][0]
