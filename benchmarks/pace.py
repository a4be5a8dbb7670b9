"""Where the time of the demo's run goes: its wall time by what was observed, deployments, changes of mode, the runner.

`python -m benchmarks.pace [--write] [--runs 3]`: as root, on an idle machine, three minutes a run; then ten clusters up
and down. A run is the command that everybody gives, with `--chaos-trace`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.machine import machine
from benchmarks.observation import judged_seconds
from chaos.history.spans import TRIAL, Span, SpanKind, read_trace

RESULTS: Final = Path(__file__).parent / "results" / "pace.md"
DEMO: Final = ("--modes", "none,sidecar,node", "--scenarios", "proxy-killed,noisy-neighbour")
SHAREDFATE: Final = (sys.executable, "-m", "chaos")
CLUSTERS: Final = 10
POLL: Final = 0.2  # seconds between two looks at the run's output and its CPU time


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process so far, 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def run_demo(out: Path) -> dict[str, list[float]]:
    """Run it, and return each figure's values."""
    log, began = out.with_suffix(".log"), time.monotonic()
    first = cpu = 0.0
    with log.open("w") as file:
        process = subprocess.Popen(
            [*SHAREDFATE, "run", *DEMO, "--out", str(out), "--", "--chaos-trace"], stdout=file, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            time.sleep(POLL)
            cpu = max(cpu, cpu_seconds(process.pid))
            if not first and "as predicted" in log.read_text():
                first = time.monotonic() - began
    wall = time.monotonic() - began
    if process.returncode not in (0, 1):
        raise SystemExit(log.read_text()[-2000:])
    figures = figures_of(read_trace(out))
    figures["wall, s"] = [wall]
    figures["first result on screen, s"] = [first or wall]
    judged = sum(judged_seconds(trial) for trial in out.glob("trials/*/*"))
    figures["judged traffic, s of a run"] = [judged]
    figures["wall / judged traffic"] = [wall / judged]
    figures["the runner's CPU, % of a core"] = [100 * cpu / wall]
    return figures


def figures_of(spans: Sequence[Span]) -> dict[str, list[float]]:
    """Return each named figure's values, of one run. Pure."""
    found: dict[str, list[float]] = defaultdict(list)
    of_kind: dict[SpanKind, float] = defaultdict(float)
    took_down = 0.0
    for one in spans:
        if one.name == TRIAL:
            found["a trial, s"].append(one.seconds)
            continue
        of_kind[one.kind] += one.seconds
        if one.name == "take down":
            took_down = one.seconds
        elif one.name == "deploy":
            found["a mode deployed to ready, s"].append(one.seconds)
            if took_down:
                found["a change of mode, take-down included, s"].append(one.seconds + took_down)
            took_down = 0.0
    for kind, seconds in of_kind.items():
        found[f"{kind}, s of a run"].append(seconds)
    return dict(found)


def starts(count: int) -> list[float]:
    """Seconds of `sharedfate --help`."""
    found = []
    for _ in range(count):
        began = time.monotonic()
        subprocess.run([*SHAREDFATE, "--help"], check=True, capture_output=True)
        found.append(time.monotonic() - began)
    return found


def clusters(count: int) -> list[float]:
    """Seconds of `sharedfate cluster up`, the command's start included."""
    found = []
    for number in range(count):
        name = f"pace-{os.getpid()}-{number}"
        began = time.monotonic()
        subprocess.run([*SHAREDFATE, "cluster", "up", "--name", name, "--nodes", "2"], check=True, capture_output=True)
        found.append(time.monotonic() - began)
        subprocess.run([*SHAREDFATE, "cluster", "down", "--name", name], check=True, capture_output=True)
    return found


def table(figures: Mapping[str, Sequence[float]]) -> list[str]:
    """Pure."""
    return [
        "| figure | n | least | median | most |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {len(all_)} | {min(all_):.2f} | {statistics.median(all_):.2f} | {max(all_):.2f} |"
            for name, all_ in sorted(figures.items())
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name}")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    all_: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.runs):
            for name, values in run_demo(Path(folder) / f"run-{number}").items():
                all_[name] += values
    all_["`sharedfate --help`, s"] = starts(CLUSTERS)
    all_["`sharedfate cluster up`, two nodes, s"] = clusters(CLUSTERS)
    text = "\n".join(
        [
            "# The pace of a run",
            "",
            f"{machine()}, load average {os.getloadavg()[0]:.1f} at the end; the demo {options.runs} times. Again: "
            "`python -m benchmarks.pace --write`.",
            "",
            *table(all_),
        ]
    )
    print(text)
    if options.write:
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
