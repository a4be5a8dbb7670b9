"""Kubernetes' resource quantities ("100m", "1Gi", "2e3") as exact numbers, and what a pod asks for in all."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from chaos.embedded.resources import Object

_SUFFIXES: Final[Mapping[str, Fraction]] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}


@lru_cache(maxsize=1024)
def parse_quantity(text: str | int | float) -> Fraction:
    """The number that a quantity stands for; raises ValueError."""
    plain = str(text).strip()
    number = plain.rstrip("numkKMGTPEi")
    if number.endswith(("e", "E")) or plain[len(number) :] not in _SUFFIXES:
        raise ValueError(f"quantities must match the regular expression of Kubernetes, like 100m or 1Gi: {text!r}")
    return Fraction(number) * _SUFFIXES[plain[len(number) :]]


def pod_requests(pod: Object) -> dict[str, Fraction]:
    """What the scheduler reckons a pod to need: its containers and native sidecars together, or its greediest init
    container beside the sidecars started before it, whichever is more; plus overhead."""
    spec = pod["spec"]
    total: dict[str, Fraction] = {}
    for container in spec.get("containers", []):
        _add(total, _requests(container))
    sidecars: dict[str, Fraction] = {}
    peak: dict[str, Fraction] = {}
    for container in spec.get("initContainers", []):
        if container.get("restartPolicy") == "Always":
            _add(sidecars, _requests(container))
            _add(total, _requests(container))
            _most(peak, sidecars)
        else:
            alone = dict(sidecars)
            _add(alone, _requests(container))
            _most(peak, alone)
    _most(total, peak)
    _add(total, {name: parse_quantity(value) for name, value in spec.get("overhead", {}).items()})
    return total


def _requests(container: Mapping[str, Any]) -> dict[str, Fraction]:
    return {name: parse_quantity(value) for name, value in container.get("resources", {}).get("requests", {}).items()}


def _add(total: dict[str, Fraction], more: Mapping[str, Fraction]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, Fraction(0)) + value


def _most(total: dict[str, Fraction], other: Mapping[str, Fraction]) -> None:
    for name, value in other.items():
        total[name] = max(total.get(name, Fraction(0)), value)
