"""The example that ships, run as its reader would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.privileged
@pytest.mark.parametrize(
    ("name", "tests", "refutes"),
    [("test_my_mesh.py", 1, ""), ("test_my_app.py", 2, "test_a_claim_that_is_wrong_is_refuted[node]")],
)
def test_a_test_of_ones_own_runs_with_the_plugins_fixtures(tmp_path: Path, name: str, tests: int, refutes: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) <= 45
    # A busy machine may leave the judge without an answer, and that is a skip here. A wrong answer is not, nor is
    # a claim that has to be seen refuted.
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(EXAMPLES / name),
        "--chaos-modes=node",
        "--chaos-inconclusive=skip",
        f"--chaos-out={tmp_path / 'out'}",
        "-rA",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert sum(map(int, re.findall(r"(\d+) (?:passed|skipped)", done.stdout.splitlines()[-1]))) == tests
    passed = re.findall(r"^PASSED \S*::(\S+)$", done.stdout, re.MULTILINE)
    assert not refutes or refutes in passed, done.stdout[-3000:]
