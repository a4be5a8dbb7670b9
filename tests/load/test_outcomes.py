"""Only a request of which no byte can have reached the server is FAILED."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from chaos.history.words import Cause, Outcome
from chaos.load.outcomes import connecting_failed, says_retried, unexpected_status

REFUSED = (
    b"upstream connect error or disconnect/reset before headers. reset reason: "
    b"remote connection failure, transport failure reason: delayed connect error: Connection refused"
)
TLS = (
    b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, "
    b"transport failure reason: TLS_error:|268435581:SSL routines:"
    b"OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end"
)
TERMINATED = b"upstream connect error or disconnect/reset before headers. reset reason: connection termination"


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        (b"HTTP/1.1 503 x\r\nserver: envoy", REFUSED, (Outcome.FAILED, Cause.STATUS)),
        (b"HTTP/1.1 503 x\r\nserver: envoy", TLS, (Outcome.FAILED, Cause.TLS)),
        (b"HTTP/1.1 503 x\r\nserver: envoy", b"no healthy upstream", (Outcome.FAILED, Cause.STATUS)),
        (b"HTTP/1.1 403 x\r\nserver: envoy", b"RBAC: access denied", (Outcome.FAILED, Cause.STATUS)),
        (b"HTTP/1.1 503 x\r\nx-envoy-overloaded: true", b"", (Outcome.FAILED, Cause.STATUS)),
        (b"HTTP/1.1 503 x\r\nserver: envoy", TERMINATED, (Outcome.UNKNOWN, Cause.STATUS)),
        (b"HTTP/1.1 504 x\r\nserver: envoy", b"upstream request timeout", (Outcome.UNKNOWN, Cause.STATUS)),
        (b"HTTP/1.1 500 x\r\nx-pod: server-1", b"no healthy upstream", (Outcome.UNKNOWN, Cause.STATUS)),
    ],
)
def test_what_a_proxy_says_decides_whether_the_server_can_have_seen_the_request(
    head: bytes, body: Any, expected: Any
) -> None:
    assert unexpected_status(head, body, retried=False) == expected


def test_after_a_retry_an_earlier_try_may_have_reached_the_server() -> None:
    assert unexpected_status(b"HTTP/1.1 503 x", REFUSED, retried=True)[0] is Outcome.UNKNOWN
    assert says_retried(REFUSED.replace(b"reset reason", b"retried and the latest reset reason", 1))
    assert not says_retried(REFUSED)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (errno.ECONNREFUSED, Cause.REFUSED),
        (errno.EHOSTUNREACH, Cause.NO_ROUTE),
        (errno.ENETUNREACH, Cause.NO_ROUTE),
        (errno.ETIMEDOUT, Cause.CONNECT_TIMEOUT),
    ],
)
def test_a_connection_never_made_is_a_failure_of_known_cause(code: Any, cause: Any) -> None:
    assert connecting_failed(code) == (Outcome.FAILED, cause)
