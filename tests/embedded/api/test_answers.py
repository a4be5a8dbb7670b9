"""The API server beside a real Kubernetes 1.36.3: some of the recorded answers of every kind that needs no node.

The whole is tests/parity/test_answers.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.api.conftest import World, kubectl
from tests.parity.answers import diff, known

EVERY = {"a": 9, "b": 7, "c": 3}  # of the cases of a kind that can be asked here, one in so many
NEIGHBOURS = 4  # and of the neighbours, which are one field away from a good object each
FURTHER = 2  # and of the further ones
# the comparing program leaves its connections to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
NEEDS_A_NODE = ("until", "until_http", "sleep", "python")


def askable(case: dict[str, Any]) -> bool:
    """Whether it can be asked of an API server without nodes, and is answered alike by every kubectl."""
    text = json.dumps(case["steps"])
    return (
        case["id"] not in known.DIFFERENT
        and not case["id"].startswith(known.OF_THE_CLIENT)
        and not case.get("serial")
        and not any(word in step for step in case["steps"] for word in NEEDS_A_NODE)
        and "$NODE" not in text
        and "node" not in case["id"]
    )


def chosen() -> list[dict[str, Any]]:
    cases = [case for case in diff.load(Path(diff.__file__).with_name("answers.jsonl")) if askable(case)]
    found: list[dict[str, Any]] = []
    for kind, every in EVERY.items():
        found += [case for case in cases if case["kind"] == kind][::every]
    found += diff.load(Path(diff.__file__).with_name("neighbours.jsonl"))[::NEIGHBOURS]
    further = diff.load(Path(diff.__file__).with_name("further.jsonl"))
    found += [case for case in further if askable(case) and case["id"] not in known.FURTHER][::FURTHER]
    return found


@pytest.fixture(scope="module")
def answers(world: World) -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(kubectl()).parent}{os.pathsep}{os.environ['PATH']}")
        asked = diff.Cluster(str(world.kubeconfig), diff.IMAGE)
        asked.workers = ["node-1", "node-2"]  # named in no case of these
        try:
            runner = diff.Runner(asked)
            with ThreadPoolExecutor(4) as pool:
                yield dict(pool.map(lambda case: (case["id"], runner.case(case)["answer"]), chosen()))
        finally:
            asked.close()


@pytest.mark.parametrize("case", chosen(), ids=lambda case: case["id"])
def test_answers_as_kubernetes_does(case: dict[str, Any], answers: dict[str, Any]) -> None:
    assert diff.compare(case, case["answer"], answers[case["id"]]) == []
