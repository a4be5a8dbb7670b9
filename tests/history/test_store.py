"""A history is what was written, whatever happened to the writer."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from chaos.errors import Misuse
from chaos.history.model import NO_POD, SAMPLE, EventKind, Samples
from chaos.history.store import EVENTS_FILE, HEADER_FILE, SAMPLES_FILE, History, HistoryWriter, batch_of, samples_of
from chaos.model.flow import Flow

FLOW = Flow("tenant-a/client", "tenant-a/server")


def some(count: int, begin: int = 0) -> Samples:
    samples = np.zeros(count, dtype=SAMPLE)
    samples["due"] = np.arange(begin, begin + count) * 1_000_000 + 10**18
    samples["sent"] = samples["due"] + 10
    samples["done"] = samples["due"] + 1000
    return samples


@given(hypothesis_numpy.arrays(SAMPLE, st.integers(0, 20)))
def test_any_samples_survive_the_columns(samples: Samples) -> None:
    assert np.array_equal(samples_of(batch_of(samples)), samples)


def test_a_history_loads_as_it_was_written(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path, {"mode": "node", "seed": 7}) as writer:
        assert writer.flow(FLOW) == 0
        assert writer.flow(Flow("a/b", "c/d", sentinel=True, label="x")) == 1
        assert writer.flow(FLOW) == 0
        assert writer.pod("tenant-a/server-1") == 0
        writer.append(some(10))
        writer.event(EventKind.FAULT, {"phase": "injected"}, at=5)
        writer.append(some(10, 10))
        writer.note(verdict="pass")
    history = History.load(tmp_path)
    assert np.array_equal(history.samples, some(20))
    assert history.flows == (FLOW, Flow("a/b", "c/d", True, "x"))
    assert history.pods == ("tenant-a/server-1",)
    assert (history.header["mode"], history.header["seed"], history.header["verdict"]) == ("node", 7, "pass")
    assert [(event.at, event.kind, event.data) for event in history.events] == [
        (5, EventKind.FAULT, {"phase": "injected"})
    ]
    assert not history.torn
    assert set(history.samples["flow"]) == {0}


def test_what_was_flushed_before_a_crash_loads(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path, {})
    writer.flow(FLOW)
    writer.append(some(100))
    writer.event(EventKind.NOTE, {"n": 1})
    writer.flush()
    history = History.load(tmp_path)  # the writer never closed
    assert len(history.samples) == 100
    assert len(history.events) == 1
    writer.close()


@pytest.mark.parametrize("cut", [1, 7, 100, 1000])
def test_a_torn_tail_costs_only_what_was_torn(tmp_path: Path, cut: int) -> None:
    writer = HistoryWriter(tmp_path, {})
    writer.flow(FLOW)
    sizes = []
    for part in range(5):
        writer.append(some(500, part * 500))
        writer.event(EventKind.NOTE, {"part": part})
        writer.flush()
        sizes.append((tmp_path / SAMPLES_FILE).stat().st_size)
    whole = (tmp_path / SAMPLES_FILE).read_bytes()
    log = (tmp_path / EVENTS_FILE).read_bytes()
    writer.close()
    (tmp_path / SAMPLES_FILE).write_bytes(whole[:-cut])
    (tmp_path / EVENTS_FILE).write_bytes(log[:-3])
    history = History.load(tmp_path)
    kept = 500 * sum(size <= len(whole) - cut for size in sizes)
    assert np.array_equal(history.samples, some(kept))
    assert len(history.events) == 4
    assert history.torn


def test_an_event_log_broken_in_the_middle_is_refused(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path, {}) as writer:
        for part in range(3):
            writer.event(EventKind.NOTE, {"part": part})
    lines = (tmp_path / EVENTS_FILE).read_text().splitlines()
    (tmp_path / EVENTS_FILE).write_text("\n".join([lines[0], "{broken", lines[2]]) + "\n")
    with pytest.raises(Misuse, match=r"events.jsonl:2"):
        History.load(tmp_path)


def test_closing_packs_the_samples_and_keeps_each(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path, {})
    for part in range(50):
        writer.append(some(20, part * 20))
        writer.flush()
    before = (tmp_path / SAMPLES_FILE).stat().st_size
    writer.close()
    writer.close()
    assert (tmp_path / SAMPLES_FILE).stat().st_size < before / 2
    assert np.array_equal(History.load(tmp_path).samples, some(1000))
    assert sorted(path.name for path in tmp_path.iterdir()) == [EVENTS_FILE, SAMPLES_FILE, HEADER_FILE]


def test_an_existing_history_is_never_written_over(tmp_path: Path) -> None:
    HistoryWriter(tmp_path, {}).close()
    with pytest.raises(Misuse, match="already"):
        HistoryWriter(tmp_path, {})


@pytest.mark.parametrize("header", ["{", '{"version": 99, "flows": [], "pods": []}', '{"version": 1}', "[]"])
def test_what_is_no_header_is_refused(tmp_path: Path, header: str) -> None:
    (tmp_path / HEADER_FILE).write_text(header)
    with pytest.raises(Misuse):
        History.load(tmp_path)


def test_a_directory_without_a_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="not the directory of a trial"):
        History.load(tmp_path)


def test_an_empty_history_loads(tmp_path: Path) -> None:
    HistoryWriter(tmp_path, {}).close()
    history = History.load(tmp_path)
    assert len(history.samples) == 0
    assert history.events == ()


def test_none_is_null_for_other_readers(tmp_path: Path) -> None:
    samples = some(2)
    samples["sent"][0], samples["server"][0] = 0, NO_POD
    with HistoryWriter(tmp_path, {}) as writer:
        writer.append(samples)
    with pa.OSFile(str(tmp_path / SAMPLES_FILE)) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert table["sent"].null_count == 1
    assert table["server"].null_count == 1
    assert str(table["due"].type) == "timestamp[ns, tz=UTC]"
    assert np.array_equal(History.load(tmp_path).samples, samples)


def test_writers_of_several_threads_lose_nothing_and_the_header_stays_whole(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path, {}) as writer:

        def write(number: int) -> None:
            for part in range(40):
                samples = some(25, part)
                samples["flow"] = writer.flow(Flow(f"t/{number}", f"s/{part % 4}"))
                writer.append(samples)
                writer.event(EventKind.NOTE, {"by": number})
                writer.snapshot()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    history = History.load(tmp_path)
    assert len(history.samples) == 4 * 40 * 25
    assert len(history.events) == 160
    assert len(history.flows) == 16
    assert {history.flows[number].client for number in history.samples["flow"]} == {f"t/{n}" for n in range(4)}
    json.loads((tmp_path / HEADER_FILE).read_text())


def test_a_snapshot_holds_what_is_not_yet_on_disk(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path, {}) as writer:
        for part in range(40):
            writer.append(some(5, part * 5))
            assert len(writer.snapshot()[0]) == 5 * (part + 1)
            writer.flush()
        assert np.array_equal(writer.snapshot()[0], some(200))
        for rows in (1, 7, 199, 200, 500):
            assert np.array_equal(writer.tail(rows), some(200)[-rows:])


def test_a_history_of_an_earlier_release_has_no_numbers_of_requests(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path, {}) as writer:
        writer.flow(FLOW)
        writer.append(some(3))
    path = tmp_path / SAMPLES_FILE
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        table = reader.read_all().drop_columns(["sequence"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    history = History.load(tmp_path)
    assert (len(history.samples), set(history.samples["sequence"]), history.torn) == (3, {0}, False)
