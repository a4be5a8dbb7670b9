"""What the hottest paths cost, by the CPU time of a yardstick that is measured beside them, and a guard over it.

    python -m proof.ratios             measure, and compare with what is committed (two minutes; needs wrk)
    python -m proof.ratios --write     measure, and commit it: benchmarks/results/ratios.md and ratios.json

A ratio of CPU times holds on a slow machine and on a busy one, where a time does not. Path and yardstick are measured
in turn, COUNT times; the median is compared. Exit code 1: a ratio is worse than the committed one by more than a tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import io
import json
import pstats
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from benchmarks import load
from benchmarks.machine import machine
from chaos.embedded.api.auth import User
from chaos.embedded.api.calls import Call
from chaos.embedded.api.rest import Rest
from chaos.embedded.api.watching import watch_lines
from chaos.embedded.clock import SystemClock
from chaos.embedded.resources import CONFIG_MAP
from chaos.embedded.store import Store
from chaos.verdict import Expectation, judge
from proof.synthetic import HarmDone, Noise, Plan, flows, view

RESULTS: Final = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
PAGE: Final = RESULTS / "ratios.md"
KEPT: Final = RESULTS / "ratios.json"
COUNT: Final = 7
WORSE: Final = 1.1
WATCHES: Final = 100
CHANGES: Final = 200
RATE: Final = 20_000.0  # requests/s of the loader
LINES: Final = 8  # of a profile

Cost = Callable[[], float]


@dataclass(frozen=True, slots=True)
class HotPath:
    """A path and its yardstick, each a function that does its work and returns CPU seconds for one unit of it.

    `limit` says what bounds the path on a machine; `profiled` does the work in this process, for a profile.
    """

    name: str
    unit: str
    cost: Cost
    yardstick: str
    beside: Cost
    limit: str
    profiled: Callable[[], object] | None = None


def used(work: Callable[[], object]) -> float:
    """CPU seconds of this process for a piece of work."""
    before = time.process_time()
    work()
    return time.process_time() - before


def started(*arguments: str) -> float:
    """CPU seconds of an interpreter with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# ---- the judge: a history of three flows and their sentinels, judged whole

_NAMES: Final = flows(3)
_HARMED: Final = {name: HarmDone(error_share=0.5 * (name == _NAMES[0])) for name in _NAMES}
_VIEW: Final = view(np.random.default_rng(1), Plan(fault=10.0), Noise(memory=0.5, error_share=0.002), _HARMED)
_EXPECTED: Final = Expectation.nobody(_NAMES)


def judge_history() -> None:
    judge(_VIEW, _EXPECTED)


def sort_samples() -> None:
    """The yardstick: the latencies of the same history, sorted a hundred times."""
    for _ in range(100):
        for samples in _VIEW.flows.values():
            np.sort(samples["done"] - samples["due"])


# ---- the API server: a change told to whoever watches

_OBJECT: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "x", "namespace": "default", "labels": {"app": "x"}},
    "data": {f"key-{number}": "value" * 10 for number in range(20)},
}


def tell_watches() -> None:
    """CHANGES of an object, each told to WATCHES watches, a quarter of them with a selector of labels."""

    async def main() -> None:
        store = Store()
        rest = Rest(store, SystemClock())
        store.create(CONFIG_MAP, deepcopy(_OBJECT))

        async def watch(number: int) -> None:
            query = {"labelSelector": "app=x"} if number % 4 == 0 else {}
            call = Call(User("bench", ("system:masters",)), "watch", CONFIG_MAP, namespace="default", query=query)
            seen = 0
            async for lines in watch_lines(rest, call):
                seen += lines.count(b"\n")
                if seen > CHANGES:
                    return

        watches = [asyncio.create_task(watch(number)) for number in range(WATCHES)]
        await asyncio.sleep(0)
        for change in range(CHANGES):
            found = deepcopy(store.get(CONFIG_MAP, "default", "x"))
            found["data"]["change"] = str(change)
            store.update(CONFIG_MAP, found)
            await asyncio.sleep(0)
        await asyncio.gather(*watches)

    asyncio.run(main())


def encode_events() -> None:
    """The yardstick: each event encoded once for each watch."""
    for _ in range(CHANGES * WATCHES):
        orjson.dumps({"type": "MODIFIED", "object": _OBJECT})


# ---- the loader: a request sent, answered, and its sample kept


def _loader() -> float:
    found = load.measure_loader(RATE)
    return found.cpu / found.requests


def _wrk() -> float:
    found = load.measure_wrk()
    return found.cpu / found.requests


PATHS: Final[Sequence[HotPath]] = (
    HotPath(
        "the command's start",
        "`sharedfate --help`",
        lambda: started("-P", "-m", "chaos", "--help"),
        "an interpreter that does nothing",
        lambda: started("-P", "-c", "pass"),
        "the imports of click and of fifteen small modules",
    ),
    HotPath(
        "the judge",
        "a history of three flows and their sentinels, 18 s at 200/s, one look",
        lambda: used(judge_history),
        "its latencies sorted a hundred times",
        lambda: used(sort_samples),
        "design effects on five scales and 200 resamples, for each flow and window",
        judge_history,
    ),
    HotPath(
        "the API server's watches",
        f"{CHANGES} changes told to {WATCHES} watches, without the sockets",
        lambda: used(tell_watches),
        "each event encoded for each watch",
        lambda: used(encode_events),
        "a task woken for each watch and batch",
        tell_watches,
    ),
    HotPath(
        "the loader",
        f"a request at {RATE:,.0f}/s on 16 connections, its sample kept",
        _loader,
        "a request of wrk on 16 connections, no sample kept",
        _wrk,
        "a wake-up, two system calls and a record for each request",
    ),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of COUNT measurements in turn."""

    median: float
    least: float
    most: float


def measure(paths: Sequence[HotPath], count: int) -> dict[str, Ratio]:
    """Return each path's ratio. The loader's server runs meanwhile, and costs neither of the two."""
    found: dict[str, list[float]] = {one.name: [] for one in paths}
    with load.program(
        "chaos.apps.server", load.CONTROL, HTTP_PORT=str(load.HTTP), TCP_PORT="29000", POD_NAME="server-1"
    ):
        for number in range(count + 1):
            for one in paths:
                ratio = one.cost() / one.beside()
                if number:  # the first fills caches
                    found[one.name].append(ratio)
    return {name: Ratio(statistics.median(all_), min(all_), max(all_)) for name, all_ in found.items()}


def worse(now: Mapping[str, Ratio], kept: Mapping[str, float]) -> list[str]:
    """Return a sentence for each ratio whose median is above the committed one's by more than a tenth. Pure."""
    return [
        f"{name}: {ratio.median:.2f} times its yardstick, {ratio.median / kept[name] - 1:.0%} more than the committed "
        f"{kept[name]:.2f}"
        for name, ratio in now.items()
        if name in kept and ratio.median > WORSE * kept[name]
    ]


def profile(work: Callable[[], object]) -> list[str]:
    """Return the functions in which most of the time of a piece of work goes, a row each."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler, stream=io.StringIO())
    whole = stats.total_tt  # type: ignore[attr-defined]
    rows = sorted(stats.stats.items(), key=lambda row: -row[1][2])[:LINES]  # type: ignore[attr-defined]
    return [
        f"| {own / whole:.0%} | {calls:,} | `{_place(file)}{name}` |" for (file, _, name), (_, calls, own, _, _) in rows
    ]


def _place(file: str) -> str:
    if file == "~":
        return ""
    parts = Path(file).parts
    start = next((i for i, part in enumerate(parts) if part in ("chaos", "proof", "site-packages", "python3.11")), -1)
    return "/".join(parts[start + (parts[start] not in ("chaos", "proof")) :]).removesuffix(".py") + "."


def page(found: Mapping[str, Ratio], count: int) -> str:
    rows = [
        f"| {one.name} | {one.unit} | {one.yardstick} | {found[one.name].median:.2f} | {found[one.name].least:.2f} | "
        f"{found[one.name].most:.2f} | {one.limit} |"
        for one in PATHS
    ]
    profiles = [
        line
        for one in PATHS
        if one.profiled is not None
        for line in (
            f"## {one.name[0].upper()}{one.name[1:]}: where its time goes",
            "",
            "| own time | calls | function |",
            "|---:|---:|---|",
            *profile(one.profiled),
            "",
        )
    ]
    return "\n".join(
        [
            "# What the hottest paths cost beside a yardstick",
            "",
            f"{machine()}; {count} times in turn. Again: `python -m proof.ratios --write`.",
            "",
            "CPU time of the path by that of its yardstick. `make proof` measures them again, and fails when a median "
            "is above the one here by more than a tenth.",
            "",
            "| path | what | yardstick | ratio, median | least | most | what bounds it |",
            "|---|---|---|---:|---:|---:|---|",
            *rows,
            "",
            *profiles,
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--count", type=int, default=COUNT)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("the loader is compared with wrk: apt install wrk")
    found = measure(PATHS, options.count)
    for name, ratio in found.items():
        print(f"{name}: {ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f})")
    if options.write:
        PAGE.write_text(page(found, options.count))
        KEPT.write_text(json.dumps({name: round(ratio.median, 3) for name, ratio in found.items()}, indent=1) + "\n")
        return 0
    said = worse(found, json.loads(KEPT.read_text()))
    print("\n".join(said))
    return int(bool(said))


if __name__ == "__main__":
    sys.exit(main())
