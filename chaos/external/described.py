"""`DescribedMesh`: what a handle of any mesh that is not ours reads off that mesh's description."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

from chaos.errors import Misuse
from chaos.external.description import MeshDescription
from chaos.external.file import TargetSystem
from chaos.external.reading import compare_views
from chaos.kube.client import Cluster
from chaos.mesh.handle import LogSign
from chaos.model.placement import Placement


class DescribedMesh(ABC):
    """The part of `MeshHandle` that is the same whoever brought the applications.

    Attributes:
        target: the applications, with the mesh's description in it.
    """

    cluster: Cluster
    description: MeshDescription
    target: TargetSystem

    @abstractmethod
    def placement(self, calls: Sequence[tuple[str, str]] | None = None) -> Placement:
        """Read the current placement."""

    def contradictions(self) -> list[str]:
        """Compare its proxies' dumps and statistics with the placement, as far as they can be read."""
        return compare_views(self.cluster, self.description, self.target, self.placement())[0]

    def reconfigured(self) -> AbstractContextManager[None]:
        """Raise Misuse: the mesh serves others' applications too."""
        raise Misuse(f"how {self.description.name} is configured here is its owners' affair")

    @property
    def reply_headers(self) -> tuple[str, ...]:
        """The description's."""
        return self.description.reply_headers

    @property
    def version_annotation(self) -> str:
        """The description's."""
        return next((rule.version_by for rule in self.description.rules if rule.version_by), "")

    @property
    def log_signs(self) -> Sequence[LogSign]:
        """The description's."""
        return self.description.log_signs
