"""Jobs by policy: what becomes of a Job when the proxy that serves it dies, is upgraded or never gets ready, or its
pod is evicted.

Pure. The rules of Jobs are Kubernetes' (pkg/controller/job); what they make of a proxy's death follows from where the
proxy runs: beside the application as an ordinary container, as an init container that stays, or in another pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from chaos.model.modes import ProxyMode

APP: Final = "job"  # name of the application's container


class Trouble(StrEnum):
    """What befalls the Job."""

    AT_START = "proxy killed at its start"
    MIDWAY = "proxy killed midway"
    LAST_SECOND = "proxy killed in its last second"
    AFTER = "proxy killed after its work"
    EVICTED = "pod evicted midway"
    UPGRADED = "proxies upgraded midway"
    NEVER_READY = "proxy never becomes ready"


EVICTED_CODE: Final = 143  # with which the application of an evicted pod ends, by SIGTERM; never by itself
DURING: Final = frozenset({Trouble.AT_START, Trouble.MIDWAY, Trouble.LAST_SECOND})


class End(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    HUNG = "never ends"
    WAITED = "never begins"


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """How a Job treats the end of its pods.

    Attributes:
        restart: restartPolicy: Never or OnFailure.
        limit: backoffLimit.
        rules: of podFailurePolicy.
        per_index: backoffLimitPerIndex; None: `limit` counts for all indexes together.
        enough: succeededCount of successPolicy; 0: every index must succeed.
    """

    name: str
    restart: str = "Never"
    limit: int = 3
    rules: tuple[Mapping[str, Any], ...] = ()
    completions: int = 1
    parallelism: int = 1
    per_index: int | None = None
    enough: int = 0

    @property
    def spec(self) -> dict[str, Any]:
        """The fields of the Job's spec."""
        found: dict[str, Any] = {"completions": self.completions, "parallelism": self.parallelism}
        if self.per_index is None:
            found["backoffLimit"] = self.limit
        else:
            found["backoffLimitPerIndex"] = self.per_index
        if self.completions > 1:
            found["completionMode"] = "Indexed"
        if self.rules:
            found["podFailurePolicy"] = {"rules": [dict(rule) for rule in self.rules]}
        if self.enough:
            found["successPolicy"] = {"rules": [{"succeededCount": self.enough}]}
        return found


FAIL_ON_EXIT: Final = {"action": "FailJob", "onExitCodes": {"containerName": APP, "operator": "In", "values": [1]}}
IGNORE_DISRUPTION: Final = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
COMPLETIONS: Final = 6  # of an Indexed Job, of which
PARALLELISM: Final = 3  # run at the same time
POLICIES: Final[Mapping[str, JobPolicy]] = {
    policy.name: policy
    for policy in (
        JobPolicy("never-0", limit=0),
        JobPolicy("never-1", limit=1),
        JobPolicy("never-3", limit=3),
        JobPolicy("on-failure-0", "OnFailure", 0),
        JobPolicy("on-failure-1", "OnFailure", 1),
        JobPolicy("on-failure-3", "OnFailure", 3),
        JobPolicy("fail-on-exit", limit=3, rules=(FAIL_ON_EXIT,)),
        JobPolicy("ignore-disruption", limit=0, rules=(IGNORE_DISRUPTION,)),
        JobPolicy("indexed-1", limit=1, completions=COMPLETIONS, parallelism=PARALLELISM),
        JobPolicy("per-index-1", per_index=1, completions=COMPLETIONS, parallelism=PARALLELISM),
        # Of nine: where every index has ended by the time that enough have succeeded, failed ones fail the Job first.
        JobPolicy("success-of-3", per_index=0, enough=3, completions=9, parallelism=PARALLELISM),
    )
}


@dataclass(frozen=True, slots=True)
class JobFate:
    """What becomes of a Job.

    Attributes:
        retried: how often its application was started again, over all pods and indexes.
        twice: work that had been done was done again.
    """

    end: End
    retried: int = 0
    twice: bool = False

    def __str__(self) -> str:
        parts = [str(self.end)]
        if self.retried:
            parts.append("retried once" if self.retried == 1 else f"retried {self.retried} times")
        if self.twice:
            parts.append("its work done twice")
        return ", ".join(parts)


def struck_pods(mode: ProxyMode, policy: JobPolicy, trouble: Trouble) -> int:
    """Return how many of the Job's pods fail by it: those that run behind the proxy, of which each has one of its own
    where proxies stand in pods. An eviction is of one pod. Pure.
    """
    if trouble is Trouble.EVICTED:
        return 1
    if not mode.hops:
        return 0
    if trouble is Trouble.AFTER:  # the application had ended: a pod fails by a container of its own alone
        return 1 if mode.ends_with_app and policy.restart == "Never" else 0
    if trouble is Trouble.UPGRADED and mode.in_pod:  # a pod that runs keeps the proxy that it has
        return 0
    return 1 if mode.in_pod else policy.parallelism


def _predict_unready(mode: ProxyMode, policy: JobPolicy) -> JobFate:
    """Predict what becomes of a Job whose proxy never gets ready: it waits where its proxy starts first; elsewhere its
    application begins, and gives up each time.
    """
    if not mode.hops:
        return JobFate(End.COMPLETED)
    if mode.ready_before_app:
        return JobFate(End.WAITED)
    # A pod that holds its proxy as an ordinary container does not end by its application's failure.
    return JobFate(End.HUNG if mode.ends_with_app and policy.restart == "Never" else End.FAILED)


def predict_fate(mode: ProxyMode, policy: JobPolicy, trouble: Trouble) -> JobFate:
    """Predict what becomes of a Job whose application gives up at the first request that fails. Pure."""
    if trouble is Trouble.NEVER_READY:
        return _predict_unready(mode, policy)
    ended = End.HUNG if mode.ends_with_app else End.COMPLETED  # of pods whose work is done
    struck = struck_pods(mode, policy, trouble)
    if policy.restart == "OnFailure" and trouble is not Trouble.EVICTED:
        # Restarts of every container of the pod count, a native sidecar's too; but of a pod that still runs alone.
        killed = trouble in DURING or (trouble is Trouble.AFTER and mode.ends_with_app)
        proxy = int(bool(mode.hops) and mode.in_pod and killed)
        restarts = proxy + struck
        if restarts and restarts >= policy.limit:
            return JobFate(End.FAILED)
        return JobFate(ended, struck)
    if not struck:
        return JobFate(ended)
    code = {Trouble.AFTER: 0, Trouble.EVICTED: EVICTED_CODE}.get(trouble, 1)  # of the application
    if FAIL_ON_EXIT in policy.rules and code == 1:
        return JobFate(End.FAILED)
    twice = trouble is Trouble.AFTER
    if IGNORE_DISRUPTION in policy.rules and trouble is Trouble.EVICTED:
        return JobFate(ended, struck, twice)
    if policy.per_index is not None:
        if policy.per_index >= 1:
            return JobFate(ended, struck, twice)
        others = policy.completions - struck
        return JobFate(ended if policy.enough and others >= policy.enough else End.FAILED)
    if struck > policy.limit:
        return JobFate(End.FAILED)
    return JobFate(ended, struck, twice)


@dataclass(frozen=True, slots=True)
class Row:
    """One Job to try: its policy, and what befalls it."""

    policy: JobPolicy
    trouble: Trouble

    @property
    def name(self) -> str:
        """The row's name in checks and tables."""
        return f"Job {self.policy.name}, {self.trouble}"


@dataclass(frozen=True, slots=True)
class Round:
    """Jobs that run at the same time, and are struck by the same."""

    trouble: Trouble
    policies: tuple[str, ...]
    rows: tuple[Row, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(Row(POLICIES[name], self.trouble) for name in self.policies))


# At most four pods start at once, so that no Job waits for the machine longer than for its proxy.
ROUNDS: Final = (
    Round(Trouble.AT_START, ("never-1", "on-failure-3")),
    Round(Trouble.MIDWAY, ("never-0", "never-3", "on-failure-0", "on-failure-1")),
    Round(Trouble.MIDWAY, ("fail-on-exit", "indexed-1")),
    Round(Trouble.MIDWAY, ("per-index-1",)),
    Round(Trouble.MIDWAY, ("success-of-3",)),
    Round(Trouble.LAST_SECOND, ("never-1", "on-failure-3")),
    Round(Trouble.AFTER, ("never-0", "never-1", "on-failure-1", "on-failure-3")),
    Round(Trouble.EVICTED, ("never-0", "never-1", "on-failure-3", "ignore-disruption")),
    Round(Trouble.UPGRADED, ("never-0", "never-3")),
    Round(Trouble.NEVER_READY, ("never-0", "on-failure-1")),
)
ROWS: Final = tuple(row for one in ROUNDS for row in one.rows)
