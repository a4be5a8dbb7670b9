"""Seconds from `inject` to the first effect, and from `recover` to none, for every fault, on the embedded cluster.

`python benchmarks/faults.py [--write] [--repeats N]`: a few minutes, root, nothing left behind. The first effect is the
moment that a fault's own evidence names; "seen" is when `inject` returns, the evidence read back; "none" is when
`recover` has seen it whole.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos.errors import SharedfateError
from chaos.faults.api_trouble import ApiTrouble
from chaos.faults.certificates import ExpireCertificates
from chaos.faults.control_plane import ControlPlane
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.cut_node import CutNode
from chaos.faults.delete_pod import DeletePod
from chaos.faults.drain import Drain
from chaos.faults.full_files import FullFiles
from chaos.faults.hog import Hog
from chaos.faults.injection import begin, end
from chaos.faults.kill import Kill
from chaos.faults.misanswer import Misanswer
from chaos.faults.model import Fault, Target
from chaos.faults.network.degrade import Degrade
from chaos.faults.network.dns import Dns
from chaos.faults.network.drop import Drop
from chaos.faults.network.full_connections import FullConnections
from chaos.faults.network.mute import Mute
from chaos.faults.network.partition import Partition
from chaos.faults.network.reset import Reset
from chaos.faults.out_of_memory import OutOfMemory
from chaos.faults.overload import Overload
from chaos.faults.pause import Pause
from chaos.faults.recreate import Recreate
from chaos.faults.restart import Restart
from chaos.faults.scale import Scale
from chaos.faults.stop_kubelet import StopKubelet
from chaos.faults.stop_node import StopNode
from chaos.faults.throttle import Throttle
from chaos.faults.upgrade import Upgrade
from chaos.faults.wrong_push import WrongPush
from chaos.names import SYSTEM_NAMESPACE
from tests.faults.small_world import RUN, World, small_world

RESULTS = Path(__file__).parent / "results" / "faults.md"
Make = Callable[[World], tuple[Fault, Target]]

ROWS: dict[str, Make] = {
    "kill (SIGKILL)": lambda w: (Kill(), w.server("proxy")),
    "kill (SIGTERM)": lambda w: (Kill(signal=15), w.server("proxy")),
    "pause": lambda w: (Pause(), w.server("proxy")),
    "full-files": lambda w: (FullFiles(), w.server()),
    "throttle": lambda w: (Throttle(millicores=20), w.server("proxy")),
    "partition": lambda w: (Partition(), w.server("proxy")),
    "drop (one port)": lambda w: (Drop(ports=(8080,)), w.server()),
    "reset": lambda w: (Reset(), w.server()),
    "mute": lambda w: (Mute(), w.server()),
    "full-connections": lambda w: (FullConnections(), w.server()),
    "misanswer (503)": lambda w: (Misanswer(), w.server("proxy")),
    "degrade (delay)": lambda w: (Degrade(delay_ms=50), w.server()),
    "degrade (loss)": lambda w: (Degrade(loss=0.3), w.server()),
    "degrade (rate)": lambda w: (Degrade(rate_kbit=1000), w.server()),
    "dns": lambda w: (Dns(), w.client()),
    "hog": lambda w: (Hog(cores=1, memory_mib=64), w.server()),
    "overload": lambda w: (Overload(server="tenant-a/server", start_rate=200, max_rate=400), w.client()),
    "control-plane (errors)": lambda w: (ControlPlane(), w.workload("control-plane", SYSTEM_NAMESPACE)),
    "control-plane (slow)": lambda w: (
        ControlPlane(answer="slow", delay=1),
        w.workload("control-plane", SYSTEM_NAMESPACE),
    ),
    "wrong-push": lambda w: (WrongPush(), w.workload("control-plane", SYSTEM_NAMESPACE)),
    "expire-certificates (1 s)": lambda w: (ExpireCertificates(life=1), w.workload("control-plane", SYSTEM_NAMESPACE)),
    "api-trouble": lambda w: (ApiTrouble(code=503), w.workload("control-plane", SYSTEM_NAMESPACE)),
    "scale (to none)": lambda w: (Scale(), w.workload()),
    "delete-pod": lambda w: (DeletePod(), w.server()),
    "delete-pod (no grace)": lambda w: (DeletePod(grace=0), w.server()),
    "restart": lambda w: (Restart(), w.workload()),
    "recreate": lambda w: (Recreate(), w.workload()),
    "upgrade": lambda w: (Upgrade(env={"VERSION": "2"}), w.workload()),
    "drain": lambda w: (Drain(), w.node(1)),
    "stop-node": lambda w: (StopNode(), w.node(1)),
    "cut-node": lambda w: (CutNode(), w.node(1)),
    "stop-kubelet": lambda w: (StopKubelet(), w.node(1)),
    "out-of-memory": lambda w: (OutOfMemory(), w.server("proxy")),
    "crash-loop": lambda w: (CrashLoop(), w.server("proxy")),
}
FRESH = frozenset(
    {"kill (SIGKILL)", "kill (SIGTERM)", "out-of-memory", "crash-loop"}
)  # back-off counts: a new pod for each


@dataclass(frozen=True)
class Times:
    """Seconds of one go."""

    effect: float
    seen: float
    none: float


def once(world: World, make: Make) -> Times:
    world.well("kept")
    fault, target = make(world)
    began = time.time_ns()
    receipt = begin(world.cluster, fault, target, run=RUN, seconds=120)
    seen = time.time_ns()
    undoing = time.time_ns()
    receipt = end(world.cluster, receipt)
    return Times((receipt.injected_at - began) / 1e9, (seen - began) / 1e9, (receipt.recovered_at - undoing) / 1e9)


def measured(world: World, repeats: int, only: str) -> dict[str, list[Times]]:
    found: dict[str, list[Times]] = {}
    for name, make in ROWS.items():
        if not name.startswith(tuple(only.split(","))):
            continue
        for _ in range(1 if name == "crash-loop" else repeats):
            if name in FRESH:
                world.cluster.delete("Pod", world.server().name, "tenant-a", grace=0)
                time.sleep(0.5)  # until the pod is on its way out: a ready one is waited for then
            try:
                found.setdefault(name, []).append(once(world, make))
            except (SharedfateError, ExceptionGroup) as error:
                print(f"{name}: {error}", file=sys.stderr)
        print(name, *(f"{part:.2f}" for part in median(found[name])) if name in found else ("failed",), flush=True)
    return found


def median(times: list[Times]) -> tuple[float, float, float]:
    effects, seen, none = zip(*((one.effect, one.seen, one.none) for one in times), strict=True)
    return statistics.median(effects), statistics.median(seen), statistics.median(none)


def table(found: dict[str, list[Times]]) -> str:
    lines = [
        "# Faults: seconds to the first effect, and to none",
        "",
        f"{date.today()}, {os.cpu_count()} cores, "
        f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1024**3:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, load average "
        f"{os.getloadavg()[0]:.1f}; embedded cluster, two nodes, mode `sidecar`. Again: `python benchmarks/faults.py "
        "--write`.",
        "",
        "Median seconds. *Effect*: from the call of `inject` to the moment that the evidence names. *Seen*: until it "
        "has read the",
        "evidence back. *None*: from the call of `recover` until it has seen the target whole. Where the effect waits "
        "for a helper",
        "pod, most of it is that pod's start. `expire-certificates` waits for their life, `crash-loop` for the "
        "kubelet's",
        "back-off, twice.",
        "",
        "| fault | effect | seen | none | goes |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, times in found.items():
        effect, seen, none = median(times)
        lines.append(f"| {name} | {max(0.0, effect):.2f} | {seen:.2f} | {max(0.0, none):.2f} | {len(times)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="rows that begin so, comma separated; printed, never written")
    options = parser.parse_args()
    with small_world("faults-bench", "sidecar") as world:
        text = table(measured(world, options.repeats, options.only))
    print(text)
    if options.write and not options.only:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
