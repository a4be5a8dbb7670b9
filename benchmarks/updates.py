"""How fast a change reaches many real proxies: from the control plane's own event to the last Envoy's acknowledgement.

`python -m benchmarks.updates [--proxies 100] [--write]`: sidecars of one Service, each a real Envoy in a network
namespace of its own, under the real control plane, over TLS on a socket of the file system. A pod of the Service comes
or goes, and each proxy is sent its new endpoints. About a minute; an Envoy takes some 30 MB of its own. Nothing is left
behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chaos.mesh.ca import Authority
from chaos.mesh.controlplane.cache import KINDS
from chaos.mesh.controlplane.server import SERVER_NAMES, Plane, start_server
from chaos.mesh.envoy import bootstrap
from chaos.mesh.envoy.build import build
from tests.mesh.controlplane.objects import config, namespace, node, service, sidecar_pod, slice_of
from tests.mesh.controlplane.test_server import Reviews

RESULTS = Path(__file__).parent / "results" / "mesh.md"
HEADING = "## Updates"
ENVOY = str(Path(sys.executable).with_name("envoy"))
UPDATES = 20
BATCH = 10  # Envoys that start at the same time: one that waits for the CPU for seconds gives up its stream
ENDPOINTS = "outbound|80|server.tenant-a"


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one run."""

    proxies: int
    seconds: list[float]  # of each update, until the last proxy had acknowledged it
    resident: float  # bytes of a proxy: what it shares with others counts in each
    own: float  # bytes of a proxy that are its own

    @property
    def sentence(self) -> str:
        return (
            f"A pod of a Service came or went, and the last of {self.proxies} real Envoys (sidecars) had acknowledged "
            "its endpoints "
            f"after {statistics.median(self.seconds) * 1e3:.0f} ms (median of {len(self.seconds)} updates; "
            f"{min(self.seconds) * 1e3:.0f} to {max(self.seconds) * 1e3:.0f} ms). An Envoy held "
            f"{self.resident / 2**20:.0f} MiB, "
            f"{self.own / 2**20:.0f} MiB of them its own."
        )


def versions(plane: Plane) -> list[str]:
    """Of the Service's endpoints, as each proxy has acknowledged them; empty for one that has not answered yet."""
    found = []
    for stream in plane.streams:
        told = stream.session.status().get("ClusterLoadAssignment", {"acked": {}, "pending": 1})
        found.append("" if told["pending"] else told["acked"].get(ENDPOINTS, ""))
    return found


def has(plane: Plane, number: int) -> bool:
    """Whether so many proxies have the Service's endpoints."""
    return sum(map(bool, versions(plane))) == number


def have_newer(plane: Plane, old: set[str]) -> bool:
    """Whether each proxy has acknowledged others than these."""
    now = set(versions(plane))
    return "" not in now and not old & now


async def until(what: Callable[[], bool], seconds: float, every: float = 0.002) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {seconds:g} s")
        await asyncio.sleep(every)


def memory(pid: int) -> tuple[int, int]:
    """(resident, its own) bytes of a process."""
    fields = dict(transport.split(":") for transport in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    kilobytes = {name: int(text.split()[0]) for name, text in fields.items()}
    return kilobytes["Rss"] * 1024, (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) * 1024


async def measure(number: int, updates: int = UPDATES) -> Measured:
    """Start that many proxies, change the Service that often, and end them."""
    pods = [sidecar_pod(f"p{n}", ip=f"10.0.{1 + n // 200}.{1 + n % 200}") for n in range(number)]
    plane = Plane(Reviews(*pods), Authority.new(), build=build)  # type: ignore[arg-type]
    for obj in (config("sidecar"), node("node-1"), namespace("tenant-a"), service(), slice_of(*pods), *pods):
        plane.fold(obj["kind"], "ADDED", obj)
    for kind in KINDS:
        plane.whole(kind)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="updates-")))
        server, _ = await start_server(plane, f"unix:{folder / 'xds.sock'}")
        envoys: list[subprocess.Popen[bytes]] = []
        try:
            (folder / "ca.pem").write_bytes(plane.authority.root_pem)
            for begin in range(0, number, BATCH):
                envoys += [start(folder, p["metadata"]["name"]) for p in pods[begin : begin + BATCH]]
                await until(partial(has, plane, len(envoys)), 120, every=0.05)
            seconds = []
            for set_rate in range(updates):
                before = set(versions(plane))
                chosen = pods[1:] if set_rate % 2 == 0 else pods
                began = time.monotonic()
                plane.fold("EndpointSlice", "MODIFIED", slice_of(*chosen))
                await until(partial(have_newer, plane, before), 30)
                seconds.append(time.monotonic() - began)
                await asyncio.sleep(0.2)  # each update by itself: one that comes sooner is merged with the one before
            assert len(plane.streams) == number
            held = [memory(envoy.pid) for envoy in envoys]
        finally:
            for envoy in envoys:
                envoy.kill()
            for envoy in envoys:
                envoy.wait()
            await server.stop(0)
    return Measured(number, seconds, statistics.mean(rss for rss, _ in held), statistics.mean(own for _, own in held))


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """An Envoy in a network namespace of its own, which says that it is the pod of that name."""
    own = folder / name
    own.mkdir()
    (own / "token").write_text(name)
    found = bootstrap(
        node_id=name, server_name=SERVER_NAMES[0], ca_path=str(folder / "ca.pem"), token_path=str(own / "token")
    )
    xds: dict[str, Any] = found["static_resources"]["clusters"][0]
    for key in ("upstream_bind_config", "dns_lookup_family", "respect_dns_ttl"):
        del xds[key]
    xds["type"] = "STATIC"
    xds["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = {
        "pipe": {"path": str(folder / "xds.sock")}
    }
    file = own / "bootstrap.json"
    file.write_text(json.dumps(found))
    with (own / "log").open("wb") as log:
        return subprocess.Popen(
            [
                "unshare",
                "--net",
                "sh",
                "-c",
                f"ip link set lo up; exec {ENVOY} -c {file} --concurrency 1 --disable-hot-restart --log-level warning",
            ],
            stdout=log,
            stderr=log,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proxies", type=int, default=100)
    parser.add_argument("--write", action="store_true", help=f"write the section {HEADING!r} of {RESULTS.name}")
    options = parser.parse_args()
    found = asyncio.run(measure(options.proxies))
    print(found.sentence)
    if options.write:
        rest, _, _ = RESULTS.read_text().partition(HEADING)
        RESULTS.write_text(
            f"{rest.rstrip()}\n\n{HEADING}\n\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, "
            f"Linux {platform.release().split('-')[0]}. {found.sentence} Again: `python -m benchmarks.updates "
            "--write`.\n"
        )


if __name__ == "__main__":
    main()
