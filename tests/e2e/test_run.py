"""One whole run through the command: cluster, tenants, load, fault, judge, reports, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.history.spans import read_trace
from chaos.report.course import course_of


@pytest.mark.privileged
@pytest.mark.judged
def test_a_run_ends_with_reports_and_without_its_cluster(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "chaos.cli",
        "run",
        "--modes",
        "none",
        "--scenarios",
        "proxy-killed",
        "--out",
        str(out),
        "--",
        "--chaos-trace",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path, check=False)
    assert (out / "report.json").is_file(), done.stdout[-3000:] + done.stderr[-2000:]
    report = json.loads((out / "report.json").read_text())
    (trial,) = report["trials"]
    # A busy machine may leave the judge without an answer; it must never make the placebo's death hurt somebody.
    assert (trial["mode"], trial["scenario"]) == ("none", "proxy-killed")
    assert trial["predicted"]["hurt"] == trial["observed"]["hurt"] == []
    assert trial["verdict"] in ("pass", "inconclusive"), trial["reason"]
    assert done.returncode == (0 if trial["verdict"] == "pass" else 1)
    for name in ("report.html", "report.md", "junit.xml", "trials/none/proxy-killed/samples.arrows"):
        assert (out / name).is_file(), name
    assert not (Path("/run/sharedfate") / f"sf-{report['run']}").exists()
    events = map(json.loads, (out / "trials/none/proxy-killed/events.jsonl").read_text().splitlines())
    windows = [event["data"] for event in events if event["kind"] == "window"]
    begins = {kind: max(one["begin"] for one in windows if one["kind"] == kind) for kind in ("recovery", "watch")}
    assert begins["watch"] == begins["recovery"]  # or the judge would not know the watch for that of the last undo
    spans = read_trace(out)
    course = course_of(spans, wall=report["seconds"])
    assert course is not None
    named = {part.name for bar in course.bars for part in bar.parts}
    assert {"deploy", "baseline", "inject kill", "undo kill", "looks", "recovery", "judge"} <= named
    assert {"cluster", "report", "cluster goes"} <= dict(course.outside).keys()
    assert 'aria-labelledby="course"' in (out / "report.html").read_text()
    # The bars hold what the run took: all but the start of pytest.
    assert sum(bar.seconds for bar in course.bars) > 0.5 * report["seconds"]


@pytest.mark.slow
@pytest.mark.privileged
def test_what_an_earlier_trial_did_to_the_load_is_no_noise_of_a_later_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "chaos.cli",
        "run",
        "--modes",
        "node",
        "--scenarios",
        "proxy-killed,proxy-paused",
        "--out",
        str(out),
    ]
    subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=tmp_path, check=False)
    homes = [out / "trials" / "node" / name for name in ("proxy-killed", "proxy-paused")]
    headers = [json.loads((home / "trial.json").read_text()) for home in homes]
    first, second = sorted(range(2), key=lambda number: headers[number]["since"])
    events = [json.loads(line) for line in (homes[first] / "events.jsonl").read_text().splitlines()]
    restored = [event["at"] for event in events if event["kind"] == "fault" and event["data"]["phase"] == "recovered"]
    assert restored
    assert headers[second]["since"] > max(restored)
