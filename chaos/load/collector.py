"""The runner's side of the load: a thread for each loader fetches its samples and appends them to the history.

Samples come through the API server (`Cluster.pod_http`) to the loader's control port, so no proxy under test carries
them. A loader keeps all it measured, so a runner that stops asking, or starts again, loses nothing; a loader whose
container started again begins a new epoch and is counted anew. At the end both sides' counts must be equal, or
`LostSamples`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import urllib3
from numpy.typing import NDArray

from chaos.errors import ApiError, ExperimentFailure
from chaos.history.model import NO_POD, SAMPLE, Cause, EventKind, Outcome, Samples
from chaos.history.store import HistoryWriter
from chaos.kube.client import Cluster
from chaos.load.client import LoaderClient, Page
from chaos.load.clocks import Offset, RemoteClock
from chaos.model.flow import Flow

_COUNTED: Final = ("due", "sent", "done", "ok", "failed", "unknown", "shed", "stored", "late")
_UNREACHED: Final = (ApiError, urllib3.exceptions.HTTPError, OSError)


# Flow, names of pods that answered it -> its own servers' names; None: they are not known.
OwnServers = Callable[[Flow, frozenset[str]], Collection[str] | None]


class LostSamples(ExperimentFailure):
    """The loader's counts differ from what arrived: the history is not whole."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A flow's figures over about the last second, for the progress line."""

    flow: Flow
    per_second: float
    errors: float  # share that did not end OK
    p50: float  # seconds
    p99: float


@dataclass(slots=True)
class _Epoch:
    """The state of one life of a loader."""

    name: str
    next: int = 0
    flows: dict[int, int] = field(default_factory=dict)  # the loader's number -> the history's
    servers: list[int] = field(default_factory=list)
    arrived: dict[int, int] = field(default_factory=dict)  # records by the loader's number of the flow
    flow_counters: list[dict[str, Any]] = field(default_factory=list)
    under_way: int = 0
    total: int = 0
    sequences: dict[int, list[NDArray[np.uint32]]] = field(default_factory=dict)  # by the loader's number of the flow
    dues: dict[int, list[NDArray[np.int64]]] = field(default_factory=dict)
    servers_named: list[str] = field(default_factory=list)  # as the history names them


class LoaderFeed:
    """Brings one loader's samples into the history. Only one thread at a time may call `poll`.

    Args:
        client: of the loader.
        namespace: of the loader's pod, whose servers' names are completed by it.
        pod: the loader's pod.
        own_servers: which pods may answer a flow; an answer by another is *misrouted*, whatever its status.
    """

    def __init__(
        self,
        client: LoaderClient,
        writer: HistoryWriter,
        *,
        namespace: str,
        pod: str,
        own_servers: OwnServers = lambda flow, names: None,
    ) -> None:
        self.client, self.writer, self.namespace, self.pod = client, writer, namespace, pod
        self.clock = RemoteClock()
        self.epochs: list[_Epoch] = []
        self.pending: dict[Flow, NDArray[np.int64]] = {}
        self.state: Mapping[str, Any] = {}
        self.misrouted = 0  # answers that the loader counts as its own servers'
        self._own_servers = own_servers
        self._client = writer.pod(f"{namespace}/{pod}")
        self._stated: Offset | None = None

    def poll(self) -> bool:
        """Fetch new samples; return True when the loader has more at once."""
        epoch = self.epochs[-1] if self.epochs else None
        asked = time.time_ns()
        first, name = (epoch.next, epoch.name) if epoch else (0, "")
        page = self.client.samples(first, epoch=name, pending=True)
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

    def _take(self, epoch: _Epoch, page: Page) -> None:
        state = page.state
        if state["from"] != epoch.next:
            raise LostSamples(f"{self.pod}: asked for samples from {epoch.next}, got them from {state['from']}")
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
        records = page.records.copy()
        for number, count in zip(*np.unique(records["flow"], return_counts=True), strict=True):
            epoch.arrived[int(number)] = epoch.arrived.get(int(number), 0) + int(count)
        epoch.next += len(records)
        epoch.total, epoch.under_way, epoch.flow_counters = state["total"], state["under_way"], state["flows"]
        if len(records):
            flows = np.array([epoch.flows[number] for number in range(len(epoch.flows))], dtype=np.uint16)
            for number in np.unique(records["flow"]):
                mine = records["flow"] == number
                epoch.sequences.setdefault(int(number), []).append(records["sequence"][mine].copy())
                epoch.dues.setdefault(int(number), []).append(records["due"][mine] - offset.value)
                self._mark_misrouted(records, mine, self.writer.flows[epoch.flows[int(number)]], epoch)
            records["flow"] = flows[records["flow"]]
            servers = np.array([*epoch.servers, NO_POD], dtype=np.uint16)
            records["server"] = servers[np.minimum(records["server"], len(servers) - 1)]
            records["client"] = self._client
            if offset.value:
                records["sent"][records["sent"] != 0] -= offset.value
                records["due"] -= offset.value
                records["done"] -= offset.value
            self.writer.append(records)
        table = self.writer.flows
        self.pending = {
            table[epoch.flows[int(number)]]: np.array(due, dtype=np.int64) - offset.value
            for number, due in state["pending"].items()
            if due
        }

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
        self.misrouted += 0 if flow.sentinel else int(np.count_nonzero(strange))

    def restore_missing(self) -> list[str]:
        """Enter each due request that left no sample, by the loader's numbers, as a failure; return a sentence for each
        flow that has such, or a number twice.
        """
        problems = []
        for epoch in self.epochs:
            for counters in epoch.flow_counters:
                if counters["keep_every"] != 1 or not epoch.sequences.get(counters["id"]):
                    continue
                flow = self.writer.flows[epoch.flows[counters["id"]]]
                numbers, dues = (
                    np.concatenate(epoch.sequences[counters["id"]]),
                    np.concatenate(epoch.dues[counters["id"]]),
                )
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
        self, flow: int, missing: NDArray[np.int64], numbers: NDArray[np.uint32], dues: NDArray[np.int64]
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
                    epoch.arrived.get(counters["id"], 0),
                    counters["ok"] + counters["failed"] + counters["unknown"],
                )
                name = f"{self.pod}: {counters['name']}"
                if arrived != counters["stored"]:
                    problems.append(f"{name}: {counters['stored']} samples stored by the loader, {arrived} arrived")
                if parts != counters["done"]:
                    problems.append(f"{name}: {counters['done']} requests ended, their outcomes sum to {parts}")
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


def detect_missing(numbers: NDArray[np.uint32], *, due: int, under_way: int) -> NDArray[np.int64]:
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


@dataclass(frozen=True, slots=True, order=True)
class Loader:
    """A client pod with a loader in it."""

    namespace: str
    pod: str


class Collector:
    """Gathers samples from every loader while a trial runs. A context manager: leaving it stops the threads.

    Args:
        every: seconds between two questions to one loader.
        patience: seconds for which a loader may be unreachable before its thread gives up (`failures` then says why).
    """

    def __init__(
        self,
        cluster: Cluster,
        loaders: Sequence[Loader],
        writer: HistoryWriter,
        *,
        every: float = 0.2,
        patience: float = 30.0,
        own_servers: OwnServers = lambda flow, names: None,
    ) -> None:
        self.cluster, self.writer, self.every, self.patience = cluster, writer, every, patience
        self.failures: dict[Loader, str] = {}
        self._own_servers = own_servers
        self._feeds: dict[Loader, LoaderFeed] = {}
        self._retired: list[LoaderFeed] = []
        self._locks: dict[Loader, threading.Lock] = {}
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        for loader in loaders:
            self.add(loader)

    def misrouted(self, namespace: str) -> int:
        """Return how many answers the loaders of a namespace had from servers that are none of their flows' own."""
        return sum(feed.misrouted for feed in (*self._feeds.values(), *self._retired) if feed.namespace == namespace)

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def add(self, loader: Loader) -> None:
        """Gather from one more loader (a pod added later)."""
        if loader in self._feeds:
            return
        client = LoaderClient.of(self.cluster, loader.namespace, loader.pod)
        self._feeds[loader] = LoaderFeed(
            client, self.writer, namespace=loader.namespace, pod=loader.pod, own_servers=self._own_servers
        )
        self._locks[loader] = threading.Lock()
        thread = threading.Thread(target=self._run, args=(loader,), name=f"samples-{loader.pod}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def retire(self, loader: Loader, *, seconds: float = 10.0) -> None:
        """Stop a loader whose pod is about to be deleted, and fetch all its samples; raises LostSamples when that
        fails.
        """
        feed = self._feeds[loader]
        with self._locks[loader]:
            feed.client.stop_flows()
            feed.drain(seconds)
            feed.note_counts()
            del self._feeds[loader]
            self._retired.append(feed)

    def _run(self, loader: Loader) -> None:
        feed, lock = self._feeds[loader], self._locks[loader]
        heard = time.monotonic()
        while not self._stop.is_set():
            more = False
            try:
                with lock:
                    if loader not in self._feeds:
                        return
                    more = feed.poll()
                heard = time.monotonic()
            except _UNREACHED as error:
                if time.monotonic() - heard > self.patience:
                    self.failures[loader] = f"unreachable for {self.patience:g} s: {error}"
                    return
            except ExperimentFailure as error:
                self.failures[loader] = str(error)
                return
            if not more:
                self._stop.wait(self.every)

    def poll_now(self) -> None:
        """Fetch from every loader at once, so that a look sees the present."""
        for loader, feed in list(self._feeds.items()):
            if loader in self.failures:
                continue
            try:
                with self._locks[loader]:
                    while feed.poll():
                        pass
            except _UNREACHED:
                continue  # its thread keeps count of how long it has been gone

    def pending(self) -> dict[Flow, NDArray[np.int64]]:
        """Return when each flow's requests without a sample yet were due."""
        found: dict[Flow, list[NDArray[np.int64]]] = {}
        for feed in self._feeds.values():
            for flow, due in feed.pending.items():
                found.setdefault(flow, []).append(due)
        return {flow: np.concatenate(parts) for flow, parts in found.items()}

    def rates(self, *, seconds: float = 1.0) -> list[Rate]:
        """Return each flow's rate, errors and latency over the latest samples."""
        samples = self.writer.tail(20_000)
        if not len(samples):
            return []
        recent = samples[samples["done"] > samples["done"].max() - int(seconds * 1e9)]
        found = []
        for number, flow in enumerate(self.writer.flows):
            mine = recent[recent["flow"] == number]
            if len(mine):
                latency = (mine["done"] - mine["due"]) / 1e9
                found.append(
                    Rate(
                        flow,
                        len(mine) / seconds,
                        float((mine["outcome"] != Outcome.OK).mean()),
                        float(np.quantile(latency, 0.5)),
                        float(np.quantile(latency, 0.99)),
                    )
                )
        return found

    def finish(self, *, seconds: float = 10.0, stop_flows: bool = True) -> None:
        """Stop the load, fetch the rest, compare the counts of both ends; raises LostSamples.

        A request that fell due and left no sample is entered as a failure first.
        """
        self.stop()
        for feed in self._feeds.values():
            if stop_flows:
                feed.client.stop_aggressors()
                feed.client.stop_flows()
                feed.drain(seconds)
            else:
                while feed.poll():
                    pass
            feed.note_counts()
        feeds = [*self._retired, *self._feeds.values()]
        problems = [sentence for feed in feeds for sentence in feed.restore_missing()]
        self.writer.flush()
        for feed in feeds:
            try:
                feed.check()
            except LostSamples as error:
                problems.append(str(error))
        if problems:
            raise LostSamples("; ".join(problems))

    def stop(self) -> None:
        """Stop the threads; the load goes on. Safe to repeat."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=15)
