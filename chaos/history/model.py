"""The vocabulary of a history: samples and events. Data only; `chaos.history.store` saves and loads them.

A sample is one request. All instants are integer nanoseconds since the Unix epoch on the runner's clock: the loader's
clock offset is taken out when its samples arrive, and the error that remains is an event of kind `clock`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from chaos.history.words import NO_POD as NO_POD
from chaos.history.words import Cause as Cause
from chaos.history.words import Flag as Flag
from chaos.history.words import Outcome as Outcome

SAMPLE: Final = np.dtype(
    [
        ("flow", "<u2"),  # index into the trial's flows
        ("client", "<u2"),  # index into the trial's pods
        ("server", "<u2"),  # index into the trial's pods; NO_POD when unknown
        ("outcome", "u1"),
        ("cause", "u1"),
        ("status", "<u2"),  # HTTP or gRPC status, 0 when none came
        ("flags", "<u2"),
        ("due", "<i8"),  # ns: when the request was due; latency counts from here
        ("sent", "<i8"),  # ns: first byte handed to the kernel; 0 when never
        ("done", "<i8"),  # ns: answered whole, failed or given up
        ("sequence", "<u4"),  # of the flow's requests, from 1 on, without gaps; 0: not known
    ]
)
Samples = NDArray[np.void]  # of dtype SAMPLE, one row a request


class EventKind(StrEnum):
    """The kinds of events in the log."""

    TRIAL = "trial"  # begin and end of the trial; `data` of the first is its header
    PLACEMENT = "placement"  # pods, proxies and the fate groups derived from them
    FAULT = "fault"  # phase: FaultPhase.word; with what was seen
    WINDOW = "window"  # a window was cut; `data`: kind, begin, end, why
    LOOK = "look"  # the judge looked: which look, what it said of each flow
    KUBERNETES = "kubernetes"  # a Kubernetes Event
    CONTAINER = "container"  # a container's state, restart count or ID changed
    USAGE = "usage"  # CPU (nanocores, cumulative seconds) and memory (bytes) of containers
    CLOCK = "clock"  # offset and error bound of a loader's clock
    LOADER = "loader"  # counts at the loader's end: due, sent, done, lateness
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the event log."""

    at: int  # ns
    kind: EventKind
    data: Mapping[str, Any] = field(default_factory=dict)
