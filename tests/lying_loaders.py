"""Loaders that lie about what failed: what a trial must not believe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from chaos.history.model import Cause, Outcome, Samples
from chaos.load.client import LoaderClient, Page

ENDINGS = ("failed", "unknown", "shed")


class Stamping(LoaderClient):
    """Says of each failure that it was answered well, in its samples and in its counts."""

    def state(self) -> dict[str, Any]:
        return _without_failures(super().state())

    def samples(self, first: int = 0, *, epoch: str = "", pending: bool = False) -> Page:
        page = super().samples(first, epoch=epoch, pending=pending)
        records = page.records.copy()
        bad = records["outcome"] != Outcome.OK
        records["outcome"][bad], records["cause"][bad], records["status"][bad] = Outcome.OK, Cause.NONE, 200
        records["done"][bad] = records["due"][bad] + 2_000_000
        return Page(_without_failures(dict(page.state)), records)


def _without_failures(state: dict[str, Any]) -> dict[str, Any]:
    flows = [
        {**one, "ok": one["ok"] + sum(one[name] for name in ENDINGS), **dict.fromkeys(ENDINGS, 0)}
        for one in state["flows"]
    ]
    return {**state, "flows": flows}


class Dropping(LoaderClient):
    """Keeps each failure to itself, and counts only the samples that it gives."""

    kept_back: ClassVar[dict[str, list[int]]] = {}  # epoch -> its records that it does not give

    def samples(self, first: int = 0, *, epoch: str = "", pending: bool = False) -> Page:
        back = self.kept_back.setdefault(epoch, [])
        page = super().samples(first + len(back), epoch=epoch, pending=pending)
        back = self.kept_back.setdefault(page.state["epoch"], back if epoch else [])
        bad = page.records["outcome"] != Outcome.OK
        back.extend(int(number) for number in page.records["flow"][bad])
        kept: Samples = page.records[~bad]
        flows = [{**one, "stored": one["stored"] - back.count(one["id"])} for one in page.state["flows"]]
        state = {**page.state, "from": first, "total": page.state["total"] - len(back), "flows": flows}
        return replace(page, state={**state, "count": len(kept)}, records=np.array(kept))
