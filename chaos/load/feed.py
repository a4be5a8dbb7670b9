"""The runner's side of one loader: its samples, or the entries of its ledgers, brought into the history.

A loader keeps all it measured, so a runner that stops asking, or starts again, loses nothing; a loader whose container
started again begins a new epoch and is counted anew. At the end both sides' counts must be equal, or `LostSamples`.
Asked by `chaos.load.collector`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from chaos.errors import ExperimentFailure
from chaos.history.ledger import Kind, Ledger
from chaos.history.model import NO_POD, SAMPLE, Cause, EventKind, Outcome, Samples
from chaos.history.store import HistoryWriter
from chaos.load.client import LedgerPart, LoaderClient, Page
from chaos.load.clocks import Offset, RemoteClock
from chaos.load.detail import Detail
from chaos.model.flow import Flow

_COUNTED: Final = ("due", "sent", "done", "ok", "failed", "unknown", "shed", "stored", "late")


# Flow, names of pods that answered it -> its own servers' names; None: they are not known.
OwnServers = Callable[[Flow, frozenset[str]], Collection[str] | None]


class LostSamples(ExperimentFailure):
    """The loader's counts differ from what arrived: the history is not whole."""


@dataclass(slots=True)
class _Arrived:
    """What came of one flow of an epoch."""

    count: int = 0
    numbers: list[NDArray[np.int64]] = field(default_factory=list)  # of requests that came as samples
    dues: list[NDArray[np.int64]] = field(default_factory=list)
    ledgers: list[Ledger] = field(default_factory=list)  # one for each offset of the clock
    kinds: list[Kind] = field(default_factory=list)  # in the loader's numbers

    def numbers_and_dues(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of all requests that came, and when they fell due."""
        held = [ledger.entries() for ledger in self.ledgers]
        counted = [entries.numbers() for entries in held]
        fell = [entries.due(numbers) for entries, numbers in zip(held, counted, strict=True)]
        none = np.empty(0, np.int64)
        return np.concatenate([none, *self.numbers, *counted]), np.concatenate([none, *self.dues, *fell])


@dataclass(slots=True)
class _Epoch:
    """The state of one life of a loader."""

    name: str
    next: int = 0  # samples that have come
    in_full: int = 0  # of those as whole samples
    flows: dict[int, int] = field(default_factory=dict)  # the loader's number -> the history's
    servers: list[int] = field(default_factory=list)
    arrived: dict[int, _Arrived] = field(default_factory=dict)  # by the loader's number of the flow
    flow_counters: list[dict[str, Any]] = field(default_factory=list)
    under_way: int = 0
    total: int = 0
    servers_named: list[str] = field(default_factory=list)  # as the history names them

    def of(self, number: int) -> _Arrived:
        return self.arrived.setdefault(number, _Arrived())

    @property
    def place(self) -> list[int]:
        """What has come of the ledgers, as the loader is told."""
        found = [self.in_full]
        for number in range(len(self.flows)):
            found += self.place_of(number)
        return found

    def place_of(self, number: int) -> list[int]:
        flow = self.of(number)
        paces = len(flow.ledgers[-1].paces) if flow.ledgers else 0
        return [sum(map(len, flow.ledgers)), paces, len(flow.kinds)]


class LoaderFeed:
    """Brings one loader's samples into the history. Only one thread at a time may call `poll`.

    Args:
        client: of the loader.
        namespace: of the loader's pod, whose servers' names are completed by it.
        pod: the loader's pod.
        own_servers: which pods may answer a flow; an answer by another is *misrouted*, whatever its status.
        detail: how much of each request is fetched.
    """

    def __init__(
        self,
        client: LoaderClient,
        writer: HistoryWriter,
        *,
        namespace: str,
        pod: str,
        own_servers: OwnServers = lambda flow, names: None,
        detail: Detail = Detail.FULL,
    ) -> None:
        self.client, self.writer, self.namespace, self.pod = client, writer, namespace, pod
        self.clock = RemoteClock()
        self.epochs: list[_Epoch] = []
        self.pending: dict[Flow, NDArray[np.int64]] = {}
        self.state: Mapping[str, Any] = {}
        self.misrouted = 0  # answers by others that named themselves, which the loader counts as its own servers'
        self._detail = detail
        self._own_servers = own_servers
        self._client = writer.pod(f"{namespace}/{pod}")
        self._stated: Offset | None = None

    def poll(self) -> bool:
        """Fetch what is new; return True when the loader has more at once."""
        epoch = self.epochs[-1] if self.epochs else None
        asked = time.time_ns()
        page = self._ask(epoch)
        answered = time.time_ns()
        state = self.state = page.state
        self.clock.observe(asked=asked, answered=answered, clock=state["clock"])
        if epoch is None or epoch.name != state["epoch"]:
            if epoch is not None:
                self.writer.event(
                    EventKind.LOADER,
                    {
                        "pod": f"{self.namespace}/{self.pod}",
                        "phase": "restarted",
                        "uncollected": epoch.total - epoch.next,
                    },
                )
            epoch = _Epoch(state["epoch"])
            self.epochs.append(epoch)
            self._stated = None
        self._take(epoch, page)
        return bool(epoch.next < epoch.total)

    def _ask(self, epoch: _Epoch | None) -> Page:
        name = epoch.name if epoch else ""
        if self._detail is Detail.LEDGER:
            return self.client.ledger(epoch.place if epoch else [], epoch=name, pending=True)
        return self.client.samples(epoch.next if epoch else 0, epoch=name, pending=True)

    def _take(self, epoch: _Epoch, page: Page) -> None:
        state = page.state
        begin = epoch.next if self._detail is Detail.FULL else epoch.in_full
        if page.first != begin:
            raise LostSamples(f"{self.pod}: asked for samples from {begin}, got them from {page.first}")
        for counters in state["flows"][len(epoch.flows) :]:
            flow = Flow(state["client"], counters["server"], counters["sentinel"], counters["label"])
            epoch.flows[counters["id"]] = self.writer.flow(flow)
        for name in state["servers"][len(epoch.servers) :]:
            epoch.servers.append(self.writer.pod(name))
            epoch.servers_named.append(name)
        offset = self.clock.offset
        stated = self._stated
        if stated is None or offset.error < 0.5 * stated.error or abs(offset.value - stated.value) > stated.error:
            self._stated = offset
            self.writer.event(
                EventKind.CLOCK, {"pod": f"{self.namespace}/{self.pod}", "offset": offset.value, "error": offset.error}
            )
        epoch.total, epoch.under_way, epoch.flow_counters = state["total"], state["under_way"], state["flows"]
        if len(page.records):
            self._append(epoch, page.records.copy(), offset.value)
        for number, part in enumerate(page.ledgers):
            self._enter(epoch, number, part, offset.value)
        epoch.in_full += len(page.records)
        table = self.writer.flows
        self.pending = {
            table[epoch.flows[int(number)]]: np.array(due, dtype=np.int64) - offset.value
            for number, due in state["pending"].items()
            if due
        }

    def _append(self, epoch: _Epoch, records: Samples, offset: int) -> None:
        """Append whole samples, in the history's numbers and on the runner's clock."""
        epoch.next += len(records)
        flows = np.array([epoch.flows[number] for number in range(len(epoch.flows))], dtype=np.uint16)
        for number in map(int, np.unique(records["flow"])):
            mine, arrived = records["flow"] == number, epoch.of(number)
            arrived.count += int(np.count_nonzero(mine))
            arrived.numbers.append(records["sequence"][mine].astype(np.int64))
            arrived.dues.append(records["due"][mine] - offset)
            self._mark_misrouted(records, mine, self.writer.flows[epoch.flows[number]], epoch)
        records["flow"] = flows[records["flow"]]
        servers = np.array([*epoch.servers, NO_POD], dtype=np.uint16)
        records["server"] = servers[np.minimum(records["server"], len(servers) - 1)]
        records["client"] = self._client
        if offset:
            records["sent"][records["sent"] != 0] -= offset
            records["due"] -= offset
            records["done"] -= offset
        self.writer.append(records)

    def _enter(self, epoch: _Epoch, number: int, part: LedgerPart, offset: int) -> None:
        """Enter a page's entries of one flow, in the history's numbers and on the runner's clock."""
        asked = epoch.place_of(number)
        if list(part.begin) != asked:
            raise LostSamples(
                f"{self.pod}: asked for entries of flow {number} from {asked}, got them from {part.begin}"
            )
        arrived = epoch.of(number)
        arrived.kinds += part.kinds
        last = arrived.ledgers[-1] if arrived.ledgers else None
        if last is None or (last.offset != offset and len(part.entries)):
            arrived.ledgers.append(self.writer.ledger(epoch.flows[number], self._client, offset=offset, after=last))
        ledger = arrived.ledgers[-1]
        ledger.paces += part.paces
        if not len(part.entries):
            return
        flow = self.writer.flows[epoch.flows[number]]
        used = np.bincount(part.entries["kind"], minlength=len(arrived.kinds))
        kinds = self._kinds_of(arrived.kinds, used, flow, epoch)
        try:
            self.writer.enter(ledger, part.entries, kinds)
        except ValueError as error:
            raise LostSamples(f"{self.pod}: {flow}: entries that are none: {error}") from error
        epoch.next += len(part.entries)
        arrived.count += len(part.entries)

    def _kinds_of(self, kinds: list[Kind], used: NDArray[np.int64], flow: Flow, epoch: _Epoch) -> list[Kind]:
        """Return a loader's kinds in the history's numbers, answers by servers outside the flow's own as misrouted."""
        servers = [*epoch.servers, NO_POD]
        names = [epoch.servers_named[kind[0]] if kind[0] < len(epoch.servers_named) else "" for kind in kinds]
        well = [kind[1] == Outcome.OK and bool(count) for kind, count in zip(kinds, used, strict=False)]
        answered = frozenset(name for name, ended in zip(names, well, strict=True) if ended)
        own = self._own_servers(flow, answered) if answered else None
        found: list[Kind] = []
        for kind, name, ended, count in zip(kinds, names, well, used, strict=False):
            server, outcome, cause, status, flags = kind
            if own is not None and ended and name not in own:
                outcome, cause = int(Outcome.UNKNOWN), int(Cause.MISROUTED)
                self.misrouted += int(count) if name and not flow.sentinel else 0
            found.append((servers[min(server, len(servers) - 1)], outcome, cause, status, flags))
        return found

    def _mark_misrouted(self, records: Samples, mine: NDArray[np.bool_], flow: Flow, epoch: _Epoch) -> None:
        """Mark answers by servers outside the flow's own: such an answer counts as failed, cause *misrouted*."""
        answered = mine & (records["outcome"] == Outcome.OK)
        if not answered.any():
            return
        numbers = np.unique(records["server"][answered])
        names = {int(n): epoch.servers_named[n] if n < len(epoch.servers_named) else "" for n in numbers}
        own = self._own_servers(flow, frozenset(names.values()))
        if own is None:
            return
        strange = answered & np.isin(records["server"], [n for n, name in names.items() if name not in own])
        records["outcome"][strange] = Outcome.UNKNOWN
        records["cause"][strange] = Cause.MISROUTED
        named = [n for n, name in names.items() if name]
        self.misrouted += 0 if flow.sentinel else int(np.count_nonzero(strange & np.isin(records["server"], named)))

    def restore_missing(self) -> list[str]:
        """Enter each due request that left no sample, by the loader's numbers, as a failure; return a sentence for each
        flow that has such, or a number twice.
        """
        problems = []
        for epoch in self.epochs:
            for counters in epoch.flow_counters:
                arrived = epoch.of(counters["id"])
                if counters["keep_every"] != 1 or not arrived.count:
                    continue
                flow = self.writer.flows[epoch.flows[counters["id"]]]
                numbers, dues = arrived.numbers_and_dues()
                if not numbers.any():
                    continue  # a loader that does not number its requests
                last = epoch is self.epochs[-1]
                waiting = self.pending.get(flow, np.empty(0, np.int64)) if last else np.empty(0, np.int64)
                missing = detect_missing(numbers, due=counters["due"], under_way=len(waiting))
                if len(missing):
                    self.writer.append(self._lost(epoch.flows[counters["id"]], missing, numbers, dues))
                    problems.append(f"{self.pod}: {flow}: {len(missing)} requests fell due and left no sample")
                if twice := len(numbers) - len(np.unique(numbers)):
                    problems.append(f"{self.pod}: {flow}: {twice} requests came twice")
        return problems

    def _lost(
        self, flow: int, missing: NDArray[np.int64], numbers: NDArray[np.int64], dues: NDArray[np.int64]
    ) -> Samples:
        order = np.argsort(numbers)
        begin = int(dues.min())
        found = np.zeros(len(missing), SAMPLE)
        found["flow"], found["client"], found["server"] = flow, self._client, NO_POD
        found["outcome"], found["cause"] = Outcome.FAILED, Cause.NO_SAMPLE
        found["due"] = begin + np.interp(missing, numbers[order], dues[order] - begin).astype(np.int64)
        found["done"] = found["due"]
        found["sequence"] = missing
        return found

    def fetch_whole(self) -> list[str]:
        """Fetch the samples behind the entries that came, from the loader's memory, and give the history the instants
        at which requests were sent. Return a sentence for each flow of which samples and entries differ, or for a
        loader that has its samples no longer: it was started again, or they are too old.
        """
        epoch = self.epochs[-1]
        known = {number: _of_ledgers(arrived.ledgers) for number, arrived in epoch.arrived.items() if arrived.ledgers}
        differ: dict[int, int] = {}
        matched = dict.fromkeys(known, 0)
        begin = 0
        while begin < epoch.total:
            page = self.client.samples(begin, epoch=epoch.name)
            if page.state["epoch"] != epoch.name or page.first != begin or not len(page.records):
                return [f"{self.pod}: it has the samples of this trial no longer"]
            begin += len(page.records)
            for number in {*np.unique(page.records["flow"]).tolist()} & known.keys():
                entered, offsets = known[number]
                rows = page.records[page.records["flow"] == number]
                rows, at = _matching(rows, entered)
                matched[number] += len(rows)
                mine = entered[at]
                differ[number] = differ.get(number, 0) + int((~_alike(rows, mine, offsets[at])).sum())
                sent = np.where(rows["sent"] != 0, rows["sent"] - offsets[at], 0)
                self.writer.note_sent(epoch.flows[number], self._client, mine["due"], sent)
        return [
            f"{self.pod}: {self.writer.flows[epoch.flows[number]]}: {wrong} of its samples are not what its ledger says"
            for number, (entered, _) in known.items()
            if (wrong := differ.get(number, 0) + len(entered) - matched[number])
        ]

    def drain(self, seconds: float) -> None:
        """Poll until nothing is under way and everything has arrived; raises LostSamples when that does not come."""
        end = time.monotonic() + seconds
        while True:
            more = self.poll()
            epoch = self.epochs[-1]
            if not more and not epoch.under_way:
                return
            if time.monotonic() >= end:
                raise LostSamples(
                    f"{self.pod}: {epoch.under_way} requests still under way, "
                    f"{epoch.total - epoch.next} samples not fetched after {seconds:g} s"
                )
            if not more:
                time.sleep(0.02)

    def check(self) -> None:
        """Compare both ends' counts; raises LostSamples naming each flow that differs."""
        problems = []
        for epoch in self.epochs:
            last = epoch is self.epochs[-1]
            for counters in epoch.flow_counters:
                arrived, parts = (
                    epoch.of(counters["id"]).count,
                    counters["ok"] + counters["failed"] + counters["unknown"],
                )
                name = f"{self.pod}: {counters['name']}"
                if arrived != counters["stored"]:
                    problems.append(f"{name}: {counters['stored']} samples stored by the loader, {arrived} arrived")
                if parts != counters["done"]:
                    problems.append(f"{name}: {counters['done']} requests ended, their outcomes sum to {parts}")
                if counters["ok"] > counters["sent"]:
                    problems.append(f"{name}: {counters['sent']} requests were sent, {counters['ok']} answered")
                if last and not epoch.under_way and counters["due"] != counters["done"]:
                    problems.append(f"{name}: {counters['due']} requests were due, {counters['done']} ended")
            if epoch.next != epoch.total:
                problems.append(f"{self.pod}: {epoch.total - epoch.next} of {epoch.total} samples were not fetched")
        if problems:
            raise LostSamples("; ".join(problems))

    def note_counts(self) -> None:
        """Record the loader's own counts as an event."""
        for epoch in self.epochs:
            self.writer.event(
                EventKind.LOADER,
                {
                    "pod": f"{self.namespace}/{self.pod}",
                    "phase": "counts",
                    "epoch": epoch.name,
                    "total": epoch.total,
                    "flows": [
                        {
                            "flow": epoch.flows[one["id"]],
                            "name": one["name"],
                            "keep_every": one["keep_every"],
                            **{name: one[name] for name in _COUNTED},
                        }
                        for one in epoch.flow_counters
                    ],
                    "lateness": self.state.get("lateness", {}),
                    "aggressors": self.state.get("aggressors", []),
                },
            )


def _of_ledgers(ledgers: Sequence[Ledger]) -> tuple[Samples, NDArray[np.int64]]:
    """Return a flow's entries as samples by their numbers, and the clock's offset of each. Pure."""
    held = [ledger.entries() for ledger in ledgers]
    samples = np.concatenate([entries.samples() for entries in held])
    offsets = np.repeat([ledger.offset for ledger in ledgers], list(map(len, held)))
    order = np.argsort(samples["sequence"], kind="stable")
    return samples[order], offsets[order]


def _matching(rows: Samples, entered: Samples) -> tuple[Samples, NDArray[np.int64]]:
    """Return those rows whose numbers were entered, and where. Pure."""
    at = np.minimum(np.searchsorted(entered["sequence"], rows["sequence"]), max(0, len(entered) - 1))
    there = entered["sequence"][at] == rows["sequence"] if len(entered) else np.zeros(len(rows), bool)
    return rows[there], at[there]


def _alike(rows: Samples, entered: Samples, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which samples say what was entered. An answer that we call misrouted was a good one to the loader. Pure."""
    same: NDArray[np.bool_] = (rows["due"] - offsets == entered["due"]) & (rows["done"] - offsets == entered["done"])
    for name in ("status", "flags"):
        same &= rows[name] == entered[name]
    strange = entered["cause"] == Cause.MISROUTED
    for name, well in (("outcome", Outcome.OK), ("cause", Cause.NONE)):
        same &= rows[name] == np.where(strange, well, entered[name])
    return same


def detect_missing(numbers: NDArray[np.int64], *, due: int, under_way: int) -> NDArray[np.int64]:
    """Return the numbers of due requests that have no sample and are not under way (the latest are). Pure.

    Args:
        numbers: of the samples that came.
        due: how many fell due; they are numbered from 1.
        under_way: how many of them have not ended.
    """
    seen = np.zeros(due + 1, bool)
    seen[0] = True
    seen[numbers[numbers <= due]] = True
    missing = np.flatnonzero(~seen)
    return missing[: max(0, len(missing) - under_way)]
