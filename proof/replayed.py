"""A loader that replays samples: it gives what a loader would have given that measured them, by the loader's own log,
ledgers and pages. For tests of what comes of both, and for benchmarks of many.
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chaos.history.model import Outcome, Samples
from chaos.load.engine import SampleRecorder
from chaos.load.pages import as_json, ledger_page, samples_page
from chaos.load.samples import CHUNK_RECORDS, FlowCounters, sample_log
from chaos.model.flow import Flow


class Replayed:
    """Flows of one client pod. `ask` is an exchange of `chaos.load.client`.

    Args:
        flows: each with its samples; their numbers are made anew, in order of `due`.
        pods: whom the samples' servers index, `namespace/pod`.
    """

    def __init__(self, pod: str, flows: Mapping[Flow, Samples], pods: Sequence[str], *, epoch: str = "e") -> None:
        self.pod, self.epoch = pod, epoch
        self.recorder = SampleRecorder(sample_log(), 0)
        self.recorder.servers.extend(pods)
        self.counters: list[FlowCounters] = []
        numbered = []
        for number, (flow, samples) in enumerate(flows.items()):
            self.client = flow.client
            self.counters.append(
                FlowCounters(
                    number,
                    name=flow.label or ("sentinel" if flow.sentinel else "http"),
                    server=flow.server,
                    sentinel=flow.sentinel,
                    label=flow.label,
                    keep_every=1,
                )
            )
            mine = samples[np.argsort(samples["due"], kind="stable")]
            mine["flow"], mine["sequence"] = number, np.arange(1, len(mine) + 1)
            ledger = self.recorder.ledgers.of(number)
            for pace in paces_of(mine["due"]):
                ledger.set_pace(*pace)
            numbered.append(mine)
        joined = np.concatenate(numbered)
        self._samples = joined[np.argsort(joined["done"], kind="stable")]
        self._played = 0
        self.now = 0

    def play(self, until: int) -> None:
        """Let time pass up to an instant, ns."""
        self.now = until
        last = int(np.searchsorted(self._samples["done"], until, side="right"))
        for row in self._samples[self._played : last].tolist():
            flow, _, server, outcome, cause, status, flags, due, sent, done, sequence = row
            counters = self.counters[flow]
            counters.done += 1
            counters.stored += 1
            counters.ok += outcome == Outcome.OK
            counters.sent += outcome == Outcome.OK  # of the others it is not asked
            counters.failed += outcome == Outcome.FAILED
            counters.unknown += outcome == Outcome.UNKNOWN
            self.recorder.keep(flow, server, outcome, cause, status, flags, due, sent, done, sequence)
        self._played = max(self._played, last)

    def ask(self, path: str, body: bytes | None) -> bytes:
        """Answer as the control port does."""
        parts = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        mine = query.get("epoch", self.epoch) == self.epoch
        state = self._state()
        match parts.path:
            case "/samples":
                return samples_page(state, self.recorder.log, int(query["from"]) if mine else 0, CHUNK_RECORDS)
            case "/ledger":
                place = [int(word) for word in query["after"].split(",")] if mine else [0]
                return ledger_page(state, self.recorder.ledgers, place)
            case "/state":
                return as_json(state)
            case "/stop" | "/aggressor":
                return json.dumps([] if parts.path == "/aggressor" else {"under_way": state["under_way"]}).encode()
        raise ValueError(path)

    def _state(self) -> dict[str, object]:
        waiting = self._samples[self._played :]
        waiting = waiting[waiting["due"] <= self.now]
        pending = {str(n): np.sort(waiting["due"][waiting["flow"] == n]).tolist() for n in range(len(self.counters))}
        for one in self.counters:
            one.due = one.done + len(pending[str(one.id)])
        return {
            "pod": self.pod,
            "client": self.client,
            "epoch": self.epoch,
            "clock": time.time_ns(),  # its samples keep their instants, whenever they are replayed
            "total": self.recorder.log.total,
            "under_way": len(waiting),
            "servers": self.recorder.servers,
            "flows": [one.as_dict() for one in self.counters],
            "aggressors": [],
            "lateness": {"tolerance_ns": 1, "stalls": 0, "worst_ns": 0},
            "pending": pending,
        }


def paces_of(due: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return paces (`chaos.history.words.Pace`) by which requests 1, 2, ... fall due at those instants, in order."""
    gaps = np.diff(due)
    changed = np.append(gaps[1:] != gaps[:-1], False)[: len(gaps)]
    begins = [0, *(np.flatnonzero(changed | (gaps == 0)) + 1).tolist()]
    return [(begin + 1, int(due[begin]), max(1, *gaps[begin : begin + 1].tolist(), 1)) for begin in begins]
