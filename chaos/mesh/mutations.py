"""Mutations of the data plane: configurations broken on purpose, so that each check is seen to catch its fault.

They exist for tests alone. A control plane takes them from the mesh's settings only when its own Deployment was
rendered for tests (MUTATIONS_VARIABLE); any other refuses them, whoever may write its settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from chaos.errors import Misuse

MUTATIONS_VARIABLE: Final = "SHAREDFATE_MUTATIONS"  # of the control plane: "allowed"


class Defect(StrEnum):
    PLAIN_TEXT_HOP = "plain-text-hop"  # proxies speak to one another without TLS
    UNHASHED_IDENTITY = "unhashed-identity"  # pools are shared across source pods: their certificates cross
    UNSHARED_TUNNELS = "unshared-tunnels"  # each stream between proxies has a connection of its own
    OPEN_CONNECT = "open-connect"  # a pod's CONNECT terminator reaches any address
    UNBALANCED = "unbalanced"  # all requests go to the first endpoint
    OVER_GENEROUS = "over-generous"  # every proxy asks for every identity, and is given it
    PINNED = "pinned"  # idle pooled connections stay, and with them the namespaces of pods that went
    ANY_PEER = "any-peer"  # a destination with a waypoint accepts everybody
    RETRY_ALL = "retry-all"  # non-idempotent requests are retried too
    NO_RETRIES = "no-retries"  # none is
    NO_TIMEOUT = "no-timeout"
    NO_EJECTION = "no-ejection"  # a server that only fails is asked for ever
    NO_POLICY = "no-policy"  # everything is allowed
    COUNTED_TWICE = "counted-twice"  # golden metrics count each request two times
    BELIEVED_LABELS = "believed-labels"  # any pod that is labelled as a waypoint is one
    KEPT_ENDPOINTS = "kept-endpoints"  # an endpoint that was ready once is called for ever
    UNTRACED = "untraced"  # trace context passes, and the proxies are not in it


Defects = frozenset[Defect]
NO_DEFECTS: Defects = frozenset()


def allowed_defects(names: Iterable[str], *, mutable: bool) -> Defects:
    """Return the defects in a mesh's settings. Raises Misuse where none are allowed, or for an unknown one."""
    try:
        asked = frozenset(Defect(name) for name in names)
    except ValueError as error:
        raise Misuse(f"mesh settings: {error}: known are {', '.join(Defect)}") from error
    if asked and not mutable:
        raise Misuse(
            f"mesh settings: {', '.join(sorted(asked))}: this mesh was not rendered for tests, and has no defects"
        )
    return asked
