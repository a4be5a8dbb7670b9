"""The default matrix again and again, on an idle machine and on one that is busy, and everything once: how often a
trial is wrong.

    python -m proof.matrix                     ten runs, three on busy cores, `all` once (three hours, root), and write
    the page python -m proof.matrix --read              the page from the runs that lie in --out

The mesh is sound, so a trial that fails is wrong, and so is one that passes with somebody hurt of whom the model says
that nobody is. A run is the command that everybody gives; what it costs beside the pods is read from outside of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.observation import judged_seconds
from chaos.embedded.kubelet import cgroups
from proof.live.machine import Loop, working

PAGE = Path(__file__).parent.parent / "benchmarks" / "results" / "matrix.md"
IDLE, LOADED, ALL = "idle", "loaded", "all"
TITLES = {
    IDLE: "default matrix, nothing else runs",
    LOADED: "default matrix, a loop of arithmetic on each core",
    ALL: "every scenario in every mode",
}
EVERYTHING = ("--chaos-modes=all", "--chaos-scenarios=all")
LONGEST = 7200.0  # seconds of a run, and of the loops beside it
EVERY = 3.0  # seconds between two readings of memory
MEMORY = "memory.txt"
ERROR = "error"  # begun, and ended by something else than a verdict


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a run: where, what came of it, its seconds, and those of them in which traffic was judged (0: it
    judges no traffic).
    """

    name: str
    verdict: str
    seconds: float
    windows: float
    amiss: tuple[str, ...]  # flows found hurt that the model says are not
    twice: bool = False  # inconclusive at first, and made again with fresh pods

    @property
    def wrong(self) -> bool:
        return self.verdict in ("fail", ERROR) or bool(self.amiss)

    @property
    def observed(self) -> float:
        """Seconds of observation: those of its windows, or all of it where what it observes is no traffic."""
        return self.windows or self.seconds


@dataclass(frozen=True, slots=True)
class Made:
    """One run: its kind, wall seconds, trials, and the most MiB that its processes outside the pods held (0: not
    read).
    """

    kind: str
    seconds: float
    trials: tuple[Trial, ...]
    mebibytes: float = 0.0

    @property
    def ratio(self) -> float:
        """Wall time to observation."""
        return self.seconds / sum(trial.observed for trial in self.trials)


def read(directory: Path) -> Made:
    """A run from its directory; the kind is the name's first word."""
    report: dict[str, Any] = json.loads((directory / "report.json").read_text())
    trials = []
    for one in report["trials"]:
        place = directory / "trials" / one["mode"] / one["scenario"]
        trials.append(
            Trial(
                f"{one['scenario']}[{one['mode']}]",
                one["verdict"],
                one["seconds"],
                judged_seconds(place),
                tuple(sorted(set(one["observed"]["hurt"]) & set(one["predicted"]["unhurt"]))),
                (place / "attempt-1").exists(),
            )
        )
    trials += [Trial(name, ERROR, 0.0, 0.0, ()) for name in report.get("unfinished", ())]
    memory = directory / MEMORY
    readings = [float(line) for line in memory.read_text().split()] if memory.exists() else []
    return Made(directory.name.partition("-")[0], report["seconds"], tuple(trials), max(readings, default=0.0))


def page(runs: Sequence[Made], *, machine: str) -> str:
    """The page, pure."""
    text = [
        "# How often a trial of the suite is wrong, and what a run costs",
        "",
        f"{machine}; embedded cluster, two nodes. Again: `python -m proof.matrix`.",
        "",
        "The mesh is sound: a trial that fails is wrong, and so is one that finds somebody hurt of whom the model "
        "says that nobody "
        "is. *Made twice*: inconclusive at first, and with fresh pods not. *Observation*: the windows in which "
        "traffic is judged, and "
        "the whole of those trials that judge none (Jobs, keys, footprint, features). "
        "*Outside the pods*: PSS of the runner and the cluster's own processes, at most.",
        "",
        "| runs | how | trials a run | trials in all | wrong | inconclusive | made twice | wall, s: median (least to "
        "most) | "
        "observation, s | wall to observation | MiB outside the pods |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for kind, title in TITLES.items():
        if not (mine := [run for run in runs if run.kind == kind]):
            continue
        trials = [trial for run in mine for trial in run.trials]
        walls = [run.seconds for run in mine]
        held = [run.mebibytes for run in mine if run.mebibytes]
        text.append(
            f"| {len(mine)} | {title} | {statistics.median(len(run.trials) for run in mine):.0f} | {len(trials)} | "
            f"{sum(trial.wrong for trial in trials)} | {sum(trial.verdict == 'inconclusive' for trial in trials)} | "
            f"{sum(trial.twice for trial in trials)} | "
            f"{statistics.median(walls):.0f} ({min(walls):.0f} to {max(walls):.0f}) | "
            f"{statistics.median(sum(trial.observed for trial in run.trials) for run in mine):.0f} | "
            f"{statistics.median(run.ratio for run in mine):.2f} | {f'{max(held):.0f}' if held else '-'} |"
        )
    odd = Counter(
        (run.kind, trial.name, trial.verdict, trial.amiss)
        for run in runs
        for trial in run.trials
        if trial.wrong or trial.verdict == "inconclusive"
    )
    if odd:
        text += [
            "",
            "## Which were not as they should be",
            "",
            "| trial | run | verdict | hurt, against the model | times |",
            "|---|---|---|---|---:|",
        ]
        text += [
            f"| `{name}` | {kind} | {verdict} | {', '.join(amiss) or '-'} | {times} |"
            for (kind, name, verdict, amiss), times in sorted(odd.items())
        ]
    return "\n".join(text) + "\n"


def outside(root: int) -> float:
    """MiB (PSS) of a process and all that came of it, but for what runs in a pod's cgroup."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family, more = {root}, True
    while more:
        new = {pid for pid, parent in parents.items() if parent in family} - family
        family, more = family | new, bool(new)
    total = 0
    for pid in family:
        try:
            if f"{cgroups.ROOT}/" in Path(f"/proc/{pid}/cgroup").read_text():
                continue
            found = re.search(r"^Pss: *(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        except OSError:
            continue
        total += int(found[1]) if found else 0
    return total / 1024


def run(directory: Path, options: Sequence[str]) -> None:
    """One run of the suite into a directory, its memory read meanwhile."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--pyargs",
        "chaos.suite",
        f"--chaos-out={directory}",
        "-p",
        "no:cacheprovider",
        *options,
    ]
    readings: list[float] = []
    end = time.monotonic() + LONGEST
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            readings.append(outside(process.pid))
            if time.monotonic() > end:
                process.terminate()
            time.sleep(EVERY)
    if (directory / "report.json").exists():
        (directory / MEMORY).write_text("\n".join(f"{one:.1f}" for one in readings) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m proof.matrix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--idle", type=int, default=10, help="runs of the default matrix with nothing else on the machine"
    )
    parser.add_argument("--loaded", type=int, default=3, help="runs of it with a loop on each core")
    parser.add_argument("--all", type=int, default=1, help="runs of every scenario in every mode")
    parser.add_argument("--read", action="store_true", help="run nothing: write the page from what lies in --out")
    parser.add_argument("--out", type=Path, default=Path("sharedfate-proof/matrix"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("options", nargs="*", help="more options of pytest, after --: to try this on a few trials")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.read:
        for number in range(options.idle):
            run(options.out / f"{IDLE}-{number + 1}", options.options)
        for number in range(options.loaded):
            with working([Loop(1.0, 0.0, core) for core in range(os.cpu_count() or 1)], seconds=LONGEST):
                run(options.out / f"{LOADED}-{number + 1}", options.options)
        for number in range(options.all):
            run(options.out / f"{ALL}-{number + 1}", [*EVERYTHING, *options.options])
    runs = [read(path.parent) for path in sorted(options.out.glob("*/report.json"))]
    options.page.write_text(page(runs, machine=machine()))
    print(options.page.read_text())
    sys.exit(any(trial.wrong for made in runs for trial in made.trials))


if __name__ == "__main__":
    main()
