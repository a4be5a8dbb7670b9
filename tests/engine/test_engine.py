"""The engine's pure parts: restarts, settings, topology, chance."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import numpy as np
import pytest

from chaos.chance import Seed
from chaos.engine.deployment import detect_contradictions
from chaos.engine.jobs import JobRun, JobSeen, detect_exits
from chaos.engine.restarts import compare_restarts, container_snapshot
from chaos.engine.run import detect_not_recovered, unfit_for_trial
from chaos.engine.settings import chosen as is_chosen
from chaos.engine.settings import parse_settings, refuse_unknown
from chaos.engine.steady import SteadyLoad, steady_since
from chaos.engine.topology import plan_tenants
from chaos.engine.trial import Trial
from chaos.errors import (
    EnvironmentUnfit,
    Forbidden,
    GuardTripped,
    Misuse,
    NoEffect,
    NotReady,
    RecoveryFailed,
    Stopped,
    TargetVanished,
    UndoneEarly,
)
from chaos.kube.client import Cluster
from chaos.kube.objects import ContainerSeen
from chaos.mesh.install import Mesh
from chaos.model.modes import MODES
from chaos.model.placement import Placement
from chaos.verdict import Verdict


def state(*, container_id: str = "c1", restarts: int = 0) -> ContainerSeen:
    return ContainerSeen(
        "tenant-a",
        "server-1",
        "u",
        "n1",
        "server",
        False,
        "running",
        "",
        None,
        None,
        restarts,
        container_id,
        True,
        "",
        None,
    )


def test_an_application_container_that_restarted_is_named() -> None:
    problems = compare_restarts({("u", "server"): state()}, {("u", "server"): state(container_id="c2", restarts=1)})
    assert problems == ["tenant-a/server-1[server] restarted (0 -> 1)"]


def test_a_pod_that_went_is_named() -> None:
    assert compare_restarts({("u", "server"): state()}, {}) == ["tenant-a/server-1[server] is gone"]


def test_a_pod_that_still_ends_is_as_good_as_gone() -> None:
    """A Deployment is rolled out while its old pods still end."""
    status = {"containerStatuses": [{"name": "server", "containerID": "c1", "restartCount": 0}]}
    pods = [
        {"metadata": {"uid": "old", "name": "a", "deletionTimestamp": "2026-01-01T00:00:05Z"}, "status": status},
        {"metadata": {"uid": "new", "name": "b", "namespace": "tenant-a"}, "spec": {}, "status": status},
    ]
    cluster = SimpleNamespace(list=lambda kind, namespace: pods)
    assert set(container_snapshot(cast(Cluster, cluster), ["tenant-a"])) == {("new", "server")}


def test_the_restart_of_the_target_itself_is_expected() -> None:
    before, after = {("u", "server"): state()}, {("u", "server"): state(container_id="c2", restarts=1)}
    assert compare_restarts(before, after, excused=[("u", "server")]) == []


def test_nothing_changed_is_no_problem() -> None:
    assert compare_restarts({("u", "server"): state()}, {("u", "server"): state()}) == []


def settings(**changes: object) -> object:
    values: dict[str, object] = {
        "cluster": "embedded",
        "modes": "",
        "scenarios": "",
        "nodes": 2,
        "out": "out",
        "budget": 900,
        "seed": 7,
        "keep": False,
        "inconclusive": "retry",
        "baseline": None,
    }
    return parse_settings(**{**values, **changes})  # type: ignore[arg-type]


def test_every_wrong_option_is_named_in_one_error() -> None:
    with pytest.raises(Misuse) as caught:
        settings(modes="sidecar,sidecart", cluster="minikub", nodes=1, inconclusive="maybe")
    text = str(caught.value)
    for part in ("'sidecart'", "'minikub'", "1 nodes", "'maybe'", "known are"):
        assert part in text


def test_a_scenario_that_nothing_defines_is_refused_once_every_file_was_read() -> None:
    asked = settings(scenarios="proxy-killed,proxy-kiled")
    with pytest.raises(Misuse, match="unknown scenario 'proxy-kiled': known are proxy-killed, all, default"):
        refuse_unknown(asked, ["proxy-killed"])  # type: ignore[arg-type]
    refuse_unknown(settings(scenarios="all"), [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scenarios", "mode", "scenario", "shipped", "taken"),
    [
        ("", "node", "proxy-killed", True, True),
        ("", "node", "noisy-bodies", True, False),
        ("", "node", "mine", False, True),
        ("all", "node", "mine", False, True),
        ("proxy-killed", "node", "mine", False, False),
        ("mine", "node", "mine", False, True),
        ("mine", "sidecar", "mine", False, False),
    ],
)
def test_without_named_scenarios_those_of_ones_own_are_taken_with_the_default_matrix(
    scenarios: str, mode: str, scenario: str, shipped: bool, taken: bool
) -> None:
    asked = settings(modes="node", scenarios=scenarios)
    assert is_chosen(asked, mode, scenario, shipped=shipped) is taken  # type: ignore[arg-type]


def test_all_means_every_mode() -> None:
    assert len(settings(modes="all").modes) == 7  # type: ignore[attr-defined]


def test_a_seed_that_was_not_given_is_drawn() -> None:
    assert settings(seed=None).seed >= 0  # type: ignore[attr-defined]


def test_the_reference_tenants_need_two_nodes() -> None:
    with pytest.raises(Misuse, match="two nodes"):
        plan_tenants(["only"])


def test_the_third_tenant_shares_no_node_with_the_first() -> None:
    a, b, c = plan_tenants(["n1", "n2"])
    assert set(a.client_nodes + a.server_nodes).isdisjoint(c.client_nodes + c.server_nodes)
    assert set(b.server_nodes) == {"n1", "n2"}


def test_named_children_of_a_seed_repeat_and_differ() -> None:
    assert Seed(1).child("x").number() == Seed(1).child("x").number()
    assert Seed(1).child("x").number() != Seed(1).child("y").number() != Seed(2).child("y").number()


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("failed", "steady"),
    [
        ([], 10.0),
        ([9.0, 9.9], 10.0),  # before anything was quiet
        ([10.0, 10.4, 10.6, 11.0], 11.0),  # what was broken before, until clients have found their way
        ([10.2, 11.0, 13.0], 10.2),  # what fails after half a second without a failure is the load's own
        ([12.0], 10.0),
    ],
)
def test_the_load_is_steady_once_what_an_earlier_trial_broke_fails_no_more(failed: list[float], steady: float) -> None:
    due = (np.array(failed) * SECOND).astype(np.int64)
    assert steady_since(due, 10 * SECOND) == int(steady * SECOND)


@pytest.mark.parametrize("mode", MODES)
def test_a_job_that_goes_takes_nothing_with_it_that_its_namespace_had(mode: str) -> None:
    site = SimpleNamespace(
        mesh=Mesh(Mock(), mode, run="jobs"),
        cluster=Mock(),
        excused=set(),
        placement=Placement(MODES[mode], (), (), ()),
        deployment=SimpleNamespace(tenants=plan_tenants(["n1", "n2"])),
    )
    site.cluster.list.return_value = []
    with JobRun(cast(Trial, site), "x"):
        pass
    deleted = [call.args for call in site.cluster.delete.call_args_list]
    assert deleted == [("Job", "job-x", "tenant-a")]
    assert [call.args[0]["kind"] for call in site.cluster.apply.call_args_list] == ["Job"]


@pytest.mark.parametrize(
    ("answered", "served", "contradiction"), [(900, 900, False), (900, 960, False), (901, 900, True), (10, 0, True)]
)
def test_a_loader_that_saw_more_answers_than_were_given_contradicts_the_servers(
    answered: int, served: int, contradiction: bool
) -> None:
    counts = {"tenant-a": {"answered": answered, "served": served}, "tenant-b": {"answered": 1, "served": 1}}
    assert bool(detect_contradictions(counts)) is contradiction


def ended(*codes: int) -> dict[str, object]:
    states = [{"terminated": {"exitCode": code}} for code in codes]
    status = {"name": "job", "state": states[-1], **({"lastState": states[0]} if len(states) > 1 else {})}
    return {"status": {"containerStatuses": [status]}}


@pytest.mark.parametrize(
    ("pods", "answered", "verdict"),
    [
        ([ended(0)], 80, Verdict.PASS),
        ([ended(1)], 80, Verdict.FAIL),
        ([ended(0), ended(0)], 160, Verdict.FAIL),  # twice, in two pods
        ([ended(0, 0)], 80, Verdict.FAIL),  # twice, in one
        ([ended(1), ended(0)], 80, Verdict.PASS),  # tried again, and nothing of the first try counted
        ([ended(0)], 160, Verdict.FAIL),
        ([ended(0)], 40, Verdict.FAIL),
        ([], 0, Verdict.FAIL),
    ],
)
def test_a_jobs_work_is_done_when_it_was_done_once(
    pods: list[dict[str, object]], answered: int, verdict: Verdict
) -> None:
    seen = JobSeen(True, False, len(pods), 0, 1.0, 0.1, "ok", 0, {}, exits=detect_exits(pods), answered=answered)
    assert seen.once(80).verdict is verdict


@pytest.mark.parametrize(
    ("error", "sentences"),
    [
        (RecoveryFailed("x: still stopped"), ["x: still stopped"]),
        (ExceptionGroup("undo", [RecoveryFailed("a"), TargetVanished("b"), RecoveryFailed("c\nd")]), ["a", "c d"]),
        (ExceptionGroup("undo", [ExceptionGroup("more", [RecoveryFailed("a")])]), ["a"]),
        (ExceptionGroup("undo", [TargetVanished("b")]), []),
        (NoEffect("n"), []),
    ],
)
def test_what_an_undo_did_not_restore_is_told_from_other_errors(error: Exception, sentences: list[str]) -> None:
    assert detect_not_recovered(error) == sentences


@pytest.mark.parametrize(
    ("error", "is_the_clusters"),
    [
        (EnvironmentUnfit("e"), True),
        (Forbidden("f", code=403), True),
        (NotReady("n"), True),
        (ExceptionGroup("both", [EnvironmentUnfit("e"), NotReady("n")]), True),
        *[
            (kind("x"), False)
            for kind in (RecoveryFailed, NoEffect, TargetVanished, UndoneEarly, Stopped, GuardTripped)
        ],
        (ExceptionGroup("both", [EnvironmentUnfit("e"), RecoveryFailed("x")]), False),
        (ValueError("v"), False),
    ],
)
def test_a_broken_experiment_is_not_taken_for_an_unfit_cluster(error: Exception, is_the_clusters: bool) -> None:
    assert (unfit_for_trial(error) is not None) is is_the_clusters


@pytest.mark.parametrize(
    ("failed", "begin"),
    [
        ([], 12.0),  # all load since the disturbance at 12 s
        ([13.0], 15.0),  # one failed since, but not in the last 5 s before flows were seen to be healthy, at 20 s
        ([13.0, 17.0], 20.0),
        ([5.0], 12.0),  # before the disturbance: no matter
        ([21.0], 12.0),  # after: a flow's own
    ],
)
def test_a_baseline_is_all_load_since_it_was_last_disturbed(failed: list[float], begin: float) -> None:
    load = SteadyLoad(begun=2 * SECOND, disturbed=12 * SECOND, healthy=20 * SECOND)
    assert load.measure(np.array([int(one * SECOND) for one in failed], np.int64), seconds=5.0)[1] == begin * SECOND
