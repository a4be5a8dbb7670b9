"""How much of each request is fetched while a trial runs."""

from __future__ import annotations

from enum import StrEnum


class Detail(StrEnum):
    """A verdict is the same by both."""

    FULL = "full"  # whole samples, 40 bytes of each request
    LEDGER = "ledger"  # what a verdict reads of it, about 3 bytes; whole samples afterwards, unless the trial passed
