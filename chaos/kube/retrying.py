"""Decides what is safe to retry, and when.

As client-go does (k8s.io/client-go/rest/with_retry.go): an answer of 429 or 5xx with `Retry-After` was not acted on and
is asked again whatever the verb. A connection that never came about carried nothing. Everything else is only done again
when doing it twice is the same as doing it once: reads, merge patches, deletions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

import tenacity
import urllib3

from chaos.errors import ApiError

T = TypeVar("T")
PATIENCE: Final = 60.0  # seconds: an API server that restarts is back by then
_LONGEST: Final = 5.0
_TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})


def was_not_acted_on(error: BaseException) -> bool:
    """Whether the server cannot have acted: any request is safe to send again."""
    if isinstance(error, ApiError):
        return error.retry_after is not None and (error.code == 429 or error.code >= 500)
    cause = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
    return isinstance(cause, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed: for idempotent requests."""
    if isinstance(error, ApiError):
        return error.code in _TRANSIENT
    return isinstance(error, (urllib3.exceptions.HTTPError, OSError))


class Backoff:
    """Growing pauses with full jitter, never shorter than the server asks."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()
        self._tries = 0

    def next(self, error: BaseException | None = None) -> float:
        """Seconds to wait before the next try."""
        self._tries += 1
        pause = self._chance.uniform(0, min(_LONGEST, 0.1 * 2**self._tries))
        asked = getattr(error, "retry_after", None)
        return pause if asked is None else asked + self._chance.uniform(0, 0.2)

    def reset(self) -> None:
        """Start again from the shortest pause: the last try succeeded."""
        self._tries = 0


def retrying(
    call: Callable[[], T], *, idempotent: bool, patience: float = PATIENCE, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Call the function until it succeeds, raises an error that is not retried, or patience ends; then raise that
    error.

    Args:
        idempotent: whether the call is idempotent.
    """
    backoff = Backoff()

    def wait(state: tenacity.RetryCallState) -> float:
        return backoff.next(state.outcome.exception() if state.outcome else None)

    policy = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda e: was_not_acted_on(e) or (idempotent and is_transient(e))),
        wait=wait,
        stop=tenacity.stop_after_delay(patience),
        reraise=True,
        sleep=sleep,
    )
    return policy(call)
