"""The loader beside wrk and httpx on the same server, and what each says of a server that stalls.

`python benchmarks/load.py [--write]`: under a minute on loopback, nothing left behind. It needs wrk
(`apt install wrk`), which nothing else of the project does. Requests per second per core are requests per CPU second of
the client's process, so that neither the server nor other work on the machine decides them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chaos.control_key import HEADER, VARIABLE, ControlKey
from chaos.load.client import parse_page

RESULTS = Path(__file__).parent / "results" / "load.md"
HTTP, CONTROL, LOADER = 28080, 29990, 29991
KEY = ControlKey.new()
SECONDS = 3.0
RATES = (10_000, 20_000, 30_000, 40_000)  # the last is about what one core bears: wrk and httpx run at their utmost too
STALL_BEGIN, STALL, STALL_TOTAL, STALL_RATE = 1.0, 1.0, 4.0, 500

HTTPX = """
import sys, time, resource, httpx
with httpx.Client() as client:
    end, count = time.monotonic() + float(sys.argv[2]), 0
    before = resource.getrusage(resource.RUSAGE_SELF)
    while time.monotonic() < end:
        client.get(sys.argv[1]).raise_for_status()
        count += 1
    after = resource.getrusage(resource.RUSAGE_SELF)
print(count, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""


@dataclass(frozen=True)
class Cost:
    client: str
    requests: int
    cpu: float
    note: str

    @property
    def per_core(self) -> float:
        return self.requests / self.cpu


def cpu_of(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def get(port: int, path: str) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={HEADER: KEY.token("bench")})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


@contextmanager
def program(module: str, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        env={
            **os.environ,
            "LISTEN": "127.0.0.1",
            "CONTROL_PORT": str(port),
            VARIABLE: KEY.digest("bench"),
            **environment,
        },
    )
    try:
        end = time.monotonic() + 10
        while True:
            try:
                get(port, "/healthz")
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def loader(rate: float, **more: object) -> dict[str, str]:
    flow = {"name": "http", "server": "bench/server", "target": f"127.0.0.1:{HTTP}", "rate": rate, "timeout": 5, **more}
    return {"LOADER_FLOWS": json.dumps([flow])}


def measure_loader(rate: float) -> Cost:
    with program("chaos.load.agent", LOADER, **loader(rate, connections=16)) as process:
        time.sleep(0.3)
        begin, cpu = json.loads(get(LOADER, "/state"))["flows"][0], cpu_of(process.pid)
        time.sleep(SECONDS)
        end, cpu = json.loads(get(LOADER, "/state"))["flows"][0], cpu_of(process.pid) - cpu
    done = end["ok"] - begin["ok"]
    assert end["stored"] == end["done"], "a sample was not kept"
    return Cost(
        f"sharedfate, open loop at {rate:,.0f}/s", done, cpu, f"{done / SECONDS:,.0f}/s answered, every sample kept"
    )


def measure_wrk() -> Cost:
    before = os.times()
    text = subprocess.run(
        ["wrk", "-t1", "-c16", f"-d{SECONDS:.0f}s", f"http://127.0.0.1:{HTTP}/"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    after = os.times()
    found = re.search(r"(\d+) requests in", text)
    assert found is not None, text
    count = int(found[1])
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost("wrk, closed loop", count, cpu, f"{count / SECONDS:,.0f}/s answered, no sample kept")


def measure_httpx() -> Cost:
    text = subprocess.run(
        [sys.executable, "-c", HTTPX, f"http://127.0.0.1:{HTTP}/", str(SECONDS)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return Cost(
        "httpx, one client, closed loop", int(text[0]), float(text[1]), f"{int(text[0]) / SECONDS:,.0f}/s answered"
    )


def stall(process: subprocess.Popen[bytes]) -> None:
    time.sleep(STALL_BEGIN)
    process.send_signal(signal.SIGSTOP)
    time.sleep(STALL)
    process.send_signal(signal.SIGCONT)
    time.sleep(STALL_TOTAL - STALL_BEGIN - STALL)


def stalled_wrk(server: subprocess.Popen[bytes]) -> dict[str, float]:
    with subprocess.Popen(
        ["wrk", "-t1", "-c8", f"-d{STALL_TOTAL:.0f}s", "--latency", f"http://127.0.0.1:{HTTP}/"],
        stdout=subprocess.PIPE,
        text=True,
    ) as wrk:
        stall(server)
        text, _ = wrk.communicate(timeout=10)
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    found = re.findall(r"^\s+(\d\d)%\s+([\d.]+)(us|ms|s)$", text, re.MULTILINE)
    return {name: float(value) * unit[scale] for name, value, scale in found}


def stalled_loader(server: subprocess.Popen[bytes]) -> dict[str, float]:
    with program("chaos.load.agent", LOADER, **loader(STALL_RATE, in_flight=2000)):
        stall(server)
        time.sleep(0.3)
        records = parse_page(get(LOADER, "/samples?from=0")).records
    records = records[records["due"] < records["due"][0] + int(STALL_TOTAL * 1e9)]
    latency = (records["done"] - records["due"]) / 1e6
    return {name: float(np.quantile(latency, int(name) / 100)) for name in ("50", "75", "90", "99")}


def stalled_closed_loop(server: subprocess.Popen[bytes]) -> dict[str, float]:
    """Eight connections that each wait for an answer before they ask again, and count from when they asked."""
    waits: list[float] = []
    end = time.monotonic() + STALL_TOTAL

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", HTTP, timeout=10)
        while (begin := time.monotonic()) < end:
            connection.request("GET", "/")
            connection.getresponse().read()
            waits.append((time.monotonic() - begin) * 1e3)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    stall(server)
    for thread in threads:
        thread.join()
    return {name: float(np.quantile(waits, int(name) / 100)) for name in ("50", "75", "90", "99")}


def truth() -> dict[str, float]:
    """Of requests that fall due evenly while the server stands still for part of the time: what their users waited, in
    ms.
    """
    share = STALL / STALL_TOTAL
    return {name: max(0.0, (int(name) / 100 - (1 - share)) / share) * STALL * 1e3 for name in ("50", "75", "90", "99")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    write = parser.parse_args().write
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark compares with wrk: apt install wrk")
    with program("chaos.apps.server", CONTROL, HTTP_PORT=str(HTTP), TCP_PORT="29000", POD_NAME="server-1") as server:
        costs = [measure_wrk(), *(measure_loader(rate) for rate in RATES), measure_httpx()]
        waits = {
            "what users waited": truth(),
            "sharedfate": stalled_loader(server),
            "wrk": stalled_wrk(server),
            "closed loop, uncorrected": stalled_closed_loop(server),
        }
    wrk, best, httpx = costs[0].per_core, max(cost.per_core for cost in costs[1:-1]), costs[-1].per_core
    lines = [
        "# The loader beside wrk and httpx",
        "",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}; server `chaos.apps.server` on "
        "loopback. "
        "Again: `python benchmarks/load.py --write`.",
        "",
        "## Requests per second per core",
        "",
        "Requests per CPU second of the client's process (user and system). wrk and httpx ask as fast as they can. An "
        "open loop "
        "below its utmost wakes for each request alone, and shares the cost of a wake-up among several only near it.",
        "",
        "| client | per core | CPU per request | |",
        "|---|---:|---:|---|",
        *(
            f"| {cost.client} | {cost.per_core:,.0f} | {cost.cpu / cost.requests * 1e6:.1f} us | {cost.note} |"
            for cost in costs
        ),
        "",
        f"wrk / sharedfate: {wrk / best:.1f} (bound: 4). sharedfate / httpx: {best / httpx:.0f} (bound: 10).",
        "",
        "## A server that stalls",
        "",
        f"The server's process stands still for {STALL:g} s of {STALL_TOTAL:g} s. A closed loop sends nothing "
        "meanwhile: it "
        "sees one slow request on each connection, and lost among thousands of quick ones. wrk 4 sees no more than "
        "that, but "
        "adds invented samples at its own mean interval afterwards (`stats_correct`); that mends its quantiles when "
        "the "
        "server is otherwise steady, and says neither when it stalled nor what an application at its own rate felt. "
        "An open "
        "loop's requests fall due all the same, and each is kept.",
        "",
        "| latency, ms | p50 | p75 | p90 | p99 |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | " + " | ".join(f"{value:,.1f}" for value in found.values()) + " |"
            for name, found in waits.items()
        ),
        "",
    ]
    print("\n".join(lines))
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join(lines))
    if wrk / best > 4 or best / httpx < 10:
        raise SystemExit("outside the bounds")


if __name__ == "__main__":
    main()
