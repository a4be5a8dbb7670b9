"""What each proxy mode costs, beside no mesh: latency, CPU, memory, time to be ready, time for one more pod.

`python benchmarks/mesh.py [--write] [--modes M,..]`: about four minutes on the embedded cluster, nothing left behind.
Each mode is applied by stock kubectl from what `sharedfate render` prints. Requests per second per core are requests
per CPU second of the processes concerned, so that neither the rate nor other work on the machine decides them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chaos.cluster.providers import open_cluster
from chaos.engine.features.context import CheckContext, check_context
from chaos.engine.features.pod_removal import check_pod_removal
from chaos.faults.helper_pod import CONTAINER
from chaos.kube.client import Cluster
from chaos.load.client import LoaderClient
from chaos.mesh import manifests
from chaos.mesh.install import Mesh
from chaos.mesh.render import render_mode
from chaos.model.modes import MODES
from chaos.model.placement import Role

RESULTS = Path(__file__).parent / "results" / "mesh.md"
RATE, SECONDS, MORE = 100, 6.0, 3

LOOK = """
import json, os, sys
from pathlib import Path
from chaos.inpod.process_helper import processes
found = {}
for key in sys.argv[1:]:
    uid, container = key.split("/")
    cpu = memory = shared = 0
    for pid in processes(uid, container):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu += sum(
            int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()
        ) / 1e9
        memory += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        shared += 1024 * int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
    found[key] = [cpu, memory, shared]
print(json.dumps(found))
"""


@dataclass
class Cost:
    """What was measured of one mode."""

    mode: str
    ready: float = 0.0  # seconds from `kubectl apply` to every workload ready
    p50: float = 0.0  # ms
    p99: float = 0.0
    requests: int = 0
    proxy_cpu: float = 0.0  # seconds, of all proxies meanwhile
    all_cpu: float = 0.0  # and of the applications
    proxies: int = 0
    memory: int = 0  # bytes resident, of all proxies
    pods: int = 0
    more: list[float] = field(default_factory=list)  # seconds until one more pod was ready and answered

    @property
    def row(self) -> str:
        per_core = f"{self.requests / self.proxy_cpu:,.0f}" if self.mode != "none" else "-"
        return (
            f"| `{self.mode}` | {self.p50:.2f} | {self.p99:.2f} | {per_core} | {self.requests / self.all_cpu:,.0f} | "
            f"{self.proxies} | "
            f"{self.memory / self.proxies / 2**20:.0f} | {self.memory / self.pods / 2**20:.0f} | {self.ready:.1f} | "
            f"{statistics.median(self.more):.2f} |"
        )


def containers(where: CheckContext) -> dict[str, list[str]]:
    """node -> "pod uid/container id" of all that carries requests; proxies are those that the placement names."""
    found: dict[str, list[str]] = {}
    for pod in where.cluster.list("Pod", labels=f"sharedfate.io/run={where.mesh.run}"):
        for status in [*pod["status"].get("containerStatuses", []), *pod["status"].get("initContainerStatuses", [])]:
            if "running" in status["state"] and status["name"] in ("proxy", "client", "server"):
                key = f"{pod['metadata']['uid']}/{status['containerID'].rpartition('//')[2]}"
                found.setdefault(pod["spec"]["nodeName"], []).append(key)
    return found


def usage(where: CheckContext, keys: dict[str, list[str]]) -> dict[str, list[float]]:
    """CPU seconds, resident bytes, and proportional bytes (PSS) of each."""
    found: dict[str, list[float]] = {}
    for node, names in keys.items():
        done = where.cluster.exec(
            "sharedfate-system", where.debug_pods[node], ["python", "-c", LOOK, *names], container=CONTAINER
        )
        assert done.code == 0, done.stderr
        found |= json.loads(done.stdout)
    return found


def under_load(where: CheckContext, cost: Cost) -> None:
    """All clients at RATE for SECONDS: their latencies, and everybody's CPU meanwhile."""
    clients = [pod for pod in where.placement.pods if pod.role == Role.CLIENT]
    loaders = [LoaderClient.of(where.cluster, pod.namespace, pod.name) for pod in clients]
    for pod, loader in zip(clients, loaders, strict=True):
        loader.set_flows([{"name": "bench", "server": f"{pod.namespace}/server", "target": "server:80", "rate": RATE}])
    time.sleep(2)  # connections are made
    keys = containers(where)
    begin, before = time.time_ns(), usage(where, keys)
    time.sleep(SECONDS)
    end, after = time.time_ns(), usage(where, keys)
    for loader in loaders:
        loader.stop_flows()
    latencies = []
    for loader in loaders:
        records = loader.samples().records
        records = records[(records["due"] >= begin) & (records["done"] <= end) & (records["outcome"] == 0)]
        latencies.append((records["done"] - records["due"]) / 1e6)
    every = np.concatenate(latencies)
    proxies = {f"{p.uid}/{p.container_id.rpartition('//')[2]}" for p in where.mesh.placement().proxies}
    spent = {key: after[key][0] - before[key][0] for key in after}
    cost.requests, cost.p50, cost.p99 = len(every), float(np.quantile(every, 0.5)), float(np.quantile(every, 0.99))
    cost.proxy_cpu, cost.all_cpu = sum(spent[key] for key in proxies), sum(spent.values())
    cost.proxies, cost.memory, cost.pods = (
        len(proxies),
        int(sum(after[key][1] for key in proxies)),
        len(where.placement.pods),
    )


def kubectl_apply(cluster: Cluster, text: str) -> None:
    kubectl = next(Path(sys.executable).parent.glob("kubectl*"))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            [kubectl, "--kubeconfig", str(cluster.kubeconfig), "apply", "-f", file.name], capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(done.stderr)


def measure(cluster: Cluster, mode: str) -> Cost:
    cost, mesh = Cost(mode), Mesh(cluster, mode, run=f"bench-{mode}")
    objects = manifests.reference("node-1", "node-2")
    text = render_mode(mode, objects, run=mesh.run)
    try:
        begin = time.monotonic()
        kubectl_apply(cluster, text)
        mesh.wait_ready([*mesh.system_manifests(), *mesh.inject(objects)], seconds=90)
        cluster.wait("a proxy at every hop", mesh._is_whole, seconds=30)
        cost.ready = time.monotonic() - begin
        with check_context(mesh) as where:
            under_load(where, cost)
            for _ in range(MORE):
                served = check_pod_removal(where)[0]
                cost.more.append(served.value)
    finally:
        mesh.uninstall()
    print(cost.row, flush=True)
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--modes", default=",".join(MODES))
    options = parser.parse_args()
    with open_cluster("embedded", name="bench", nodes=2) as cluster:
        costs = [measure(cluster, mode) for mode in options.modes.split(",")]
    base = next((cost for cost in costs if cost.mode == "none"), None)
    added = (
        []
        if base is None
        else [
            "## Added latency",
            "",
            "| mode | p50, ms | p99, ms |",
            "|---|---:|---:|",
            *(
                f"| `{cost.mode}` | {cost.p50 - base.p50:+.2f} | {cost.p99 - base.p99:+.2f} |"
                for cost in costs
                if cost is not base
            ),
            "",
        ]
    )
    lines = [
        "# What each proxy mode costs",
        "",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}; embedded cluster of two nodes, "
        "the reference "
        f"tenants (9 pods), each of 3 clients at {RATE} requests/s for {SECONDS:g} s, budget 900 millicores in all. "
        "Again: `python benchmarks/mesh.py --write`.",
        "",
        "| mode | p50, ms | p99, ms | requests/s per core of proxies | of all | proxies | MiB a proxy | MiB of "
        "proxies a pod | "
        "`kubectl apply` to ready, s | one more pod served, s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(cost.row for cost in costs),
        "",
        *added,
        "Requests per second per core are requests per CPU second: of the proxies alone, and of proxies, clients and "
        "servers "
        "together. A request in a sidecar or node mode passes two proxies, in an ambient mode three. In mode `none` "
        "the two "
        "proxies are the placebo. Memory is resident, so pages of Envoy's binary that processes share count in each "
        "of them. "
        f"One more pod: from its creation to ready, captured where the mode captures; median of {MORE}.",
        "",
    ]
    print("\n".join(lines))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        _, heading, updates = (RESULTS.read_text() if RESULTS.exists() else "").partition(
            "## Updates"
        )  # benchmarks/updates.py's
        RESULTS.write_text("\n".join(lines) + (f"\n{heading}{updates}" if heading else ""))


if __name__ == "__main__":
    main()
