"""Reports what a deployment's take-down waits for: a pod whose process ignores SIGTERM takes its whole grace period.

The pure sentence first, then the thread that shows it where live figures stand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import urllib3

from chaos.engine.progress import Progress
from chaos.errors import SharedfateError
from chaos.kube.applying import namespaces_of_run, pods_of_run
from chaos.kube.client import Cluster
from chaos.kube.objects import is_deleting, true_conditions

Object = Mapping[str, Any]
PATIENCE: Final = 3.0  # seconds of taking down that need no explanation
EVERY: Final = 2.0  # seconds between two looks
_SHOWN: Final = 3  # pods that are named


def explain_waiting(pods: Iterable[Object], namespaces: Iterable[Object], *, now: float) -> str:
    """Return what the take-down waits for, in a sentence; "" when nothing is being deleted. Pure.

    Args:
        pods, namespaces: of the run, as the API has them.
        now: seconds since the epoch, by the cluster's clock.
    """
    going = sorted((_left(pod, now), _name(pod), pod) for pod in pods if is_deleting(pod))
    if going:
        named = [_of_pod(name, left, pod) for left, name, pod in reversed(going[-_SHOWN:])]
        more = f" and {len(going) - _SHOWN} more" if len(going) > _SHOWN else ""
        return f"{', '.join(named)}{more}"
    for namespace in namespaces:
        for kind, one in true_conditions(namespace).items():
            if kind in _HOLDS:
                return f"namespace {namespace['metadata']['name']}: {one.get('message', one['type'])}"
    names = [str(one["metadata"]["name"]) for one in namespaces if is_deleting(one)]
    return f"namespace {', '.join(sorted(names))} to be gone" if names else ""


_HOLDS: Final = ("NamespaceFinalizersRemaining", "NamespaceContentRemaining", "NamespaceDeletionContentFailure")


def _of_pod(name: str, left: float, pod: Object) -> str:
    grace = pod["metadata"].get("deletionGracePeriodSeconds", 0)
    if held := pod["metadata"].get("finalizers"):
        return f"{name} (held by the finalizer {', '.join(held)})"
    if left >= 1:
        return f"{name} (its processes go on after SIGTERM: killed in {left:.0f} s, its grace is {grace} s)"
    return f"{name} (its node has not reported its end)"


def _left(pod: Object, now: float) -> float:
    """Return the seconds left of its grace period: the timestamp is that of the request plus the grace."""
    stamp = str(pod["metadata"]["deletionTimestamp"])
    return max(0.0, datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() - now)


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


@contextmanager
def reporting_takedown(cluster: Cluster, run: str, progress: Progress, title: str) -> Iterator[None]:
    """Show in the live line what a take-down waits for, when the block lasts longer than `PATIENCE`."""
    over = threading.Event()
    began = time.monotonic()

    def watch() -> None:
        wait = PATIENCE
        while not over.wait(wait):
            wait = EVERY
            try:
                found = explain_waiting(pods_of_run(cluster, run), namespaces_of_run(cluster, run), now=time.time())
            except (SharedfateError, urllib3.exceptions.HTTPError, OSError):
                continue  # what takes it down meets the same, and says so
            if found and not over.is_set():
                progress.live(f"{title}, {time.monotonic() - began:.0f} s: waiting for {found}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=EVERY)
