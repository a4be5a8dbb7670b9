"""Flows and windows: the units of observation, in traffic and in time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from chaos.errors import Misuse

_NAME: Final = re.compile(
    r"(?P<client>\S+) -> (?P<server>\S+?)(?: \[(?P<label>[^]]+)\])?(?P<sentinel> \(sentinel\))?", re.DOTALL
)


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """One client workload calling one server workload, by `namespace/workload`.

    `str(flow)` is its name in reports and histories (`a/client -> b/server [tcp]`), `parse` the inverse.
    """

    client: str
    server: str
    sentinel: bool = False  # excluded port, no proxy: tells the machine's own trouble
    label: str = ""  # tells several streams of requests between the same two apart: "tcp", "aggressor-requests"

    def __str__(self) -> str:
        label = f" [{self.label}]" if self.label else ""
        return f"{self.client} -> {self.server}{label}" + (" (sentinel)" if self.sentinel else "")

    @classmethod
    def parse(cls, name: str) -> Flow:
        """Return the flow of that name. Raises Misuse for any other text."""
        if (found := _NAME.fullmatch(name)) is None:
            raise Misuse(f"not a flow: {name!r}: want `namespace/client -> namespace/server`, then maybe ` [label]`")
        return cls(found["client"], found["server"], found["sentinel"] is not None, found["label"] or "")

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types: one row of a history's flow table."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Flow:
        """The inverse of `as_dict`; `sentinel` and `label` may be missing. Raises Misuse for any other shape."""
        try:
            known = {name: row[name] for name in ("client", "server")}
        except (KeyError, TypeError) as error:
            raise Misuse(f"not a flow: {row!r}: want `client` and `server`") from error
        return cls(
            str(known["client"]), str(known["server"]), bool(row.get("sentinel", False)), str(row.get("label", ""))
        )


class WindowKind(StrEnum):
    """The part of a trial that a window belongs to."""

    BASELINE = "baseline"
    FAULT = "fault"
    RECOVERY = "recovery"
    WATCH = "watch"  # after the last undo, until every flow was seen back or the time for it was over


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a trial, half open: [begin, end) in ns. A switchback trial has several of each kind."""

    kind: WindowKind
    begin: int
    end: int
