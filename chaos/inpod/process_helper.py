"""Runs inside a helper pod: signals one container's processes from the node's own PID namespace.

`python -m chaos.inpod.process_helper kill|crash-loop|pause|resume|look --uid POD --container ID …`, in a privileged
pod with hostPID on the target's node. From inside the container's own PID namespace SIGKILL and SIGSTOP to its first
process silently do nothing, so they must come from here. Prints one JSON line a phase: `{"phase": …, "at": ns, …}`;
exits 3 when the target is not there and 4 when nothing was seen to change. Standard library only: its start-up is
part of every fault's delay.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

VANISHED: Final = 3
NO_EFFECT: Final = 4
_EVERY: Final = 0.005  # seconds between two attempts to reach a successor
_PATIENCE: Final = 0.25  # seconds for one answer


def say(phase: str, **seen: Any) -> None:
    print(json.dumps({"phase": phase, "at": time.time_ns(), **seen}), flush=True)


def processes(uid: str, container_id: str, proc: Path = Path("/proc")) -> list[int]:
    """Return the PIDs of a container, its first process first: those whose cgroup names both the pod and the
    container.

    containerd, CRI-O and cri-dockerd write `…pod<UID>/<id>` or, under systemd,
    `…pod<UID with _>.slice/cri-…-<id>.scope`.
    """
    found = []
    spellings = (uid, uid.replace("-", "_"))
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            cgroups = (entry / "cgroup").read_text()
            status = (entry / "status").read_text()
        except OSError:
            continue  # it ended while we looked
        if container_id in cgroups and any(spelling in cgroups for spelling in spellings):
            inner = int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])
            found.append((inner, int(entry.name)))
    return [pid for _, pid in sorted(found)]


def state(pid: int) -> str:
    """Return the process's state letter, "" when it is gone or a zombie."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    return "" if letter in "ZX" else letter


def kill(pids: list[int], number: int, seconds: float) -> bool:
    """Signal the first process; return whether it was seen to end within `seconds`."""
    handle = os.pidfd_open(pids[0])
    try:
        signal.pidfd_send_signal(handle, number)
        at = time.time_ns()
        gone = bool(select.select([handle], [], [], seconds)[0])
        if gone:
            say("injected", effect=at, pid=pids[0], signal=number, gone_after_ms=(time.time_ns() - at) / 1e6)
        return gone
    finally:
        os.close(handle)


def enter_network(pid: int) -> None:
    """Move this process into the network namespace of another; it stays there when that process ends."""
    handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, 0):  # os.setns is there from Python 3.12 on
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), f"/proc/{pid}/ns/net")
    finally:
        os.close(handle)


def serves(port: int, path: str) -> bool:
    """Whether something on this network namespace's loop-back answers: HTTP below 400, or with no path a connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
            if not path:
                return True
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            status = connection.recv(64).split(b" ", 2)
    except OSError:
        return False
    return len(status) > 1 and status[1].isdigit() and 200 <= int(status[1]) < 400


def await_serving(endpoint: str, seconds: float) -> bool:
    """Watch `PORT[/path]` until it serves, and say when it did; whether that came in time."""
    port, slash, path = endpoint.partition("/")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if serves(int(port), slash + path):
            say("serving", effect=time.time_ns())
            return True
        time.sleep(_EVERY)  # a port that begins to listen gives nobody an event
    return False


def command_line(pid: int) -> bytes:
    """The process's arguments; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def crash_loop(uid: str, pids: list[int], number: int, seconds: float) -> int:
    """Kill a container's first process, and each successor as it starts, until SIGTERM or the deadline.

    A successor has another container id, which is not known here: it is the pod's process with the same arguments,
    first of its own PID namespace.
    """
    command, end, kills = command_line(pids[0]), time.monotonic() + seconds, 1
    if not kill(pids, number, 5.0):
        return NO_EFFECT
    while (left := end - time.monotonic()) > 0:
        if signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, min(left, 0.05)):
            break
        for pid in processes(uid, ""):
            if command_line(pid) == command and kill([pid], number, 2.0):
                kills += 1
    say("recovered", effect=time.time_ns(), kills=kills)
    return 0


def set_stopped(uid: str, container_id: str, stopped: bool, seconds: float = 2.0) -> list[int]:
    """Stop or continue every process of a container; return the PIDs once all are seen so, else an empty list."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pids = processes(uid, container_id)
        wrong = [pid for pid in pids if (state(pid) == "T") is not stopped and state(pid)]
        if pids and not wrong:
            return pids
        for pid in wrong:
            os.kill(pid, signal.SIGSTOP if stopped else signal.SIGCONT)
        time.sleep(
            0.002
        )  # a stop signal is delivered at the process's next return to user mode: there is no event for it
    return []


def hold(seconds: float) -> str:
    """Wait for SIGTERM or the deadline; return which it was."""
    received = signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, seconds)
    return "told" if received else "deadline"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chaos.inpod.process_helper")
    parser.add_argument("action", choices=["kill", "crash-loop", "pause", "resume", "look"])
    parser.add_argument("--uid", required=True)
    parser.add_argument("--container", required=True)
    parser.add_argument("--signal", type=int, default=int(signal.SIGKILL))
    parser.add_argument("--for", dest="seconds", type=float, default=10.0)
    parser.add_argument(
        "--serving", default="", help="PORT[/path] by which the killed container's successor shows that it serves"
    )
    options = parser.parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    pids = processes(options.uid, options.container)
    if not pids:
        say("vanished")
        return VANISHED
    if options.action == "look":
        say("present", pids=pids, states=[state(pid) for pid in pids])
        return 0
    if options.action == "crash-loop":
        return crash_loop(options.uid, pids, options.signal, options.seconds)
    if options.action == "kill":
        if options.serving:
            enter_network(pids[0])
        if not kill(pids, options.signal, options.seconds):
            return NO_EFFECT
        if options.serving:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
            await_serving(options.serving, options.seconds)
        return 0
    stopped = options.action == "pause"
    at = time.time_ns()
    held = set_stopped(options.uid, options.container, stopped)
    if not held:
        set_stopped(options.uid, options.container, False)
        return NO_EFFECT
    say("injected" if stopped else "recovered", effect=at, pids=held, state="T" if stopped else state(held[0]))
    if stopped:
        why = hold(options.seconds)
        continued = set_stopped(options.uid, options.container, False)
        say("recovered", effect=time.time_ns(), why=why, pids=continued)
    return 0


if __name__ == "__main__":
    sys.exit(main())
