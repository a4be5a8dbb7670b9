"""RFC 6902 by the `jsonpatch` library, with failures in the words of Kubernetes' own library.

Called for users' patches (`patches`) and webhooks' answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from chaos.embedded.resources import Object
from chaos.embedded.store import copy
from chaos.fields import whole_number

OPERATIONS: Final = ("add", "remove", "replace", "move", "copy", "test")
COPIED: Final = 3 << 20  # bytes that the copies of one patch may add: Kubernetes' limit; each may double the document
_INDEX: Final = re.compile(r"-?[0-9]{1,9}")
_FAULTS: Final = (TypeError, KeyError, AttributeError, RecursionError)


class DoesNotApply(ValueError):
    """The patch does not apply to the document; the text is that of gopkg.in/evanphx/json-patch."""


def apply_json_patch(document: Object, operations: Sequence[Mapping[str, Any]]) -> Any:
    """Apply a patch; a new document. Raises DoesNotApply."""
    import jsonpatch
    import jsonpointer

    result: Any = copy(document)
    copied = 0
    for operation in operations:
        try:
            if operation.get("op") == "copy":
                source = _indexed(result, operation, "from")
                copied += len(orjson.dumps(jsonpointer.resolve_pointer(result, source)))
                _refuse_too_much(copied)
            given = {key: _indexed(result, operation, key) for key in operation}
            result = jsonpatch.JsonPatch([given]).apply(result, in_place=True)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, *_FAULTS) as error:
            raise DoesNotApply(_words(result, operation)) from error
    return result


def _indexed(document: Any, operation: Mapping[str, Any], key: str) -> Any:
    """An operation's field; of a path the indexes as Go reads them: from the end where negative, with leading zeros."""
    if key not in ("path", "from") or not isinstance(operation[key], str) or not operation[key].startswith("/"):
        return operation[key]
    here, parts = document, operation[key].split("/")
    adds = key == "path" and operation.get("op") in ("add", "move", "copy")
    for at in range(1, len(parts)):
        if isinstance(here, Mapping):
            here = here.get(parts[at].replace("~1", "/").replace("~0", "~"))
        elif isinstance(here, list):
            number = int(parts[at]) if _INDEX.fullmatch(parts[at]) else len(here)
            if number < 0:
                number += len(here) + (adds and at == len(parts) - 1)
            if _INDEX.fullmatch(parts[at]) and number >= 0:
                parts[at] = str(number)
            here = here[number] if 0 <= number < len(here) else None
        else:
            break
    return "/".join(parts)


def _refuse_too_much(copied: int) -> None:
    if copied > COPIED:
        words = f"the accumulated size increase of copy is {copied}, exceeding the limit {COPIED}"
        raise DoesNotApply(f"Unable to copy, {words}")


def _words(document: Any, operation: Mapping[str, Any]) -> str:
    """Why one operation failed."""
    kind, path, source = (operation.get(name) for name in ("op", "path", "from"))
    if kind not in OPERATIONS:
        return f"Unexpected kind: {kind if isinstance(kind, str) else 'unknown'}"
    if not isinstance(path, str):
        return f"{kind} operation failed to decode path: operation missing path field: missing value"
    if kind in ("move", "copy"):
        if not isinstance(source, str):
            return f"{kind} operation failed to decode from: operation, missing from field: missing value"
        holder = _holder(document, source)
        if holder is None:
            return f"{kind} operation does not apply: doc is missing from path: {source}: missing value"
        if not _has(holder, _last(source)):
            at = f"for path: '{_last(source)}'" if kind == "move" else f"for from: '{source}'"
            return f"error in {kind} {at}: {_missing(holder, _last(source), kind)}"
        return f"{kind} operation does not apply: doc is missing destination path: {path}: missing value"
    holder = _holder(document, path)
    if kind == "test":
        if holder is None:
            return f"test operation does not apply: is missing path: {path}: missing value"
        return f"testing value {path} failed: test failed"
    if holder is None:
        shown = path if kind == "replace" else f'"{path}"'
        return f"{kind} operation does not apply: doc is missing path: {shown}: missing value"
    if kind == "replace":
        return f"replace operation does not apply: doc is missing key: {path}: missing value"
    return f"error in {kind} for path: '{path}': {_missing(holder, _last(path), str(kind))}"


def _missing(holder: Any, key: str, kind: str) -> str:
    if isinstance(holder, list):
        if whole_number(key) is None:
            what = f'strconv.Atoi: parsing "{key}": invalid syntax'
            return f"value was not a proper array index: '{key}': {what}" if kind == "add" else what
        return f"Unable to access invalid index: {key}: invalid index referenced"
    return f"Unable to remove nonexistent key: {key}: missing value"


def _parts(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _last(path: str) -> str:
    return (_parts(path) or [""])[-1]


def _holder(document: Any, path: str) -> Any:
    """The parent of the path's last part; None when there is none."""
    here = document
    for part in _parts(path)[:-1]:
        if isinstance(here, Mapping) and part in here:
            here = here[part]
        elif isinstance(here, list) and _in(here, part):
            here = here[int(part)]
        else:
            return None
    return here if isinstance(here, (Mapping, list)) else None


def _has(holder: Any, key: str) -> bool:
    if isinstance(holder, list):
        return _in(holder, key)
    return key in holder


def _in(holder: list[Any], key: str) -> bool:
    """Whether the list has such an index."""
    return 0 <= (-1 if (index := whole_number(key)) is None else index) < len(holder)
