"""Which Kubernetes versions are supported, and what `/version` says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from chaos.errors import EnvironmentUnfit

OLDEST: Final = (1, 29)  # native sidecars on by default: kubernetes.io/docs/concepts/workloads/pods/sidecar-containers
NEWEST: Final = (1, 37)


def parse_version(answer: Mapping[str, Any]) -> tuple[int, int]:
    """(major, minor) of an answer of `/version`; clouds write a minor of "29+"."""
    numbers = [re.match(r"\d+", str(answer.get(part, ""))) for part in ("major", "minor")]
    if not all(numbers):
        raise EnvironmentUnfit(f"/version names no version: {dict(answer)}: is this a Kubernetes API server?")
    major, minor = (int(found[0]) for found in numbers if found)
    return major, minor


def refuse_too_old(version: tuple[int, int]) -> None:
    """Raises EnvironmentUnfit below the oldest version."""
    if version < OLDEST:
        raise EnvironmentUnfit(
            f"Kubernetes {version[0]}.{version[1]}: at least {OLDEST[0]}.{OLDEST[1]} is needed (tested up to "
            f"{NEWEST[0]}.{NEWEST[1]})"
        )
