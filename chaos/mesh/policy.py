"""A namespace's allow-list as the ConfigMap that the control plane reads: by source identity (L4), method and path
(L7).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from chaos.mesh.snapshot import Rule
from chaos.names import LABEL_POLICY, LABEL_RUN


def policy_config_map(namespace: str, name: str, rules: Iterable[Rule], *, run: str) -> dict[str, Any]:
    """Return the ConfigMap of a namespace's allow-list: it refuses there whatever none of its rules allows."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_POLICY: "enabled", LABEL_RUN: run}},
        "data": {"policy.json": json.dumps({"rules": [asdict(rule) for rule in rules]}, indent=2)},
    }
