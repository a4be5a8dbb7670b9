"""The failures that faults request from the control plane, in keys `fault-….json` of the ConfigMap `mesh`.

`{"refuse": true}`: every stream is answered UNAVAILABLE. `{"delay": 2.5}`: every push comes that many seconds late.
`{"certificate_seconds": 3}`: every certificate is issued anew with so short a life, and not renewed. `{"misdirect":
true}`: every endpoint is pushed with a port on which nobody listens. `{"misanswer": {"pod_uid": "…", "errors": 0.3}}`
(fields of `Misanswering`): that proxy answers so many requests with an error, or lets them wait. The key is taken away
again when the fault is recovered, and with it the trouble; the mesh's own settings are never touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from chaos.mesh.snapshot import Misanswering

PREFIX: Final = "fault-"


@dataclass(frozen=True, slots=True)
class InjectedFailures:
    """The requested failures; none by default."""

    refuse: bool = False
    delay: float = 0.0  # seconds
    certificate_seconds: float = 0.0  # 0: the mesh's own
    misdirect: bool = False
    misanswers: tuple[Misanswering, ...] = ()  # sorted

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def detect_injected_failures(data: Mapping[str, str]) -> InjectedFailures:
    """Return the worst of each that the ConfigMap's keys request. Raises ValueError for an unreadable key."""
    asked = [json.loads(text) for key, text in data.items() if key.startswith(PREFIX)]
    lives = [float(one["certificate_seconds"]) for one in asked if one.get("certificate_seconds")]
    return InjectedFailures(
        any(one.get("refuse") for one in asked),
        max((float(one.get("delay", 0)) for one in asked), default=0.0),
        min(lives, default=0.0),
        any(one.get("misdirect") for one in asked),
        tuple(sorted(Misanswering(**one["misanswer"]) for one in asked if one.get("misanswer"))),
    )
