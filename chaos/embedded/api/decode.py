"""From the bytes of a body to an object that fits its kind's schema. Pure; called by rest and the subresources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from chaos.embedded.api import protobuf
from chaos.embedded.api import schema as schemas
from chaos.embedded.api.errors import Cause, bad_request, invalid, unsupported_media
from chaos.embedded.resources import Resource

MAX_BODY: Final = 3 * 1024 * 1024  # as Kubernetes' own limit
_MAX_DEPTH: Final = 100
_YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml", "application/apply-patch+yaml")
# required by the published schemas, filled in by the server's defaults
_FILLED: Final = frozenset({"roleRef.apiGroup", "endpoints", "metadata", "template", "spec.template.spec.containers"})


@dataclass(frozen=True, slots=True)
class Decoded:
    """An object, and the unknown fields that were dropped from it."""

    object: dict[str, Any]
    unknown: tuple[str, ...] = ()


def parse(body: bytes, content_type: str) -> Any:
    """JSON, YAML or protobuf; StatusError 400 or 415."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _YAML and not body.lstrip().startswith(b"{"):
        return _checked(_yaml(body))
    if kind == protobuf.MEDIA_TYPE:
        try:
            return protobuf.decode(body)
        except ValueError as error:
            raise bad_request(f"couldn't decode protobuf: {error}") from None
    if kind not in (
        "",
        "application/json",
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        *_YAML,
    ) and not kind.endswith("+json"):
        raise unsupported_media(kind, ("application/json", "application/yaml"))
    try:
        return _checked(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None


def _yaml(body: bytes) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """No aliases: a short text must not unfold into a huge one."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases are not accepted")
            return super().compose_node(parent, index)

    try:
        return orjson.loads(orjson.dumps(yaml.load(body, Loader), option=orjson.OPT_NON_STR_KEYS))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise bad_request(f"error parsing YAML: {str(error).splitlines()[0] if str(error) else 'malformed'}") from None


def _checked(value: Any) -> Any:
    """Not nested deeper than anything that Kubernetes knows: copying it must not exhaust the stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise bad_request(f"json: nested deeper than {_MAX_DEPTH} levels")
        level = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
    return value


def as_object(resource: Resource, value: Any, *, strictness: str = "Warn", status_too: bool = False) -> Decoded:
    """Check a parsed value against the kind's schema: 400 for wrong kinds, types and (Strict) unknown fields, 422 for
    missing ones."""
    if not isinstance(value, dict):
        raise bad_request(
            f"couldn't get version/kind; json parse error: cannot unmarshal {type(value).__name__} into a Kubernetes "
            "object"
        )
    for key, wanted, words in (("kind", resource.kind, "kind"), ("apiVersion", resource.api_version, "API version")):
        given = value.get(key)
        if given not in (None, "", wanted):
            raise bad_request(f"the {words} in the data ({given}) does not match the expected {words} ({wanted})")
    value = value | {"kind": resource.kind, "apiVersion": resource.api_version}
    findings = schemas.Findings([], [], [])
    cleaned = schemas.clean(value, schemas.of(resource), findings)
    if findings.mismatches:
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"{findings.mismatches[0]}"
        )
    if findings.unknown and strictness == "Strict":
        listed = ", ".join(f'unknown field "{name}"' for name in findings.unknown)
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {listed}"
        )
    missing = [
        one
        for one in findings.missing
        if one.field not in _FILLED and (status_too or not one.field.startswith("status"))
    ]
    meta = cleaned.setdefault("metadata", {})
    if missing:
        raise invalid(resource, str(meta.get("name", "")), list[Cause](missing))
    return Decoded(cleaned, tuple(findings.unknown) if strictness == "Warn" else ())


def strictness_of(value: str) -> str:
    if value not in ("", "Ignore", "Warn", "Strict"):
        raise bad_request(
            f'fieldValidation parameter: Unsupported value: "{value}": supported values: "Ignore", "Warn", "Strict"'
        )
    return value or "Warn"
