"""Verdicts by whole samples and by ledgers, on saved histories: `python -m proof.ledgers RUN...`.

Every trial of the run directories that was judged by its flows is judged by its samples, and by what a runner gets of
them when loaders that measured them give their ledgers (`proof.replayed`). Ends with 1 when any judgement differs in
any digit, or when there was none to compare.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chaos.history.by_flow import FlowSamples
from chaos.history.model import NO_POD, Samples
from chaos.history.store import HEADER_FILE, History, HistoryWriter
from chaos.load.client import LoaderClient
from chaos.load.detail import Detail
from chaos.load.feed import LoaderFeed
from chaos.model.flow import Flow
from chaos.verdict import Expectation, Judgement, judge, thresholds_from, view_of
from proof.replayed import Replayed


@dataclass(frozen=True, slots=True)
class Compared:
    """One trial, judged twice. `in_full`: requests that no entry could hold."""

    trial: Path
    requests: int
    in_full: int
    by_samples: Judgement
    by_ledger: Judgement

    @property
    def equal(self) -> bool:
        return self.by_samples.as_dict() == self.by_ledger.as_dict()


def compare(trial: Path) -> Compared | None:
    """Judge a trial twice; None for one in which nothing was expected of flows."""
    history = History.load(trial)
    header = history.header
    if "expectation" not in header:
        return None
    expectation, thresholds = (
        Expectation.from_dict(header["expectation"], history.flows),
        thresholds_from(header.get("thresholds", {})),
    )
    whole = FlowSamples(history.flows, history.samples)
    entered, in_full = by_ledgers(whole, history.pods)
    until = max(int(history.samples["done"].max(initial=0)), *(event.at for event in history.events))
    found = [
        judge(view_of(flows, history.events, until=until, since=header.get("since")), expectation, thresholds)
        for flows in (whole, entered)
    ]
    return Compared(trial, len(history.samples), in_full, *found)


def by_ledgers(flows: FlowSamples, pods: Sequence[str]) -> tuple[FlowSamples, int]:
    """Return what a runner gets of flows from the ledgers of loaders that measured them, and how much of it in full."""
    by_pod: dict[int, dict[Flow, Samples]] = {}
    for flow, samples in flows.items():
        for pod in np.unique(samples["client"]).tolist():
            by_pod.setdefault(pod, {})[flow] = samples[samples["client"] == pod]
    in_full = 0
    with tempfile.TemporaryDirectory() as scratch, HistoryWriter(Path(scratch) / "trial", {}) as writer:
        for number, mine in by_pod.items():
            namespace, _, name = (pods[number] if number != NO_POD else "unknown/unknown").partition("/")
            loader = Replayed(name, mine, pods)
            loader.play(1 << 62)
            feed = LoaderFeed(LoaderClient(loader.ask), writer, namespace=namespace, pod=name, detail=Detail.LEDGER)
            while feed.poll():
                pass
            feed.check()
            in_full += feed.epochs[-1].in_full
        return writer.by_flow(), in_full


def trials_of(runs: Sequence[str]) -> Iterator[Path]:
    for run in runs:
        yield from sorted(path.parent for path in Path(run).rglob(HEADER_FILE))


def main(runs: Sequence[str]) -> int:
    compared = [one for one in map(compare, trials_of(runs)) if one is not None]
    for one in compared:
        said = "equal" if one.equal else f"NOT EQUAL: {one.by_samples.reason} / {one.by_ledger.reason}"
        print(f"{one.trial}: {one.requests} requests ({one.in_full} in full), {one.by_samples.verdict}: {said}")
    equal = sum(one.equal for one in compared)
    print(f"{equal} of {len(compared)} judgements are equal to the last digit")
    return 0 if compared and equal == len(compared) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
