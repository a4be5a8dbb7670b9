"""One tenant fills the proxy of connections before it, with nothing of layer 7 on the way. Who else slows down is who
shares that proxy.

A scenario for each way to fill it: new connections, and bytes.
"""

from __future__ import annotations

from typing import Final

from chaos.engine.layer4 import overload_layer4
from chaos.engine.scenario import scenario, without_proxies
from chaos.engine.trial import Trial
from chaos.faults.overload import Overload

NO_PLAIN: Final = "it deploys a server of raw TCP, and a target file declares none: noisy-neighbour asks plainly"
NO_LABEL: Final = "which calls pass no waypoint, a mesh of yours is told in its own way: noisy-neighbour asks plainly"
BODIES: Final = 64  # of 256 KiB at a time: what the smallest proxy bears


@scenario(
    "noisy-connections",
    faults=(Overload,),
    skip_reason=without_proxies,
    reference_mesh_only=NO_LABEL,
    reference_apps_only=NO_PLAIN,
)
def noisy_connections(trial: Trial) -> None:
    """A tenant that fills its proxy of connections with new ones hurts those who share it, and no other."""
    overload_layer4(trial, profile="handshakes", start_rate=100.0, in_flight=1024)


@scenario(
    "noisy-bytes",
    faults=(Overload,),
    skip_reason=without_proxies,
    reference_mesh_only=NO_LABEL,
    reference_apps_only=NO_PLAIN,
)
def noisy_bytes(trial: Trial) -> None:
    """A tenant that fills its proxy of connections with bytes hurts those who share it, and no other."""
    overload_layer4(trial, profile="bodies", start_rate=20.0, in_flight=BODIES)
