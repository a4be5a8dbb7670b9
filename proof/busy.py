"""What a busy machine does to verdicts: the same trials beside 0, 1, 2 and 4 processes that never rest.

    python -m proof.busy                  three minutes for each (root), and write the page
    python -m proof.busy --processes 4    those alone, beside what lies in --out already
    python -m proof.busy --read           the page from what lies in --out

The mesh is sound, so every trial that fails is wrong. What a machine may cost is an answer: a trial that is tried
twice, or says that it cannot tell.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.machine import machine
from proof.live.machine import Loop, working
from proof.matrix import Made, read, run

PAGE: Final = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "busy.md"
PROCESSES: Final = (0, 1, 2, 4)
TRIALS: Final = ("--chaos-modes=none,sidecar,node,ambient-namespace", "--chaos-scenarios=proxy-killed,proxy-paused")
LONGEST: Final = 900.0  # seconds of a run, and of the processes beside it


def page(made: Mapping[int, Sequence[Made]], *, machine: str) -> str:
    """Return the page. Pure.

    Args:
        made: runs by the number of processes beside them.
    """
    rows = []
    for number, runs in sorted(made.items()):
        trials = [trial for one in runs for trial in one.trials]
        twice = sum(trial.twice for trial in trials)
        unclear = sum(trial.verdict == "inconclusive" for trial in trials)
        rows.append(
            f"| {number} | {len(runs)} | {len(trials)} | {sum(trial.wrong for trial in trials)} | "
            f"{unclear} ({unclear / len(trials):.0%}) | {twice} ({twice / len(trials):.0%}) | "
            f"{statistics.median(one.seconds for one in runs):.0f} | "
            f"{statistics.median(one.ratio for one in runs):.2f} |"
        )
    return "\n".join(
        [
            "# Verdicts on a busy machine",
            "",
            f"{machine}; embedded cluster, two nodes. Again: `python -m proof.busy`.",
            "",
            f"`{' '.join(TRIALS)}`, beside processes that do arithmetic and never rest, at the usual priority. The "
            "mesh is sound: a trial that fails is wrong, and so is one that finds somebody hurt of whom the model says "
            "that nobody is. *Inconclusive*: also with fresh pods. *Made twice*: inconclusive at first.",
            "",
            "| busy processes | runs | trials | wrong | inconclusive | made twice | wall, s | wall / judged traffic |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )


def beside(directory: Path) -> int:
    """Return the number of processes beside a run, by its directory's name: `busy4-1`. Pure."""
    return int(directory.name.partition("-")[0].removeprefix("busy"))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m proof.busy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, action="append", help="by default 0, 1, 2 and 4, one after the other")
    parser.add_argument("--read", action="store_true", help="run nothing: write the page from what lies in --out")
    parser.add_argument("--out", type=Path, default=Path("sharedfate-proof/busy"))
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for number in () if options.read else options.processes or PROCESSES:
        earlier = len(list(options.out.glob(f"busy{number}-*/report.json")))
        with working([Loop(1.0, 0.0, seed) for seed in range(number)], seconds=LONGEST):
            run(options.out / f"busy{number}-{earlier + 1}", TRIALS)
    made: dict[int, list[Made]] = {}
    for report in sorted(options.out.glob("busy*/report.json")):
        made.setdefault(beside(report.parent), []).append(read(report.parent))
    if not made:
        raise SystemExit(f"no run lies in {options.out}")
    options.page.write_text(page(made, machine=machine()))
    print(options.page.read_text())
    return int(any(trial.wrong for runs in made.values() for one in runs for trial in one.trials))


if __name__ == "__main__":
    sys.exit(main())
