"""Configurations that are broken on purpose, so that each check of the mesh is seen to catch what it is there for."""

from __future__ import annotations

from enum import StrEnum


class Defect(StrEnum):
    PLAIN_TEXT_HOP = "plain-text-hop"  # proxies speak to one another without TLS
    UNHASHED_IDENTITY = "unhashed-identity"  # pools are shared across source pods: their certificates cross
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
    UNTRACED = "untraced"  # trace context passes, and the proxies are not in it


Defects = frozenset[Defect]
NO_DEFECTS: Defects = frozenset()
