"""Patches of stored objects: decoded, applied, and refused in Kubernetes' words. Pure; called by rest."""

from __future__ import annotations

from typing import Any, Final

import orjson

from chaos.embedded.api import decode, fieldsets, patches
from chaos.embedded.api import schema as schemas
from chaos.embedded.api.calls import APPLY, Call
from chaos.embedded.api.errors import StatusError, bad_request, invalid_kind, plain_failure, wrong
from chaos.embedded.resources import Object, Resource


def parsed(body: bytes, kind: str) -> Any:
    if kind == APPLY:
        return decode.parse(body, APPLY)
    try:
        return decode.read(body, "application/json").value
    except decode.Undecodable as error:
        why = str(error).removeprefix("couldn't get version/kind; json parse error: ")
        raise bad_request(f"error decoding patch: {why}") from None


def decoded_patch(resource: Resource, patched: Any, strictness: str) -> decode.Decoded:
    """Decode a patch's result as an object of the kind; StatusError 422 for an invalid one, in Kubernetes' words."""
    try:
        found, unknown = decode.decoded(resource, patched)
    except StatusError as error:
        raise _bad_patch(patched, error.message.partition(" cannot be handled as a ")[2].partition(": ")[2]) from None
    faults = tuple(f'unknown field "{name}"' for name in unknown)
    if faults and strictness == "Strict":
        raise _bad_patch(patched, f"strict decoding error: {', '.join(faults)}")
    return decode.Decoded(found, faults if strictness == "Warn" else ())


def _bad_patch(patched: Any, why: str) -> StatusError:
    return invalid_kind("", "", "", [wrong("patch", orjson.dumps(patched).decode(), why)])


def refuse_undeclared(call: Call, config: Any) -> None:
    """Refuse unknown fields in a server-side apply, whatever fieldValidation says."""
    _, unknown = decode.decoded(call.resource, config)
    if unknown:
        raise _untyped(call, config, f".{unknown[0]}: field not declared in schema")


def refuse_repeated(call: Call, config: Any) -> None:
    """Refuse items of a list that are there twice in a server-side apply: nobody could own one of them."""
    found = fieldsets.repeated(config, schemas.reference(call.resource) or schemas.of(call.resource))
    if found is not None:
        raise _untyped(call, config, f"{fieldsets.dotted(found[0])}: duplicate entries for key {found[1]}")


def refuse_other_type(resource: Resource, config: Any) -> None:
    """Refuse an applied object of another kind than the path's, or of none."""
    version = str(config.get("apiVersion") or "")
    if (version, config.get("kind")) != (resource.api_version, resource.kind):
        shown = version if "/" in version else f"/{version}"
        raise bad_request(f"invalid object type: {shown}, Kind={config.get('kind') or ''}")


def _untyped(call: Call, config: Any, why: str) -> StatusError:
    about = config.get("metadata") or {}
    of = f"{call.resource.group}/{call.resource.version}, Kind={call.resource.kind}"
    subject = f"{about.get('namespace', '')}/{about.get('name', '')}; {of}"
    return plain_failure(f"failed to create typed patch object ({subject}): {why}")


_JSON_TYPES: Final = {list: "array", str: "string", bool: "bool"}


def patched_object(resource: Resource, old: Object, kind: str, patch: Any) -> Any:
    """Apply a JSON, merge or strategic merge patch to the object."""
    if kind == "application/json-patch+json":
        return patches.json_patch(old, patch)
    if patch is None:
        raise bad_request("Invalid JSON Patch")
    if not isinstance(patch, dict):
        got = _JSON_TYPES.get(type(patch), "number")
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {got} into Go value of type map[string]interface {{}}"
        )
    if kind == "application/merge-patch+json":
        return patches.merge(old, patch)
    return patches.strategic(old, patch, schemas.of(resource))


def internal(resource: Resource) -> str:
    """The Go package of a group's types, for messages."""
    return resource.group.partition(".")[0] or "core"
