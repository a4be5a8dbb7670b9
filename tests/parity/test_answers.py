"""The embedded cluster beside a real Kubernetes 1.36.3: every recorded input once more, its answer held against that
one by the recordings' own rule. A part of them is in the default set: tests/embedded/api/test_answers.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedded.api.conftest import kubectl
from tests.parity.answers import diff, known

RECORDED = Path(diff.__file__).with_name("answers.jsonl")
NEIGHBOURS = RECORDED.with_name("neighbours.jsonl")
FURTHER = RECORDED.with_name("further.jsonl")
KINDS = {"a": "kubectl", "b": "validation", "c": "the API itself", "d": "pods and Services"}

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # diff.py's own connections
]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "chaos.cli", "cluster", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[str]:
    name = f"answers-{os.getpid()}"
    up = command("up", "--name", name, "--nodes", "2")
    try:
        assert up.returncode == 0, up.stderr
        yield up.stdout.split()[-1]
    finally:
        command("down", "--name", name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_recorded_answer_is_given_but_for_the_known_ones(
    kind: str, kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(kubectl()).parent}{os.pathsep}{os.environ['PATH']}")
    cases = [
        case for case in (*diff.load(RECORDED), *diff.load(NEIGHBOURS), *diff.load(FURTHER)) if case["kind"] == kind
    ]
    answers = diff.run_all(kubeconfig, cases, diff.IMAGE, 4, progress=False)
    wrong = {
        case["id"]: found
        for case in cases
        if (found := diff.compare(case, case["answer"], answers[case["id"]]["answer"]))
        and case["id"] not in known.DIFFERENT
        and case["id"] not in known.FURTHER
    }
    assert not wrong
