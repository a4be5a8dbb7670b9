"""Kinds that hold data and little else: ConfigMap, Secret, Lease, Event."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from chaos.embedded.api.errors import Cause, wrong
from chaos.embedded.api.validation.names import Causes
from chaos.embedded.resources import Object

_CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")


def config_map(obj: Object) -> Causes:
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (obj.get(field) or {}).items():
            size += len(value)
            if not _CONFIG_KEY.fullmatch(key) or len(key) > 253:
                yield wrong(
                    f"{field}[{key}]",
                    key,
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
                    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                )
            elif key in (".", ".."):
                yield wrong(f"{field}[{key}]", key, f"must not be '{key}'")
            elif key.startswith(".."):
                yield wrong(f"{field}[{key}]", key, "must not start with '..'")
            if field == "binaryData" or obj["kind"] == "Secret":
                yield from _base64(value, f"{field}[{key}]")
    if size > 1024 * 1024:
        yield Cause("FieldValueTooLong", "", "Too long: may not be more than 1048576 bytes")


def _base64(value: str, field: str) -> Causes:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        yield wrong(field, value, "illegal base64 data")


def lease(obj: Object) -> Causes:
    if (obj.get("spec") or {}).get("leaseDurationSeconds", 1) <= 0:
        yield wrong("spec.leaseDurationSeconds", obj["spec"]["leaseDurationSeconds"], "must be greater than 0")


def event(obj: Object) -> Causes:
    about = obj.get("involvedObject") or {}
    namespace = about.get("namespace", "")
    if (
        namespace
        and namespace != obj["metadata"].get("namespace")
        and not (obj["metadata"].get("namespace") == "default" and about.get("kind") in ("Node", "Namespace"))
    ):
        yield wrong("involvedObject.namespace", namespace, "does not match event.namespace")
