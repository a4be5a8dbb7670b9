"""The supported Kubernetes versions, and the answer of `/version`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from chaos.errors import ApiError, EnvironmentUnfit, Forbidden, Unreachable
from chaos.kube.client import Cluster
from chaos.kube.kubeconfig import within
from chaos.kube.reach import HINT

OLDEST: Final = (1, 29)  # native sidecars on by default: kubernetes.io/docs/concepts/workloads/pods/sidecar-containers
NEWEST: Final = (1, 37)

FIRST_SECONDS: Final = 5.0  # all in all, before whoever waits is told
_TRY_SECONDS: Final = 3.5


def fetch_version(cluster: Cluster) -> dict[str, Any]:
    """Return the answer of `/version`, within five seconds; raises EnvironmentUnfit that says why there is none."""
    patience, cluster.patience = cluster.patience, 1.0
    try:
        answer = within(FIRST_SECONDS, lambda: cluster.request("GET", "/version", timeout=_TRY_SECONDS))
    except TimeoutError as error:
        raise Unreachable(f"{cluster.host}: no answer within {FIRST_SECONDS:g} s{HINT}") from error
    except ApiError as error:
        raise EnvironmentUnfit(f"{cluster.name}: {_refused(error)}") from error
    finally:
        cluster.patience = patience
    if not isinstance(answer, dict):
        raise EnvironmentUnfit(f"{cluster.host}/version: answers {answer!r:.60}: is a Kubernetes API server there?")
    return answer


def _refused(error: ApiError) -> str:
    if error.code == 401:
        return f"the API server does not take these credentials ({error})"
    if isinstance(error, Forbidden):
        return f"the API server does not let this user in ({error})"
    return str(error)


def parse_version(answer: Mapping[str, Any]) -> tuple[int, int]:
    """(major, minor) of an answer of `/version`; clouds write a minor of "29+"."""
    numbers = [re.match(r"\d+", str(answer.get(part, ""))) for part in ("major", "minor")]
    if not all(numbers):
        raise EnvironmentUnfit(f"/version names no version: {dict(answer)}: is this a Kubernetes API server?")
    major, minor = (int(found[0]) for found in numbers if found)
    return major, minor


def refuse_too_old(version: tuple[int, int]) -> None:
    """Raises EnvironmentUnfit below the oldest version."""
    if version < OLDEST:
        raise EnvironmentUnfit(
            f"Kubernetes {version[0]}.{version[1]}: at least {OLDEST[0]}.{OLDEST[1]} is needed (tested up to "
            f"{NEWEST[0]}.{NEWEST[1]})"
        )
