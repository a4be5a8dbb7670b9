"""Kubernetes' resource quantities ("100m", "1Gi", "2e3") as exact numbers, and a pod's total requests and limits."""

from __future__ import annotations

import math
import re
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


_FORM: Final = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)([eEinumkKMGTP]*)([-+]?\d*)", re.ASCII)
FORM_RULE: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_DECIMAL: Final = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_LARGEST: Final = (1 << 63) - 1
_MAX_LENGTH: Final = 100


def _taken_apart(text: str) -> tuple[Fraction, str]:
    """(the number, rounded up to a billionth and clamped to 63 bits; its suffix, or `e` for an exponent)."""
    if text in ("-", "+"):  # as good as 0 to Kubernetes
        return Fraction(0), ""
    found = _FORM.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if found is None:
        raise ValueError(FORM_RULE)
    sign, digits, suffix, exponent = found.groups()
    if suffix in ("e", "E") and exponent.lstrip("+-"):
        power = int(exponent)
        scale, form = (Fraction(10) ** power if abs(power) <= _MAX_LENGTH else Fraction(0)), "e"
    elif exponent or suffix not in _SUFFIXES:
        raise ValueError("unable to parse quantity's suffix")
    else:
        scale, form = _SUFFIXES[suffix], suffix
    number = Fraction(digits if not digits.endswith(".") else digits[:-1]) * scale
    number = min(Fraction(-((-number * 10**9) // 1), 10**9), Fraction(_LARGEST))
    return (-number if sign == "-" else number), form


@lru_cache(maxsize=4096)
def parse_quantity(text: str | int | float) -> Fraction:
    """Parse a quantity exactly; raises ValueError in Kubernetes' words."""
    return _taken_apart(str(text).strip())[0]


@lru_cache(maxsize=4096)
def canonical_quantity(text: str | int | float, *, of_resources: bool = False) -> str:
    """Format a quantity as the API server does: "0.5" -> "500m", "1024Mi" -> "1Gi"; raises ValueError. One of a list of
    resources is rounded up to a thousandth.

    The form (decimal, binary, exponent) is kept; the mantissa is whole, with the largest suffix that keeps it whole
    (k8s.io/apimachinery/pkg/api/resource.Quantity.CanonicalizeBytes).
    """
    number, form = _taken_apart(str(text).strip())
    if number == 0:
        return "0"
    if of_resources and (number * 1000).denominator != 1:
        number = Fraction(math.ceil(abs(number) * 1000) * (1 if number > 0 else -1), 1000)
    if form.endswith("i") and abs(number) >= 1024 and number.denominator == 1:
        mantissa, step = number.numerator, 0
        while mantissa % 1024 == 0 and step < len(_BINARY) - 1:
            mantissa, step = mantissa // 1024, step + 1
        return f"{mantissa}{_BINARY[step]}"
    mantissa, power = (number * 10**9).numerator, -9
    while mantissa % 1000 == 0 and (form == "e" or power < 18):
        mantissa, power = mantissa // 1000, power + 3
    if form == "e":
        return f"{mantissa}e{power}" if power else str(mantissa)
    return f"{mantissa}{_DECIMAL[power // 3 + 3]}"


def qos_class(pod: Object) -> str:
    """The pod's QoS class: Guaranteed, Burstable or BestEffort.

    A quantity of zero counts as not set; a request that is missing is its limit, as the defaults make it
    (k8s.io/kubernetes/pkg/apis/core/v1/helper/qos.ComputePodQOS).
    """
    requests: dict[str, Fraction] = {}
    limits: dict[str, Fraction] = {}
    guaranteed = True
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"].get("containers", [])]:
        resources = container.get("resources") or {}
        most = _set_of(resources.get("limits"))
        least = _set_of({**(resources.get("limits") or {}), **(resources.get("requests") or {})})
        guaranteed = guaranteed and most.keys() == {"cpu", "memory"}
        _add(requests, least)
        _add(limits, most)
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests == limits else "Burstable"


def _set_of(named: Mapping[str, Any] | None) -> dict[str, Fraction]:
    """The CPU and memory quantities above zero."""
    found = {name: parse_quantity(value) for name, value in (named or {}).items() if name in ("cpu", "memory")}
    return {name: number for name, number in found.items() if number > 0}


def pod_requests(pod: Object) -> dict[str, Fraction]:
    """A pod's requests as the scheduler counts them: the larger of containers plus native sidecars and of the most
    demanding init container plus the sidecars started before it; plus overhead.
    """
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


def pod_limits(pod: Object) -> dict[str, Fraction]:
    """A pod's total limits, counted as `pod_requests` counts requests."""
    spec = pod["spec"]
    total: dict[str, Fraction] = {}
    sidecars: dict[str, Fraction] = {}
    peak: dict[str, Fraction] = {}
    for container in spec.get("containers", []):
        _add(total, _limits(container))
    for container in spec.get("initContainers", []):
        if container.get("restartPolicy") == "Always":
            _add(total, _limits(container))
            _add(sidecars, _limits(container))
            _most(peak, sidecars)
        else:
            alone = dict(sidecars)
            _add(alone, _limits(container))
            _most(peak, alone)
    _most(total, peak)
    return total


def _limits(container: Mapping[str, Any]) -> dict[str, Fraction]:
    return {name: parse_quantity(value) for name, value in container.get("resources", {}).get("limits", {}).items()}


def _requests(container: Mapping[str, Any]) -> dict[str, Fraction]:
    return {name: parse_quantity(value) for name, value in container.get("resources", {}).get("requests", {}).items()}


def _add(total: dict[str, Fraction], more: Mapping[str, Fraction]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, Fraction(0)) + value


def _most(total: dict[str, Fraction], other: Mapping[str, Fraction]) -> None:
    for name, value in other.items():
        total[name] = max(total.get(name, Fraction(0)), value)
