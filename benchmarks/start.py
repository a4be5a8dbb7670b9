"""What the command costs before it does anything: `sharedfate --help` beside an interpreter that does nothing, in turn.

`python benchmarks/start.py [--write] [--count N]`: under a minute, no root. What to compare is the ratio of CPU times:
a busy machine lengthens both alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).parent / "results" / "start.md"
COUNT: Final = 30
BARE: Final = "python -c pass"
COMMANDS: Final = {
    BARE: ["-P", "-c", "pass"],
    "import click": ["-P", "-c", "import click"],
    "sharedfate --help": ["-P", "-m", "chaos", "--help"],
    "sharedfate cluster status": ["-P", "-m", "chaos", "cluster", "status"],
}


def once(arguments: Sequence[str]) -> tuple[float, float]:
    """Return the seconds of a start, and its CPU seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row(name: str, values: Sequence[float]) -> str:
    figures = (min(values), statistics.median(values), max(values))
    return f"| {name} | {len(values)} | " + " | ".join(f"{1000 * value:.0f}" for value in figures) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name}")
    parser.add_argument("--count", type=int, default=COUNT, help="starts of each")
    chosen = parser.parse_args()
    for arguments in COMMANDS.values():
        once(arguments)  # bytecode, and the machine's file cache
    wall: dict[str, list[float]] = {name: [] for name in COMMANDS}
    cpu: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(chosen.count):
        for name, arguments in COMMANDS.items():
            seconds, used = once(arguments)
            wall[name].append(seconds)
            cpu[name].append(used)
    ratios = {name: statistics.median(cpu[name]) / statistics.median(cpu[BARE]) for name in COMMANDS}
    head = ["| milliseconds | n | least | median | most |", "|---|---:|---:|---:|---:|"]
    text = "\n".join(
        [
            "# The command's start",
            "",
            f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python "
            f"{platform.python_version()}, load average {os.getloadavg()[0]:.1f} at the end; in turn. Again: "
            "`python benchmarks/start.py --write`.",
            "",
            "CPU time:",
            "",
            *head,
            *(row(name, cpu[name]) for name in COMMANDS),
            "",
            "Wall time:",
            "",
            *head,
            *(row(name, wall[name]) for name in COMMANDS),
            "",
            f"CPU time by that of `{BARE}`: "
            + ", ".join(f"`{name}` {ratio:.1f}" for name, ratio in ratios.items() if name != BARE)
            + ".",
        ]
    )
    print(text)
    if chosen.write:
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
