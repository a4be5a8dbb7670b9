"""Checks every write to a cluster that is not ours, before it is sent: only what is ours may change.

Ours is a namespace that this process made, one that carries a run's label, and one that was listed. A cluster-wide
object is ours when it carries the label. One door, so that a mistake anywhere above cannot reach a stranger's
namespace.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from chaos.errors import Misuse, NotFound
from chaos.names import LABEL_RUN

Read = Callable[[str], Mapping[str, Any]]  # GET of a path, as JSON; raises ApiError

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_QUESTIONS: Final = ("/apis/authentication.k8s.io/", "/apis/authorization.k8s.io/")  # reviews store nothing


class WriteGuard:
    """Refuses writes to what is not ours.

    Args:
        read: how an object is looked at.
        listed: namespaces that the user allows to be changed.
    """

    def __init__(self, read: Read, *, listed: Iterable[str] = ()) -> None:
        self._read = read
        self._listed = frozenset(listed)
        self._ours: set[str] = set()
        self._lock = threading.Lock()

    def check(self, method: str, path: str, body: bytes | None = None, query: Mapping[str, Any] | None = None) -> None:
        """Raises Misuse for a write to something that is not ours."""
        if method in _READS or path.startswith(_QUESTIONS) or (query or {}).get("dryRun") == "All":
            return
        namespace, rest = split_path(path)
        if namespace:
            if not self._is_ours(namespace, deletes=method == "DELETE" and not rest):
                raise Misuse(
                    f"{method} {path}: namespace {namespace!r} is not ours: it carries no {LABEL_RUN} label and was "
                    "not "
                    "listed. Nothing was changed. If it may be touched, list it: --chaos-namespaces"
                )
        elif method == "POST":
            meta = json.loads(body or b"{}").get("metadata") or {}
            listed = path.endswith("/namespaces") and meta.get("name") in self._listed
            if LABEL_RUN not in (meta.get("labels") or {}) and not listed:
                raise Misuse(
                    f"{method} {path}: a cluster-wide object without the label {LABEL_RUN}: clean-up would not find it"
                )
        elif self._label(path.partition("?")[0]) is False:
            raise Misuse(
                f"{method} {path}: the object is not ours: it carries no {LABEL_RUN} label. Nothing was changed"
            )

    def _is_ours(self, namespace: str, *, deletes: bool) -> bool:
        # A listed namespace may be changed, never deleted; and before a deletion the label is read afresh.
        if not deletes and (namespace in self._listed or namespace in self._ours):
            return True
        carried = self._label(f"/api/v1/namespaces/{namespace}")
        if carried:
            with self._lock:
                self._ours.add(namespace)
        return carried is not False

    def _label(self, path: str) -> bool | None:
        """Whether the object carries the label; None when there is no such object, which the write then reports."""
        try:
            found = self._read(path)
        except NotFound:
            return None
        return LABEL_RUN in (found["metadata"].get("labels") or {})


def split_path(path: str) -> tuple[str, str]:
    """Split an API path into (namespace, rest); two empty texts for a path outside any namespace."""
    head, _, rest = path.partition("?")[0].partition("/namespaces/")
    if not rest or head.count("/") > 3:
        return "", ""
    namespace, _, inside = rest.partition("/")
    return namespace, inside
