"""The shipped experiments on the embedded cluster, in modes where their claims hold and where they do not.

A busy machine may leave the judge without an answer; it must never turn the answer round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chaos.toolkit.gate import KEY

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"

Journals = Mapping[tuple[str, str], dict[str, Any]]  # (experiment, mode) -> its last journal


def pytest_run(out: Path, names: list[str], modes: str, inconclusive: str) -> tuple[subprocess.CompletedProcess[str], Journals]:
    """`pytest experiments/…`, in a process of its own."""
    command = [sys.executable, "-m", "pytest", *(str(EXPERIMENTS / f"{name}.yaml") for name in names), "-q", "-p", "no:cacheprovider",
               f"--chaos-modes={modes}", f"--chaos-out={out}", f"--chaos-inconclusive={inconclusive}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=out.parent, check=False)
    journals = {}
    for path in sorted((out / "trials").glob("*/*/journal.json"), key=lambda path: path.stat().st_mtime):
        journal = json.loads(path.read_text())
        name = journal["experiment"]["controls"][0]["provider"]["arguments"]["name"]
        journals[name, journal[KEY]["mode"]] = journal
    return done, journals


def verdict(journal: dict[str, Any]) -> str:
    return f"{journal[KEY]['verdict']}: {'; '.join(journal[KEY]['reasons'])}"


@pytest.mark.privileged
def test_three_claims_hold_with_a_proxy_per_pod_or_with_one_per_node_and_not_with_the_other(tmp_path: Path) -> None:
    names = ["job-completes", "proxy-killed", "proxy-paused"]
    done, journals = pytest_run(tmp_path / "out", names, "sidecar,node", "fail")
    assert set(journals) == {(name, mode) for name in names for mode in ("sidecar", "node")}, done.stdout[-4000:] + done.stderr[-2000:]
    contrary = {("job-completes", "sidecar"): "pass", ("job-completes", "node"): "fail",
                ("proxy-killed", "sidecar"): "fail", ("proxy-killed", "node"): "pass",
                ("proxy-paused", "sidecar"): "fail", ("proxy-paused", "node"): "pass"}
    for case, journal in journals.items():
        assert journal[KEY]["verdict"] != contrary[case], (case, verdict(journal))
    told = [case for case, journal in journals.items() if journal[KEY]["verdict"] != "inconclusive"]
    assert told, [(case, verdict(journal)) for case, journal in journals.items()]
    for case, journal in journals.items():
        history = Path(journal[KEY]["history"])
        assert (history / "samples.arrows").is_file()
        assert case == ("job-completes", case[1]) or journal[KEY]["trial"]["predicted"]["hurt"]
    assert done.returncode == 1
    assert not (Path("/run/sharedfate") / f"sf-{json.loads((tmp_path / 'out' / 'run.json').read_text())['run']}").exists()


OUTCOMES = [  # experiment, mode where its claim holds, mode where it does not
    ("job-completes", "native-sidecar", "sidecar"),
    ("proxy-killed", "sidecar", "node"),
    ("proxy-paused", "sidecar", "node"),
    ("proxy-partitioned", "sidecar", "node"),
    ("proxy-throttled", "sidecar", "node"),
    ("noisy-neighbour", "sidecar", "node"),
    ("footprint", "node", "sidecar"),
]


def test_every_shipped_experiment_is_run() -> None:
    assert {name for name, _, _ in OUTCOMES} == {path.stem for path in EXPERIMENTS.glob("*.yaml")}


@pytest.mark.privileged
@pytest.mark.slow
@pytest.mark.parametrize(("name", "holds", "fails"), OUTCOMES, ids=[name for name, _, _ in OUTCOMES])
def test_a_claim_holds_in_one_mode_and_not_in_the_other(name: str, holds: str, fails: str, tmp_path: Path) -> None:
    done, journals = pytest_run(tmp_path / "out", [name], f"{holds},{fails}", "retry")
    assert set(journals) == {(name, holds), (name, fails)}, done.stdout[-4000:] + done.stderr[-2000:]
    assert journals[name, holds][KEY]["verdict"] == "pass", verdict(journals[name, holds])
    assert journals[name, fails][KEY]["verdict"] == "fail", verdict(journals[name, fails])


@pytest.mark.privileged
@pytest.mark.slow
@pytest.mark.parametrize(("mode", "code"), [("sidecar", 0), ("node", 1)])
def test_stock_chaos_run_needs_nothing_but_the_file(mode: str, code: int, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("chaos")), "--no-version-check", "run", str(EXPERIMENTS / "proxy-paused.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False,
                          env={**os.environ, "SHAREDFATE_MODE": mode})
    journal = json.loads((tmp_path / "journal.json").read_text())
    assert done.returncode == code, verdict(journal)
    beside = tmp_path / "sharedfate-out" / f"proxy-paused-{mode}" / "trials" / mode / "proxy-paused"
    assert json.loads((beside / "journal.json").read_text())[KEY] == journal[KEY]
    assert (beside / "samples.arrows").is_file()


@pytest.mark.privileged
@pytest.mark.slow
def test_an_overload_that_nothing_notices_is_not_green(tmp_path: Path) -> None:
    """Without a proxy a path takes all that a low rate offers: the real fault sees no effect, and says so."""
    experiment = json.dumps({
        "title": "an overload that is none", "description": "of a path without a proxy",
        "controls": [{"name": "sharedfate", "provider": {"type": "python", "module": "chaos.toolkit.control",
                                                         "arguments": {"mode": "none", "name": "no-effect"}}}],
        "method": [{"type": "action", "name": "overload", "provider": {
            "type": "python", "module": "chaos.toolkit.actions", "func": "overload_path",
            "arguments": {"pairs": 0, "start_rate": 20.0, "max_rate": 40.0, "saturate_seconds": 3.0}}}]})
    file = tmp_path / "no-effect.json"
    file.write_text(experiment)
    done = subprocess.run([sys.executable, "-m", "chaos.cli", "experiment", "run", str(file)], capture_output=True, text=True,
                          timeout=200, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr
    assert "inconclusive" in done.stdout
    assert "its path took all that was offered" in done.stdout
