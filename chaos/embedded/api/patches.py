"""The three kinds of patches as pure functions: RFC 6902, RFC 7386, and Kubernetes' strategic merge.

Strategic merge follows k8s.io/apimachinery/pkg/util/strategicpatch: lists with a merge key are merged by it, `$patch:
delete|replace`, `$retainKeys`, `$deleteFromPrimitiveList` and `$setElementOrder` are obeyed. Merge keys come from the
published schemas. Each function returns a new object and raises StatusError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api import schema as schemas
from chaos.embedded.api.decode import shallow
from chaos.embedded.api.errors import StatusError, bad_request, plain_failure
from chaos.embedded.api.json_patch import OPERATIONS, DoesNotApply, apply_json_patch
from chaos.embedded.api.schema import Schema

MAX_OPERATIONS = 10_000  # as Kubernetes' own limit


# JSON merge patch


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


# JSON patch


def _unprocessable() -> StatusError:
    """The StatusError for a patch that does not apply; Kubernetes gives no detail."""
    return StatusError(
        422, "the server rejected our request due to an error in our request", reason="Invalid", details={}
    )


def json_patch(target: Any, operations: Any) -> Any:
    """Apply a JSON patch (RFC 6902). StatusError 400 for a malformed one, 422 for one that does not apply."""
    if not isinstance(operations, list):
        got = {dict: "object", str: "string", bool: "bool", type(None): "null"}.get(type(operations), "number")
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {got} into Go value of type []handlers.jsonPatchOp"
        )
    if len(operations) > MAX_OPERATIONS:
        raise StatusError(
            413, f"the allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        )
    for operation in operations:
        if not isinstance(operation, dict):
            raise bad_request("each operation of a JSON patch must be an object")
        if operation.get("op") in ("add", "replace", "test") and "value" not in operation:
            raise bad_request(f"json patch: operation {operation['op']} has no value")
        path = operation.get("path")
        if operation.get("op") in OPERATIONS and (not isinstance(path, str) or path[:1] not in ("", "/")):
            raise bad_request(f"json patch: path {path!r} is not a JSON pointer")
    try:
        return shallow(apply_json_patch(target, operations))
    except DoesNotApply:
        raise _unprocessable() from None


# Strategic merge patch


def strategic(target: Any, patch: Any, schema: Schema) -> Any:
    """Apply a strategic merge patch by the schema's patch strategies and merge keys."""
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch must be a JSON object")
    return _merge_map(target if isinstance(target, Mapping) else {}, patch, schema)


def _merge_map(target: Mapping[str, Any], patch: Mapping[str, Any], schema: Schema) -> Any:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise plain_failure(f"unknown patch type: {directive} in map: {_as_go(patch)}")
    result = dict(target)
    retain = patch.get("$retainKeys")
    if retain is not None:
        if not isinstance(retain, list):
            raise bad_request("$retainKeys must be a list of keys")
        if any(key not in retain and not key.startswith("$") for key in patch):
            raise bad_request("invalid patch format of retainKeys")
        result = {key: value for key, value in result.items() if key in retain}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith("$setElementOrder/"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            if not isinstance(value, list):
                raise bad_request(f"{key} must be a list")
            if isinstance(result.get(field), list):
                result[field] = [item for item in result[field] if item not in value]
            continue
        if value is None:
            result.pop(key, None)
            continue
        result[key] = _merge_value(result.get(key), value, schemas.child(schema, key))
    for key, order in patch.items():
        field = key.partition("/")[2]
        if not key.startswith("$setElementOrder/"):
            continue
        merge_key = schemas.child(schema, field).get("x-kubernetes-patch-merge-key")
        _check_order(patch.get(field), order, merge_key)
        if isinstance(result.get(field), list):
            held = target.get(field)
            result[field] = _ordered(result[field], order, held if isinstance(held, list) else [], merge_key)
    return result


_GO_TYPES: Final[Mapping[type, str]] = {
    str: "string",
    bool: "bool",
    int: "int64",
    float: "float64",
    dict: "map[string]interface {}",
}


def _as_go(value: Any) -> str:
    """A value as Go's `%v` prints it."""
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_as_go(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_as_go, value)) + "]"
    if value is None or isinstance(value, bool):
        return "<nil>" if value is None else str(value).lower()
    return str(value)


def _check_order(patch: Any, order: Any, key: str | None) -> None:
    """Refuse an order in which the patch's own elements are missing, or stand otherwise than in the patch."""
    if not isinstance(order, list):
        found = _GO_TYPES.get(type(order), "<nil>")
        raise plain_failure(f"expected a []interface {{}}, but received a {found}")

    def place(item: Any) -> Any:
        return item.get(key) if isinstance(item, Mapping) and key else item

    given = [one for one in patch or () if not (isinstance(one, Mapping) and "$patch" in one)]
    rest = iter([place(one) for one in order])
    if not all(place(one) in rest for one in given):
        raise plain_failure(
            f"The order in patch list:\n{_as_go(given)}\n doesn't match $setElementOrder list:\n{_as_go(order)}\n"
        )


def _merge_value(held: Any, value: Any, schema: Schema) -> Any:
    if isinstance(value, dict):
        return _merge_map(held if isinstance(held, Mapping) else {}, value, schema)
    if isinstance(value, list):
        strategy = str(schema.get("x-kubernetes-patch-strategy", "")).split(",")
        if "merge" in strategy:
            return _merge_list(held if isinstance(held, list) else [], value, schema)
        return [item for item in value if not (isinstance(item, dict) and "$patch" in item)]
    return value


def _merge_list(held: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    key = schema.get("x-kubernetes-patch-merge-key")
    items = schema.get("items", {})
    if key is None:  # a set of plain values
        merged = [*held, *(value for value in patch if value not in held)]
        return _ordered(merged, patch, held, None)
    if any(isinstance(item, dict) and item.get("$patch") == "replace" and len(item) == 1 for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    result = list(held)
    for item in patch:
        if not isinstance(item, dict):
            raise bad_request(f"an element of a list merged by {key} is not an object")
        if key not in item:
            raise plain_failure(f"map: {_as_go(item)} does not contain declared merge key: {key}")
        at = next((i for i, one in enumerate(result) if isinstance(one, Mapping) and one.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [one for one in result if not (isinstance(one, Mapping) and one.get(key) == item[key])]
        elif at is None:
            result.append(_merge_map({}, item, items))
        else:
            result[at] = _merge_map(result[at], item, items)
    return _ordered(result, [item for item in patch if item.get("$patch") != "delete"], held, key)


def _ordered(items: list[Any], order: Any, held: list[Any], key: str | None) -> list[Any]:
    """Order a merged list: items in `order` keep that order, the server's others keep theirs; between the two, the
    patch's order decides (strategicpatch.normalizeElementOrder).
    """
    if not isinstance(order, list):
        return items

    def place(item: Any) -> Any:
        return item.get(key) if isinstance(item, Mapping) and key else item

    wanted, before = [place(one) for one in order], [place(one) for one in held]
    named = sorted((item for item in items if place(item) in wanted), key=lambda item: wanted.index(place(item)))
    others = [item for item in items if place(item) not in wanted]
    result: list[Any] = []
    while named and others:
        theirs, ours = place(others[0]), place(named[0])
        first = theirs in before and ours in before and before.index(theirs) < before.index(ours)
        result.append((others if first else named).pop(0))
    return result + named + others
