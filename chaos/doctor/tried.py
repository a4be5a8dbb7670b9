"""What a preflight tries, by kind of pod, and what came of it: pure; `chaos.doctor.preflight` does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from chaos.mesh.inject import needs_privileged
from chaos.model.modes import PlacedBy, ProxyMode


class PodKind(StrEnum):
    """A kind of pod, by what it needs from a cluster; the value is shown to people."""

    APP = "application pods"
    LOADER = "loaders"
    CAPTURE = "pods with NET_ADMIN (capture, waypoints, the placebo)"
    AGENT = "node agents (a privileged DaemonSet with hostPID)"
    HELPER = "fault helpers (privileged pods with hostPID)"


# Without these nothing can be measured.
ESSENTIAL: Final = frozenset({PodKind.APP, PodKind.LOADER})


def kinds_of(mode: ProxyMode) -> frozenset[PodKind]:
    """The kinds of pods that a mode's deployment makes; faults' helpers are of no mode."""
    kinds = {PodKind.APP, PodKind.LOADER}
    if mode.brought_by:  # its proxies are there already, or are its own affair
        return frozenset(kinds)
    if needs_privileged(mode) or not mode.hops:  # without a mesh the placebo is such a pod
        kinds.add(PodKind.CAPTURE)
    if PlacedBy.DAEMON_SET in mode.placed_by:
        kinds.add(PodKind.AGENT)
    return frozenset(kinds)


@dataclass(frozen=True, slots=True)
class Tried:
    """The outcome; a text is "" for success, else the cluster's own words, and None for what was not tried."""

    kinds: Mapping[PodKind, str]
    namespaces: str = ""  # of our own
    control: str | None = None  # a pod's control port, by any way
    image: str = ""  # of the same build as this runner
    network: str | None = None  # from a loader to an application's port, at its address and by its Service
    exec: str | None = None
    policies: bool | None = None  # NetworkPolicies were seen to act; None: not tried
    opens: bool = False  # new namespaces are shut by policies that are not ours, and have to be opened
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def why_not(self) -> str:
        """What keeps everything from running there."""
        lines = [f"{kind}: {self.kinds[kind]}" for kind in sorted(ESSENTIAL) if self.kinds.get(kind)]
        told = (
            ("namespaces", self.namespaces),
            ("image", self.image),
            ("samples", self.control),
            ("network", self.network),
        )
        lines += [f"{what}: {why}" for what, why in told if why]
        return "; ".join(lines)

    def of_kinds(self, wanted: Iterable[PodKind]) -> str:
        """What keeps that from running which needs those kinds of pods."""
        lines = [f"{kind}: {self.kinds[kind]}" for kind in sorted(wanted) if self.kinds.get(kind)]
        return "; ".join([self.why_not] if self.why_not else lines)
