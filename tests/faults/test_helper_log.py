"""A helper's log is read to its end, also where the node cannot follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.faults import helper_pod
from tests.kube.test_client import Script, serving

COMPLAINT = b"failed to create fsnotify watcher: too many open files"


def pod(state: str) -> tuple[int, dict[str, Any]]:
    status = {"containerStatuses": [{"name": "helper", "state": {state: {}}}]}
    return 200, {"kind": "Pod", "metadata": {"name": "h", "namespace": "n"}, "status": status}


@pytest.mark.parametrize(
    "answers",
    [
        [pod("running"), (200, b"one\ntwo\n"), pod("terminated"), (200, b"one\ntwo\n")],
        [pod("running"), (200, COMPLAINT), pod("running"), (200, b"one\ntw"), pod("terminated"), (200, b"one\ntwo")],
        [pod("running"), (200, b"one\n" + COMPLAINT), pod("terminated"), (200, b"one\ntwo\n")],
        [
            pod("waiting"),
            pod("running"),
            (200, b""),
            pod("running"),
            (200, b"one\n"),
            pod("terminated"),
            (200, b"one\ntwo"),
        ],
    ],
    ids=["followed", "not-followed", "followed-in-part", "nothing-at-first"],
)
def test_every_line_is_told_once_however_the_log_can_be_read(answers: list[Any], tmp_path: Path) -> None:
    with serving(Script(*answers), tmp_path) as cluster:
        told = list(helper_pod._lines(cluster, "h", 5.0))
    assert [line for line in told if line.encode() != COMPLAINT] == ["one", "two"]


def test_a_helper_that_says_nothing_ends_the_reading_with_its_time(tmp_path: Path) -> None:
    def more(token: str) -> Any:
        script.answers.append(more)
        return (200, b"") if "log" in script.asked[-1] else pod("running")

    script = Script(more)
    with serving(script, tmp_path) as cluster:
        assert list(helper_pod._lines(cluster, "h", 0.4)) == []


def test_a_helper_that_enters_other_pods_is_root_whatever_its_images_user() -> None:
    (container,) = helper_pod.manifest("h", ["x"], node="n", run="r", seconds=1)["spec"]["containers"]
    assert container["securityContext"] == {"privileged": True, "runAsUser": 0}
