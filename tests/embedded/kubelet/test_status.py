"""Status, actions and back-off are pure: each rule beside the input that would break it, and real statuses
re-derived.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from chaos.embedded.clock import parse_time
from chaos.embedded.kubelet.container_records import Backoff, PodState, ProbeState, Record
from chaos.embedded.kubelet.pod_actions import Actions, plan_actions
from chaos.embedded.kubelet.status import pod_status

RECORDINGS = Path(__file__).parents[2] / "parity" / "recordings"
NOW = "2026-01-01T00:00:00Z"


def pod(*mains: str, inits: tuple[dict[str, Any], ...] = (), policy: str = "Always", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "restartPolicy": policy,
            "containers": [{"name": name, "image": "i"} for name in mains],
            "initContainers": list(inits),
            **spec,
        },
        "status": {},
    }


def running(state: PodState, name: str, *, ready: bool = True, started: bool = True, attempt: int = 0) -> Record:
    record = Record(f"{name}-{attempt}", name, attempt, state.sandbox, "i", "sha256:x", {"name": name}, started_at=1.0)
    state.add(record)
    state.probes[record.id] = ProbeState(started=started, ready=ready)
    return record


def ended(state: PodState, name: str, code: int, attempt: int = 0) -> Record:
    record = running(state, name, attempt=attempt)
    record.end(code, 2.0, oom=False)
    return record


def state() -> PodState:
    return PodState(sandbox=0, sandbox_ready=True, address="10.0.0.1", started_at=NOW)


def phase(obj: dict[str, Any], known: PodState) -> str:
    return str(pod_status(obj, known, host="h", now=NOW)["phase"])


SIDECAR = {"name": "s", "image": "i", "restartPolicy": "Always"}
INIT = {"name": "i", "image": "i"}


def test_a_pod_is_running_once_all_its_containers_were_started() -> None:
    known = state()
    running(known, "a")
    assert phase(pod("a", "b"), known) == "Pending"
    running(known, "b")
    assert phase(pod("a", "b"), known) == "Running"


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
        ("Always", 1, "Running"),
    ],
)
def test_what_an_ended_container_means_depends_on_the_restart_policy(policy: str, code: int, expected: str) -> None:
    known = state()
    ended(known, "a", code)
    known.stopped = True
    assert phase(pod("a", policy=policy), known) == expected


def test_a_terminal_phase_waits_until_nothing_runs_but_its_conditions_do_not() -> None:
    known = state()
    ended(known, "a", 0)
    obj = pod("a", policy="Never")
    obj["status"]["phase"] = "Running"
    status = pod_status(obj, known, host="h", now=NOW)
    assert status["phase"] == "Running"
    assert {c["type"]: c.get("reason") for c in status["conditions"]}["Ready"] == "PodCompleted"
    known.stopped = True
    assert phase(obj, known) == "Succeeded"


def test_a_deleted_pod_ends_failed_when_any_container_did() -> None:
    known = state()
    ended(known, "a", 0)
    ended(known, "b", 137)
    known.terminal = known.stopped = True
    assert phase(pod("a", "b"), known) == "Failed"


def test_a_failed_init_container_fails_only_a_pod_that_is_never_restarted() -> None:
    known = state()
    ended(known, "i", 1)
    known.stopped = True
    assert phase(pod("a", inits=(INIT,), policy="Never"), known) == "Failed"
    known.stopped = False
    assert phase(pod("a", inits=(INIT,)), known) == "Pending"


def test_a_restarting_sidecar_does_not_make_a_running_pod_pending_or_uninitialised() -> None:
    known = state()
    ended(known, "s", 137)
    running(known, "a")
    known.waiting["s"] = ("CrashLoopBackOff", "")
    status = pod_status(pod("a", inits=(SIDECAR,)), known, host="h", now=NOW)
    assert status["phase"] == "Running"
    assert {c["type"]: c["status"] for c in status["conditions"]} | {"PodScheduled": "True"} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }


def test_a_condition_keeps_its_transition_time_until_its_status_changes() -> None:
    known = state()
    record = running(known, "a", ready=False)
    obj = pod("a")
    obj["status"] = pod_status(obj, known, host="h", now=NOW)
    known.probes[record.id].ready = True
    later = {c["type"]: c["lastTransitionTime"] for c in pod_status(obj, known, host="h", now="later")["conditions"]}
    assert (later["Ready"], later["Initialized"]) == ("later", NOW)


def test_main_containers_wait_for_init_containers_and_for_sidecars_to_have_started() -> None:
    obj = pod("a", "b", inits=(INIT, SIDECAR))
    known = state()
    assert plan_actions(obj, PodState()) == Actions(sandbox=True)
    assert plan_actions(obj, known) == Actions(start=("i",))
    init = running(known, "i")
    assert plan_actions(obj, known) == Actions()
    init.end(0, 2.0, oom=False)
    assert plan_actions(obj, known) == Actions(start=("s",))
    sidecar = running(known, "s", started=False)
    assert plan_actions(obj, known) == Actions()
    known.probes[sidecar.id].started = True
    assert plan_actions(obj, known) == Actions(start=("a", "b"))


def test_a_dead_sidecar_is_started_again_beside_running_mains() -> None:
    known = state()
    ended(known, "s", 0)
    running(known, "a")
    assert plan_actions(pod("a", inits=(SIDECAR,), policy="Never"), known) == Actions(start=("s",))


def test_a_pod_whose_mains_are_done_ends_whatever_its_sidecars_do() -> None:
    known = state()
    running(known, "s")
    ended(known, "a", 0)
    assert plan_actions(pod("a", inits=(SIDECAR,), policy="OnFailure"), known) == Actions(end=True)
    known = state()
    running(known, "s")
    ended(known, "a", 1)
    assert plan_actions(pod("a", inits=(SIDECAR,), policy="OnFailure"), known) == Actions(start=("a",))


def test_a_condemned_container_is_killed_and_started_again_only_where_the_policy_allows() -> None:
    known = state()
    record = running(known, "a")
    known.probes[record.id].failed = "liveness"
    actions = plan_actions(pod("a"), known)
    assert [kill.message for kill in actions.kill] == ["Container a failed liveness probe, will be restarted"]
    assert actions.start == ("a",)
    assert plan_actions(pod("a", policy="Never"), known) == Actions(end=True)


def test_after_a_lost_sandbox_a_pod_that_is_never_restarted_ends() -> None:
    known = state()
    ended(known, "a", 255)
    known.sandbox_ready = False
    assert plan_actions(pod("a", policy="Never"), known) == Actions(end=True)
    assert plan_actions(pod("a"), known) == Actions(sandbox=True)


def test_back_off_doubles_to_its_maximum_and_is_forgotten_after_a_good_run() -> None:
    backoff = Backoff()
    at, waits = 1000.0, []
    for _ in range(8):
        waits.append(backoff.remaining("k", at, at))
        at += waits[-1]
        backoff.next("k", at, at)
        at += 1
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    assert backoff.remaining("k", at + 601, at + 601) == 0


def _terminations() -> list[tuple[str, dict[str, Any]]]:
    """Pod objects of all recordings in which something happened to their containers."""
    found = []
    for path in sorted(RECORDINGS.glob("[!n]*/watch.jsonl")):  # node-*: there the node controller writes, too
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if (
                row["kind"] == "Pod"
                and row["type"] != "DELETED"
                and row["object"].get("status", {}).get("containerStatuses")
            ):
                found.append((path.parent.name, row["object"]))
    return random.Random(1).sample(found, min(250, len(found)))


def _state_of(obj: dict[str, Any]) -> PodState:
    """What a kubelet must have known to write this status."""
    status = obj["status"]
    known = PodState(sandbox=0, sandbox_ready=True, address=status.get("podIP", "x"), started_at=status["startTime"])
    for row in [*status.get("initContainerStatuses", []), *status["containerStatuses"]]:
        ends = [(row.get("lastState") or {}).get("terminated"), row["state"].get("terminated")]
        for number, end in enumerate(end for end in ends if end):
            record = running(known, row["name"], attempt=number)
            record.end(end["exitCode"], parse_time(end["finishedAt"]).timestamp(), oom=False, reason=end["reason"])
        if "running" in row["state"]:
            running(known, row["name"], ready=row["ready"], started=row["started"], attempt=9)
        elif (reason := row["state"].get("waiting", {}).get("reason")) not in (
            None,
            "ContainerCreating",
            "PodInitializing",
        ):
            known.waiting[row["name"]] = (reason, "")
    deleted = "deletionTimestamp" in obj["metadata"]
    dead = not known.running() and any(known.records.values())
    known.terminal = dead and (deleted or status["phase"] in ("Succeeded", "Failed"))
    known.stopped = known.terminal
    return known


def test_statuses_of_a_real_kubernetes_follow_from_what_its_kubelet_knew() -> None:
    recorded = _terminations()
    assert len(recorded) > 100
    for scenario, obj in recorded:
        known = _state_of(obj)
        derived = pod_status(obj, known, host=obj["status"]["hostIP"], now=NOW)
        label = f"{scenario}: {json.dumps(obj['status'])}"
        assert derived["phase"] == obj["status"]["phase"], label
        for kind in ("Initialized", "Ready", "ContainersReady"):
            ours, real = (
                next(c for c in rows if c["type"] == kind)
                for rows in (derived["conditions"], obj["status"]["conditions"])
            )
            assert (ours["status"], ours.get("reason"), ours.get("message")) == (
                real["status"],
                real.get("reason"),
                real.get("message"),
            ), f"{kind} of {label}"
        for part in ("initContainerStatuses", "containerStatuses"):
            for ours, real in zip(derived.get(part, []), obj["status"].get(part, []), strict=True):
                assert list(ours["state"]) == list(real["state"]), label
                assert (ours["ready"], ours["started"]) == (real["ready"], real["started"]), (
                    f"{ours['name']} of {label}"
                )
