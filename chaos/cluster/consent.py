"""Consent to break things in a cluster that is not ours: what the user agreed to, and what is refused without it.

A context has to be named (`context:NAME`: there is no "current context" here). One that looks like production is
refused without a second, explicit option, because the name in a shell's history is typed again too easily. Namespaces
that are not ours are touched only when they are listed; `chaos.kube.write_guard` holds every write against that list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chaos.cluster.contexts import ContextFacts
from chaos.errors import Misuse
from chaos.names import IMAGE, LABEL_RUN, SYSTEM_NAMESPACE

_PRODUCTION: Final = re.compile(r"(?:^|[^a-z0-9])(prod|prd|production|live)(?:[^a-z]|$)", re.IGNORECASE)
_STAGE_LABELS: Final = ("env", "environment", "stage", "tier")
ALLOW_OPTION: Final = "--chaos-allow-production"
NAMESPACES_OPTION: Final = "--chaos-namespaces"


@dataclass(frozen=True, slots=True)
class Consent:
    """What the user agreed to, beyond naming the cluster.

    Attributes:
        production: the second option was given.
        namespaces: ones that are not ours and may be touched.
    """

    production: bool = False
    namespaces: tuple[str, ...] = ()


def detect_production(facts: ContextFacts, objects: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """Return why the cluster looks like production; empty when it does not.

    Args:
        facts: the context's names and its server.
        objects: Nodes and Namespaces whose labels may tell (env, environment, stage, tier).
    """
    named = (("context", facts.name), ("cluster", facts.cluster), ("server", facts.server), ("user", facts.user))
    reasons = [f"{what} {text!r} names it" for what, text in named if _PRODUCTION.search(text)]
    for obj in objects:
        for key, value in (obj["metadata"].get("labels") or {}).items():
            if key.rpartition("/")[2] in _STAGE_LABELS and _PRODUCTION.search(str(value)):
                reasons.append(f"{obj['kind']} {obj['metadata']['name']} is labelled {key}={value}")
    return reasons


def refuse_production(facts: ContextFacts, consent: Consent, objects: Iterable[Mapping[str, Any]] = ()) -> None:
    """Raises Misuse when the cluster looks like production and the second option was not given."""
    reasons = detect_production(facts, objects)
    if reasons and not consent.production:
        more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
        raise Misuse(
            f"context {facts.name!r} looks like production: {'; '.join(reasons[:3])}{more}. Faults would harm whoever "
            f"uses it. If you do mean it, add {ALLOW_OPTION}"
        )


def plan_touched(facts: ContextFacts, consent: Consent) -> list[str]:
    """Return what a run will touch there, a line each, for people to read before anything is changed."""
    lines = [
        f"cluster {facts.cluster} at {facts.server}, as {facts.user} (context {facts.name}, {facts.source})",
        f"creates and deletes namespaces {SYSTEM_NAMESPACE} and tenant-*; everything that is created carries "
        f"{LABEL_RUN}",
        f"creates and deletes ClusterRoles and ClusterRoleBindings sharedfate-*; image {IMAGE}",
        f"runs privileged pods (node proxies and fault helpers, hostPID) in {SYSTEM_NAMESPACE} alone",
    ]
    if consent.namespaces:
        lines.append(f"may change {', '.join(consent.namespaces)}, as listed by {NAMESPACES_OPTION}")
    return [*lines, "touches no other namespace: a write to one is refused before it is sent"]
