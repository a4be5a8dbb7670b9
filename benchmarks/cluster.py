"""The embedded cluster in figures: how fast it comes and goes, what 150 pods cost, and its memory under a day's worth
of Events.

`python benchmarks/cluster.py [--write] [starts] [pods] [events]`: all three without a name; as root, some three
minutes. A cluster of its own each time, and nothing left behind. A real Kubernetes 1.36 on two cores took 8.3 s for one
node, 19.5 s for three, 0.69 s for a pod.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the tests' own event loop, whose time jumps

from chaos.embedded import provider
from chaos.embedded.controllers import run_controllers
from chaos.embedded.events import EventRecorder
from chaos.embedded.kubelet import cgroups
from chaos.embedded.resources import EVENT, NAMESPACE
from chaos.embedded.store import Store
from chaos.kube.client import Cluster
from chaos.names import IMAGE
from tests.parity.warp import WarpLoop, run_warped

RESULTS: Final = Path(__file__).parent / "results" / "cluster.md"
NAME: Final = f"bench-{os.getpid()}"
STARTS: Final = 20
PODS: Final = 150
CHANGES: Final = 200  # of which the watch's latency is taken, before the pods and among them
EVENTS_A_SECOND: Final = 2


def quantiles(values: Sequence[float]) -> str:
    ordered = sorted(values)
    ninth = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return f"{statistics.median(ordered):.2f} | {ordered[0]:.2f} | {ninth:.2f} | {ordered[-1]:.2f}"


def starts() -> list[str]:
    """Up (until all nodes are Ready) and down (until nothing is left), some times each."""
    lines = [
        "## Up and down",
        "",
        f"Seconds, of {STARTS}: `provider.up` until its nodes are Ready, `provider.down` until nothing is left.",
        "",
        "| | median | least | 90 % | most |",
        "|---|---:|---:|---:|---:|",
    ]
    for nodes in (1, 2, 3):
        up, down = [], []
        for _ in range(STARTS if nodes == 2 else STARTS // 4):
            began = time.monotonic()
            provider.up(NAME, nodes=nodes)
            ready = time.monotonic()
            provider.down(NAME)
            up.append(ready - began)
            down.append(time.monotonic() - ready)
        what = f"{nodes} node{'s' * (nodes > 1)}" + ("" if nodes == 2 else f" (of {STARTS // 4})")
        lines += [f"| up, {what} | {quantiles(up)} |", f"| down, {what} | {quantiles(down)} |"]
    return lines


def resident(pid: int) -> float:
    """MiB of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def whole_tree() -> float:
    """MiB that the cluster's processes share out among them (PSS): the server, the nodes' first processes, pauses,
    containers.
    """
    total = 0
    pids = {
        provider._pid(provider.RUN / NAME) or 0,
        *provider._processes(provider.RUN / NAME, f"{cgroups.ROOT}/{NAME}"),
    }
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(transport.split()[1]) for transport in rollup.splitlines() if transport.startswith("Pss:"))
    return total / 1024


@contextmanager
def latencies(cluster: Cluster, say: Callable[[str], None]) -> Iterator[list[float]]:
    """Milliseconds from sending a change to its arrival at a watcher, one change every 20 ms for as long as the block
    runs.
    """
    found: list[float] = []
    sent: dict[str, float] = {}
    over = threading.Event()
    last = "last"
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "clock", "namespace": "default"}, "data": {}}
    )
    _, since = cluster.list_at("ConfigMap", "default")

    def follow() -> None:
        with closing(Cluster(provider.RUN / NAME / "kubeconfig")) as own:
            for change in own.watch("ConfigMap", "default", since=since, seconds=600):
                at = time.monotonic()
                number = (change.object.get("data") or {}).get("n")
                if number in sent:
                    found.append(1000 * (at - sent.pop(number)))
                if number == last:
                    return

    def change(number: str) -> None:
        sent[number] = time.monotonic()
        cluster.patch("ConfigMap", "clock", {"data": {"n": number}}, "default")

    def feed() -> None:
        number = 0
        while not over.is_set() or number < CHANGES:
            number += 1
            change(str(number))
            time.sleep(0.02)
        change(last)

    watcher, feeder = threading.Thread(target=follow), threading.Thread(target=feed)
    watcher.start()
    feeder.start()
    try:
        yield found
    finally:
        over.set()
        feeder.join()
        watcher.join(30)
        say(f"{len(found)} changes")


def pods() -> list[str]:
    """150 pods of one container on two nodes: seconds until all are Ready, memory, and what a watch costs meanwhile."""
    config = provider.up(NAME, nodes=2)
    pid = provider._pid(provider.RUN / NAME) or 0
    try:
        with closing(Cluster(config)) as cluster, closing(Cluster(config)) as other:
            before, before_all = resident(pid), whole_tree()
            with latencies(other, print) as quiet:
                pass
            app = {"name": "app", "image": IMAGE, "command": ["sleep", "100000"]}
            began = time.monotonic()
            cluster.create(
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": "many", "namespace": "default"},
                    "spec": {
                        "replicas": PODS,
                        "selector": {"matchLabels": {"app": "many"}},
                        "template": {
                            "metadata": {"labels": {"app": "many"}},
                            "spec": {"terminationGracePeriodSeconds": 0, "containers": [app]},
                        },
                    },
                }
            )
            with latencies(other, print) as busy:
                cluster.wait(f"{PODS} pods Ready", lambda: ready(cluster) == PODS, seconds=280, every=0.2)
                took = time.monotonic() - began
            after, after_all = resident(pid), whole_tree()
            with latencies(other, print) as settled:
                pass
            began = time.monotonic()
            cluster.delete("Deployment", "many", "default")
            cluster.wait("all pods gone", lambda: not cluster.list("Pod", "default"), seconds=120, every=0.2)
            gone = time.monotonic() - began
    finally:
        began = time.monotonic()
        provider.down(NAME)
    return [
        f"## {PODS} pods of one container on two nodes",
        "",
        f"All Ready {took:.1f} s after the Deployment was made ({PODS / took:.1f} a second); all gone {gone:.1f} s "
        "after its deletion.",
        "",
        "| MiB | before | with the pods | a pod |",
        "|---|---:|---:|---:|",
        f"| the cluster's process, resident | {before:.0f} | {after:.0f} | {(after - before) / PODS:.2f} |",
        f"| everything, shared pages shared out | {before_all:.0f} | {after_all:.0f} | "
        f"{(after_all - before_all) / PODS:.2f} |",
        "",
        "Milliseconds from sending a change to its arrival at a watch:",
        "",
        "| | median | least | 90 % | most |",
        "|---|---:|---:|---:|---:|",
        f"| without pods | {quantiles(quiet)} |",
        f"| while they start | {quantiles(busy)} |",
        f"| with {PODS} pods | {quantiles(settled)} |",
    ]


def ready(cluster: Cluster) -> int:
    status: dict[str, Any] = cluster.get("Deployment", "many", "default").get("status", {})
    return int(status.get("readyReplicas", 0))


def events() -> list[str]:
    """A day of Events in fast forward, against controllers that expire them after an hour, as Kubernetes does."""
    loop = WarpLoop()
    store = Store()
    rows: list[tuple[int, int, float]] = []

    async def day() -> None:
        store.create(NAMESPACE, {"metadata": {"name": "default"}, "spec": {"finalizers": ["kubernetes"]}})
        controllers = asyncio.create_task(run_controllers(store, loop))
        recorder = EventRecorder(store, "kubelet", "node-1", clock=loop)
        about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default", "uid": "u"}}
        for second in range(24 * 3600 + 1):
            if second % 3600 == 0 and second // 3600 in (0, 1, 2, 6, 12, 18, 24):
                gc.collect()
                rows.append((second // 3600, len(store.list(EVENT)), resident(os.getpid())))
            for number in range(EVENTS_A_SECOND):
                recorder.event(about, "Warning", "Unhealthy", f"Readiness probe failed: {second} {number}")
            await asyncio.sleep(1)
        controllers.cancel()
        await asyncio.gather(controllers, return_exceptions=True)

    began = time.monotonic()
    run_warped(day(), loop)
    took = time.monotonic() - began
    return [
        "## A day of Events",
        "",
        f"{EVENTS_A_SECOND * 86400:,} different Events, {EVENTS_A_SECOND} a second, in {took:.0f} s. They expire "
        "after an hour, "
        "so that memory is that of one hour (and of 4,096 changes for watches) whatever the day was like.",
        "",
        "| hour | Events kept | process, MiB |",
        "|---:|---:|---:|",
        *(f"| {hour} | {count:,} | {memory:.0f} |" for hour, count, memory in rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name}")
    parser.add_argument("parts", nargs="*", choices=[[], "starts", "pods", "events"])
    chosen = parser.parse_args()
    kinds: dict[str, Callable[[], list[str]]] = {"starts": starts, "pods": pods, "events": events}
    sections = {name: "\n".join(kinds[name]()) for name in chosen.parts or kinds}
    title = (
        f"# The embedded cluster in figures\n\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"cgroup v{2 if '' in cgroups.controllers() else 1}, load average "
        f"{os.getloadavg()[0]:.1f} at the end. Again: `python benchmarks/cluster.py --write`."
    )
    text = "\n\n".join([title, *sections.values()]) + "\n"
    print(text)
    if chosen.write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
