"""The runner's side of the load: asks every loader for what it measured while a trial runs.

Samples come through the API server (`Cluster.pod_http`) to the loaders' control ports, so no proxy under test carries
them. A few threads ask all loaders in turn, for most of the time of a question is spent waiting. Loaders that cannot be
reached keep a thread for seconds each: they may hold a quarter of the threads, so that the others stay heard.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import urllib3
from numpy.typing import NDArray

from chaos.errors import ApiError, ExperimentFailure
from chaos.history.model import Outcome
from chaos.history.store import HistoryWriter
from chaos.kube.client import Cluster
from chaos.load.client import LoaderClient
from chaos.load.detail import Detail
from chaos.load.feed import LoaderFeed, LostSamples, OwnServers
from chaos.model.flow import Flow

_UNREACHED: Final = (ApiError, urllib3.exceptions.HTTPError, OSError)
_THREADS: Final = 16
_DOUBTFUL: Final = _THREADS // 4  # that may wait for loaders that were not reached the last time
_QUESTIONS: Final = 200.0  # a second, to all loaders: of more of them, each is asked less often
_RECENT: Final = 20_000  # samples that rates are read from


@dataclass(frozen=True, slots=True)
class Rate:
    """A flow's figures over about the last second, for the progress line."""

    flow: Flow
    per_second: float
    errors: float  # share that did not end OK
    p50: float  # seconds
    p99: float


@dataclass(frozen=True, slots=True, order=True)
class Loader:
    """A client pod with a loader in it."""

    namespace: str
    pod: str


@dataclass(slots=True)
class _Asked:
    """A loader that is asked again and again. `lock`: whoever asks it."""

    feed: LoaderFeed
    heard: float  # `time.monotonic` of its last answer
    lock: threading.Lock = field(default_factory=threading.Lock)
    doubtful: bool = False  # it was not reached the last time
    more: bool = True  # it has more at once


class Collector:
    """Gathers samples from every loader while a trial runs. A context manager: leaving it stops the threads.

    Args:
        every: seconds between two questions to one loader, and more where there are many.
        patience: seconds for which a loader may be unreachable before it is given up (`failures` then says why).
        detail: how much of each request is fetched.
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
        detail: Detail = Detail.FULL,
    ) -> None:
        self.cluster, self.writer, self.every, self.patience = cluster, writer, every, patience
        self.failures: dict[Loader, str] = {}
        self._own_servers, self._detail = own_servers, detail
        self._asked: dict[Loader, _Asked] = {}
        self._retired: list[LoaderFeed] = []
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, Loader]] = []  # a heap: when each is to be asked again
        self._doubtful = 0  # questions under way to loaders that were not reached the last time
        self._stopped = False
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="samples")
        for loader in loaders:
            self.add(loader)
        self._schedule = threading.Thread(target=self._run, name="samples-schedule", daemon=True)
        self._schedule.start()

    @property
    def _feeds(self) -> list[LoaderFeed]:
        return [one.feed for one in list(self._asked.values())]

    def misrouted(self, namespace: str) -> int:
        """Return how many answers the loaders of a namespace had from servers that are none of their flows' own."""
        return sum(feed.misrouted for feed in (*self._feeds, *self._retired) if feed.namespace == namespace)

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def add(self, loader: Loader) -> None:
        """Gather from one more loader (a pod added later)."""
        if loader in self._asked:
            return
        feed = LoaderFeed(
            LoaderClient.of(self.cluster, loader.namespace, loader.pod),
            self.writer,
            namespace=loader.namespace,
            pod=loader.pod,
            own_servers=self._own_servers,
            detail=self._detail,
        )
        self._asked[loader] = _Asked(feed, time.monotonic())
        self._ask_at(loader, time.monotonic())

    def retire(self, loader: Loader, *, seconds: float = 10.0) -> None:
        """Stop a loader whose pod is about to be deleted, and fetch all its samples; raises LostSamples when that
        fails.
        """
        one = self._asked[loader]
        with one.lock:
            one.feed.client.stop_flows()
            one.feed.drain(seconds)
            one.feed.note_counts()
            del self._asked[loader]
            self._retired.append(one.feed)

    # ---- asking

    def _ask_at(self, loader: Loader, instant: float) -> None:
        with self._changed:
            heapq.heappush(self._waiting, (instant, loader))
            self._changed.notify()

    def _run(self) -> None:
        """Hand loaders to the threads, each when it is due."""
        while (loader := self._next()) is not None:
            self._pool.submit(self._question, loader)

    def _next(self) -> Loader | None:
        """Wait until a loader is due; None once the collector was stopped."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                if not self._waiting or self._waiting[0][0] > now:
                    self._changed.wait(self._waiting[0][0] - now if self._waiting else None)
                    continue
                loader = heapq.heappop(self._waiting)[1]
                one = self._asked.get(loader)
                if one is None or loader in self.failures:
                    continue
                if not one.more and (again := one.heard + self._pause()) > now:  # somebody else has asked meanwhile
                    heapq.heappush(self._waiting, (again, loader))
                    continue
                if one.doubtful and self._doubtful >= _DOUBTFUL:
                    heapq.heappush(self._waiting, (now + self._pause(), loader))
                    continue
                self._doubtful += one.doubtful
                return loader
        return None

    def _pause(self) -> float:
        """Seconds until a loader is asked again."""
        return max(self.every, len(self._asked) / _QUESTIONS)

    def _question(self, loader: Loader) -> None:
        """Ask one loader, and say when it is asked again: at once when it has more."""
        one = self._asked.get(loader)
        doubtful = one is not None and one.doubtful
        more = False
        try:
            more = one is not None and not self._stopped and self._poll(loader, one)
        except Exception as error:  # a thread of the pool has nobody to raise it to
            self.failures[loader] = f"{type(error).__name__}: {error}"
        with self._changed:
            self._doubtful -= doubtful
        self._ask_at(loader, time.monotonic() + (0.0 if more else self._pause()))

    def _poll(self, loader: Loader, one: _Asked) -> bool:
        """Ask once; return whether the loader has more at once. One that stays unreachable is a failure."""
        try:
            with one.lock:
                if loader not in self._asked:
                    return False
                more = one.feed.poll()
        except _UNREACHED as error:
            one.doubtful = True
            if time.monotonic() - one.heard > self.patience:
                self.failures[loader] = f"unreachable for {self.patience:g} s: {error}"
            return False
        except ExperimentFailure as error:
            self.failures[loader] = str(error)
            return False
        one.heard, one.doubtful, one.more = time.monotonic(), False, more
        return more

    def poll_now(self) -> None:
        """Fetch from every loader at once, so that a look sees the present."""

        def whole(loader: Loader, one: _Asked) -> None:
            while loader not in self.failures and self._poll(loader, one):
                pass

        asked: list[Future[None]] = [
            self._pool.submit(whole, loader, one)
            for loader, one in list(self._asked.items())
            if loader not in self.failures
        ]
        wait(asked)
        for one in asked:
            one.result()

    # ---- what came

    def pending(self) -> dict[Flow, NDArray[np.int64]]:
        """Return when each flow's requests without a sample yet were due."""
        found: dict[Flow, list[NDArray[np.int64]]] = {}
        for feed in self._feeds:
            for flow, due in feed.pending.items():
                found.setdefault(flow, []).append(due)
        return {flow: np.concatenate(parts) for flow, parts in found.items()}

    def rates(self, *, seconds: float = 1.0) -> list[Rate]:
        """Return each flow's rate, errors and latency over the latest samples, of so many seconds or fewer."""
        samples = self.writer.tail(_RECENT)
        if not len(samples):
            return []
        latest = int(samples["done"].max())
        recent = samples[samples["done"] > latest - int(seconds * 1e9)]
        covered = seconds if len(recent) < len(samples) else max(1e-9, (latest - int(recent["done"].min())) / 1e9)
        recent = recent[np.argsort(recent["flow"], kind="stable")]
        table = self.writer.flows
        edges = np.searchsorted(recent["flow"], np.arange(len(table) + 1))
        latency, bad = (recent["done"] - recent["due"]) / 1e9, recent["outcome"] != Outcome.OK
        found = []
        for number in np.flatnonzero(np.diff(edges)):
            mine = slice(edges[number], edges[number + 1])
            p50, p99 = np.quantile(latency[mine], [0.5, 0.99])
            count = int(edges[number + 1] - edges[number])
            found.append(
                Rate(table[number], count / min(seconds, covered), float(bad[mine].mean()), float(p50), float(p99))
            )
        return found

    def finish(self, *, seconds: float = 10.0, stop_flows: bool = True) -> None:
        """Stop the load, fetch the rest, compare the counts of both ends; raises LostSamples.

        A request that fell due and left no sample is entered as a failure first.
        """
        self.stop()
        for feed in self._feeds:
            if stop_flows:
                feed.client.stop_aggressors()
                feed.client.stop_flows()
                feed.drain(seconds)
            else:
                while feed.poll():
                    pass
            feed.note_counts()
        feeds = [*self._retired, *self._feeds]
        problems = [sentence for feed in feeds for sentence in feed.restore_missing()]
        self.writer.flush()
        for feed in feeds:
            try:
                feed.check()
            except LostSamples as error:
                problems.append(str(error))
        if problems:
            raise LostSamples("; ".join(problems))

    def fetch_whole(self) -> list[str]:
        """Fetch the samples behind what came by ledgers; return what contradicts it, a sentence each."""
        if self._detail is Detail.FULL:
            return []
        problems = []
        for feed in self._feeds:
            try:
                problems += feed.fetch_whole()
            except _UNREACHED as error:
                problems.append(f"{feed.pod}: its samples cannot be fetched: {error}")
        return problems

    def stop(self) -> None:
        """Stop asking; the load goes on. Safe to repeat."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._schedule.join(timeout=15)
        self._pool.shutdown(cancel_futures=True)
