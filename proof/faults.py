"""Whatever is killed while a fault is held, the fault is undone: what `tests/faults/test_runner_killed.py` saw, as a
page.

    python -m proof.faults                   run it in every mode (half an hour, root), and write the page
    python -m proof.faults --log FILE        the page from a log that is there

The test writes the log, a line a group, only of what passed; a mode that has no line of a kind did not pass, or was not
run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from chaos.model.modes import MODES

TEST = "tests/faults/test_runner_killed.py"
LOG = "SHAREDFATE_PROOF_LOG"
PAGE = Path(__file__).parent.parent / "benchmarks" / "results" / "faults-undone.md"
RUNNER = "runner"


@dataclass(frozen=True, slots=True)
class Line:
    """What one test saw: `ran` kills of a process that ran, `held` of them while its fault was held, and seconds until
    all was well.
    """

    mode: str
    killed: str
    faults: tuple[str, ...]
    ran: int
    held: int
    seconds: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Line:
        data: dict[str, Any] = json.loads(text)
        return cls(**{**data, "faults": tuple(data["faults"]), "seconds": tuple(data["seconds"])})


def page(lines: Sequence[Line], *, machine: str) -> str:
    """The page, pure."""
    runners = [line for line in lines if line.killed == RUNNER]
    others = sorted({(line.killed, line.faults[0]) for line in lines if line.killed != RUNNER})
    modes = [mode for mode in MODES if any(line.mode == mode for line in lines)]
    kinds = {fault for line in runners for fault in line.faults}
    total, ran, held = (
        sum(len(line.faults) for line in runners),
        sum(line.ran for line in runners),
        sum(line.held for line in runners),
    )
    text = [
        "# Faults whose runner was killed: what is left of them",
        "",
        f"{machine}; embedded cluster, two nodes, four tenants. Again: `python -m proof.faults`.",
        "",
        f"{total} runners over {len(kinds)} kinds of fault in {len(modes)} modes. {ran} were killed with SIGKILL at a "
        "seeded random moment "
        f"while they ran, {held} of these while their fault was held (the others before it was, or in between). The "
        "deadline was 3 s. "
        "After each group no receipt and no helper pod is left, no object differs from before, and more than 90 % of "
        "the requests of "
        "every tenant end well, on kept connections and on fresh ones.",
        "",
        "*Well*: seconds from the last kill until all of that was seen, the deadline, the undo, restarts and "
        "reconnections included.",
        "",
        "| mode | runners | killed while they ran | while the fault was held | kinds of fault | well, median | well, "
        "longest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for mode in modes:
        mine = [line for line in runners if line.mode == mode]
        seconds = [one for line in mine for one in line.seconds]
        text.append(
            f"| `{mode}` | {sum(len(line.faults) for line in mine)} | {sum(line.ran for line in mine)} | "
            f"{sum(line.held for line in mine)} | {len({fault for line in mine for fault in line.faults})} | "
            f"{statistics.median(seconds):.1f} | {max(seconds):.1f} |"
            if mine
            else f"| `{mode}` | not run |||||||"
        )
    text += [
        "",
        "## And something else killed as well",
        "",
        "The runner is killed while the fault is held, and so is what the column names; seconds until all was well. "
        "-: not run, or no such thing in this mode.",
        "",
        "| mode | " + " | ".join(f"{killed}; {fault}" for killed, fault in others) + " |",
        "|---|" + "---:|" * len(others),
    ]
    for mode in modes:
        found = {line.killed: line for line in lines if line.mode == mode}
        text.append(
            f"| `{mode}` | "
            + " | ".join(f"{found[killed].seconds[0]:.1f}" if killed in found else "-" for killed, _ in others)
            + " |"
        )
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m proof.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, default=None)
    options = parser.parse_args()
    failed = 0
    log = options.log
    if log is None:
        log = Path(tempfile.mkdtemp(prefix="proof-")) / "faults.jsonl"
        failed = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", TEST], env={**os.environ, LOG: str(log)}
        ).returncode
    lines = [Line.parse(text) for text in log.read_text().splitlines()]
    PAGE.write_text(page(lines, machine=machine()))
    print(PAGE.read_text())
    sys.exit(failed)


if __name__ == "__main__":
    main()
