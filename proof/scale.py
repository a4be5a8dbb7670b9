"""What many tenants ask of the runner: loaders that play in real time, the real collector, history and judge.

`python -m proof.scale [--write]`: a second process serves the control ports of all loaders over HTTP on loopback
(no TLS), by the loader's own log, ledgers and pages (`proof.replayed`); tenants share twenty histories, of which one is
hurt by the fault. This process is the runner, on one core: it collects, looks at each instant of the schedule, judges,
and writes the history, as a trial does. Ten minutes.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from chaos.control_key import ControlKey
from chaos.history.model import EventKind, Samples
from chaos.history.store import HistoryWriter
from chaos.kube.client import Cluster
from chaos.kube.control_key import secret
from chaos.load.collector import Collector, Loader
from chaos.load.detail import Detail
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, WindowKind
from chaos.verdict import Expectation, Harm, Thresholds, Verdict, judge, view_of
from proof.replayed import Replayed
from proof.synthetic import EPOCH, NANO, HarmDone, Noise, Plan, flows, view

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "scale.md"
HISTORIES = 20  # different ones; tenants share them
HURT = 0  # the one that the fault hurts
BEFORE = 8.0  # seconds of load before the fault
HELD = 10.0
AFTER = 4.0
LOOKS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
ROWS = ((10, 120), (100, 120), (1000, 120), (1000, 20))  # tenants, requests a second of each
SENTINEL_RATE = 50


# ---- the loaders' process


class Loaders:
    """The loaders of all tenants: those that share a history differ by their names."""

    def __init__(self, rate: float, began: int) -> None:
        rng = np.random.default_rng(1)
        plan = Plan(baseline=BEFORE, fault=HELD, after=AFTER + 20, rate=rate, sentinel_rate=SENTINEL_RATE)
        self._lock = threading.Lock()
        self._loaders = []
        for number, flow in enumerate(flows(HISTORIES)):
            harm = HarmDone(error_share=1.0 if number == HURT else 0.0)
            made = view(rng, plan, Noise(), {flow: harm})
            self._loaders.append(
                Replayed("client", {one: _from(began, samples) for one, samples in made.flows.items()}, SERVERS)
            )

    def ask(self, tenant: int, path: str) -> bytes:
        loader = self._loaders[tenant % HISTORIES]
        with self._lock:
            loader.play(time.time_ns())
            loader.client = f"tenant-{tenant}/client"
            loader.epoch = f"e{tenant}"
            return loader.ask(path, None)


SERVERS = ("servers/server-1", "servers/server-2")


def _from(began: int, samples: Samples) -> Samples:
    """Give samples the instants of now, evenly paced, and servers that answer in turn."""
    gap = round(float(np.median(np.diff(samples["due"]))))
    latency = samples["done"] - samples["due"]
    samples["due"] = began + (samples["due"][0] - EPOCH) + np.arange(len(samples)) * gap
    samples["done"], samples["sent"] = samples["due"] + latency, samples["due"] + 60_000
    samples["server"], samples["status"] = np.arange(len(samples)) % 2, 200
    return samples


def serve(rate: float, began: int) -> None:
    loaders = Loaders(rate, began)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 20  # header and body leave together: no delayed acknowledgement between them

        def do_GET(self) -> None:
            _, after = self.path.split("/pods/")
            pod, _, path = after.partition("/proxy")
            body = loaders.ask(int(pod.partition(":")[0].rpartition("-")[2]), path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.request_queue_size = 64
    print(server.server_address[1], flush=True)
    server.serve_forever()


# ---- the runner


class _Counting(Cluster):
    """The real client, whose control ports' bytes are counted."""

    def __init__(self, config: Path, key: ControlKey) -> None:
        super().__init__(config)
        self._secret = secret(key, run="r")
        self.moved = 0
        self.asked = 0

    def pod_http(self, *where: Any, **how: Any) -> bytes:
        body = super().pod_http(*where, **how)
        self.moved += len(body)
        self.asked += 1
        return body

    def find(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        return self._secret


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one run. `looks`: of each look, seconds of CPU that it cost, questions and judgement, and how many seconds
    after its instant it was judged.
    """

    tenants: int
    rate: float
    detail: Detail
    cpu: float  # cores
    sent: float  # bytes a second
    asked: float  # questions a second
    disk: float  # bytes a second
    memory: float  # bytes, at the most
    looks: tuple[tuple[float, float], ...]
    busy: float  # processes that wanted a core of the machine, by its load average
    verdict: str


@contextmanager
def loaders(rate: float, began: int, scratch: Path) -> Iterator[_Counting]:
    """A cluster of which only the loaders' control ports are there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "proof.scale", "--serve", str(rate), str(began)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        config = scratch / "config"
        config.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                    "users": [],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
                    "current-context": "c",
                }
            )
        )
        cluster = _Counting(config, ControlKey.new())
        yield cluster
        cluster.close()
    finally:
        process.kill()
        process.wait()


def measure(tenants: int, rate: float, detail: Detail) -> Measured:
    """Play one trial of a held fault."""
    with tempfile.TemporaryDirectory() as scratch:
        began = time.time_ns() + 4 * NANO
        with loaders(rate, began, Path(scratch)) as cluster:
            return _run(cluster, Path(scratch) / "history", began, tenants, rate, detail)


def _run(cluster: _Counting, directory: Path, began: int, tenants: int, rate: float, detail: Detail) -> Measured:
    fault, undone = (began + round(seconds * NANO) for seconds in (BEFORE, BEFORE + HELD))
    _wait(began)
    cpu, wall = time.process_time(), time.monotonic()
    with HistoryWriter(directory, {"mode": "none"}) as writer:
        chosen = [Loader(f"tenant-{n}", f"client-{n}") for n in range(tenants)]
        with Collector(cluster, chosen, writer, detail=detail) as collector:
            _wait(fault)
            _window(writer, WindowKind.BASELINE, began, fault)
            _window(writer, WindowKind.FAULT, fault, undone)
            for phase, at in (("injected", fault), ("recovered", undone)):
                writer.event(EventKind.FAULT, {"phase": phase, "at": at, "fault": "pause"}, at=at)
            looks = list(_looks(writer, collector, fault))
            _wait(undone + round(AFTER * NANO))
            spent, lasted = time.process_time() - cpu, time.monotonic() - wall
            collector.poll_now()
            assert not collector.failures, collector.failures
            judgement = judge(_view(writer, collector, undone), _expected(writer), QUICK)
    size = sum(path.stat().st_size for path in directory.iterdir())
    return Measured(
        tenants,
        rate,
        detail,
        spent / lasted,
        cluster.moved / lasted,
        cluster.asked / lasted,
        size / lasted,
        _peak(),
        tuple(looks),
        os.getloadavg()[0],
        judgement.verdict,
    )


QUICK = Thresholds(bootstrap=0)


def _wait(instant: int) -> None:
    time.sleep(max(0, instant - time.time_ns()) / NANO)


def _window(writer: HistoryWriter, kind: WindowKind, begin: int, end: int) -> None:
    writer.event(EventKind.WINDOW, {"kind": str(kind), "begin": begin, "end": end}, at=begin)


def _view(writer: HistoryWriter, collector: Collector, until: int) -> Any:
    pending = collector.pending()
    return view_of(writer.by_flow(), writer.events(), until=until, pending=pending)


def _expected(writer: HistoryWriter) -> Expectation:
    shares: Mapping[Flow, float] = {
        flow: float(int(flow.client.partition("/")[0].rpartition("-")[2]) % HISTORIES == HURT)
        for flow in writer.flows
        if not flow.sentinel
    }
    return Expectation(shares, harm=Harm.ERRORS, fault_shape=FaultShape.HELD)


def _looks(writer: HistoryWriter, collector: Collector, fault: int) -> Iterator[tuple[float, float]]:
    """Look as a trial does (`chaos.engine.trial.Trial.look_until_done`)."""
    instants = [fault + round(after * NANO) for after in LOOKS]
    for index, instant in enumerate(instants):
        if any(later <= time.time_ns() for later in instants[index + 1 : index + 2]):
            continue
        _wait(instant)
        spent = time.process_time()
        collector.poll_now()
        judge(_view(writer, collector, instant), _expected(writer), QUICK, look=index)
        yield time.process_time() - spent, (time.time_ns() - instant) / NANO


def _peak() -> float:
    """Bytes of memory that this process had at the most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def of_one(tenants: int, rate: float, detail: Detail) -> Measured:
    """Measure in a process of its own, whose memory is its own, on one core."""
    command = [sys.executable, "-m", "proof.scale", "--one", str(tenants), str(rate), detail]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    values = json.loads(said.splitlines()[-1])
    return Measured(**{**values, "detail": Detail(values["detail"]), "looks": tuple(map(tuple, values["looks"]))})


def table(found: list[Measured]) -> list[str]:
    return [
        "| tenants | requests/s of each | history | cores | questions/s | MB/s | kB/s of a tenant | disk, MB/min | "
        "memory, MB | CPU of a look, s | looks late by, s | load average | verdict |",
        "|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---|---:|---|",
        *(
            f"| {one.tenants:,} | {one.rate:g} + {SENTINEL_RATE} | {one.detail} | {one.cpu:.2f} | {one.asked:.0f} | "
            f"{one.sent / 1e6:.2f} | {one.sent / one.tenants / 1e3:.2f} | {one.disk * 60 / 1e6:.0f} | "
            f"{one.memory / 1e6:.0f} | {max(cpu for cpu, _ in one.looks):.1f} | "
            f"{', '.join(f'{late:.1f}' for _, late in one.looks)} | {one.busy:.1f} | {one.verdict} |"
            for one in found
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS}")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(float(options.serve[0]), int(options.serve[1]))
        return 0
    if options.one:
        tenants, rate, detail = options.one
        found = measure(int(tenants), float(rate), Detail(detail))
        print(json.dumps({name: getattr(found, name) for name in Measured.__slots__}))
        return 0
    results = []
    for tenants, rate in ROWS:
        for detail in Detail:
            results.append(of_one(tenants, rate, detail))
            print(table(results)[-1], file=sys.stderr)
    text = "\n".join(
        [
            "# What many tenants ask of the runner",
            "",
            machine(),
            "",
            f"Loaders play a trial in real time: {BEFORE:g} s before a held fault, {HELD:g} s of it, {AFTER:g} s "
            f"after; one tenant of {HISTORIES} loses everything. The collector, the client (HTTP on loopback, no TLS), "
            "the history and the judge are the real ones, in one process on one core; the loaders' process has the "
            "others. Again: `python -m proof.scale --write`.",
            "",
            *table(results),
            "",
        ]
    )
    print(text)
    if options.write:
        RESULTS.write_text(text)
    return int(any(one.verdict == Verdict.FAIL for one in results))  # of few requests a second nothing can be told


if __name__ == "__main__":
    sys.exit(main())
