"""Makes the histories that the page is written from: which modes, in which state of the machine, for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proof.live.harm import harm_session
from proof.live.machine import Machine, occupied
from proof.live.record import FLOWS, record_quiet

SLACK: Final = 120.0  # s that a deployment may take beyond its recording; after it the loops end by themselves


@dataclass(frozen=True, slots=True)
class Part:
    """One recording."""

    what: str  # aa | harm
    machine: Machine
    mode: str
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.what}-{self.machine}-{self.mode}"


SECONDS: Final = {"none": 110.0, "node": 150.0, "sidecar": 110.0, "ambient-namespace": 70.0}
PARTS: Final = (
    *(
        Part("aa", machine, mode, seconds)
        for machine in Machine
        for mode, seconds in SECONDS.items()
        if machine is not Machine.FULL or mode in ("none", "node")
    ),
    Part("harm", Machine.IDLE, "none", 300.0),
    Part("harm", Machine.IDLE, "node", 110.0),
    Part("harm", Machine.NOISY, "none", 200.0),
)


class Told:
    """Progress for the terminal."""

    def step(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def live(self, text: str) -> None:
        del text


def make(parts: Sequence[Part], out: Path, *, scale: float) -> None:
    """Record the parts, each on a cluster of its own, into directories of their names."""
    for part in parts:
        directory, seconds = out / part.name, part.seconds * scale
        Told().step(f"{part.name}: {seconds:.0f} s")
        record: Callable[..., None] = record_quiet if part.what == "aa" else harm_session
        with occupied(part.machine, seconds=seconds + SLACK):
            record(
                part.mode,
                directory,
                seconds=seconds,
                flows=FLOWS[part.mode],
                progress=Told(),
                facts={"what": part.what, "machine": str(part.machine), "when": time.strftime("%Y-%m-%d")},
            )
