"""The text of the ConfigMap `mesh`: how the runner configures the control plane. Read by `cache`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any


def settings(
    mode: str,
    *,
    run: str,
    features: Mapping[str, Any],
    certificate_seconds: float,
    values: Mapping[str, Any],
    defects: Collection[str] = (),
) -> str:
    """Return the settings as JSON, keys sorted. `defects`: what is broken on purpose, so that checks are seen to catch
    it.
    """
    return json.dumps(
        {
            "mode": mode,
            "run": run,
            "features": dict(features),
            "certificate_seconds": certificate_seconds,
            "values": dict(values),
            **({"defects": sorted(defects)} if defects else {}),
        },
        sort_keys=True,
    )
