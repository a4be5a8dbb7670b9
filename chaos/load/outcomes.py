"""Classifies what the client can know about a request that did not succeed. Pure; the engines call it.

FAILED is said only when no byte can have reached the server: the connection was never made, or a proxy on the path says
in its answer that it never reached the next hop. Everything else is UNKNOWN.
"""

from __future__ import annotations

import errno
from typing import Final

from chaos.history.words import Cause, Outcome

Verdict = tuple[Outcome, Cause]

_CONNECT: Final = {
    errno.ECONNREFUSED: Cause.REFUSED,
    errno.EHOSTUNREACH: Cause.NO_ROUTE,
    errno.ENETUNREACH: Cause.NO_ROUTE,
    errno.EADDRNOTAVAIL: Cause.NO_ROUTE,
    errno.ETIMEDOUT: Cause.CONNECT_TIMEOUT,
    errno.ECONNRESET: Cause.REFUSED,
    errno.ECONNABORTED: Cause.REFUSED,
    errno.EPERM: Cause.NO_ROUTE,  # a packet filter refused it on the way out
    errno.EACCES: Cause.NO_ROUTE,
}

# Texts of Envoy's local replies (source/common/router, stream reset reasons; RBAC filter) that are sent only when the
# request was not forwarded.
_NOT_FORWARDED: Final = (
    b"connection failure",  # "reset reason: remote connection failure" and "local connection failure"
    b"reset reason: connection timeout",
    b"reset reason: overflow",
    b"no healthy upstream",
    b"RBAC: access denied",
    b"Sent local reply: envoy overloaded",
    b"envoy overloaded",
)


# An answer holds an attempt count only where the route asks for it; Envoy's own replies say it in words as well.
_RETRIED: Final = b"retried and the latest reset reason"


def says_retried(body: bytes) -> bool:
    """Whether a proxy's own reply says that it retried."""
    return _RETRIED in body


_TELLING: Final = (b"server:", b"via:", b"x-envoy", b"l5d-", b"grpc-message:")
_SAID: Final = 240  # bytes that are kept of it


def telling(head: bytes, body: bytes) -> str:
    """Return what an unexpected answer shows about its sender: headers by which proxies identify themselves, and its
    first words.
    """
    lines = [line for line in head.split(b"\r\n") if line.lower().startswith(_TELLING)]
    words = b" ".join(body.split())
    return b"; ".join([*lines, *([words] if words else [])])[:_SAID].decode("latin-1")


def connecting_failed(error: int) -> Verdict:
    """Classify a connection that was never made, by the errno of the connect."""
    return Outcome.FAILED, _CONNECT.get(error, Cause.REFUSED)


def unexpected_status(head: bytes, body: bytes, *, retried: bool) -> Verdict:
    """Classify an answer with another status than expected.

    Args:
        head: the answer's header block, lower case names.
        body: the beginning of its body; for gRPC its `grpc-message`.
        retried: a proxy tried more than once: an earlier try may have reached the server.
    """
    if retried or b"x-pod:" in head:  # the server itself answered, or may have seen an earlier try
        return Outcome.UNKNOWN, Cause.STATUS
    if b"x-envoy-overloaded:" in head or any(text in body for text in _NOT_FORWARDED):
        return Outcome.FAILED, Cause.TLS if b"TLS_error" in body or b"TLS error" in body else Cause.STATUS
    return Outcome.UNKNOWN, Cause.STATUS
