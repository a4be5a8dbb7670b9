"""The text of the ConfigMap `mesh`: how the runner tells the control plane what to be. Read by `tables`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def settings(mode: str, *, run: str, features: Mapping[str, Any], certificate_seconds: float,
             values: Mapping[str, Any]) -> str:
    """As JSON, keys sorted."""
    return json.dumps({"mode": mode, "run": run, "features": dict(features), "certificate_seconds": certificate_seconds,
                       "values": dict(values)}, sort_keys=True)
