"""What a ledger holds is what the samples say, and a verdict cannot tell them apart."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from chaos.history.ledger import ENTRY as DTYPE
from chaos.history.ledger import Ledger, entries_of
from chaos.history.model import NO_POD, SAMPLE, Cause, Flag, Outcome, Samples
from chaos.history.store import History, HistoryWriter
from chaos.history.words import ENTRY
from chaos.load.client import LoaderClient
from chaos.load.detail import Detail
from chaos.load.feed import LoaderFeed
from chaos.load.ledger import FlowLedger
from chaos.load.samples import RecordLog
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow
from chaos.verdict import Expectation, Harm, HistoryView, Thresholds, judge
from proof.replayed import Replayed, paces_of
from proof.synthetic import EPOCH, NANO, HarmDone, Noise, Plan, flows, switchback, view

QUICK = Thresholds(bootstrap=20)
PODS = ("tenant-0/server-1", "tenant-0/server-2", "tenant-0/server-3")
READ = [name for name in SAMPLE.names or () if name != "sent"]


def brought(flows: Mapping[Flow, Samples], detail: Detail, directory: Path) -> tuple[HistoryWriter, list[LoaderFeed]]:
    """The collector's side of loaders that replay these flows, one for each client."""
    writer = HistoryWriter(directory, {})
    by_client: dict[str, dict[Flow, Samples]] = {}
    for flow, samples in flows.items():
        by_client.setdefault(flow.client, {})[flow] = samples
    feeds = []
    for client, mine in by_client.items():
        namespace, _, pod = client.partition("/")
        loader = Replayed(pod, mine, PODS)
        feed = LoaderFeed(LoaderClient(loader.ask), writer, namespace=namespace, pod=pod, detail=detail)
        feed.replayed = loader  # type: ignore[attr-defined]
        feeds.append(feed)
    return writer, feeds


def seen_at(writer: HistoryWriter, feeds: Sequence[LoaderFeed], whole: HistoryView, until: int) -> HistoryView:
    """What a live look sees at that instant."""
    pending: dict[Flow, Any] = {}
    for feed in feeds:
        feed.replayed.play(until)  # type: ignore[attr-defined]
        while feed.poll():
            pass
        pending |= feed.pending
    return replace(whole, flows=writer.by_flow(), until=until, pending=pending)


def waiting(samples: Samples, instant: int) -> NDArray[np.int64]:
    """When the requests fell due that have not ended by then."""
    found: NDArray[np.int64] = samples["due"][(samples["due"] <= instant) & (samples["done"] > instant)]
    return found


def judged(view: HistoryView, expectation: Expectation, look: int | None) -> dict[str, Any]:
    return judge(view, expectation, QUICK, look=look).as_dict()


def assert_equal_verdicts(whole: HistoryView, expectation: Expectation, instants: Mapping[int, int]) -> list[str]:
    """By the samples themselves, by a loader's samples, and by its ledgers, at live looks and in the end."""
    said = []
    with tempfile.TemporaryDirectory() as scratch:
        both = {detail: brought(whole.flows, detail, Path(scratch) / detail) for detail in Detail}
        for look, instant in [*instants.items(), (None, whole.until)]:
            by = {detail: judged(seen_at(*made, whole, instant), expectation, look) for detail, made in both.items()}
            truth = replace(
                whole,
                flows={flow: one[one["done"] <= instant] for flow, one in whole.flows.items()},
                until=instant,
                pending={flow: waiting(one, instant) for flow, one in whole.flows.items()},
            )
            assert by[Detail.FULL] == by[Detail.LEDGER] == judged(truth, expectation, look)
            said.append(by[Detail.LEDGER]["verdict"])
        for writer, feeds in both.values():
            for feed in feeds:
                feed.check()
                assert feed.restore_missing() == []
            writer.end({})
            writer.close()
        saved = {detail: History.load(Path(scratch) / detail) for detail in Detail}
        assert saved[Detail.LEDGER].detect_incomplete() == []
        a, b = (one.samples[np.lexsort((one.samples["sequence"], one.samples["flow"]))] for one in saved.values())
        assert np.array_equal(a[READ], b[READ])
    return said


@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    seed=st.integers(0, 2**32 - 1),
    noise=st.builds(
        Noise,
        median=st.sampled_from([0.0005, 0.002, 0.2]),
        memory=st.sampled_from([0.0, 0.5]),
        error_share=st.sampled_from([0.0, 0.01]),
        bursts=st.sampled_from([0.0, 0.2]),
        late_share=st.sampled_from([0.0, 0.05, 0.3]),
        drift=st.sampled_from([1.0, 3.0]),
        poisson=st.booleans(),
    ),
    harm=st.builds(
        HarmDone,
        error_share=st.sampled_from([0.0, 0.05, 0.5, 0.999]),
        slow_factor=st.sampled_from([1.0, 5.0, 3000.0]),
        memory=st.sampled_from([0.0, 0.3]),
    ),
    shape=st.sampled_from(FaultShape),
    servers=st.integers(1, 3),
)
def test_verdicts_by_samples_and_by_ledgers_are_equal_on_random_histories(
    seed: int, noise: Noise, harm: HarmDone, shape: FaultShape, servers: int
) -> None:
    rng = np.random.default_rng(seed)
    gradual = shape is FaultShape.GRADUAL
    plan = replace(switchback(pairs=3), rate=120.0) if gradual else Plan(fault=6.0, after=14.0, rate=120.0)
    first, second = flows(2)
    whole = view(rng, plan, noise, {first: harm, second: HarmDone()})
    for samples in whole.flows.values():
        samples["server"] = rng.integers(0, servers, len(samples))
        lost = samples["outcome"] != Outcome.OK
        samples["cause"][lost] = rng.choice([Cause.RESET, Cause.TIMEOUT, Cause.STATUS], lost.sum())
        samples["server"][lost] = NO_POD
        samples["flags"] |= np.where(rng.random(len(samples)) < 0.1, int(Flag.NEW_CONNECTION), 0).astype(np.uint16)
    expectation = Expectation({first: 1.0, second: 0.0}, harm=Harm.EITHER, fault_shape=shape, recovery=True)
    begin = whole.evidence.injected or 0
    looks = {} if gradual else {index: begin + round(QUICK.looks[index] * NANO) for index in (0, 2, 4)}
    assert_equal_verdicts(whole, expectation, looks)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_requests_are_given_back_by_entries_or_in_full(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    gaps = data.draw(st.lists(st.sampled_from([0, 1, 5, 8_333_333]), min_size=count, max_size=count))
    samples = np.zeros(count, SAMPLE)
    samples["due"] = EPOCH + np.cumsum(gaps)
    latency = data.draw(arrays.arrays(np.int64, count, elements=st.integers(0, (1 << 32) + 10)))
    samples["done"] = samples["due"] + latency
    samples["sent"] = samples["due"] + 1
    for name, most in (("server", 2), ("outcome", 2), ("cause", 12), ("status", 599), ("flags", 7)):
        samples[name] = data.draw(arrays.arrays(np.int64, count, elements=st.integers(0, most)))
    flow = flows(1)[0]
    with tempfile.TemporaryDirectory() as scratch:
        writer, feeds = brought({flow: samples}, Detail.LEDGER, Path(scratch) / "trial")
        with writer:
            for instant in sorted(data.draw(st.lists(st.integers(EPOCH, EPOCH + 10 * NANO), max_size=3))):
                feeds[0].replayed.play(instant)  # type: ignore[attr-defined]
                feeds[0].poll()
            feeds[0].replayed.play(EPOCH + 100 * NANO)  # type: ignore[attr-defined]
            while feeds[0].poll():
                pass
            feeds[0].check()
            found = writer.by_flow()[flow]
    pods = np.array([writer.pod(name) for name in PODS])
    whole = samples[np.argsort(samples["due"], kind="stable")]
    whole["sequence"] = np.arange(1, count + 1)
    whole["server"] = pods[whole["server"]]
    found = found[np.argsort(found["sequence"])]
    for name in READ:
        if name != "client":
            assert np.array_equal(whole[name], found[name]), name
    long = whole["done"] - whole["due"] >= 1 << 32
    assert found["sent"][long].all()


def test_the_entry_and_the_dtype_are_one_layout() -> None:
    values = (-3, 4_000_000_000, 255)
    assert ENTRY.size == DTYPE.itemsize
    assert entries_of(ENTRY.pack(*values)).tolist() == [values]


@pytest.mark.parametrize(
    ("number", "latency", "kind", "why"),
    [
        (1, 1 << 32, 0, "a latency above four seconds"),
        (40_000, 1, 0, "a number far from the one before"),
        (2, 1, 256, "a 257th kind"),
        (0, 1, 0, "a number before any pace"),
        (60, 1, 0, "a number of arrivals at random"),
    ],
)
def test_what_an_entry_cannot_hold_is_refused(number: int, latency: int, kind: int, why: str) -> None:
    ledger = FlowLedger()
    ledger.set_pace(1, 0, 10)
    ledger.set_pace(50, 490, 0)
    ledger.set_pace(70, 1000, 10)
    for one in range(256):
        assert ledger.enter(1, 1, (one, 0, 0, 200, 0))
    assert not ledger.enter(number, latency, (kind, 0, 0, 200, 0)), why
    assert ledger.enter(71, 1, (0, 0, 0, 200, 0))


def test_a_ledger_goes_on_under_another_offset_of_the_clock(tmp_path: Path) -> None:
    rows = np.array([(1, 5, 0), (1, 6, 0)], DTYPE)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        flow, client = writer.flow(flows(1)[0]), writer.pod("tenant-0/client")
        first = writer.ledger(flow, client)
        first.paces.append((1, EPOCH, 10))
        writer.enter(first, rows, [(0, 0, 0, 200, 0)])
        second = writer.ledger(flow, client, offset=3, after=first)
        writer.enter(second, rows, [(0, 0, 0, 200, 0)])
        samples, _ = writer.snapshot()
    assert samples["sequence"].tolist() == [1, 2, 3, 4]
    assert (samples["due"] - EPOCH).tolist() == [0, 10, 17, 27]


def test_entries_of_a_kind_or_pace_that_is_not_known_are_refused_and_leave_no_trace() -> None:
    ledger = Ledger(0, 0)
    with pytest.raises(ValueError, match="kind"):
        ledger.extend(np.array([(1, 5, 1)], DTYPE), [(0, 0, 0, 200, 0)])
    with pytest.raises(ValueError, match="pace"):
        ledger.extend(np.array([(1, 5, 0)], DTYPE), [(0, 0, 0, 200, 0)])
    assert len(ledger) == 0


def test_a_log_forgets_its_oldest_records_and_says_which_is_the_first_that_it_has() -> None:
    log = RecordLog(Struct("<I"), chunk_records=4, chunks_in_memory=1, most_chunks=3)
    for number in range(18):
        log.add(number)
    assert log.first == 8
    assert log.read(7, 4) == b""
    found = b"".join(log.read(first, 4) for first in range(8, 18, 4))
    assert np.frombuffer(found, "<u4").tolist() == list(range(8, 18))


def test_paces_give_every_instant_back() -> None:
    due = np.array([3, 3, 3, 5, 7, 9, 9, 10])
    found = paces_of(due)
    for number, instant in enumerate(due.tolist(), 1):
        first, begin, gap = [pace for pace in found if pace[0] <= number][-1]
        assert begin + (number - first) * gap == instant


def test_a_history_whose_requests_were_said_to_be_sent_afterwards_is_whole(tmp_path: Path) -> None:
    flow = flows(1)[0]
    made = view(np.random.default_rng(1), Plan(baseline=1.0, fault=1.0, after=0.0), Noise(), {flow: HarmDone(0.5)})
    writer, feeds = brought(made.flows, Detail.LEDGER, tmp_path / "trial")
    with writer:
        feeds[0].replayed.play(1 << 62)  # type: ignore[attr-defined]
        while feeds[0].poll():
            pass
        assert feeds[0].fetch_whole() == []
        writer.end({})
    saved = History.load(tmp_path / "trial")
    assert saved.detect_incomplete() == []
    assert saved.samples["sent"].all()
