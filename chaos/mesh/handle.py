"""`MeshHandle`: what a run needs from any mesh, ours or another.

`chaos.mesh.install.Mesh` is the reference mesh, which has much more to offer (features, a control plane to read);
`chaos.external.mesh.ExternalMesh` is one that somebody else has installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from chaos.kube.client import Cluster
from chaos.model.modes import ProxyMode
from chaos.model.placement import Placement


class NewPod(StrEnum):
    """What becomes of a pod that is made while a part of the control plane is away."""

    WAITS = "waits"  # not ready until that part is back
    BARE = "bare"  # ready and without a proxy, so that its traffic is plain text
    REFUSED = "refused"  # no pod is made
    SERVES = "serves"  # as ever


@dataclass(frozen=True, slots=True)
class PlanePart:
    """A workload of a control plane.

    Attributes:
        workload: its Deployment, `namespace/name`.
        without: what becomes of a new pod while it is away; None: not known.
    """

    name: str
    workload: str
    without: NewPod | None = None


@dataclass(frozen=True, slots=True)
class LogSign:
    """A line in a proxy's log that says why requests fail.

    Attributes:
        says: the part of the line that is shown.
        means: the likely cause, for people.
    """

    says: re.Pattern[str]
    means: str


class MeshHandle(Protocol):
    """A mesh in a cluster. Everything that it applies carries the run's label, and only that is deleted again."""

    @property
    def cluster(self) -> Cluster: ...

    @property
    def mode(self) -> ProxyMode: ...

    @property
    def run(self) -> str: ...

    @property
    def reply_headers(self) -> tuple[str, ...]:
        """Prefixes of the header lines, lower case, by which its proxies identify themselves in answers."""
        ...

    @property
    def version_annotation(self) -> str:
        """Return the annotation by which an application's pod names the version of the proxy that the mesh adds to it;
        "" where there is none.
        """
        ...

    @property
    def log_signs(self) -> Sequence[LogSign]:
        """Return which lines of its proxies' logs mean what, in the order in which a line is compared with them."""
        ...

    def contradictions(self) -> list[str]:
        """Return where the proxies' own view and the placement differ, a sentence each; [] where nothing can be
        asked.
        """
        ...

    def plane_parts(self) -> Sequence[PlanePart]:
        """Return the workloads of its control plane that exist; [] without one."""
        ...

    def why_bare(self, pod: dict[str, Any]) -> str:
        """Return by which missing mark of the mesh a pod of a tenant is not carried; "" when it has them all."""
        ...

    def reconfigured(self) -> AbstractContextManager[None]:
        """Give the proxies on the tenants' paths another configuration, which changes nothing that is asked of them,
        until left; each is seen to have it, and to have the old one again.

        Raises Misuse where it is not known how, NotReady naming the proxies that do not take it.
        """
        ...

    def start(self, objects: Iterable[dict[str, Any]], *, seconds: float = 60.0) -> None:
        """Apply the mesh's own parts and these workloads, and wait until every path has its proxies.

        Raises NotReady naming what is not.
        """
        ...

    def deploy(self, objects: Iterable[dict[str, Any]], *, seconds: float = 60.0) -> None:
        """Apply more workloads to the running mesh, and wait in the same way."""
        ...

    def uninstall(self, *, seconds: float = 60.0) -> None:
        """Remove all that `start` and `deploy` applied, and wait until it is gone. Safe to repeat."""
        ...

    def vacate(self, *, seconds: float = 60.0) -> None:
        """Remove it for another mode of the same run: the run's namespaces stay, empty, and so does its watchdog."""
        ...

    def inject(self, objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the objects as they are applied: with the run's label, and with what the mode adds."""
        ...

    def placement(self, calls: Sequence[tuple[str, str]] | None = None) -> Placement:
        """Return the current placement. `calls`: who calls whom (`namespace/name`); None: as the mesh knows by
        itself.
        """
        ...
