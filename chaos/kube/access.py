"""Asks the API server what the current user may do (SelfSubjectAccessReview)."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from chaos.errors import Forbidden
from chaos.kube.client import Cluster

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """One permission to ask about.

    Attributes:
        resource: with its subresource: pods/log.
        namespace: "" for every one.
        name: only where a role is limited to one object.
        path: of no resource, such as /healthz; then the rest is empty.
    """

    verb: str
    resource: str = ""
    group: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"{self.verb} {self.path}"
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {what}" + (f" {self.name}" if self.name else "") + self._where

    @property
    def _where(self) -> str:
        return f" in {self.namespace}" if self.namespace else ""

    def review(self) -> dict[str, Any]:
        """The SelfSubjectAccessReview to create."""
        if self.path:
            asked: dict[str, Any] = {"nonResourceAttributes": {"verb": self.verb, "path": self.path}}
        else:
            resource, _, subresource = self.resource.partition("/")
            optional = {"subresource": subresource, "name": self.name, "namespace": self.namespace}
            attributes = {"verb": self.verb, "resource": resource, "group": self.group}
            asked = {"resourceAttributes": attributes | {key: value for key, value in optional.items() if value}}
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": asked,
        }


def is_allowed(cluster: Cluster, permission: Permission) -> bool:
    """Whether the current user has the permission. Raises ApiError when the API server does not answer."""
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return bool(cluster.request("POST", path, permission.review(), retry=True)["status"].get("allowed"))


def refused(cluster: Cluster, wanted: Iterable[Permission]) -> list[Permission]:
    """Return the permissions that are refused, in the order given; several are asked at once."""
    asked = list(wanted)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda one: is_allowed(cluster, one), asked))
    return [one for one, allowed in zip(asked, answers, strict=True) if not allowed]


def list_readable(cluster: Cluster, kind: str, namespace: str | None = None, *, labels: str | None = None) -> list[Any]:
    """List the objects of a kind as `Cluster.list` does; none when this user may not list them."""
    try:
        return cluster.list(kind, namespace, labels=labels)
    except Forbidden:
        return []
