"""Each fault on each kind of proxy in each mode acts, or is refused: the table of docs/faults.md, held by traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.engine.targets import container_of, proxy_on_path
from chaos.engine.witness import SecondWitness
from chaos.errors import Misuse
from chaos.faults.full_files import FullFiles
from chaos.faults.injection import injected
from chaos.faults.kill import Kill
from chaos.faults.misanswer import Misanswer
from chaos.faults.model import Fault
from chaos.faults.network.degrade import Degrade
from chaos.faults.network.drop import Drop
from chaos.faults.network.full_connections import FullConnections
from chaos.faults.network.mute import Mute
from chaos.faults.network.partition import Partition
from chaos.faults.network.reset import Reset
from chaos.faults.pause import Pause
from chaos.faults.throttle import Throttle
from chaos.model.faulting import FaultShape
from chaos.model.modes import MODES, Layer
from chaos.model.placement import Proxy
from tests.faults.small_world import RUN, World, small_world

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
# A kill comes last: a container that was killed twice comes back late.
FAULTS: tuple[Fault, ...] = (
    Pause(),
    FullFiles(),
    Partition(),
    Drop(),
    Reset(),
    Mute(),
    FullConnections(),
    Misanswer(errors=0.9),
    Degrade(delay_ms=600.0),
    Degrade(loss=0.9),
    Throttle(millicores=10),
    Kill(),
)
HURTS_ALL = (Pause, Partition, Drop, Reset, Mute, Misanswer, Degrade)  # most requests end badly while it is in force
HURTS_THE_NEW = (FullConnections,)  # who is reached through connections that stand does not notice


def name_of(fault: Fault) -> str:
    return f"{fault.name} (loss)" if isinstance(fault, Degrade) and fault.loss else fault.name


def stated() -> dict[tuple[str, str], str]:
    """(kind of proxy, fault) -> the first word of its cell in the page."""
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in PAGE.read_text().partition("## On which proxies")[2].partition("\n## ")[0].splitlines()
        if line.startswith("|")
    ]
    head, _, *body = rows
    return {(row[0], fault): cell.split(":")[0] for row in body for fault, cell in zip(head[1:], row[1:], strict=True)}


def kinds_of(world: World) -> dict[str, Layer]:
    """The kinds of proxy on the tenant's path, each with its layer."""
    mode = world.mesh.mode
    if mode.in_pod:
        return {"sidecar": Layer.L4}
    return {"node proxy, layer 4": Layer.L4, "waypoint": Layer.L7} if mode.separate_layers else {"node proxy": Layer.L4}


def outcome(world: World, fault: Fault, layer: Layer) -> str:
    """`acts`, `refused`, `spares` (nobody is hurt), or why it was not seen to act."""
    placement = world.mesh.placement([("tenant-a/client", "tenant-a/server")])
    proxy = proxy_on_path(placement, client="tenant-a/client", layer=layer)
    assert isinstance(proxy, Proxy)
    witness = SecondWitness(world.cluster, fault, container_of(world.cluster, proxy))
    witness.before()
    try:
        with injected(world.cluster, fault, witness.target, run=RUN, seconds=90) as (receipt,):
            if isinstance(fault, HURTS_ALL):
                world.ill()
            if isinstance(fault, HURTS_THE_NEW) and world.shares(requests=60).ok > 0.9:
                return "spares"
            witness.during(receipt)
    except Misuse:
        return "refused"
    witness.after([])
    world.well()
    return witness.doubt() or "acts"


def test_the_table_names_every_kind_and_every_fault() -> None:
    kinds = ("sidecar", "node proxy", "node proxy, layer 4", "waypoint")
    assert stated().keys() == {(kind, name_of(fault)) for kind in kinds for fault in FAULTS}
    assert {fault.shape for fault in FAULTS} == set(FaultShape)


@pytest.mark.privileged
@pytest.mark.slow
@pytest.mark.parametrize("mode", [name for name, mode in MODES.items() if mode.hops])
def test_each_fault_on_each_kind_of_proxy_acts_or_is_refused_as_the_table_says(mode: str) -> None:
    with small_world(f"table-{mode}", mode) as world:
        found = {
            (kind, name_of(fault)): outcome(world, fault, layer)
            for kind, layer in kinds_of(world).items()
            for fault in FAULTS
        }
        world.nothing_held()
    assert found == {key: word for key, word in stated().items() if key in found}
