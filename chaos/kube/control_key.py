"""Where the key of a run's ports is kept: a Secret in the system namespace, made by the first that needs it.

The runner makes it before any pod that is told a digest; after `kubectl apply` of rendered manifests the control plane
does. Callers read it once, and again when a pod refuses the token: another mesh of this process may have made another.
"""

from __future__ import annotations

import base64
from typing import Any
from weakref import WeakKeyDictionary

from chaos.control_key import HEADER, REFUSED, ControlKey
from chaos.errors import AlreadyExists, Forbidden, Misuse
from chaos.kube.client import Cluster
from chaos.names import CONTROL_SECRET, LABEL_RUN, SYSTEM_NAMESPACE

_KNOWN: WeakKeyDictionary[Cluster, ControlKey] = WeakKeyDictionary()


def stored_key(cluster: Cluster, *, run: str) -> ControlKey:
    """The key from its Secret, which is made when it is missing."""
    if (found := read_key(cluster)) is not None:
        return found
    new = ControlKey.new()
    try:
        cluster.create(secret(new, run=run))
    except AlreadyExists:
        if (other := read_key(cluster)) is None:
            raise
        return other
    _KNOWN[cluster] = new
    return new


def read_key(cluster: Cluster) -> ControlKey | None:
    """The key as its Secret holds it now; None where there is none. Raises Misuse for a Secret that holds another
    thing.
    """
    found = cluster.find("Secret", CONTROL_SECRET, SYSTEM_NAMESPACE)
    if found is None:
        _KNOWN.pop(cluster, None)
        return None
    try:
        key = _KNOWN[cluster] = ControlKey(base64.b64decode(found["data"]["key"], validate=True))
    except (KeyError, TypeError, ValueError) as error:
        raise Misuse(
            f"Secret {SYSTEM_NAMESPACE}/{CONTROL_SECRET} holds no key of ours: delete it, and deploy again"
        ) from error
    return key


def known_key(cluster: Cluster) -> ControlKey | None:
    """The key as this process last saw it, read when it has not yet; None where there is none."""
    return _KNOWN.get(cluster) or read_key(cluster)


def opened_http(
    cluster: Cluster,
    namespace: str,
    pod: str,
    port: int,
    path: str,
    *,
    key: ControlKey | None = None,
    method: str = "GET",
    body: bytes | None = None,
    timeout: float = 10.0,
) -> bytes:
    """`Cluster.pod_http` to a port that wants its namespace's token. `key`: None for the one that the cluster holds."""

    def ask(with_key: ControlKey | None) -> bytes:
        headers = {HEADER: with_key.token(namespace)} if with_key else {}
        return cluster.pod_http(namespace, pod, port, path, method=method, body=body, headers=headers, timeout=timeout)

    held = key or known_key(cluster)
    try:
        return ask(held)
    except Forbidden as error:
        if key is not None or REFUSED not in str(error) or (newer := read_key(cluster)) in (None, held):
            raise
        return ask(newer)


def secret(made: ControlKey, *, run: str) -> dict[str, Any]:
    """The Secret that holds it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": CONTROL_SECRET, "namespace": SYSTEM_NAMESPACE, "labels": {LABEL_RUN: run}},
        "data": {"key": base64.b64encode(made.secret).decode()},
    }
