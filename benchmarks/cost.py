"""What each proxy mode costs, side by side: latency as its proxies fill, requests a core, memory and CPU as tenants
grow, where sharing gets cheaper than sidecars, and what a light and a heavy configuration of the same proxy cost.

`python -m benchmarks.cost PIECE.. [--write]`: each piece (latency, growth, configurations) takes less than ten minutes
on the embedded cluster and leaves nothing behind; `--write` keeps its figures in results/cost.json and makes
results/cost.md of all that is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.cost_report import render
from benchmarks.machine import machine
from benchmarks.mesh import LOOK
from chaos.cluster.providers import open_cluster
from chaos.engine.features.debug_pod import debug_pods
from chaos.engine.topology import FLOW, Tenant, Topology, plan_tenants
from chaos.faults.helper_pod import CONTAINER
from chaos.faults.overload import LIMITED_RATE
from chaos.history.model import Outcome, Samples
from chaos.kube.client import Cluster
from chaos.load.client import LoaderClient
from chaos.mesh import manifests
from chaos.mesh.install import Mesh
from chaos.mesh.policy import policy_config_map
from chaos.mesh.snapshot import AccessLog, Features, Rule
from chaos.model.modes import layer_name
from chaos.names import SYSTEM_NAMESPACE

RESULTS: Final = Path(__file__).parent / "results"
MODES: Final = ("sidecar", "node", "ambient-namespace", "ambient-node", "ambient-pod")
GROWING: Final = ("sidecar", "node", "ambient-namespace")  # a proxy for each pod; for all of a node; for each tenant
SHARES: Final = (0.1, 0.5, 0.8)  # of the capacity
TENANTS: Final = (3, 10, 30)
SECONDS: Final = 5.0  # of each measurement
SETTLE: Final = 1.5  # seconds of load before it
WINDOWS: Final = 3  # of a deployment's CPU, each idle and busy
RATE: Final = 5.0  # requests a second of each of many tenants
KEPT: Final = 300.0  # samples a second, about, that a loader keeps
TIMEOUT_NS: Final = 1_000_000_000  # of a request: those that were due later may still be under way
GROWTH: Final = 1.15  # of a ramp: a capacity is known to so much
HEAVY: Final = Features(
    retries=True, outlier_detection=True, timeout_seconds=15.0, policy=True, access_log=AccessLog.ALL
)
LIGHT: Final = Features(policy=False, access_log=AccessLog.OFF)
CONFIGURATIONS: Final[Mapping[str, Features]] = {"light": LIGHT, "usual": Features(), "heavy": HEAVY}
NODES: Final = ("node-1", "node-2")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the proxies used until now.

    Attributes:
        cpu: seconds of all of a layer (or pair of layers) together.
        proxies: of each its layer, its node, and its proportional memory (PSS) in MiB.
    """

    at: float
    cpu: Mapping[str, float]
    proxies: tuple[Mapping[str, Any], ...]

    @property
    def mib(self) -> float:
        return float(sum(one["mib"] for one in self.proxies))


@dataclass(frozen=True, slots=True)
class World:
    """A deployed mode with its tenants, and no load but what is asked for."""

    cluster: Cluster
    mesh: Mesh
    tenants: Sequence[Tenant]
    debug: Mapping[str, str]  # node -> debug pod

    def loader(self, tenant: Tenant) -> LoaderClient:
        return LoaderClient.of(self.cluster, tenant.namespace, tenant.loader(self.cluster)["metadata"]["name"])

    def read(self) -> Reading:
        """Read what the proxies used."""
        proxies, at = self.mesh.placement().proxies, time.monotonic()
        cpu: dict[str, float] = {}
        found = []
        for node, pod in self.debug.items():
            there = {f"{p.uid}/{p.container_id.rpartition('//')[2]}": p for p in proxies if p.node == node}
            done = self.cluster.exec(SYSTEM_NAMESPACE, pod, ["python", "-c", LOOK, *there], container=CONTAINER)
            if done.code:
                raise SystemExit(f"reading {node}: {done.stderr[-500:]}")
            for key, (seconds, _, shared) in json.loads(done.stdout).items():
                layer = layer_name(there[key].layers)
                cpu[layer] = cpu.get(layer, 0.0) + seconds
                found.append({"layer": layer, "node": node, "mib": shared / 2**20})
        return Reading(at, cpu, tuple(found))

    def under(self, rates: Mapping[str, float], *, seconds: float = SECONDS, **how: Any) -> dict[str, Any]:
        """Load tenants at these rates (by name) for some seconds; return the requests, the cores that the proxies of
        each layer used, and the latencies in ms.
        """
        chosen = [tenant for tenant in self.tenants if rates.get(tenant.name)]
        loaders = {tenant.name: self.loader(tenant) for tenant in chosen}
        for tenant in chosen:
            rate = rates[tenant.name]
            kept = max(1, round(rate / KEPT))
            flow = {"name": FLOW, "server": tenant.server, "target": "server:80", "rate": rate, "keep_every": kept}
            loaders[tenant.name].set_flows([{**flow, **how}])
        time.sleep(SETTLE)
        before, begin = self.read(), time.time_ns()
        time.sleep(seconds)
        end, after = time.time_ns(), self.read()
        for loader in loaders.values():
            loader.stop_flows()
        records = [records_of(loader, begin, end - TIMEOUT_NS) for loader in loaders.values()]
        well = [some[some["outcome"] == Outcome.OK] for some in records]
        every = np.concatenate([(some["done"] - some["due"]) / 1e6 for some in well] or [np.zeros(0)])
        asked_of = sum(map(len, records))
        passed = after.at - before.at
        cores = {layer: (used - before.cpu[layer]) / passed for layer, used in after.cpu.items()}
        asked = sum(rates.values())
        return {
            "rate": asked,
            "lost": 1 - len(every) / asked_of if asked_of else 0.0,
            "cores": cores,
            "core_ms": 1e3 * sum(cores.values()) / asked if asked else 0.0,
            **({f"p{q}": float(np.quantile(every, q / 100)) for q in (50, 99)} if len(every) else {}),
        }

    def capacity(self, tenant: Tenant) -> float:
        """Return the requests a second that the tenant's path carried last before it gave out."""
        loader = self.loader(tenant)
        ramp = {
            "profile": "requests",
            "server": tenant.server,
            "target": "server:80",
            "seconds": 25.0,
            "start_rate": 200.0,
            "max_rate": LIMITED_RATE,
            "growth": GROWTH,
        }
        loader.start_aggressor(ramp)
        try:
            seen = self.cluster.wait(
                f"{tenant.client}: its path gives out",
                lambda: next((one for one in loader.aggressors() if one["phase"] == "hold"), None),
                seconds=20,
                every=0.1,
            )
        finally:
            loader.stop_aggressors()
        time.sleep(2.0)  # what waits in queues ends
        return float(seen["saturated_at"]) / GROWTH


def records_of(loader: LoaderClient, begin: int, end: int) -> Samples:
    """Return the samples that a loader kept of the requests that were due between two instants, ns."""
    pages, first = [], 0
    while len((page := loader.samples(first)).records):
        pages.append(page.records)
        first = page.first + len(page.records)
    records: Samples = np.concatenate(pages)
    return records[(records["due"] >= begin) & (records["due"] < end)]


@contextmanager
def deployed(cluster: Cluster, mode: str, tenants: Sequence[Tenant]) -> Iterator[World]:
    """Deploy a mode with these tenants, quiet; and remove it."""
    mesh = Mesh(cluster, mode, run=f"cost-{mode}")
    apps = [
        obj
        for one in tenants
        for obj in manifests.tenant(
            one.name, client_nodes=one.client_nodes, server_nodes=one.server_nodes, servers=one.servers
        )
    ]
    try:
        mesh.start(apps, seconds=240)
        with debug_pods(cluster, NODES, run=mesh.run) as debug:
            yield World(cluster, mesh, tenants, debug)
    finally:
        mesh.uninstall(seconds=240)


def latency(cluster: Cluster, modes: Sequence[str]) -> dict[str, Any]:
    """The latency of one tenant's requests as its path fills, beside no mesh at the same rates."""
    tenants = plan_tenants(NODES)
    first, found = tenants[0], dict[str, Any]()
    for mode in modes:
        with deployed(cluster, mode, tenants) as world:
            capacity = float(np.median([world.capacity(first) for _ in range(2)]))
            filled = {str(share): world.under({first.name: share * capacity}) for share in SHARES}
            fresh = world.under({first.name: SHARES[0] * capacity}, new_connections=True)
            found[mode] = {"capacity": capacity, "filled": filled, "new_connections": fresh}
        print(mode, json.dumps(found[mode]), flush=True)
    with deployed(cluster, "none", tenants) as world:
        for mode in modes:
            one = found[mode]
            one["without"] = {
                share: world.under({first.name: seen["rate"]}, seconds=3.0) for share, seen in one["filled"].items()
            }
            rate = one["new_connections"]["rate"]
            one["without_new"] = world.under({first.name: rate}, seconds=3.0, new_connections=True)
    return found


def growth(cluster: Cluster, modes: Sequence[str], counts: Sequence[int] = TENANTS) -> dict[str, Any]:
    """Memory and CPU of the proxies as tenants grow, idle and busy."""
    found: dict[str, Any] = {}
    for mode in modes:
        found[mode] = []
        for count in counts:
            tenants = plan_tenants(NODES, Topology(tenants=count, servers=1))
            begin = time.monotonic()
            with deployed(cluster, mode, tenants) as world:
                seconds = time.monotonic() - begin
                time.sleep(5.0)  # what starting cost is over
                idle = [world.under({}, seconds=2.0) for _ in range(WINDOWS)]
                busy = [world.under({one.name: RATE for one in tenants}, seconds=3.0) for _ in range(WINDOWS)]
                found[mode].append(_grown(world, count, seconds, idle, busy))
            print(mode, count, json.dumps({k: v for k, v in found[mode][-1].items() if k != "proxies"}), flush=True)
    return found


def _grown(world: World, count: int, seconds: float, idle: Sequence[Any], busy: Sequence[Any]) -> dict[str, Any]:
    return {
        "tenants": count,
        "pods": len(world.mesh.placement().pods),
        "deployed_s": seconds,
        "idle": [one["cores"] for one in idle],
        "busy": [{"rate": one["rate"], "cores": one["cores"], "lost": one["lost"]} for one in busy],
        "proxies": world.read().proxies,
    }


def configurations(cluster: Cluster, modes: Sequence[str]) -> dict[str, Any]:
    """The same proxies with no feature, the usual ones and all."""
    tenants = plan_tenants(NODES)
    first, found = tenants[0], dict[str, Any]()
    callers = tuple(f"spiffe://cluster.local/ns/{first.namespace}/sa/{name}" for name in ("client", "other"))
    rules = [Rule(sources=callers, methods=("GET", "POST"), paths=("/*",))]
    for mode in modes:
        with deployed(cluster, mode, tenants) as world:
            found[mode] = {}
            for name, features in CONFIGURATIONS.items():
                world.mesh.set_features(features)
                if features is HEAVY:
                    made = policy_config_map(first.namespace, "cost", rules, run=world.mesh.run)
                    world.mesh.await_pushed(world.cluster.apply(made))
                time.sleep(2.5)  # connections of the configuration before have drained
                capacity = world.capacity(first)
                seen = world.under({first.name: 0.5 * capacity})
                found[mode][name] = {"capacity": capacity, "mib": world.read().mib, **seen}
        print(mode, json.dumps(found[mode]), flush=True)
    return found


PIECES: Final = {"latency": latency, "growth": growth, "configurations": configurations}
OF: Final = {"latency": MODES, "growth": GROWING, "configurations": GROWING}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("pieces", nargs="*", choices=[*PIECES, []], help="all that are wanted; none: only the page")
    parser.add_argument("--write", action="store_true", help="keep the figures, and write the page")
    parser.add_argument("--modes", default="", help="MODE,..: others than each piece's own")
    options = parser.parse_args()
    kept = RESULTS / "cost.json"
    figures: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for piece in options.pieces:
        modes = options.modes.split(",") if options.modes else OF[piece]
        with open_cluster("embedded", name="bench", nodes=2) as cluster:
            found = PIECES[piece](cluster, modes)
        figures[piece] = {"machine": machine(), "modes": {**figures.get(piece, {}).get("modes", {}), **found}}
        if options.write:
            kept.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    page = render(figures)
    print(page)
    if options.write:
        (RESULTS / "cost.md").write_text(page)


if __name__ == "__main__":
    main()
