"""The loader's memory keeps every record, in memory or moved to its file, and its layout is the history's."""

from __future__ import annotations

import numpy as np

from chaos.history.model import NO_POD, SAMPLE
from chaos.history.words import RECORD
from chaos.load.samples import CHUNK_RECORDS, sample_log


def test_the_record_and_the_dtype_are_one_layout() -> None:
    values = (1, 2, NO_POD, 1, 9, 503, 5, 10**18, 10**18 + 1, 10**18 + 2, 7)
    record = np.frombuffer(RECORD.pack(*values), dtype=SAMPLE)
    assert RECORD.size == SAMPLE.itemsize
    assert tuple(int(record[name][0]) for name in SAMPLE.names or ()) == values


def test_records_moved_to_the_file_are_read_like_those_in_memory() -> None:
    log = sample_log(chunks_in_memory=1)
    count = 3 * CHUNK_RECORDS + 10
    for number in range(count):
        log.add(0, 0, 0, 0, 0, 200, 0, number, number, number, number)
    found, first = [], 0
    while part := log.read(first, CHUNK_RECORDS):
        records = np.frombuffer(part, dtype=SAMPLE)
        found.append(records["due"])
        first += len(records)
    assert np.array_equal(np.concatenate(found), np.arange(count))
    assert log.read(count, 1) == b""
    assert len(log.read(5, limit=3)) == 3 * RECORD.size
