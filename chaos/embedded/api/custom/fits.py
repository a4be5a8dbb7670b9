"""Validation of a custom resource against its schema, in the words of Kubernetes' OpenAPI validation.

Pure (k8s.io/kube-openapi/pkg/validation, .../apiextensions-apiserver/pkg/apiserver/validation). An update is not
checked where it changes nothing (ratcheting): a stricter schema does not lock stored objects.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final

from chaos.embedded.api.custom.values import HEAD, additional
from chaos.embedded.api.errors import Cause, required, too_long, too_many, unsupported, wrong

Schema = Mapping[str, Any]
Causes = Iterator[Cause]
TYPE_FAULT: Final = "FieldValueTypeInvalid"


class _Absent:
    """Marks a value without a counterpart in the old object."""


ABSENT: Final = _Absent()


def misfits(value: Any, schema: Schema, path: str = "", *, old: Any = ABSENT) -> list[Cause]:
    """Validate a value; `old` is its former value."""
    return list(_value(value, schema, path, old))


def _value(value: Any, schema: Schema, path: str, old: Any) -> Causes:
    if old is not ABSENT and _same(value, old):
        return
    if value is None:
        if not schema.get("nullable") and schema.get("type") and not schema.get("x-kubernetes-int-or-string"):
            yield _type_fault(path, str(schema["type"]), "null")
        yield from _enum(value, schema, path)
        return
    yield from _type(value, schema, path)
    yield from _combined(value, schema, path)
    if isinstance(value, str):
        yield from _text(value, schema, path)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        yield from _number(value, schema, path)
    elif isinstance(value, list):
        yield from _list(value, schema, path, old)
    yield from _enum(value, schema, path)
    if isinstance(value, dict):
        yield from _object(value, schema, path, old)


def _same(value: Any, old: Any) -> bool:
    return type(value) is type(old) and bool(value == old)


def _cause(path: str, value: Any, detail: str) -> Cause:
    return wrong(path or "<nil>", value, f"{path} in body {detail}" if path else f"{detail}")


_NAMES: Final[Mapping[type, str]] = {bool: "boolean", str: "string", dict: "object", list: "array", int: "integer"}


_MOST_EXACT: Final = 1 << 53  # beyond, a number with a fraction or exponent is no whole one


def type_name(value: Any) -> str:
    """The OpenAPI name of a value's JSON type."""
    if isinstance(value, float):
        return "integer" if value.is_integer() and abs(value) < _MOST_EXACT else "number"
    return _NAMES.get(type(value), "null")


def _type_fault(path: str, wanted: str, got: str) -> Cause:
    return Cause(
        TYPE_FAULT, path or "<nil>", f'Invalid value: "{got}": {path} in body must be of type {wanted}: "{got}"'
    )


def _type(value: Any, schema: Schema, path: str) -> Causes:
    got = type_name(value)
    if schema.get("x-kubernetes-int-or-string"):
        if got not in ("integer", "string"):
            yield _type_fault(path, "integer,string", got)
        return
    wanted, form = schema.get("type"), schema.get("format")
    if not wanted or got == wanted or (wanted == "number" and got == "integer"):
        return
    if form and not isinstance(value, str | list):
        number = "float64" if isinstance(value, float) else "int64"
        yield _type_fault(path, str(form), number if got in ("integer", "number") else "")
    else:
        yield _type_fault(path, str(wanted), got)


def _outside(value: int | float, schema: Schema, path: str, what: str) -> Causes:
    """Refuse a number that a whole one of the schema's format cannot hold."""
    if schema.get("type") != "integer":
        return
    form = schema.get("format")
    bound = 1 << (31 if form == "int32" else 63)
    if not float(value).is_integer() or not -bound <= value < bound:
        told = f"with format {form}" if form else "(default format)"
        yield wrong("<nil>", "", f"{what} value must be of type integer {told} in {path}")


def _text(value: str, schema: Schema, path: str) -> Causes:
    length = len(value)
    if (most := schema.get("maxLength")) is not None and length > most:
        yield too_long(path, most)
    if (least := schema.get("minLength")) is not None and length < least:
        yield _cause(path, value, f"should be at least {least} chars long")
    if (pattern := schema.get("pattern")) and not matches(pattern, value):
        yield _cause(path, value, f"should match '{pattern}'")
    form = schema.get("format")
    if form and schema.get("type") in ("string", None) and not has_form(value, str(form)):
        yield Cause(TYPE_FAULT, path, f'Invalid value: "{value}": {path} in body must be of type {form}: "{value}"')


def _number(value: int | float, schema: Schema, path: str) -> Causes:
    yield from _outside(value, schema, path, "Checked")
    if (step := schema.get("multipleOf")) is not None:
        yield from _outside(step, schema, path, "MultipleOf")
        if (value / step) % 1:
            yield _cause(path, value, f"should be a multiple of {_plain(float(step))}")
    if (most := schema.get("maximum")) is not None:
        yield from _outside(most, schema, path, "Maximum boundary")
        strict, bound = schema.get("exclusiveMaximum"), _bound(value, most, schema)
        if value > bound or (strict and value == bound):
            yield _cause(path, value, f"should be less than {'' if strict else 'or equal to '}{_plain(bound)}")
    if (least := schema.get("minimum")) is not None:
        yield from _outside(least, schema, path, "Minimum boundary")
        strict, bound = schema.get("exclusiveMinimum"), _bound(value, least, schema)
        if value < bound or (strict and value == bound):
            yield _cause(path, value, f"should be greater than {'' if strict else 'or equal to '}{_plain(bound)}")


def _bound(value: int | float, bound: int | float, schema: Schema) -> int | float:
    """A bound as a value is compared with it: a whole one with a whole one, where the schema can hold it."""
    outside = any(True for _ in _outside(bound, schema, "", ""))
    return float(bound) if isinstance(value, float) or outside else int(bound)


def _plain(number: int | float) -> str:
    """As Go prints it: a float64 with an exponent from a million on, and below a ten-thousandth."""
    if isinstance(number, int):
        return str(number)
    power = int(f"{float(number):e}".partition("e")[2])
    if -5 < power < 6:
        return str(int(number)) if float(number).is_integer() else repr(number)
    digits = repr(float(number)).partition("e")[0].replace(".", "").strip("-0")
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{'-' if number < 0 else ''}{mantissa}e{'+' if power >= 0 else '-'}{abs(power):02}"


def _list(value: Sequence[Any], schema: Schema, path: str, old: Any) -> Causes:
    items = schema.get("items")
    if isinstance(items, Mapping):
        before = counterparts(value, old, schema)
        for index, item in enumerate(value):
            yield from _value(item, items, f"{path}[{index}]", before[index])
    if (most := schema.get("maxItems")) is not None and len(value) > most:
        yield too_many(path, len(value), most)
    if (least := schema.get("minItems")) is not None and len(value) < least:
        yield _cause(path, len(value), f"should have at least {least} items")


def counterparts(value: Sequence[Any], old: Any, schema: Schema) -> list[Any]:
    """Each item's counterpart in the old list: by its keys in a map list, else only when the list is unchanged."""
    if not isinstance(old, list) or schema.get("x-kubernetes-list-type") != "map":
        return [ABSENT] * len(value)
    keys = schema.get("x-kubernetes-list-map-keys") or []
    known = {tuple(str(one.get(key)) for key in keys): one for one in old if isinstance(one, dict)}
    return [
        known.get(tuple(str(item.get(key)) for key in keys), ABSENT) if isinstance(item, dict) else ABSENT
        for item in value
    ]


def _enum(value: Any, schema: Schema, path: str) -> Causes:
    allowed = schema.get("enum")
    if allowed is not None and not any(type(value) is type(one) and value == one for one in allowed):
        yield unsupported(path, value, [one if isinstance(one, str) else _json(one) for one in allowed])


def _json(value: Any) -> str:
    import json

    return json.dumps(value, separators=(",", ":"))


def _object(value: dict[str, Any], schema: Schema, path: str, old: Any) -> Causes:
    before = old if isinstance(old, dict) else {}
    count = len(value)
    if (least := schema.get("minProperties")) is not None and count < least:
        yield _cause(path, value, f"should have at least {least} properties")
    if (most := schema.get("maxProperties")) is not None and count > most:
        yield too_many(path, count, most)
    for name in schema.get("required") or []:
        if name not in value:
            yield required(f"{path}.{name}" if path else name)
    properties, more = schema.get("properties") or {}, additional(schema)
    embedded = schema.get("x-kubernetes-embedded-resource")
    for name, item in value.items():
        where = f"{path}.{name}" if path else name
        if name in properties:
            yield from _value(item, properties[name], where, before.get(name, ABSENT))
        elif more is not None and not (embedded and name in HEAD):
            yield from _value(item, more, where, before.get(name, ABSENT))
        elif schema.get("additionalProperties") is False and not embedded:
            yield wrong(path or "<nil>", "", f".{name} in body is a forbidden property")


def _combined(value: Any, schema: Schema, path: str) -> Causes:
    shown = path or ""
    if (parts := schema.get("anyOf")) and not schema.get("x-kubernetes-int-or-string"):
        found = [misfits(value, part, path) for part in parts]
        if all(found):
            yield wrong("<nil>", "", f'"{shown}" must validate at least one schema (anyOf)')
            yield from min(found, key=len)
    if parts := schema.get("oneOf"):
        found = [misfits(value, part, path) for part in parts]
        good = sum(not one for one in found)
        if good != 1:
            why = "Found none valid" if not good else f"Found {good} valid alternatives"
            yield wrong("<nil>", "", f'"{shown}" must validate one and only one schema (oneOf). {why}')
        if not good:
            yield from min(found, key=len)
    if parts := schema.get("allOf"):
        found = [misfits(value, part, path) for part in parts]
        for one in found:
            yield from one
        if any(found):
            none = ". None validated" if all(found) else ""
            yield wrong("<nil>", "", f'"{shown}" must validate all the schemas (allOf){none}')
    if (part := schema.get("not")) is not None and not misfits(value, part, path):
        yield wrong("<nil>", "", f'"{shown}" must not validate the schema (not)')


# ---- patterns and formats


@lru_cache(maxsize=4096)
def _pattern(text: str) -> Any:
    import re2

    return re2.compile(text)


def matches(pattern: str, value: str) -> bool:
    """Whether the value contains a match of the pattern, in Go's regexp syntax."""
    return _pattern(pattern).search(value) is not None


def pattern_fault(text: str) -> str | None:
    """Why a pattern is no valid regular expression; None when it is."""
    import re2

    try:
        _pattern(text)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        return f"error parsing regexp: {said.decode() if isinstance(said, bytes) else said}"
    return None


def _is_time(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)", text):
        return False
    return _holds(datetime.fromisoformat, re.sub(r"\.\d+", "", text.upper()))


def _is_duration(text: str) -> bool:
    from chaos.embedded.api.cel import duration_nanoseconds

    if _holds(duration_nanoseconds, text):
        return True
    return re.fullmatch(rf"\d+ ?({_UNITS})s?", text.lower()) is not None  # as Scala writes them


_UNITS: Final = "ns|us|µs|ms|s|m|h|hr|d|w|(nano|micro|milli)(second)?|second|sec|min|minute|hour|day|week"


def _holds(check: Callable[[str], object], text: str) -> bool:
    try:
        check(text)
    except (ValueError, binascii.Error):
        return False
    return True


def _is_uri(text: str) -> bool:
    found = urllib.parse.urlsplit(text)
    return bool(text) and (bool(found.scheme) or text.startswith("/")) and not any(ord(c) < 0x21 for c in text)


_UUID: Final = r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?%s[0-9a-f]{3}-?%s[0-9a-f]{3}-?[0-9a-f]{12}"
_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_EXPRESSIONS: Final[Mapping[str, str]] = {
    "bsonobjectid": r"[0-9a-fA-F]{24}",
    "hostname": r"(?i)([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*\.?",
    "email": r"[^\s@<>]+@[^\s@<>]+",
    "mac": r"(?i)([0-9a-f]{2}([:-][0-9a-f]{2}){5}|[0-9a-f]{2}([:-][0-9a-f]{2}){7}|[0-9a-f]{4}(\.[0-9a-f]{4}){2,3})",
    "uuid": _UUID % ("[0-9a-f]", "[0-9a-f]"),
    "uuid3": _UUID % ("3", "[0-9a-f]"),
    "uuid4": _UUID % ("4", "[89ab]"),
    "uuid5": _UUID % ("5", "[89ab]"),
    "isbn10": r"\d{9}[\dXx]",
    "isbn13": r"97[89]-?\d{1,10}-?\d*",
    "isbn": r"(\d{9}[\dXx]|97[89]-?\d{1,10}-?\d*)",
    "ssn": r"\d{3}[- ]?\d{2}[- ]?\d{4}",
    "hexcolor": r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})",
    "rgbcolor": r"rgb\(\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*\)",
    "k8sshortname": _LABEL,
    "k8slongname": rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*",
}
_READERS: Final[Mapping[str, Callable[[str], bool]]] = {
    "uri": _is_uri,
    "ipv4": lambda text: _holds(ipaddress.IPv4Address, text),
    "ipv6": lambda text: _holds(ipaddress.IPv6Address, text),
    "cidr": lambda text: "/" in text and _holds(ipaddress.ip_interface, text),
    "byte": lambda text: _holds(lambda one: base64.b64decode(one, validate=True), text),
    "date": lambda text: len(text) == 10 and _holds(date.fromisoformat, text),
    "datetime": _is_time,
    "duration": _is_duration,
    "password": lambda text: True,
}


def is_known_form(form: str, kind: str) -> bool:
    """Whether the format is checked; unknown formats are recorded and ignored."""
    if kind in ("", "string"):
        plain = form.replace("-", "")
        return plain in _EXPRESSIONS or plain in _READERS or plain == "creditcard"
    return form in {"integer": ("int32", "int64"), "number": ("float", "double")}.get(kind, ())


def has_form(text: str, form: str) -> bool:
    """Whether a text has the format; True for an unknown format."""
    plain = form.replace("-", "")
    if plain in _READERS:
        return _READERS[plain](text)
    expression = _EXPRESSIONS.get(plain)
    return expression is None or re.fullmatch(expression, text, re.ASCII) is not None
