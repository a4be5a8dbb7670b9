"""Run the embedded cluster: `python -m chaos.embedded --dir RUNDIR --name NAME --nodes 2`.

Started by `provider.up`, which makes and locks the run directory and hands over the lock; it can be started by hand
too.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import socket
import sys
from pathlib import Path

from chaos.embedded.api.pki import write_private
from chaos.embedded.cluster_process import ClusterProcess, Options
from chaos.embedded.provider import end_without_trace
from chaos.errors import SharedfateError


def _options(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m chaos.embedded", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--dir", type=Path, required=True, help="run directory")
    parser.add_argument("--name", default="sharedfate", help="the cluster's name")
    parser.add_argument("--nodes", default="2", help="how many nodes, or their names with commas between")
    parser.add_argument("--runner-fd", type=int, help="socket of the process that wants this cluster")
    parser.add_argument("--lock-fd", type=int, help="the run directory's lock, held already")
    parser.add_argument("--keep", action="store_true", help="outlive the runner")
    chosen = parser.parse_args(arguments)
    names = (
        tuple(f"node-{n + 1}" for n in range(int(chosen.nodes)))
        if chosen.nodes.isdigit()
        else tuple(chosen.nodes.split(","))
    )
    if not names:
        parser.error("--nodes: want at least one")
    chosen.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if chosen.lock_fd is None:
        _lock(chosen.dir)
    else:
        os.set_inheritable(chosen.lock_fd, False)
    runner = socket.socket(fileno=chosen.runner_fd) if chosen.runner_fd is not None else None
    if runner is not None:
        runner.set_inheritable(False)
    write_private(chosen.dir / "pid", f"{os.getpid()}\n".encode())
    return Options(chosen.dir.resolve(), chosen.name, names, runner, chosen.keep)


def _lock(directory: Path) -> None:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"{directory}: a cluster already runs here: end it first, or choose another directory")


def main(arguments: list[str] | None = None) -> int:
    """Run a cluster until it is told to stop; 0 for a clean end."""
    options = _options(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    cluster = ClusterProcess(options)
    try:
        asyncio.run(cluster.run())
    except SharedfateError as error:
        logging.getLogger(__name__).error("%s", error)
        if options.runner is not None:
            options.runner.setblocking(True)
            options.runner.send(f"failed: {error}\n".encode()[:4000])
        return 4
    if cluster.orphaned:
        end_without_trace(options.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
