"""The command; see the package."""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from proof.endings import __doc__ as story
from proof.endings import campaign, kills, signals
from proof.endings.left import orphans_come_here


def _kill(number: int, *, seed: int, takes: dict[str, float]) -> dict[str, object]:
    return kills.kill(f"kill{seed}-{number}", kills.plan(number, seed=seed, takes=takes))


def _strike(number: int, *, folder: Path, seed: int, takes: dict[str, float]) -> dict[str, object]:
    return signals.strike(folder / f"s{number}", signals.plan(number, seed=seed, takes=takes))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m proof.endings", description=story, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["kills", "signals"])
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100, help="endings that met what they were to meet")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further one after this time")
    options = parser.parse_args()
    with orphans_come_here(), tempfile.TemporaryDirectory(prefix="endings-") as scratch:
        folder = Path(scratch)
        if options.what == "kills":
            takes = {mode: kills.measure(f"kill{options.seed}-{mode}", mode) for mode in kills.MODES}
            ending = partial(_kill, seed=options.seed, takes=takes)
        else:
            takes = {mode: signals.measure(folder / mode, mode, scenario) for mode, scenario in signals.RUNS}
            ending = partial(_strike, folder=folder, seed=options.seed, takes=takes)
        print(takes, flush=True)
        done = campaign.go(options.log, count=options.count, seconds=options.seconds, ending=ending)
    sys.exit(any(line["wrong"] for line in done))


if __name__ == "__main__":
    main()
