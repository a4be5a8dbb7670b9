"""Every error that sharedfate raises on purpose.

    SharedfateError
    ├── Misuse               the caller's: an unknown name, a wrong value, a bad file. Exit code 4, nothing was started.
    ├── EnvironmentUnfit     this machine or cluster cannot run it: what is missing, and how to get it. Exit code 4.
    │   └── Unreachable      the API server was not reached, or its answer was lost
    └── ExperimentFailure    the system under test, or the experiment itself, broke.
        ├── NoTargets        a selection matched nothing
        ├── TargetVanished   the target went away between selection and injection
        ├── NoEffect         the fault was applied and nothing was seen to change
        ├── RecoveryFailed   an undo did not restore what it should
        ├── UndoneEarly      somebody else undid a fault that was thought to be held: its deadline had passed
        ├── Stopped          an operator asked for a stop
        ├── GuardTripped     a guard's measure passed its limit, and ended the fault
        ├── NotReady         a wait ran out of time
        └── ApiError         the Kubernetes API answered with a Status that was not expected
            ├── NotFound     404: there is no such object, or no such path
            ├── Forbidden    403: this user may not, or a policy refuses the object
            └── Conflict     409: the object changed meanwhile
                └── AlreadyExists

A message holds the situation, what was seen, and the likely cause or the next step, in one line where it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REFUSED: Final = 4  # exit code, as pytest's for a usage error: nothing was tried. 1 is left to verdicts


class SharedfateError(Exception):
    """Base of all errors that the package raises on purpose."""


class Misuse(SharedfateError):
    """The caller asked for something that does not exist or is not possible. The text says what would be right."""


class EnvironmentUnfit(SharedfateError):
    """This machine or cluster lacks something. The text says what, and how to get it."""


class Unreachable(EnvironmentUnfit, ConnectionError):
    """The API server was not reached, or its answer was lost. It is a ConnectionError, so a wait continues past it."""


class ExperimentFailure(SharedfateError):
    """The system under test, or the experiment itself, broke."""


class NoTargets(ExperimentFailure):
    """A selection matched nothing; an experiment without a target proves nothing."""


class TargetVanished(ExperimentFailure):
    """The target went away between selection and injection."""


class NoEffect(ExperimentFailure):
    """The fault was applied and nothing was seen to change."""


class RecoveryFailed(ExperimentFailure):
    """An undo did not restore what it should."""


class UndoneEarly(ExperimentFailure):
    """Somebody else undid a fault that was thought to be held, so the measurement is not what was meant."""


class Stopped(ExperimentFailure):
    """An operator asked for a stop: the faults were undone, and no more are injected."""


class GuardTripped(ExperimentFailure):
    """A guard's measure passed its limit: the fault was undone at once."""


class NotReady(ExperimentFailure):
    """A bounded wait timed out. The text says what was awaited and what was last seen."""


class ApiError(ExperimentFailure):
    """The Kubernetes API answered with an unexpected `Status`.

    Attributes:
        code: HTTP status code.
        reason: Kubernetes' reason (`NotFound`, `Conflict`, `AlreadyExists`, ...), empty when the answer held none.
        status: the whole `Status` object, empty when the answer was not one.
        retry_after: seconds after which the server wants to be asked again; None when it said nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int,
        reason: str = "",
        status: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.status = dict(status or {})
        self.retry_after = retry_after


class NotFound(ApiError):
    """404: there is no such object, or no such path."""


class Forbidden(ApiError):
    """403: this user may not, or a policy refuses the object."""


class Conflict(ApiError):
    """409: the object changed meanwhile, or something stands in its way."""


class AlreadyExists(Conflict):
    """409 with the reason AlreadyExists: an object of that name is there."""
