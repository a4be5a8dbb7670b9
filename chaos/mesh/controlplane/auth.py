"""Authenticates a proxy: its service-account token, reviewed by the API server, names its pod; the pod says which proxy
it is.

What the pod says of itself is held against `chaos.kube.placement.recognise_proxy`, the rule that placement and
configuration follow too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chaos.kube.placement import Homes, NotAProxy, recognise_proxy
from chaos.mesh.controlplane.reading import is_live
from chaos.model.modes import ProxyMode
from chaos.model.placement import Proxy

_EXTRA: Final = "authentication.kubernetes.io/"


class Refused(Exception):
    """The stream is not authorised; the text says why."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The API server's answer about a token."""

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


def detect_proxy(reviewed: Reviewed, pod: Mapping[str, Any] | None, mode: ProxyMode, homes: Homes) -> Proxy:
    """The proxy that this pod holds (see `recognise_proxy`). Raises Refused unless the pod is live, of the token's
    account, a proxy of this mode, and one that gets configuration: a placebo gets none.
    """
    if pod is None or pod["metadata"]["uid"] != reviewed.pod_uid or not is_live(pod):
        raise Refused(f"there is no live pod {reviewed.namespace}/{reviewed.pod} with UID {reviewed.pod_uid}")
    meta = pod["metadata"]
    account = pod["spec"].get("serviceAccountName", "default")
    if (meta["namespace"], account) != (reviewed.namespace, reviewed.service_account):
        raise Refused(f"pod {meta['namespace']}/{meta['name']} runs as {account}, not as {reviewed.service_account}")
    try:
        proxy = recognise_proxy(pod, mode, homes)
    except NotAProxy as error:
        raise Refused(str(error)) from error
    if not proxy.layers:
        raise Refused(f"pod {meta['namespace']}/{meta['name']} is a placebo: it carries nothing")
    return proxy
