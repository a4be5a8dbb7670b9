"""Lists in pieces, and lists of the past: which version is meant, and the continue tokens. Pure; called by rest.

k8s.io/apiserver/pkg/storage (ValidateListOptions, continue.go, etcd3/errors.go).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from chaos.embedded.api import options
from chaos.embedded.api.errors import StatusError, bad_request

LATEST: Final = -1  # in a token: go on with what there is then
_TOO_OLD: Final = "The resourceVersion for the provided list is too old."
_PAGE_TOO_OLD: Final = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
Key = tuple[str, str]  # namespace and name


@dataclass(frozen=True, slots=True)
class Page:
    """What of a list is asked for: the objects after a key (None: from the first), `limit` of them (None: all), as they
    were at a version (None: as they are).
    """

    version: int | None
    after: Key | None
    limit: int | None

    def expired(self) -> StatusError:
        """The error for a version that is no longer kept; it brings a token with which to go on."""
        if self.after is None:
            return StatusError(410, _TOO_OLD)
        return StatusError(410, _PAGE_TOO_OLD, meta={"continue": write_continue(LATEST, self.after)})


def page_asked(query: Mapping[str, str], present: int) -> Page:
    """Read a list's paging and version; raises StatusError 400 and 504."""
    limit = options.number(query, "limit")
    asked = options.version_asked(query, present, listing=True)
    limit = limit if limit is not None and limit > 0 else None
    if token := query.get("continue", ""):
        version, after = read_continue(token)
        if version > present:
            raise bad_request("continue key is not valid: its resource version is later than the current one")
        return Page(None if version == LATEST else version, after, limit)
    if asked == 0:
        return Page(None, None, None)  # whatever is there is answered from memory, whole
    exact = query.get("resourceVersionMatch") == "Exact" or (limit and not query.get("resourceVersionMatch"))
    return Page(asked if exact else None, None, limit)


def write_continue(version: int, key: Key) -> str:
    return (
        base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": key}))
        .decode()
        .rstrip("=")
    )


def read_continue(token: str) -> tuple[int, Key]:
    why = "invalid continue token: continue key is not valid: "
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        bad = next((index for index, char in enumerate(token) if not (char.isalnum() or char in "-_")), len(token))
        raise bad_request(f"{why}illegal base64 data at input byte {bad}") from None
    try:
        value = orjson.loads(raw)
        version, (namespace, name) = int(value["rv"]), value["start"]
        return version, (str(namespace), str(name))
    except (ValueError, TypeError, KeyError, AttributeError):
        first = raw[:1].decode(errors="replace")
        raise bad_request(f"{why}invalid character '{first}' looking for beginning of value") from None
