"""A client that still calls while it shuts down: `python -m chaos.apps.closing` makes requests until SIGTERM and for
some seconds after it, then ends with 0.

Many applications do so: they flush what they hold, hand over a lease, say good-bye. It knows nothing of a mesh. It
prints `answered` when a first request was, from which on it counts, and at its end one line of JSON, which it leaves in
the file `REPORT` too (default: where Kubernetes reads a termination message). Environment: `TARGET`
(http://host[:port][/path]), `INTERVAL` (seconds between requests, 0.05), `TIMEOUT` (seconds of each, 1), `LAST`
(seconds of calls after the signal, 3).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, field

from chaos.apps.job import fetch
from chaos.interrupts import on_termination

TERMINATION_LOG = "/dev/termination-log"


@dataclass(slots=True)
class Calls:
    """What became of the requests of one phase."""

    ok: int = 0
    failed: int = 0
    first_failed: float | None = None  # seconds after the phase began
    last_ok: float | None = None
    errors: dict[str, int] = field(default_factory=dict)

    def count(self, result: str, begun: float) -> None:
        """Count one request that began so many seconds after the phase did."""
        if result == "ok":
            self.ok += 1
            self.last_ok = begun
            return
        self.failed += 1
        self.first_failed = begun if self.first_failed is None else self.first_failed
        self.errors[result] = self.errors.get(result, 0) + 1


def call(target: str, calls: Calls, *, interval: float, timeout: float, until: threading.Event, seconds: float) -> None:
    """Make requests, each on a connection of its own, until told or for so many seconds."""
    began = time.monotonic()
    while (begun := time.monotonic() - began) < seconds and not until.is_set():
        calls.count(fetch(target, timeout), begun)
        until.wait(interval)


def main() -> None:
    """Raises SystemExit for an environment without TARGET."""
    env = os.environ
    if "TARGET" not in env:
        raise SystemExit("closing: the environment lacks TARGET")
    told = threading.Event()
    on_termination(told.set)
    pace = {"interval": float(env.get("INTERVAL", "0.05")), "timeout": float(env.get("TIMEOUT", "1"))}
    before, after = Calls(), Calls()
    while not told.is_set() and fetch(env["TARGET"], pace["timeout"]) != "ok":  # its proxy may still start
        told.wait(pace["interval"])
    print("answered", flush=True)
    call(env["TARGET"], before, **pace, until=told, seconds=float("inf"))
    call(env["TARGET"], after, **pace, until=threading.Event(), seconds=float(env.get("LAST", "3")))
    line = json.dumps({"before": asdict(before), "after": asdict(after)})
    print(line, flush=True)
    try:
        with open(env.get("REPORT", TERMINATION_LOG), "w", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        print(f"closing: no report is left: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
