"""Loaders that lie about what failed: what a trial must not believe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from chaos.history.model import Cause, Outcome, Samples
from chaos.load.client import LedgerPart, LoaderClient, Page

ENDINGS = ("failed", "unknown", "shed")


class Stamping(LoaderClient):
    """Says of each failure that it was answered well, in its samples, its ledgers and its counts."""

    def state(self) -> dict[str, Any]:
        return _without_failures(super().state())

    def samples(self, first: int = 0, *, epoch: str = "", pending: bool = False) -> Page:
        return self._stamped(super().samples(first, epoch=epoch, pending=pending))

    def ledger(self, place: Sequence[int], *, epoch: str = "", pending: bool = False) -> Page:
        return self._stamped(super().ledger(place, epoch=epoch, pending=pending))

    def _stamped(self, page: Page) -> Page:
        records = page.records.copy()
        bad = records["outcome"] != Outcome.OK
        records["outcome"][bad], records["cause"][bad], records["status"][bad] = Outcome.OK, Cause.NONE, 200
        records["done"][bad] = records["due"][bad] + 2_000_000
        ledgers = [
            replace(part, kinds=[(kind[0], int(Outcome.OK), int(Cause.NONE), 200, kind[4]) for kind in part.kinds])
            for part in page.ledgers
        ]
        state = _without_failures(dict(page.state))
        return replace(page, state=state, records=records, ledgers=tuple(ledgers))


def _without_failures(state: dict[str, Any]) -> dict[str, Any]:
    flows = [
        {**one, "ok": one["ok"] + sum(one[name] for name in ENDINGS), **dict.fromkeys(ENDINGS, 0)}
        for one in state["flows"]
    ]
    return {**state, "flows": flows}


class Dropping(LoaderClient):
    """Keeps each failure to itself, and counts only the samples that it gives."""

    kept_back: ClassVar[dict[str, list[int]]] = {}  # epoch -> flows of the samples that it does not give
    kinds: ClassVar[dict[tuple[str, int], list[tuple[int, int, int, int, int]]]] = {}  # of the ledgers, so far

    def samples(self, first: int = 0, *, epoch: str = "", pending: bool = False) -> Page:
        back = self.kept_back.setdefault(epoch, [])
        page = super().samples(first + len(back), epoch=epoch, pending=pending)
        back = self.kept_back.setdefault(page.state["epoch"], back if epoch else [])
        bad = page.records["outcome"] != Outcome.OK
        back.extend(int(number) for number in page.records["flow"][bad])
        kept: Samples = page.records[~bad]
        state = {**_thinned(page.state, back), "from": first, "count": len(kept)}
        return replace(page, state=state, records=np.array(kept), first=first)

    def ledger(self, place: Sequence[int], *, epoch: str = "", pending: bool = False) -> Page:
        back = self.kept_back.setdefault(epoch, [])
        honest = [*place[:1], *(n + back.count(i // 3) * (i % 3 == 0) for i, n in enumerate(place[1:]))]
        page = super().ledger(honest, epoch=epoch, pending=pending)
        name = page.state["epoch"]
        back = self.kept_back.setdefault(name, back if epoch else [])
        ledgers = []
        for number, part in enumerate(page.ledgers):
            kinds = self.kinds.setdefault((name, number), [])
            kinds += part.kinds
            before = back.count(number)
            ok = np.array([kinds[kind][1] == Outcome.OK for kind in part.entries["kind"]], bool)
            back.extend([number] * int(np.count_nonzero(~ok)))
            ledgers.append(_without(part, ok, given=part.begin[0] - before))
        return replace(page, state=_thinned(page.state, back), ledgers=tuple(ledgers))


def _thinned(state: Any, back: list[int]) -> dict[str, Any]:
    flows = [{**one, "stored": one["stored"] - back.count(one["id"])} for one in state["flows"]]
    return {**state, "total": state["total"] - len(back), "flows": flows}


def _without(part: LedgerPart, kept: Any, *, given: int) -> LedgerPart:
    """Leave entries out: each that follows one takes its step as well."""
    steps = np.cumsum(part.entries["step"], dtype=np.int64)
    entries = part.entries[kept].copy()
    entries["step"] = np.diff(steps[kept], prepend=0)
    return replace(part, begin=(given, *part.begin[1:]), entries=entries)
