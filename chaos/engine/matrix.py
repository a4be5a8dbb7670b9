"""The default matrix: named trials, chosen so that each claim is shown, and each mode's distinguishing outcomes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DEFAULT: Final[Mapping[str, tuple[str, ...]]] = {
    "none": ("noisy-neighbour", "proxy-killed", "job-completes", "app-rolled-out"),
    "sidecar": (
        "noisy-neighbour",
        "proxy-killed",
        "proxy-throttled",
        "proxy-upgraded",
        "app-rolled-out",
        "client-shut-down",
        "job-completes",
        "identities-exposed",
        "footprint",
    ),
    "native-sidecar": (
        "proxy-killed",
        "client-shut-down",
        "job-completes",
        "job-proxy-killed",
        "job-starts-before-proxy",
    ),
    "node": (
        "noisy-neighbour",
        "proxy-killed",
        "proxy-paused",
        "proxy-out-of-memory",
        "proxy-throttled",
        "proxy-upgraded",
        "job-completes",
        "job-proxy-killed",
        "job-starts-before-proxy",
        "control-plane-down",
        "identities-exposed",
        "footprint",
        "saturation",
    ),
    "ambient-namespace": (
        "noisy-neighbour",
        "proxy-killed",
        "waypoint-killed",
        "features",
        "identities-exposed",
        "footprint",
    ),
    "ambient-node": ("waypoint-killed",),
    "ambient-pod": ("noisy-neighbour", "proxy-killed"),
}

ON_TARGET: Final = (
    "noisy-neighbour",
    "proxy-killed",
    "waypoint-killed",
    "proxy-paused",
)  # a target's mesh, unless others are named


# In a mode of an installed mesh, unless others are named: whom it hurts, what a Job finds, what it costs.
ON_INSTALLED: Final = (
    "noisy-neighbour",
    "proxy-killed",
    "waypoint-killed",
    "proxy-upgraded",
    "job-completes",
    "footprint",
)


def in_matrix(mode: str, scenario: str) -> bool:
    """Whether the default matrix holds that trial."""
    return scenario in DEFAULT.get(mode, ON_INSTALLED)
