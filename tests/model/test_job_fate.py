"""What becomes of Jobs by their policies: the whole table, in each kind of mode."""

from __future__ import annotations

import pytest

from chaos.external.modes import mode_named
from chaos.model.job_fate import POLICIES, ROWS, End, JobFate, Trouble, predict_fate
from chaos.model.modes import MODES

KILLED = (Trouble.AT_START, Trouble.MIDWAY, Trouble.LAST_SECOND)
NODE = ("node", "ambient-namespace", "ambient-node", "ambient-pod")
DONE, FAILED, HUNG = JobFate(End.COMPLETED), JobFate(End.FAILED), JobFate(End.HUNG)


def again(end: End, times: int = 1, *, twice: bool = False) -> JobFate:
    return JobFate(end, times, twice)


# policy -> (native-sidecar, sidecar, one proxy a node)
WHILE_IT_WORKS = {
    "never-0": (FAILED, FAILED, FAILED),
    "never-1": (again(End.COMPLETED), again(End.HUNG), again(End.COMPLETED)),
    "never-3": (again(End.COMPLETED), again(End.HUNG), again(End.COMPLETED)),
    "on-failure-0": (FAILED, FAILED, FAILED),
    "on-failure-1": (FAILED, FAILED, FAILED),  # one restart reaches the limit
    "on-failure-3": (again(End.COMPLETED), again(End.HUNG), again(End.COMPLETED)),
    "fail-on-exit": (FAILED, FAILED, FAILED),
    "ignore-disruption": (FAILED, FAILED, FAILED),  # a proxy's death is no disruption to Kubernetes
    "indexed-1": (again(End.COMPLETED), again(End.HUNG), FAILED),  # three pods fail at once behind one proxy
    "per-index-1": (again(End.COMPLETED), again(End.HUNG), again(End.COMPLETED, 3)),
    "success-of-3": (DONE, HUNG, DONE),
}
AFTERWARDS = {
    "never-0": (DONE, FAILED, DONE),  # its work was done
    "never-1": (DONE, again(End.HUNG, twice=True), DONE),
    "never-3": (DONE, again(End.HUNG, twice=True), DONE),
    "on-failure-0": (DONE, FAILED, DONE),
    "on-failure-1": (DONE, FAILED, DONE),
    "on-failure-3": (DONE, HUNG, DONE),
    "fail-on-exit": (DONE, again(End.HUNG, twice=True), DONE),
}
EVICTED = {
    "never-0": (FAILED, FAILED, FAILED),
    "never-1": (again(End.COMPLETED), again(End.HUNG), again(End.COMPLETED)),
    "on-failure-1": (again(End.COMPLETED), again(End.HUNG), again(End.COMPLETED)),
    "on-failure-3": (again(End.COMPLETED), again(End.HUNG), again(End.COMPLETED)),
    "fail-on-exit": (again(End.COMPLETED), again(End.HUNG), again(End.COMPLETED)),
    "ignore-disruption": (again(End.COMPLETED), again(End.HUNG), again(End.COMPLETED)),
}
UPGRADED = {
    "never-0": (DONE, HUNG, FAILED),  # a pod that runs keeps the proxy that it has
    "never-3": (DONE, HUNG, again(End.COMPLETED)),
    "on-failure-1": (DONE, HUNG, FAILED),
    "on-failure-3": (DONE, HUNG, again(End.COMPLETED)),
    "indexed-1": (DONE, HUNG, FAILED),
}
WAITED = JobFate(End.WAITED)
NEVER_READY = {
    "never-0": (WAITED, HUNG, FAILED),  # its application gives up, and an ordinary proxy keeps its pod from ending
    "never-3": (WAITED, HUNG, FAILED),
    "on-failure-1": (WAITED, FAILED, FAILED),
    "ignore-disruption": (WAITED, HUNG, FAILED),
    "success-of-3": (WAITED, HUNG, FAILED),
}
TABLE = [
    *((trouble, policy, fates) for trouble in KILLED for policy, fates in WHILE_IT_WORKS.items()),
    *((Trouble.AFTER, policy, fates) for policy, fates in AFTERWARDS.items()),
    *((Trouble.EVICTED, policy, fates) for policy, fates in EVICTED.items()),
    *((Trouble.UPGRADED, policy, fates) for policy, fates in UPGRADED.items()),
    *((Trouble.NEVER_READY, policy, fates) for policy, fates in NEVER_READY.items()),
]


@pytest.mark.parametrize(("trouble", "policy", "fates"), TABLE)
def test_a_jobs_fate_follows_from_its_policy_and_where_its_proxy_runs(
    trouble: Trouble, policy: str, fates: tuple[JobFate, JobFate, JobFate]
) -> None:
    native, classic, shared = fates
    assert predict_fate(MODES["native-sidecar"], POLICIES[policy], trouble) == native
    assert predict_fate(MODES["sidecar"], POLICIES[policy], trouble) == classic
    assert [predict_fate(MODES[mode], POLICIES[policy], trouble) for mode in NODE] == [shared] * len(NODE)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("trouble", [*KILLED, Trouble.AFTER, Trouble.UPGRADED, Trouble.NEVER_READY])
def test_without_a_mesh_a_killed_placebo_does_a_job_nothing(policy: str, trouble: Trouble) -> None:
    assert predict_fate(MODES["none"], POLICIES[policy], trouble) == DONE


def test_an_installed_mesh_is_predicted_by_where_its_proxies_run() -> None:
    for named, ours in (("linkerd", "native-sidecar"), ("linkerd-classic", "sidecar"), ("istio-ambient", "node")):
        for row in (one for one in ROWS if one.trouble is not Trouble.NEVER_READY):
            fate = predict_fate(MODES[ours], row.policy, row.trouble)
            assert predict_fate(mode_named(named), row.policy, row.trouble) == fate, (named, row.name)


@pytest.mark.parametrize("named", ["linkerd", "linkerd-classic", "istio-sidecar-classic", "istio-ambient"])
def test_a_job_waits_for_a_proxy_that_never_gets_ready_where_its_mesh_orders_their_starts(named: str) -> None:
    mode = mode_named(named)
    fate = predict_fate(mode, POLICIES["never-0"], Trouble.NEVER_READY)
    assert (fate == WAITED) is mode.ready_before_app


def test_every_row_that_is_tried_is_named_once_and_predicted_here() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) == 24
    assert {(row.trouble, row.policy.name) for row in ROWS} <= {(trouble, policy) for trouble, policy, _ in TABLE}


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        (DONE, "completed"),
        (again(End.COMPLETED, 3), "completed, retried 3 times"),
        (again(End.HUNG, twice=True), "never ends, retried once, its work done twice"),
    ],
)
def test_a_fate_is_said_in_words(fate: JobFate, said: str) -> None:
    assert str(fate) == said
