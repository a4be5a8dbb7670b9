"""Configurations that are broken on purpose, so that each check of the mesh is seen to catch what it is there for."""

from __future__ import annotations

from enum import StrEnum


class Defect(StrEnum):
    PLAIN_TEXT_HOP = "plain-text-hop"  # proxies speak to one another without TLS
    UNHASHED_IDENTITY = "unhashed-identity"  # pools are shared across source pods: their certificates cross
    OPEN_CONNECT = "open-connect"  # a pod's CONNECT terminator reaches any address
    UNBALANCED = "unbalanced"  # all requests go to the first endpoint
    ANY_PEER = "any-peer"  # a destination with a waypoint accepts everybody
    RETRY_ALL = "retry-all"  # non-idempotent requests are retried too


Defects = frozenset[Defect]
NO_DEFECTS: Defects = frozenset()
