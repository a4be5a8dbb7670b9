"""The pages in which a loader gives what it measured. `chaos.load.client` parses them.

A page is `u32 size`, that many bytes of JSON (the loader's state and what the rest is), and the rest: whole samples, or
what comes after a place in the ledgers. Pages of ledgers are deflated.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from chaos.history.words import RECORD
from chaos.load.ledger import Ledgers
from chaos.load.samples import RecordLog


def samples_page(state: Mapping[str, Any], log: RecordLog, begin: int, limit: int) -> bytes:
    """Return samples from number `begin` on, or from the oldest that is kept; `from` and `count` say which."""
    first = max(begin, log.first)
    records = log.read(first, limit)
    return _page({**state, "from": first, "count": len(records) // RECORD.size}, records)


def ledger_page(state: Mapping[str, Any], ledgers: Ledgers, place: Sequence[int]) -> bytes:
    """Return what comes after a place in the ledgers; `in_full` and `ledgers` say what the rest is."""
    head, content = ledgers.read(place)
    return zlib.compress(_page({**state, **head}, content), 1)


def as_json(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _page(state: Mapping[str, Any], content: bytes) -> bytes:
    preamble = as_json(state)
    return len(preamble).to_bytes(4, "little") + preamble + content
