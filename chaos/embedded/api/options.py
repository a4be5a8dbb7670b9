"""Request options: dryRun, fieldManager, fieldValidation and those of delete and list, all checked at once.

Each is refused as by Kubernetes: 422 with the options' own kind (`DeleteOptions.meta.k8s.io "" is invalid`), 400 for
what is no number (k8s.io/apimachinery/pkg/apis/meta/v1/validation, .../internalversion/validation). Pure; called by
rest, watching and the subresources.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.embedded.api import decode
from chaos.embedded.api import schema as schemas
from chaos.embedded.api.errors import (
    Cause,
    StatusError,
    bad_request,
    invalid_kind,
    not_allowed,
    plain_failure,
    required,
    too_long,
    unsupported,
    wrong,
)
from chaos.embedded.deletion import Propagation

Query = Mapping[str, str]
_META: Final = "meta.k8s.io"
_STRICTNESS: Final = ("", "Ignore", "Strict", "Warn")
_PROPAGATION: Final = ("Foreground", "Background", "Orphan", "nil")
_LONGEST_MANAGER: Final = 128
_INT64: Final = 1 << 63
_DIGITS: Final = 4300  # that int() takes, by sys.int_info


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """The options of a create, update or patch."""

    dry: bool
    strictness: str
    manager: str
    force: bool


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """The options of a delete, a deletecollection or an eviction."""

    dry: bool = False
    grace: int | None = None
    propagation: Propagation | None = None
    uid: str | None = None
    resource_version: str | None = None

    def as_object(self) -> dict[str, Any]:
        """The options as a DeleteOptions object, for admission."""
        conditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        given = {name: value for name, value in conditions.items() if value is not None}
        found: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": f"{_META}/v1"}
        found |= {"gracePeriodSeconds": self.grace} if self.grace is not None else {}
        found |= {"propagationPolicy": self.propagation} if self.propagation is not None else {}
        found |= {"preconditions": given} if given else {}
        return found | ({"dryRun": ["All"]} if self.dry else {})


def is_true(query: Query, name: str) -> bool:
    """A boolean parameter: true unless absent, `false` or `0`."""
    return query.get(name, "false") not in ("false", "0")


def number(query: Query, name: str) -> int | None:
    """Parse a whole number, or None; raises StatusError 400 in the words of Go's strconv."""
    text = query.get(name, "")
    if text == "":
        return None
    if not re.fullmatch(r"[-+]?[0-9]+", text, re.ASCII):
        raise bad_request(f'strconv.ParseInt: parsing "{text[:60]}": invalid syntax')
    value = int(text) if len(text) <= _DIGITS else _INT64
    if not -_INT64 <= value < _INT64:
        raise bad_request(f'strconv.ParseInt: parsing "{text[:60]}": value out of range')
    return value


def write_options(verb: str, query: Query, *, applying: bool = False) -> WriteOptions:
    """Read the options of a create, update or patch; raises StatusError 422 with every problem."""
    causes: list[Cause] = []
    manager, strictness, dry = (query.get(name, "") for name in ("fieldManager", "fieldValidation", "dryRun"))
    if verb == "patch" and not applying and "force" in query:
        causes.append(not_allowed("force", "may not be specified for non-apply patch"))
    if applying and not manager:
        causes.append(required("fieldManager", "is required for apply patch"))
    if len(manager.encode()) > _LONGEST_MANAGER:
        causes.append(too_long("fieldManager", _LONGEST_MANAGER))
    unprintable = next((char for char in manager if not char.isprintable()), None)
    if unprintable is not None:
        causes.append(wrong("fieldManager", manager, "should only contain printable characters"))
    causes += _dry_run([dry] if dry else [])
    if strictness not in _STRICTNESS:
        causes.append(unsupported("fieldValidation", strictness, _STRICTNESS))
    if causes:
        raise invalid_kind(_META, f"{verb.capitalize()}Options", "", causes)
    return WriteOptions(dry == "All", strictness or "Warn", manager, is_true(query, "force"))


def as_object(operation: str, verb: str, query: Query, *, applying: bool) -> dict[str, Any]:
    """A write's options as an object of meta.k8s.io/v1, for admission."""
    kind = "PatchOptions" if verb == "patch" else "CreateOptions" if operation == "CREATE" else "UpdateOptions"
    found: dict[str, Any] = {"kind": kind, "apiVersion": f"{_META}/v1"}
    found |= {name: query[name] for name in ("fieldManager", "fieldValidation") if query.get(name)}
    if query.get("dryRun"):
        found["dryRun"] = [query["dryRun"]]
    if applying:
        found["force"] = is_true(query, "force")
    return found


def _dry_run(values: Sequence[str]) -> list[Cause]:
    return [unsupported("dryRun", list(values), ("All",))] if set(values) - {"All"} else []


def delete_options(query: Query, body: bytes, content_type: str) -> DeleteOptions:
    """Read delete options from the body, else from the query; raises StatusError 400 and 422."""
    if body.strip():
        return options_of_delete(_delete_body(body, content_type))
    given: dict[str, Any] = {}
    if "propagationPolicy" in query:
        given["propagationPolicy"] = query["propagationPolicy"]
    if (grace := number(query, "gracePeriodSeconds")) is not None:
        given["gracePeriodSeconds"] = grace
    if "orphanDependents" in query:
        given["orphanDependents"] = is_true(query, "orphanDependents")
    if query.get("dryRun"):
        given["dryRun"] = [query["dryRun"]]
    return options_of_delete(given)


def _delete_body(body: bytes, content_type: str) -> Mapping[str, Any]:
    value = decode.parse(body, content_type)
    if not isinstance(value, dict) or value.get("kind") not in (None, "", "DeleteOptions"):
        raise bad_request("the body of a delete must be a DeleteOptions object")
    findings = schemas.Findings([], [])
    value.pop("apiVersion", None)
    options: dict[str, Any] = schemas.clean(value, schemas.named(f"{schemas.META}.DeleteOptions"), findings)
    if findings.mismatches:
        raise bad_request(
            f'DeleteOptions in version "v1" cannot be handled as a DeleteOptions: {findings.mismatches[0]}'
        )
    return options


def options_of_delete(given: Mapping[str, Any]) -> DeleteOptions:
    """Read a DeleteOptions object, which an Eviction carries too; raises StatusError 422."""
    causes: list[Cause] = []
    propagation = given.get("propagationPolicy")
    if "orphanDependents" in given and propagation is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(wrong("propagationPolicy", propagation, why))
    if propagation is not None and propagation not in _PROPAGATION[:3]:
        causes.append(unsupported("propagationPolicy", propagation, _PROPAGATION))
    causes += _dry_run(given.get("dryRun") or [])
    if causes:
        raise invalid_kind(_META, "DeleteOptions", "", causes)
    if propagation is None and "orphanDependents" in given:
        propagation = "Orphan" if given["orphanDependents"] else "Background"
    conditions = given.get("preconditions") or {}
    return DeleteOptions(
        bool(given.get("dryRun")),
        given.get("gracePeriodSeconds"),
        propagation,
        conditions.get("uid"),
        conditions.get("resourceVersion"),
    )


def check_list(query: Query, *, watching: bool) -> None:
    """Check a list's resourceVersionMatch and sendInitialEvents together; StatusError 400 and 422."""
    for name in ("limit", "timeoutSeconds"):
        number(query, name)
    causes = list(_watch_causes(query) if watching else _list_causes(query))
    if causes:
        raise invalid_kind(_META, "ListOptions", "", causes)
    if not watching and query.get("continue") and query.get("resourceVersion", "0") not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")


def _list_causes(query: Query) -> list[Cause]:
    causes, field, match = [], "resourceVersionMatch", query.get("resourceVersionMatch", "")
    if match:
        if not query.get("resourceVersion"):
            causes.append(not_allowed(field, f"{field} is forbidden unless resourceVersion is provided"))
        if query.get("continue"):
            causes.append(not_allowed(field, f"{field} is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            causes.append(unsupported(field, match, ("Exact", "NotOlderThan", "")))
        if match == "Exact" and query.get("resourceVersion") == "0":
            causes.append(not_allowed(field, f'{field} "exact" is forbidden for resourceVersion "0"'))
    if "sendInitialEvents" in query:
        causes.append(not_allowed("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _watch_causes(query: Query) -> list[Cause]:
    causes, field, match = [], "resourceVersionMatch", query.get("resourceVersionMatch", "")
    if "sendInitialEvents" in query and match != "NotOlderThan":
        causes.append(not_allowed(field, f"sendInitialEvents requires setting {field} to NotOlderThan"))
    if match:
        if "sendInitialEvents" not in query:
            causes.append(not_allowed(field, f"{field} is forbidden for watch unless sendInitialEvents is provided"))
        if match != "NotOlderThan":
            causes.append(unsupported(field, match, ("NotOlderThan",)))
        if query.get("continue"):
            causes.append(not_allowed(field, f"{field} is forbidden when continue is provided"))
    return causes


def version_asked(query: Query, present: int, *, listing: bool) -> int | None:
    """`resourceVersion` of a read; None without one. Raises StatusError 504 for a future one, as informers expect."""
    text = query.get("resourceVersion", "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII):
        why = f'resourceVersion: Invalid value: "{text[:60]}": strconv.ParseUint: parsing "{text[:60]}": invalid syntax'
        raise bad_request(f"invalid resource version: {why}") if listing else plain_failure(why)
    if int(text) > present:
        raise too_large_version(int(text), present)
    return int(text)


def too_large_version(asked: int, present: int) -> StatusError:
    words = "Too large resource version"
    return StatusError(
        504,
        f"Timeout: {words}: {asked}, current: {present}",
        details={"causes": [{"reason": "ResourceVersionTooLarge", "message": words}], "retryAfterSeconds": 1},
        retry_after=1,
    )
