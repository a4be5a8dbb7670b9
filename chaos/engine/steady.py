"""Determines since when a deployment's load is steady; what comes before is neither baseline nor noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

CALM_SECONDS: Final = 0.5  # without a failed request, after which the load counts as steady


@dataclass(frozen=True, slots=True)
class SteadyLoad:
    """What disturbed a load, and when its flows were seen to be healthy. Instants in ns since the epoch; 0: never.

    Attributes:
        begun: the load began; before that there are no requests.
        disturbed: until then something was done to the load, or to what carries it.
        healthy: every flow was seen to be answered as it should from then on.
    """

    begun: int = 0
    disturbed: int = 0
    healthy: int = 0

    def begin(self, at: int) -> SteadyLoad:
        """Return the load at its beginning."""
        return replace(self, begun=at, healthy=at)

    def disturb(self, until: int) -> SteadyLoad:
        """Record that the load was disturbed until then."""
        return replace(self, disturbed=max(self.disturbed, until))

    def healthy_from(self, at: int) -> SteadyLoad:
        """Record that its flows were seen to be healthy from then on."""
        return replace(self, healthy=at)

    @property
    def undisturbed(self) -> int:
        """The instant since which nothing disturbed the load."""
        return max(self.begun, self.disturbed)

    def measure(self, failed: NDArray[np.int64], *, seconds: float) -> tuple[int, int]:
        """Return (since when the load is steady, from where a baseline may be read).

        The baseline is all load since nothing was done to it any more. Where a request failed between that and when
        flows were seen to be healthy, it reaches back by so many seconds alone; where one failed in these too, not at
        all: what an earlier trial broke is no baseline.

        Args:
            failed: when the requests that failed were due, ns.
        """
        healthy = max(self.healthy, self.begun)
        since = steady_since(failed[failed < healthy], self.undisturbed)
        for early in (since, max(since, healthy - int(seconds * 1e9))):
            if early < healthy and not ((failed >= early) & (failed < healthy)).any():
                return since, early
        return since, healthy


def steady_since(failed: NDArray[np.int64], undisturbed: int) -> int:
    """Return when the load became steady: from the undisturbed instant on, once no request failed for half a second.
    What an earlier trial broke may fail for a while after its recovery, as clients learn of it; that is no noise of the
    machine.

    Args:
        failed: when the requests that failed were due, ns.
    """
    edges = np.concatenate(([undisturbed], np.sort(failed[failed >= undisturbed])))
    apart = np.flatnonzero(np.diff(edges) >= CALM_SECONDS * 1e9)
    return int(edges[apart[0] if len(apart) else -1])
