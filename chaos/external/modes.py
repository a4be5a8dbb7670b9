"""Every known mode: the reference mesh's, and those of installed meshes; one kind of row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from chaos.errors import Misuse
from chaos.external.description import MeshDescription, ModeRule
from chaos.external.parsing import descriptions
from chaos.mesh.modes import known_modes as deployed_modes
from chaos.model.modes import ProxyMode


@dataclass(frozen=True, slots=True)
class InstalledMode:
    """A mode of a mesh that is already in the cluster."""

    mesh: MeshDescription
    rule: ModeRule

    @property
    def row(self) -> ProxyMode:
        """As a row of the table of modes."""
        return self.mesh.mode_row(self.rule)


@cache
def installed_modes() -> Mapping[str, InstalledMode]:
    """By name, in the order of their descriptions; none is a mode of the reference mesh."""
    found = [InstalledMode(mesh, rule) for mesh in descriptions().values() if not mesh.ours for rule in mesh.modes]
    return {one.rule.name: one for one in found}


def known_modes() -> Mapping[str, ProxyMode]:
    """Every mode that can be asked for: the reference mesh's, then those of installed meshes."""
    return {**deployed_modes(), **{name: one.row for name, one in installed_modes().items()}}


def mode_named(name: str) -> ProxyMode:
    """Return the mode of that name; raises `Misuse` that lists the known ones."""
    try:
        return known_modes()[name]
    except KeyError:
        raise Misuse(f"unknown proxy mode {name!r}: known are {', '.join(known_modes())}") from None
