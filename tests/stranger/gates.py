"""Other people's policies in front of an API server: what they make of each new namespace, and what they shut."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from chaos.kube.client import Cluster
from tests.kube.weather import Climate, Weather

Made = Callable[[str], Mapping[str, Any]]  # namespace -> an object that is made in it


class Gate(Weather):
    """Acts on what matches, and lets the rest through.

    Args:
        shut: pattern of "METHOD path" -> fate of what matches: `broken`, `lost_before`, `hung`, ...
        labels: on every namespace that is created, whatever was asked for.
        made: in every namespace, before whoever creates it hears of it.
        answers: pattern of "METHOD path" -> the body that is answered in place of the API server's.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        shut: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        made: Made | None = None,
        answers: Mapping[str, bytes] | None = None,
    ) -> None:
        super().__init__(cluster, Climate(), seed=0)
        self.shut = dict(shut or {})
        self.labels = dict(labels or {})
        self.made = made
        self.answers = dict(answers or {})

    def fate(self, method: str, path: str) -> str:
        found = next((fate for pattern, fate in self.shut.items() if re.search(pattern, f"{method} {path}")), "")
        if found:
            self.seen[found] += 1
        return found

    def answered(self, method: str, path: str) -> bytes | None:
        return next((body for pattern, body in self.answers.items() if re.search(pattern, f"{method} {path}")), None)

    def rewritten(self, method: str, path: str, body: bytes | None) -> bytes | None:
        if not self.labels or not body or method != "POST" or not path.endswith("/namespaces"):
            return body
        namespace = json.loads(body)
        namespace["metadata"].setdefault("labels", {}).update(self.labels)
        return json.dumps(namespace).encode()

    def acted(self, method: str, path: str) -> None:
        if self.made is None or method != "POST" or not path.endswith("/namespaces"):
            return
        for namespace in self.cluster.list("Namespace"):
            name = namespace["metadata"]["name"]
            if name.startswith(("sharedfate-", "tenant-")) and namespace["status"].get("phase") == "Active":
                self.cluster.apply(dict(self.made(name)))


def default_deny(namespace: str) -> Mapping[str, Any]:
    """As a policy engine generates it in each namespace."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
