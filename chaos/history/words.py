"""The outcome of one request and its record's layout, without numpy: the loader in its container must start quickly.

`chaos.history.model` gives the same layout as a numpy dtype; a test holds the two together.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final


class Outcome(IntEnum):
    """What the client can know about a request's end."""

    OK = 0  # answered as expected
    FAILED = 1  # no byte can have reached the server: refused, no route, handshake refused
    UNKNOWN = 2  # reset or timed out after it was sent, or answered otherwise than expected


class Cause(IntEnum):
    """Why a request did not end OK."""

    NONE = 0
    REFUSED = 1  # connection refused
    NO_ROUTE = 2  # network or host unreachable
    CONNECT_TIMEOUT = 3  # no connection in time, with the application's own handshake where it has one
    TLS = 4  # handshake refused, or cut
    RESET = 5  # connection reset or closed before the whole answer
    TIMEOUT = 6  # no whole answer in time
    STATUS = 7  # an unexpected HTTP or gRPC status
    WRONG_BODY = 8
    SHED = 9  # never sent: the loader's bound on requests in flight was reached
    DNS = 10
    MISROUTED = 11  # answered by a server that is none of the flow's own
    NO_SAMPLE = 12  # fell due, by the loader's numbers, and nothing was kept of it


class Flag(IntEnum):
    """Bits of a sample's `flags`."""

    LATE = 1  # the loader itself was late: sent more than its tolerance after it was due for no fault of the server
    NEW_CONNECTION = 2
    RETRIED = 4  # a proxy said that it retried (x-envoy-attempt-count > 1)


NO_POD: Final = 0xFFFF
SAID_OF_HANDSHAKE: Final = "handshake: "  # what a loader says last of a handshake of its own begins so
RECORD: Final = Struct("<HHHBBHHqqqI")  # flow, client, server, outcome, cause, status, flags, due, sent, done, sequence
ENTRY: Final = Struct("<hIB")  # of a ledger: number less that of the entry before, latency in ns, kind
Pace = tuple[int, int, int]  # first request, ns when it is due, ns until the next: 0 where that is random
