"""Decode a body into an object of its kind's schema, with errors in the words of Kubernetes' decoders.

Pure; called by rest and the subresources.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from chaos.embedded.api import protobuf
from chaos.embedded.api import schema as schemas
from chaos.embedded.api.errors import StatusError, bad_request, unsupported_media
from chaos.embedded.resources import Resource

if TYPE_CHECKING:
    import yaml

MAX_BODY: Final = 3 * 1024 * 1024  # as Kubernetes' own limit
_MAX_DEPTH: Final = 100
_YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml", "application/apply-patch+yaml")
_JSON: Final = ("", "application/json", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded")
HEAD: Final = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_DEPTH: Final = "depth limit exceeded"  # in orjson's words, far beyond ours
_NAMES: Final = {list: "array", str: "string", bool: "bool"}


class Undecodable(ValueError):
    """The body is not an object; the text is the decoder's."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An object, and what a strict decoder would refuse: unknown fields (dropped) and duplicate fields."""

    object: dict[str, Any]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """A parsed body; `twice` names its duplicate fields."""

    value: Any
    twice: tuple[str, ...] = ()


def parse(body: bytes, content_type: str) -> Any:
    """Parse JSON, YAML or protobuf; raises StatusError 400 or 415."""
    try:
        return read(body, content_type).value
    except Undecodable as error:
        raise bad_request(str(error)) from None


def read(body: bytes, content_type: str) -> Body:
    """As `parse`; raises Undecodable for malformed text, and StatusError 400 or 415."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _YAML and not body.lstrip().startswith(b"{"):
        return Body(shallow(_yaml(body)))
    if kind == protobuf.MEDIA_TYPE:
        try:
            return Body(protobuf.decode(body))
        except ValueError as error:
            raise bad_request(f"couldn't decode protobuf: {error}") from None
    if kind not in (*_JSON, *_YAML) and not kind.endswith("+json"):
        raise unsupported_media(
            kind, ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor")
        )
    try:
        value = shallow(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        if _DEPTH in str(error):
            raise _too_deep() from None
        raise Undecodable(f"couldn't get version/kind; json parse error: {_json_fault(body, error)}") from None
    return Body(value, tuple(_given_twice(body)))


def _json_fault(body: bytes, error: orjson.JSONDecodeError) -> str:
    """A syntax error in the words of Go's encoding/json."""
    try:
        json.loads(body)
    except json.JSONDecodeError as found:
        text = body.decode(errors="replace")
        at = found.pos + (len(text[found.pos :]) - len(text[found.pos :].lstrip()))
        if at >= len(text.rstrip()) or "Unterminated" in found.msg:
            return "unexpected end of JSON input"
        where = {
            "Expecting value": "looking for beginning of value",
            "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
            "Illegal trailing comma before end of object": "looking for beginning of object key string",
            "Illegal trailing comma before end of array": "looking for beginning of value",
            "Expecting ':' delimiter": "after object key",
            "Extra data": "after top-level value",
        }.get(found.msg)
        if where is None and found.msg == "Expecting ',' delimiter":
            where = "after array element" if _in_array(text[:at]) else "after object key:value pair"
        if where is not None:
            return f"invalid character {_go_quoted(text[at])} {where}"
    except UnicodeDecodeError:
        pass
    return str(error)


def _go_quoted(char: str) -> str:
    return "'\\''" if char == "'" else f"'{char}'"


def _in_array(before: str) -> bool:
    depth, quoted, escaped = [], False, False
    for char in before:
        if quoted:
            quoted, escaped = escaped or char != '"', char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth.append(char)
        elif char in "]}" and depth:
            depth.pop()
    return bool(depth) and depth[-1] == "["


class _Twice(dict[str, Any]):
    """An object of a body, with its duplicate keys."""

    repeated: tuple[str, ...] = ()


def _given_twice(body: bytes) -> list[str]:
    """Paths of duplicate fields in a JSON text."""
    any_found = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal any_found
        found = _Twice(items)
        if len(found) < len(items):
            times = Counter(name for name, _ in items)
            found.repeated = tuple(name for name, number in times.items() if number > 1)
            any_found = True
        return found

    value = json.loads(body.decode(), object_pairs_hook=pairs)
    return list(_repeated(value, "")) if any_found else []


def _repeated(value: Any, path: str) -> Sequence[str]:
    found: list[str] = []
    if isinstance(value, _Twice):
        found += [f"{path}.{name}" if path else name for name in value.repeated]
        for name, item in value.items():
            found += _repeated(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += _repeated(item, f"{path}[{index}]")
    return found


@cache
def yaml_loader() -> type[yaml.SafeLoader]:
    """YAML 1.1 as Kubernetes' reader takes it: `y`, `on` and `no` are booleans, times and 1:30 are text."""
    import re

    import yaml

    class Loader(_yaml_parser()):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, str | int | float | bool) and key in seen:
                    raise yaml.YAMLError(f'line {key_node.start_mark.line + 1}: key "{key}" already set in map')
                if isinstance(key, str | int | float | bool):
                    seen.add(key)
            found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
            return found

    kept = {
        first: [(tag, pattern) for tag, pattern in rules if not tag.endswith((":timestamp", ":int", ":bool"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.yaml_implicit_resolvers = kept
    whole = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)")
    truth = re.compile(r"y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON|n|N|no|No|NO|false|False|FALSE|off|Off|OFF")
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", _whole(whole), list("-+0123456789"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _whole(truth), list("yYnNtTfFoO"))
    Loader.bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}
    return Loader


def _yaml_parser() -> Any:
    """The parser in C, where it is installed: the one in Python takes a minute for the longest body."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _refuse_unwieldy(body: bytes) -> None:
    """Raise YAMLError for aliases, by which a short text could expand into a huge one, and StatusError 400 for a text
    that is nested too deeply for a parser that recurs.
    """
    import yaml

    depth = 0
    for event in yaml.parse(body, _yaml_parser()):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("YAML aliases are not supported, write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise _too_deep()


def _whole(pattern: Any) -> Any:
    import re

    return re.compile(rf"(?:{pattern.pattern})\Z")


def _yaml(body: bytes) -> Any:
    import yaml

    try:
        _refuse_unwieldy(body)
        return orjson.loads(orjson.dumps(yaml.load(body, yaml_loader()), option=orjson.OPT_NON_STR_KEYS))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise Undecodable(f"yaml: line {line}: {error.problem}") from None
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise Undecodable(f"yaml: {str(error).splitlines()[0] if str(error) else 'malformed'}") from None


def _too_deep() -> StatusError:
    return bad_request(f"json: nested deeper than {_MAX_DEPTH} levels")


def shallow(value: Any) -> Any:
    """Return the value unless it is nested too deeply to be copied without exhausting the stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise _too_deep()
        level = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
    return value


def body_object(resource: Resource, body: bytes, content_type: str, *, strictness: str = "Warn") -> Decoded:
    """Decode a body's object; raises StatusError 400, and 415 for another media type."""
    try:
        found = read(body, content_type)
        value = found.value
        if value is None:
            value = {}
        if not isinstance(value, dict):
            got = _NAMES.get(type(value), "number")
            raise Undecodable(
                f"couldn't get version/kind; json parse error: json: cannot unmarshal {got} into Go value of type "
                f"{HEAD}"
            )
    except Undecodable as error:
        raise bad_request(
            f"the object provided is unrecognized (must be of type {resource.kind}): {error} ({_summary(body)})"
        ) from None
    return as_object(resource, value, strictness=strictness, twice=found.twice)


def _summary(body: bytes, longest: int = 30) -> str:
    """The beginning of a body for messages: text if it looks like JSON, else hexadecimal."""
    if not body:
        return "<empty>"
    more = " ..." if len(body) > longest else ""
    if body.startswith(b"{"):
        return body[:longest].decode(errors="replace") + more
    return body[:longest].hex() + more


def as_object(resource: Resource, value: Any, *, strictness: str = "Warn", twice: Sequence[str] = ()) -> Decoded:
    """Check a parsed value against the kind's schema; StatusError 400 for wrong kinds, types and (Strict) unknown
    fields.
    """
    found, unknown = decoded(resource, value)
    faults = [*(f'duplicate field "{name}"' for name in twice), *(f'unknown field "{name}"' for name in unknown)]
    if faults and strictness == "Strict":
        raise cannot_handle(resource, f"strict decoding error: {', '.join(faults)}")
    return Decoded(found, tuple(faults) if strictness == "Warn" else ())


def decoded(resource: Resource, value: Any) -> tuple[dict[str, Any], list[str]]:
    """(the value as an object of the kind, the dropped unknown fields). Raises StatusError 400."""
    if not isinstance(value, dict):
        raise bad_request(f"couldn't get version/kind; json parse error: {_NAMES.get(type(value), 'number')}")
    if resource.custom is not None:
        from chaos.embedded.api.custom import objects

        return objects.decoded(resource, value)
    kind, version = value.get("kind") or resource.kind, value.get("apiVersion") or resource.api_version
    if (kind, version) != (resource.kind, resource.api_version):
        raise _of_another_kind(resource, value, str(kind), str(version))
    findings = schemas.Findings([], [])
    whole = value | {"kind": resource.kind, "apiVersion": resource.api_version}
    cleaned = schemas.clean(whole, schemas.reference(resource), findings)
    if findings.mismatches:
        raise cannot_handle(resource, findings.mismatches[0])
    cleaned.setdefault("metadata", {})
    return cleaned, findings.unknown


def cannot_handle(resource: Resource, why: str) -> StatusError:
    return bad_request(f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}')


# versions whose kinds Kubernetes can still read, and serves no more
_RETIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "apps": ("v1beta1", "v1beta2"),
    "batch": ("v1beta1",),
    "coordination.k8s.io": ("v1beta1",),
    "discovery.k8s.io": ("v1beta1",),
    "events.k8s.io": ("v1beta1",),
    "networking.k8s.io": ("v1beta1",),
    "policy": ("v1beta1",),
    "rbac.authorization.k8s.io": ("v1alpha1", "v1beta1"),
    "scheduling.k8s.io": ("v1alpha1", "v1beta1"),
    "extensions": ("v1beta1",),
}


def _of_another_kind(resource: Resource, value: dict[str, Any], kind: str, api_version: str) -> StatusError:
    group, _, version = api_version.rpartition("/")
    schema = schemas.definition_name(group, version, kind)
    if kind == resource.kind and (schema is not None or version in _RETIRED.get(group, ())):
        return bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if schema is None:
        why = f'no kind "{kind}" is registered for version "{api_version}" in scheme "pkg/runtime/scheme.go:111"'
    else:
        findings = schemas.Findings([], [])
        schemas.clean(value, schemas.definitions()[schema], findings)
        internal = resource.group.partition(".")[0] or "core"
        crossing = f"converting ({version}.{kind}) to ({internal}.{resource.kind}): unknown conversion"
        why = findings.mismatches[0] if findings.mismatches else crossing
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {resource.kind}: {why}')
