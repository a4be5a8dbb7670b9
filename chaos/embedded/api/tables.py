"""The Table that `kubectl get` prints: columns and rows (`cells`). Pure; called by lists, gets and watches.

Follows k8s.io/kubernetes/pkg/printers/internalversion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from chaos.embedded.api import schema as schemas
from chaos.embedded.api.cells import ROWS, age, created_cells, event_cells, name_cell
from chaos.embedded.api.custom import objects
from chaos.embedded.api.errors import bad_request
from chaos.embedded.clock import parse_time
from chaos.embedded.resources import Object, Resource


@cache
def _columns() -> Mapping[str, list[tuple[str, str, str, int, str | tuple[str, str]]]]:
    """By kind: name, type, format, priority and description, or the definition's field with the same description.

    `columns.json` is what k8s.io/kubernetes/pkg/printers/internalversion declares; "" is for kinds without columns.
    """
    held: Mapping[str, Any] = orjson.loads(Path(__file__).with_name("columns.json").read_bytes())
    return held


def columns(resource: Resource) -> list[dict[str, Any]]:
    """The kind's columns."""
    if resource.custom is not None:
        return [_name_column(), *(_custom_column(one) for one in resource.custom.columns)]
    held = _columns()
    return [
        {"name": name, "type": kind, "format": form, "description": _described(about), "priority": priority}
        for name, kind, form, priority, about in held.get(resource.kind, held[""])
    ]


def _name_column() -> dict[str, Any]:
    said = schemas.described(f"{schemas.META}.ObjectMeta", "name")
    return {"name": "Name", "type": "string", "format": "name", "description": said, "priority": 0}


def _custom_column(column: Mapping[str, Any]) -> dict[str, Any]:
    """A printer column of a definition; without any, the age, described as its field is."""
    said = column.get("description")
    if not said:
        said = f"Custom resource definition column (in JSONPath format): {column['jsonPath']}"
    return {
        "name": column["name"],
        "type": column["type"],
        "format": column.get("format", ""),
        "description": said,
        "priority": column.get("priority", 0),
    }


def _custom_cells(resource: Resource, obj: Object, now: datetime) -> list[Any]:
    cells = []
    for column in resource.custom.columns if resource.custom is not None else ():
        value = objects.cell(column, obj)
        if column["type"] == "date" and value is not None:
            value = _since(value, now)
        cells.append(value)
    return cells


def _since(text: str, now: datetime) -> str:
    if not text:
        return "<unknown>"
    try:
        moment = parse_time(text)
    except ValueError:
        return "<invalid>"
    return age(moment, now) if moment <= now else "<invalid>"


def _described(about: str | Sequence[str]) -> str:
    if isinstance(about, str):
        return about
    definition, field = about
    return schemas.described(f"io.k8s.{definition}", field)


def included(query: Mapping[str, str]) -> str:
    """`includeObject` of a query; StatusError 400 for an unknown value."""
    asked = query.get("includeObject", "Metadata") or "Metadata"
    if asked not in ("None", "Metadata", "Object"):
        raise bad_request(
            f'Unable to convert to Table as requested: includeObject: Invalid value: "{asked}": '
            "must be 'Metadata', 'Object', 'None', or empty"
        )
    return asked


def version(accept: str) -> str:
    """The requested version of Table: v1, or v1beta1 for old clients."""
    return "v1beta1" if "v=v1beta1" in accept.partition(",")[0] else "v1"


def row(resource: Resource, obj: Object, now: datetime, include: str, form: str = "v1") -> dict[str, Any]:
    """One object's cells, with the object as `includeObject` asks: None, Metadata or Object."""
    if resource.custom is not None:
        cells = [obj["metadata"]["name"], *_custom_cells(resource, obj, now)]
    elif resource.kind == "Event":
        cells = event_cells(obj, now)
    else:
        shown = ROWS.get(resource.kind)
        cells = [name_cell(resource, obj), *(shown(obj, now) if shown else created_cells(obj, now))]
    result: dict[str, Any] = {"cells": cells}
    if include == "Object":
        result["object"] = obj
    elif include == "None":
        result["object"] = None
    else:
        result["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{form}",
            "metadata": obj["metadata"],
        }
    return result


def table(
    resource: Resource,
    objects: Sequence[Object],
    now: datetime,
    include: str,
    meta: dict[str, Any],
    *,
    header: bool = True,
    form: str = "v1",
) -> dict[str, Any]:
    """The Table; without `header` only rows, for later events of a watch. A kind without columns of its own has no rows
    in an empty Table, as in Kubernetes.
    """
    plain = resource.custom is None and resource.kind not in _columns()
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{form}",
        "metadata": meta,
        "columnDefinitions": columns(resource) if header else None,
        "rows": [row(resource, obj, now, include, form) for obj in objects] or (None if plain else []),
    }
