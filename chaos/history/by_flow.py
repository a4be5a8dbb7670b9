"""Samples by flow, as a verdict reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chaos.history.ledger import Entries
from chaos.history.model import Outcome, Samples
from chaos.model.flow import Flow


class FlowSamples(Mapping[Flow, Samples]):
    """Samples by flow, sorted by `due`; those of ledgers are made each time that they are asked for, so that never
    more than one flow's are in memory at a time.
    """

    def __init__(self, flows: Sequence[Flow], samples: Samples, ledgers: Sequence[Entries] = ()) -> None:
        self._numbers = {flow: number for number, flow in enumerate(flows)}
        self._unsorted = samples
        self._ledgers: dict[int, list[Entries]] = {}
        for one in ledgers:
            self._ledgers.setdefault(one.flow, []).append(one)

    @cached_property
    def _samples(self) -> Samples:
        samples = self._unsorted
        ordered: Samples = samples[np.lexsort((samples["due"], samples["flow"]))]
        return ordered

    @cached_property
    def _edges(self) -> NDArray[np.int64]:
        """Where in the sorted samples each flow begins."""
        return np.searchsorted(self._samples["flow"], np.arange(len(self._numbers) + 1))

    def __getitem__(self, flow: Flow) -> Samples:
        number = self._numbers[flow]
        whole = self._samples[self._edges[number] : self._edges[number + 1]]
        if number not in self._ledgers:
            return whole
        joined = np.concatenate([whole, *(one.samples() for one in self._ledgers[number])])
        return joined[np.argsort(joined["due"], kind="stable")]

    def made_since(self, begin: int) -> dict[Flow, int]:
        """Return how many requests of each flow have ended that fell due from then on."""
        samples = self._unsorted
        recent = samples["flow"][samples["due"] >= begin]
        counts = np.bincount(recent, minlength=len(self._numbers))
        for number, entries in self._ledgers.items():
            counts[number] += sum(int((one.due(one.numbers()) >= begin).sum()) for one in entries)
        return {flow: int(counts[number]) for flow, number in self._numbers.items()}

    def failed(self) -> NDArray[np.int64]:
        """Return when those requests fell due that did not end well."""
        samples = self._unsorted
        parts = [samples["due"][samples["outcome"] != Outcome.OK]]
        for one in (one for entries in self._ledgers.values() for one in entries):
            parts.append(one.failed())
        return np.concatenate(parts)

    def __iter__(self) -> Iterator[Flow]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)
