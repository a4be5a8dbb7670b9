"""Who a proxy is: its service-account token, reviewed by the API server, names its pod; the pod says what it may be.

Labels are only believed where the account backs them: whoever may create pods in a tenant's namespace can write any
label, but only the system namespace's `node-proxy` account may serve the pods of a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chaos.mesh.controlplane.tables import is_live, labels_of
from chaos.mesh.world import ProxyIdentity, ProxyRole
from chaos.model.modes import Scope
from chaos.names import (
    ANNOTATION_PROXY_CONTAINER,
    LABEL_LAYER,
    LABEL_ROLE,
    LABEL_SCOPE,
    LABEL_SCOPE_KEY,
    NODE_PROXY_ACCOUNT,
    SYSTEM_NAMESPACE,
)

_EXTRA: Final = "authentication.kubernetes.io/"
_NODE_ROLES: Final = {"l4-l7": ProxyRole.NODE, "l4": ProxyRole.L4}


class Refused(Exception):
    """The stream is not who it must be; the text says why."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What the API server says about a token."""

    namespace: str
    service_account: str
    pod: str
    pod_uid: str


def detect_reviewed(review: Mapping[str, Any], audience: str) -> Reviewed:
    """Read a TokenReview's status; raises Refused when it is not a pod's service-account token for this audience."""
    status = review.get("status") or {}
    if not status.get("authenticated"):
        raise Refused(f"the token is not valid: {status.get('error') or 'no reason given'}")
    if audience not in (status.get("audiences") or []):
        raise Refused(f"the token is not for {audience}")
    user = status.get("user") or {}
    parts = str(user.get("username", "")).split(":")
    extra = user.get("extra") or {}
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        raise Refused(f"{user.get('username')!r} is not a service account")
    try:
        return Reviewed(parts[2], parts[3], extra[f"{_EXTRA}pod-name"][0], extra[f"{_EXTRA}pod-uid"][0])
    except (KeyError, IndexError):
        raise Refused("the token is not bound to a pod") from None


def detect_proxy(reviewed: Reviewed, pod: Mapping[str, Any] | None, served_uid: str = "") -> ProxyIdentity:
    """The proxy that this pod holds. `served_uid`: of the pod that a pod's own waypoint serves.

    Raises Refused unless the pod is live, of that account, and of a kind that its account may be.
    """
    if pod is None or pod["metadata"]["uid"] != reviewed.pod_uid or not is_live(pod):
        raise Refused(f"there is no live pod {reviewed.namespace}/{reviewed.pod} with UID {reviewed.pod_uid}")
    meta, spec, labels = pod["metadata"], pod["spec"], labels_of(pod)
    annotations = meta.get("annotations") or {}
    account = spec.get("serviceAccountName", "default")
    if (meta["namespace"], account) != (reviewed.namespace, reviewed.service_account):
        raise Refused(f"pod {meta['namespace']}/{meta['name']} runs as {account}, not as {reviewed.service_account}")
    node = spec.get("nodeName", "")

    def proxy(role: ProxyRole, scope: Scope, key: str) -> ProxyIdentity:
        return ProxyIdentity(role, meta["namespace"], meta["name"], meta["uid"], node, scope, key, account)

    if labels.get(LABEL_ROLE) != "proxy":
        if ANNOTATION_PROXY_CONTAINER not in annotations:
            raise Refused(f"pod {meta['namespace']}/{meta['name']} holds no proxy")
        return proxy(ProxyRole.SIDECAR, Scope.POD, meta["uid"])
    layer = labels.get(LABEL_LAYER, "")
    if layer == "l7":
        scope = Scope(labels.get(LABEL_SCOPE, ""))
        keys = {Scope.NODE: node, Scope.NAMESPACE: labels.get(LABEL_SCOPE_KEY, ""), Scope.POD: served_uid}
        if scope is not Scope.NODE and meta["namespace"] == SYSTEM_NAMESPACE:
            raise Refused(f"a waypoint of scope {scope} does not belong in {SYSTEM_NAMESPACE}")
        if scope is Scope.NAMESPACE and keys[scope] != meta["namespace"]:
            raise Refused(f"a waypoint in {meta['namespace']} may not serve {keys[scope]!r}")
        if scope is Scope.NODE and meta["namespace"] != SYSTEM_NAMESPACE:
            raise Refused(f"a node's waypoint belongs in {SYSTEM_NAMESPACE}, not in {meta['namespace']}")
        return proxy(ProxyRole.WAYPOINT, scope, keys[scope])
    if layer not in _NODE_ROLES:
        raise Refused(f"pod {meta['namespace']}/{meta['name']}: no proxy has layer {layer!r}")
    if (meta["namespace"], account) != (SYSTEM_NAMESPACE, NODE_PROXY_ACCOUNT):
        raise Refused(
            f"only {SYSTEM_NAMESPACE}/{NODE_PROXY_ACCOUNT} may serve a node, not {meta['namespace']}/{account}"
        )
    return proxy(_NODE_ROLES[layer], Scope.NODE, node)
