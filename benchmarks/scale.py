"""What many tenants ask of the runner: measured per tenant with the real collector, and multiplied.

`python benchmarks/scale.py [--write]`: simulated loaders answer the collector's questions with real pages of samples,
through the real client over HTTP on loopback (no TLS), into a real history. CPU is the asking thread's own. Half a
minute.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import platform
import sys
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from chaos.control_key import ControlKey
from chaos.history.store import HistoryWriter
from chaos.history.words import RECORD
from chaos.kube.client import Cluster
from chaos.load.client import LoaderClient
from chaos.load.feed import LoaderFeed
from chaos.load.samples import FlowCounters

RESULTS = Path(__file__).parent / "results" / "scale.md"
RATE = 250.0  # samples a second of a tenant: 200 requests and 50 of the sentinel flow
TENANTS = 20  # simulated at once
SECONDS = 30.0  # of simulated load


@dataclass(slots=True)
class Loader:
    """A loader that has all its samples already, and gives what would have come until the asked-for moment."""

    number: int
    upto: int = 0

    def page(self, first: int) -> bytes:
        count = self.upto - first
        begin = time.time_ns()
        records = b"".join(
            RECORD.pack(
                i % 5 == 0,
                0,
                i % 2,
                0,
                0,
                200,
                0,
                begin + i * 4_000_000,
                begin + i * 4_000_000 + 60_000,
                begin + i * 4_000_000 + 1_900_000 + (i * 7919) % 800_000,
            )
            for i in range(first, first + count)
        )
        flow_counters = [
            FlowCounters(n, name=name, server="server", sentinel=name == "sentinel", label="", keep_every=1)
            for n, name in enumerate(("http", "sentinel"))
        ]
        state = {
            "pod": f"client-{self.number}",
            "client": f"tenant-{self.number}/client",
            "epoch": "e",
            "clock": time.time_ns(),
            "total": self.upto,
            "under_way": 2,
            "servers": [f"tenant-{self.number}/server-1", f"tenant-{self.number}/server-2"],
            "flows": [one.as_dict() for one in flow_counters],
            "aggressors": [],
            "lateness": {"tolerance_ns": 1, "stalls": 0, "worst_ns": 0},
            "from": first,
            "count": count,
            "pending": {"0": [begin]},
        }
        preamble = json.dumps(state).encode()
        return len(preamble).to_bytes(4, "little") + preamble + records


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one tenant, for one interval between questions."""

    every: float
    cpu: float  # share of a core
    sent: float  # bytes a second over the wire
    disk: float  # bytes a second
    memory: float  # bytes a second of run
    calls: float  # API calls a second


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(every: float) -> Measured:
    """Half a minute of a few tenants, as fast as it goes."""
    loaders = [Loader(n) for n in range(TENANTS)]
    moved = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 20  # header and body leave together: no delayed acknowledgement between them

        def do_GET(self) -> None:
            nonlocal moved
            parts = urllib.parse.urlsplit(self.path)
            pod = parts.path.split("/pods/")[1].partition(":")[0]
            first = int(urllib.parse.parse_qs(parts.query)["from"][0])
            body = loaders[int(pod.rpartition("-")[2])].page(first)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            moved += len(body) + 600  # headers of both sides, about

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config"
        config.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
                    "users": [],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
                    "current-context": "c",
                }
            )
        )
        cluster = Cluster(config)
        writer = HistoryWriter(Path(scratch) / "history", {"mode": "none"})
        feeds = [
            LoaderFeed(
                LoaderClient.of(cluster, f"tenant-{n}", f"client-{n}", key=ControlKey.new()),
                writer,
                namespace=f"tenant-{n}",
                pod=f"client-{n}",
            )
            for n in range(TENANTS)
        ]
        steps = int(SECONDS / every)
        before = resident()
        cpu = time.thread_time()
        for step in range(1, steps + 1):
            for loader, feed in zip(loaders, feeds, strict=True):
                loader.upto = int(step * every * RATE)
                feed.poll()
        cpu = time.thread_time() - cpu
        writer.flush()
        grown = resident() - before
        writer.close()
        disk = sum(path.stat().st_size for path in (Path(scratch) / "history").rglob("*") if path.is_file())
        cluster.close()
    server.shutdown()
    server.server_close()
    share = TENANTS * SECONDS
    return Measured(every, cpu / share, moved / share, disk / share, max(0, grown) / share, 1 / every)


def one_tenant(found: list[Measured]) -> list[str]:
    """The measured figures."""
    lines = [
        "| asked every | API calls/s | CPU, millicores | kB/s | history, kB/s | memory, kB/s |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    return lines + [
        f"| {one.every:g} s | {one.calls:g} | {one.cpu * 1e3:.2f} | {one.sent / 1e3:.1f} | {one.disk / 1e3:.1f} | "
        f"{one.memory / 1e3:.1f} |"
        for one in found
    ]


def many(found: list[Measured], tenants: int) -> list[str]:
    """The same for many, by multiplication."""
    lines = [
        "| asked every | API calls/s | cores | MB/s | history, MB/min | memory, MB/min |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    return lines + [
        f"| {one.every:g} s | {one.calls * tenants:,.0f} | {one.cpu * tenants:.2f} | {one.sent * tenants / 1e6:.1f} | "
        f"{one.disk * tenants * 60 / 1e6:.0f} | {one.memory * tenants * 60 / 1e6:.0f} |"
        for one in found
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS}")
    options = parser.parse_args()
    found = [measure(every) for every in (0.2, 1.0, 2.0, 10.0)]
    version = ".".join(map(str, sys.version_info[:3]))
    text = "\n".join(
        [
            "# What many tenants ask of the runner",
            "",
            f"Measured with {TENANTS} simulated loaders at {RATE:g} samples a second each, for {SECONDS:g} s of load: "
            "the real collector, "
            f"client and history, HTTP on loopback without TLS. Linux {platform.release()}, Python {version}. Again: "
            "`python benchmarks/scale.py --write`.",
            "",
            "## One tenant",
            "",
            *one_tenant(found),
            "",
            "## 1,000 tenants on 100 nodes: the same, times 1,000",
            "",
            *many(found, 1000),
            "",
        ]
    )
    print(text)
    if options.write:
        RESULTS.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
