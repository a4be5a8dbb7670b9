"""The user's own apps and mesh: a file says which namespaces are tenants and how to find the proxies and their
scope.

`description` is what a mesh looks like (YAML under manifests/meshes, or in the file itself), `file` reads a target
file, `detection` tells which mesh it is, and `placement` makes the fate model's own Placement of live objects: from
there on nothing knows that the mesh is not ours.
"""

from __future__ import annotations

from chaos.external.description import MeshDescription
from chaos.external.detection import detect_mesh
from chaos.external.file import Call, TargetSystem, parse_target, read_target
from chaos.external.parsing import built_in, descriptions
from chaos.external.placement import plan_target_placement, read_target_placement

__all__ = [
    "Call",
    "MeshDescription",
    "TargetSystem",
    "built_in",
    "descriptions",
    "detect_mesh",
    "parse_target",
    "plan_target_placement",
    "read_target",
    "read_target_placement",
]
