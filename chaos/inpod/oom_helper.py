"""Runs inside a helper pod to fill a container's memory: `python -m chaos.inpod.oom_helper out-of-memory …`.

A child joins the container's cgroup and takes memory until the container's first process dies; then, or when it has
taken more than the limit, it is gone at once. The kernel kills whom it scores worst: the container's first process is
given the worst score, and the child, where we may (CAP_SYS_RESOURCE), the best. Works with both versions of cgroups,
whatever part of the tree is seen here. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from chaos.inpod.cgroups import find_directory
from chaos.inpod.process_helper import NO_EFFECT, VANISHED, await_serving, enter_network, processes, say

LIMITS: Final = {1: "memory.limit_in_bytes", 2: "memory.max"}  # by version of cgroups
COUNTS: Final = {1: "memory.oom_control", 2: "memory.events"}  # both have a line `oom_kill N`
_STEP: Final = 1 << 20
_PATIENCE: Final = 15.0  # seconds of filling at most
_BEYOND: Final = 64 << 20  # above the limit: what the kernel can reclaim first
_NEVER, _FIRST = "-1000", "1000"  # oom_score_adj


def fill(directory: Path, target: int, most: int) -> NoReturn:
    """The child: join, and take memory until the target is gone or `most` bytes are taken.

    The memory is a file's: it counts for the cgroup, and not for this process when the kernel looks for the largest.
    """
    for score in (_NEVER, "0"):
        with contextlib.suppress(PermissionError):
            Path("/proc/self/oom_score_adj").write_text(score)
            break
    (directory / "cgroup.procs").write_text(str(os.getpid()))
    file, step, end = os.memfd_create("filler"), bytes(_STEP), time.monotonic() + _PATIENCE
    while time.monotonic() < end and not select.select([target], [], [], 0)[0]:
        if os.fstat(file).st_size >= most:
            break
        with contextlib.suppress(OSError):  # full: somebody is being killed
            os.write(file, step)
    os._exit(0 if select.select([target], [], [], 2.0)[0] else NO_EFFECT)


def read_oom_kills(file: int) -> int | None:
    """How many processes of a control group the kernel has killed for want of memory, from an open `COUNTS` file; None
    when the group is gone.
    """
    try:
        lines = os.pread(file, 4096, 0).decode().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chaos.inpod.oom_helper")
    parser.add_argument("action", choices=["out-of-memory"])
    parser.add_argument("--uid", required=True)
    parser.add_argument("--container", required=True)
    parser.add_argument("--most", type=int, required=True, help="MiB")
    parser.add_argument("--serving", default="", help="PORT[/path] by which the successor shows that it serves")
    parser.add_argument("--for", dest="seconds", type=float, default=90.0, help="longest watch for that")
    options = parser.parse_args(arguments)
    pids = processes(options.uid, options.container)
    if not pids:
        say("vanished")
        return VANISHED
    directory, version = find_directory(Path(f"/proc/{pids[0]}/cgroup").read_text(), "memory")
    text = (directory / LIMITS[version]).read_text().strip()
    if text == "max" or int(text) > options.most << 20:
        say("refused", why=f"its limit is {text} bytes, more than {options.most} MiB")
        return NO_EFFECT
    handle = os.pidfd_open(pids[0])
    score = Path(f"/proc/{pids[0]}/oom_score_adj")
    counts = os.open(directory / COUNTS[version], os.O_RDONLY)
    usual, before, begin = score.read_text(), read_oom_kills(counts), time.time_ns()
    score.write_text(_FIRST)
    child = os.fork()
    if child == 0:
        fill(directory, handle, int(text) + _BEYOND)
    if options.serving:
        enter_network(pids[0])
    gone, at, after = bool(select.select([handle], [], [], 20.0)[0]), time.time_ns(), read_oom_kills(counts)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not gone:
        score.write_text(usual)
        say("alive", why=f"its memory is full and it was not killed; the filler ended with {status}")
        return NO_EFFECT
    kills = None if before is None or after is None else after - before
    say("injected", effect=at, pid=pids[0], limit=int(text), gone_after_ms=(at - begin) / 1e6, oom_kills=kills)
    if options.serving:
        await_serving(options.serving, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
