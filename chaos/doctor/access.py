"""What the runner may do: its role (manifests/rbac/runner.yaml) taken apart, each part asked for by a
SelfSubjectAccessReview.

The manifest is the truth: what the suite needs is written there once, and here it is only asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from chaos.kube.client import Cluster
from chaos.mesh import manifests

RUNNER_ROLE: Final = "rbac/runner.yaml"


@dataclass(frozen=True, slots=True, order=True)
class Access:
    """One thing that a role allows; `name` only where the role is limited to one object."""

    group: str
    resource: str  # with its subresource: pods/log
    verb: str
    name: str = ""

    def __str__(self) -> str:
        where = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {where}" + (f" {self.name}" if self.name else "")

    def review(self) -> dict[str, Any]:
        """The question, for every namespace."""
        resource, _, subresource = self.resource.partition("/")
        attributes = {"verb": self.verb, "group": self.group, "resource": resource}
        attributes |= {key: value for key, value in (("subresource", subresource), ("name", self.name)) if value}
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {"resourceAttributes": attributes},
        }


def expand(rules: Iterable[Mapping[str, Any]]) -> list[Access]:
    """Every single thing that the rules of a role allow, sorted."""
    return sorted(
        {
            Access(group, resource, verb, name)
            for rule in rules
            for group in rule.get("apiGroups") or []
            for resource in rule.get("resources") or []
            for verb in rule["verbs"]
            for name in rule.get("resourceNames") or [""]
        }
    )


def rules_in(file: str, kinds: Sequence[str] = ("ClusterRole", "Role")) -> list[Mapping[str, Any]]:
    """The rules of all roles in a file under manifests/."""
    return [rule for obj in manifests.load(file, {}) if obj["kind"] in kinds for rule in obj["rules"]]


def needed() -> list[Access]:
    """What the runner needs."""
    return expand(rules_in(RUNNER_ROLE))


def refused(cluster: Cluster, wanted: Sequence[Access]) -> list[Access]:
    """Those that this user may not, by the API server's own word."""

    def asked(one: Access) -> bool:
        answer = cluster.request(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", one.review(), retry=True
        )
        return bool(answer["status"].get("allowed"))

    with ThreadPoolExecutor(8) as pool:
        return [one for one, allowed in zip(wanted, pool.map(asked, wanted), strict=True) if not allowed]
