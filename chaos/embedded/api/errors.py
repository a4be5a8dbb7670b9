"""`Status` errors: Kubernetes' codes, reasons, messages and causes, raised below a request and answered as JSON.

The wording follows k8s.io/apimachinery/pkg/api/errors and .../util/validation/field, because people (and tests) match
on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.embedded.resources import Resource

_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_MOST_CAUSES: Final = 1000  # of one answer,
_MOST_TOLD: Final = 1 << 20  # and characters in them


@dataclass(frozen=True, slots=True)
class Cause:
    """One invalid field. `reason` is Kubernetes' CauseType, such as FieldValueInvalid."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class StatusError(Exception):
    """An answer other than success."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: dict[str, Any] | None = None,
        retry_after: int | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """`meta`: of the Status, which is a list's where an answer can be continued."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = _REASONS.get(code, "") if reason is None else reason
        self.details = details
        self.retry_after = retry_after
        self.meta = meta or {}

    def status(self) -> dict[str, Any]:
        """The `Status` object."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": dict(self.meta),
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return body | {"code": self.code}


def qualified(resource: Resource) -> str:
    """A kind's name in messages: `deployments.apps`, `pods`."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _details(resource: Resource, name: str) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    return details | {"kind": resource.plural}


def bad_request(message: str) -> StatusError:
    return StatusError(400, message)


def plain_failure(message: str) -> StatusError:
    """StatusError 500 without a reason, as Kubernetes answers where its code returns a bare error."""
    return StatusError(500, message, reason="")


def not_found(resource: Resource, name: str) -> StatusError:
    return StatusError(404, f'{qualified(resource)} "{name}" not found', details=_details(resource, name))


def no_such_path() -> StatusError:
    return StatusError(404, "the server could not find the requested resource", details={})


def not_served(what: str) -> StatusError:
    """StatusError for what Kubernetes serves and this cluster does not."""
    return StatusError(501, f"the embedded cluster does not serve {what}")


def already_exists(resource: Resource, name: str, *, ending: bool = False) -> StatusError:
    """StatusError 409; `ending`: the object is still there, and is being deleted."""
    words = f'{"object is being deleted: " if ending else ""}{qualified(resource)} "{name}" already exists'
    return StatusError(409, words, reason="AlreadyExists", details=_details(resource, name))


def conflict(resource: Resource, name: str, why: str = "") -> StatusError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    return StatusError(
        409, f'Operation cannot be fulfilled on {qualified(resource)} "{name}": {why}', details=_details(resource, name)
    )


def forbidden(resource: Resource, name: str, why: str, *, cause: Cause | None = None) -> StatusError:
    details = _details(resource, name)
    if cause is not None:
        details["causes"] = [{"reason": cause.reason, "message": cause.message, "field": cause.field}]
    subject = f'{qualified(resource)} "{name}"' if name else qualified(resource)
    return StatusError(403, f"{subject} is forbidden: {why}", details=details)


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> StatusError:
    """StatusError 422 with every invalid field."""
    return invalid_kind(resource.group, resource.kind, name, causes)


def invalid_kind(group: str, kind: str, name: str, causes: Sequence[Cause]) -> StatusError:
    """As `invalid`, for a kind that is no resource: `PatchOptions.meta.k8s.io`, or a patch, which has no kind."""
    text = joined(causes)
    details: dict[str, Any] = {
        "name": name,
        "group": group,
        "kind": kind,
        "causes": [_cause(cause) for cause in causes],
    }
    for key in ("name", "group", "kind"):
        if not details[key]:
            del details[key]
    qualified_kind = f"{kind}.{group}" if group else kind
    return StatusError(422, f'{qualified_kind} "{name}" is invalid: {text}', details=details)


def gathered(causes: Iterable[Cause]) -> list[Cause]:
    """The causes, up to the first that are enough: each may quote the whole list that it is about, so that an answer
    could be as many times longer than its request as that list is long.
    """
    found: list[Cause] = []
    told = 0
    for cause in causes:
        found.append(cause)
        told += len(cause.message)
        if len(found) >= _MOST_CAUSES or told >= _MOST_TOLD:
            break
    return found


def joined(causes: Sequence[Cause]) -> str:
    """Causes as one text, each once, as field.ErrorList's aggregate has them."""
    told = list(dict.fromkeys(map(str, causes)))
    return told[0] if len(told) == 1 else "[" + ", ".join(told) + "]"


def _cause(cause: Cause) -> dict[str, str]:
    return {"reason": cause.reason, "message": cause.message, "field": cause.field}


def method_not_allowed() -> StatusError:
    return StatusError(405, "the server does not allow this method on the requested resource", details={})


def not_acceptable(message: str) -> StatusError:
    return StatusError(406, message)


def unsupported_media(got: str, accepted: Sequence[str]) -> StatusError:
    return StatusError(
        415,
        "the body of the request was in an unknown format - accepted media types include: "
        f"{', '.join(accepted)}; got {got or 'none'}",
    )


# Causes, in the words of field.Error


def required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value")


def wrong(field: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueInvalid", field, f"Invalid value: {_shown(value)}" + (f": {detail}" if detail else ""))


def unsupported(field: str, value: Any, supported: Sequence[str]) -> Cause:
    """The cause of an unsupported value; `supported` is in Kubernetes' order."""
    listed = ", ".join(f'"{one}"' for one in supported)
    return Cause("FieldValueNotSupported", field, f"Unsupported value: {_shown(value)}: supported values: {listed}")


def not_allowed(field: str, detail: str) -> Cause:
    return Cause("FieldValueForbidden", field, f"Forbidden: {detail}")


def duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", field, f"Duplicate value: {_shown(value)}")


def dangling(field: str, value: Any, detail: str = "") -> Cause:
    return Cause("FieldValueNotFound", field, f"Not found: {_shown(value)}" + (f": {detail}" if detail else ""))


def too_long(field: str, limit: int) -> Cause:
    why = f"may not be more than {limit} bytes" if limit >= 0 else "value is too long"
    return Cause("FieldValueTooLong", field, f"Too long: {why}")


def too_many(field: str, got: int, limit: int) -> Cause:
    return Cause("FieldValueTooMany", field, f"Too many: {got}: must have at most {limit} items")


def _shown(value: Any) -> str:
    """A value as formatted by Go's encoding/json."""
    text = json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
    if isinstance(value, str):
        return text
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
