"""Checks what the runner may do: its role (manifests/rbac/runner.yaml) taken apart, one SelfSubjectAccessReview for
each part.

The manifest is the truth: what the suite needs is written there once, and here it is only asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from chaos.kube.access import Permission
from chaos.mesh import manifests

RUNNER_ROLE: Final = "rbac/runner.yaml"


def expand(rules: Iterable[Mapping[str, Any]]) -> list[Permission]:
    """Return every single permission in the rules of a role, sorted."""
    return sorted(
        {
            Permission(verb, resource, group, name=name)
            for rule in rules
            for group in rule.get("apiGroups") or []
            for resource in rule.get("resources") or []
            for verb in rule["verbs"]
            for name in rule.get("resourceNames") or [""]
        },
        key=lambda one: (one.group, one.resource, one.verb, one.name),
    )


def rules_in(file: str, kinds: Sequence[str] = ("ClusterRole", "Role")) -> list[Mapping[str, Any]]:
    """The rules of all roles in a file under manifests/."""
    return [rule for obj in manifests.load(file, {}) if obj["kind"] in kinds for rule in obj["rules"]]


def needed() -> list[Permission]:
    """Return what the runner needs."""
    return expand(rules_in(RUNNER_ROLE))
