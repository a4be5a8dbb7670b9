"""Whole runs that signals meet at random moments: once, twice or three times, some in a shell's background."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaos.embedded import provider
from proof.endings.left import cookies_below, descendants, everything_left

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RUNS: Final = (("none", "app-rolled-out"), ("sidecar", "proxy-paused"))
STARTING: Final = 1.5  # seconds in which Python itself starts, on a busy machine: its own behaviour is not ours
ENDS: Final = 120.0  # seconds after the last signal
ALL_TRIED: Final = "[100%]"  # what a run prints once each trial has its verdict: no signal changes that any more


@dataclass(frozen=True, slots=True)
class Moment:
    """What meets one run: `times` of a signal, `gaps` seconds apart, the first so long after the run was started."""

    mode: str
    scenario: str
    signal: str
    times: int
    after: float
    gaps: tuple[float, ...]
    background: bool

    def as_line(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self.__dataclass_fields__}


def plan(number: int, *, seed: int, takes: dict[str, float]) -> Moment:
    """The signals and how often in turn; a moment within what the run takes; a third in a shell's background."""
    chance = random.Random(f"{seed}:{number}")
    mode, scenario = RUNS[number // 9 % len(RUNS)]
    times = 1 + number // 3 % 3
    return Moment(
        mode,
        scenario,
        SIGNALS[number % 3].name,
        times,
        round(chance.uniform(0.1, takes[mode]), 3),
        tuple(round(chance.choice([0.02, 0.3, chance.uniform(0.5, 3)]), 3) for _ in range(times - 1)),
        chance.random() < 1 / 3,
    )


def _listen(background: bool) -> None:
    """As a terminal would start it, or a shell in its background, also where this campaign runs under `nohup`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _begin(out: Path, mode: str, scenario: str, *, background: bool) -> subprocess.Popen[str]:
    command = ["run", "--modes", mode, "--scenarios", scenario, f"--out={out}"]
    log = (out.parent / f"{out.name}.log").open("w")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", "chaos", *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: _listen(background),
        )


def measure(out: Path, mode: str, scenario: str) -> float:
    """Seconds that a run takes now that nobody disturbs."""
    began = time.monotonic()
    _begin(out, mode, scenario, background=False).wait()
    return time.monotonic() - began


def _clusters_of(pid: int) -> set[str]:
    """The names of the embedded clusters that a process began."""
    found = set()
    for path in provider.RUN.iterdir() if provider.RUN.is_dir() else ():
        with contextlib.suppress(OSError):
            if (path / "owner").read_text().split()[:1] == [str(pid)]:
                found.add(path.name)
    return found


def _unreported(out: Path) -> list[str]:
    """Trials that were begun and that the report does not tell of, neither as finished nor as unfinished."""
    begun = {f"{path.name}[{path.parent.name}]" for path in (out / "trials").glob("*/*") if path.is_dir()}
    if not begun:
        return []
    try:
        report = json.loads((out / "report.json").read_text())
    except (OSError, ValueError) as error:
        return [f"no report of {sorted(begun)}: {error}"]
    told = {f"{one['scenario']}[{one['mode']}]" for one in report["trials"]}
    told |= {str(one) for one in report.get("unfinished", ())}
    return [f"not reported: {one}" for one in sorted(begun) if not any(one in text for text in told)]


def strike(out: Path, moment: Moment) -> dict[str, Any]:
    """One run and its signals; what a line of the log holds. Orphans must come to this process."""
    number = signal.Signals[moment.signal]
    before = descendants(os.getpid())
    process = _begin(out, moment.mode, moment.scenario, background=moment.background)
    said = out.parent / f"{out.name}.log"
    sent = 0
    try:
        time.sleep(moment.after)
        names = _clusters_of(process.pid)
        spaces = {one for name in names for one in cookies_below(name)}
        before_it = said.read_text()
        where = (before_it.strip().splitlines() or ["starting"])[-1][:120]
        for gap in (0.0, *moment.gaps):
            time.sleep(gap)
            if process.poll() is not None:
                break
            process.send_signal(number)
            sent += 1
        began = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDS)
        names |= _clusters_of(process.pid)
        took = round(time.monotonic() - began, 2)
        hung = process.poll() is None
    finally:
        process.kill()
        process.wait()
    text = said.read_text(errors="replace")
    begun = (out / "run.json").exists()
    if begun:
        names.add(f"sf-{json.loads((out / 'run.json').read_text()).get('run', '')}")
    lines = text.count(f"sharedfate: {moment.signal}")
    code = process.returncode
    early = not begun and code == -number and moment.after < STARTING
    late = lines == 0 and code in (0, 1) and ALL_TRIED in before_it
    wrong = ["still there after its signals"] if hung else []
    if code != 128 + number and not early and not late and sent:
        wrong.append(f"exit {code}")
    if "Traceback" in text:
        wrong.append(f"a trace: {text[-1500:]}")
    if sent and not early and not late and not 1 <= lines <= sent:
        wrong.append(f"{lines} lines for {sent} signals")
    at_once = "for the third time" in text
    wrong += [] if at_once else _unreported(out)
    left = [one for name in sorted(names) for one in everything_left(name, before=before, spaces=spaces)]
    left += everything_left(f"sf-{out.name}-none", before=before, spaces=set()) if not names else []
    for name in sorted(names) if at_once or lines > 1 else ():  # as the line says: `clean` undoes what is left
        done = subprocess.run(
            [sys.executable, "-m", "chaos", "clean", "--run", name.removeprefix("sf-")], capture_output=True, text=True
        )
        wrong += [f"clean: exit {done.returncode}: {done.stderr[-300:]}"] if done.returncode else []
    wrong += left + [f"directory {provider.RUN / name}" for name in sorted(names) if (provider.RUN / name).exists()]
    return {
        **moment.as_line(),
        "counts": sent > 0 and not late,
        "sent": sent,
        "where": where,
        "code": code,
        "early": early,
        "third": at_once,
        "seconds": took,
        "wrong": wrong,
    }
