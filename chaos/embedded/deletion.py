"""DELETE: grace periods of pods, finalizers of propagation policies, namespaces that end by emptying.

One function for the API server, the controllers and the kubelets, so that a pod deleted by any of them ends the same
way.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal

from chaos.embedded.clock import LONGEST, Clock, SystemClock, stamp
from chaos.embedded.resources import NAMESPACE, POD, Object, Resource
from chaos.embedded.store import Store

Propagation = Literal["Background", "Foreground", "Orphan"]
FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"


def plan_grace(pod: Object, asked: int | None) -> int:
    """The pod's grace period in seconds: the request's, else the pod's own; 0 when nothing can be running."""
    if not pod["spec"].get("nodeName") or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    wish = pod["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked
    return 1 if wish < 0 else min(int(wish), LONGEST)


def delete(
    store: Store,
    resource: Resource,
    namespace: str,
    name: str,
    *,
    grace: int | None = None,
    propagation: Propagation | None = None,
    uid: str | None = None,
    clock: Clock | None = None,
) -> tuple[Object, bool]:
    """Begin or complete the deletion of an object.

    Returns the object's last version and whether it is gone. Raises NotFound, and Conflict for another UID. A repeated
    request shortens a pod's grace period and never lengthens it; grace 0 ends it at once unless finalizers hold it.
    """
    at = (clock or SystemClock()).now()
    current = store.get(resource, namespace, name)
    seconds = plan_grace(current, grace) if resource is POD else 0

    def begin(obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        if propagation in ("Foreground", "Orphan"):
            finalizer = FOREGROUND if propagation == "Foreground" else ORPHAN
            kept = [f for f in meta.get("finalizers", []) if f not in (FOREGROUND, ORPHAN)]
            meta["finalizers"] = [*kept, finalizer]
        if "deletionTimestamp" not in meta:
            meta["deletionTimestamp"] = stamp(at + timedelta(seconds=seconds))
            meta["deletionGracePeriodSeconds"] = seconds
            if "generation" in meta:
                meta["generation"] += 1
        elif seconds < meta.get("deletionGracePeriodSeconds", 0):
            meta["deletionTimestamp"] = stamp(at + timedelta(seconds=seconds))
            meta["deletionGracePeriodSeconds"] = seconds
        if resource is NAMESPACE:
            obj["status"] = obj.get("status", {}) | {"phase": "Terminating"}

    held = bool(current["metadata"].get("finalizers")) or propagation in ("Foreground", "Orphan")
    waits = resource is NAMESPACE and bool(current.get("spec", {}).get("finalizers"))
    if (
        not held
        and not waits
        and seconds == 0
        and "deletionTimestamp" not in current["metadata"]
        and resource is not POD
    ):
        return store.remove(resource, namespace, name, uid=uid), True
    last = store.mutate(resource, namespace, name, begin, uid=uid)
    return last, store.find(resource, namespace, name) is None
