"""The watchdog: undoes overdue receipts when the runner that stored them is gone. `python -m chaos.faults.watchdog`.

Runs in the system namespace, two replicas on different nodes: a fault may take one node with it. It looks once a
second; each overdue receipt is undone in a thread of its own, so that one that takes its time, or fails, does not hold
up the others, and one that fails is tried again until it is undone. Undoing is idempotent and the receipt tells who was
first, so that two watchdogs and a runner may do it at once. It holds nothing in memory: killed and restarted, it goes
on.
"""

from __future__ import annotations

import argparse
import logging
import os
import threading
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

from chaos.faults import receipts
from chaos.faults.injection import end
from chaos.faults.model import Receipt
from chaos.faults.receipts import UnreadableReceipt
from chaos.interrupts import on_termination
from chaos.kube.client import Cluster
from chaos.names import PORT_WATCHDOG

log = logging.getLogger(__name__)
EVERY: Final = 1.0  # seconds between looks
AGAIN: Final = 3.0  # seconds after an undo that failed
STALE: Final = 30.0  # seconds without a look that came through, after which it is not alive
_AT_ONCE: Final = 8


def plan_due(found: Iterable[Receipt], *, now: int, grace: float) -> list[Receipt]:
    """Return the receipts that are overdue by `grace` seconds, newest first: the last fault is undone first."""
    due = [receipt for receipt in found if receipt.deadline + int(grace * 1e9) < now]
    return sorted(due, key=lambda receipt: receipt.id, reverse=True)


def grace_of(name: str) -> float:
    """Return how long the replica of that name waits after a deadline, so that replicas seldom begin the same undo at
    once.
    """
    return (zlib.crc32(name.encode()) % 4) * 0.5


class Watchdog:
    """Looks for overdue receipts, and undoes them."""

    def __init__(self, cluster: Cluster, *, name: str) -> None:
        self._cluster = cluster
        self._grace = grace_of(name)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="undo")
        self._busy: set[str] = set()
        self._not_before: dict[str, float] = {}  # receipt -> monotonic time of the next try
        self._told: set[str] = set()  # receipts that cannot be read
        self.looked = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Run until told to stop; finish an undo that is under way first."""
        while not stop.wait(EVERY):
            try:
                self.look()
            except Exception as error:  # the API is away for a while, and whatever else: the next look may come through
                log.warning("could not look: %s", error)
        self._pool.shutdown()

    def look(self) -> None:
        """Look once: begin to undo all that is overdue and not under way, and report unreadable receipts once."""
        found = [one for one, _ in receipts.look(self._cluster)]
        self.looked = time.monotonic()
        for one in found:
            if isinstance(one, UnreadableReceipt) and one.id not in self._told:
                self._told.add(one.id)
                log.error("%s", one)
        readable = [one for one in found if isinstance(one, Receipt)]
        due = plan_due(readable, now=time.time_ns(), grace=self._grace)
        for receipt in due:
            if receipt.id not in self._busy and self._not_before.get(receipt.id, 0.0) <= time.monotonic():
                self._busy.add(receipt.id)
                self._pool.submit(self._undo, receipt)

    def _undo(self, receipt: Receipt) -> None:
        late = (time.time_ns() - receipt.deadline) / 1e9
        log.info("%s on %s is overdue by %.1f s (run %s): undoing", receipt.fault, receipt.target, late, receipt.run)
        try:
            end(self._cluster, receipt, maybe_uninjected=True)
        except Exception as error:  # said, and tried again: there is nobody above who could do more
            log.error("%s on %s (receipt %s) is not undone: %s", receipt.fault, receipt.target, receipt.id, error)
            self._not_before[receipt.id] = time.monotonic() + AGAIN
        else:
            log.info("%s on %s: undone", receipt.fault, receipt.target)
            self._not_before.pop(receipt.id, None)
        finally:
            self._busy.discard(receipt.id)


def serve_health(watchdog: Watchdog, port: int) -> HTTPServer:
    """Serve /healthz for the kubelet: whether a look succeeded lately."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            alive = time.monotonic() - watchdog.looked < STALE
            self.send_response(200 if alive else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("0.0.0.0", port), Handler)  # within a pod's network namespace
    threading.Thread(target=server.serve_forever, daemon=True, name="health").start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chaos.faults.watchdog", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, default=None, help="default: the pod's own service account")
    parser.add_argument("--port", type=int, default=PORT_WATCHDOG)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    on_termination(stop.set)
    watchdog = Watchdog(Cluster(options.kubeconfig), name=os.environ.get("POD_NAME", "watchdog"))
    serve_health(watchdog, options.port)
    watchdog.run(stop)


if __name__ == "__main__":
    main()
