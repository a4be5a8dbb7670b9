"""Kubernetes' resource quantities ("100m", "1Gi", "2e3") as numbers: the official client's parser, rounded up to whole
units as Kubernetes does.
"""

from __future__ import annotations

import math
from decimal import Decimal
from functools import lru_cache


@lru_cache(maxsize=4096)
def parse(quantity: str | int | float) -> Decimal:
    """The exact number that a quantity stands for. Raises ValueError."""
    from kubernetes.utils.quantity import parse_quantity  # takes a second to import, and programs in pods need it not

    found = parse_quantity(quantity)
    assert isinstance(found, Decimal)
    return found


def millicores(quantity: str | int | float) -> int:
    """A CPU quantity in millicores. Raises ValueError."""
    return math.ceil(parse(quantity) * 1000)


def byte_count(quantity: str | int | float) -> int:
    """A memory quantity in bytes. Raises ValueError."""
    return math.ceil(parse(quantity))


def cpu_quantity(millicores: int) -> str:
    """The canonical CPU quantity, in which the API server answers: "450m", "2"."""
    return f"{millicores}m" if millicores % 1000 else str(millicores // 1000)
