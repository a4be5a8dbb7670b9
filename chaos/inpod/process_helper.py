"""Runs inside a helper pod: acts on one container's processes from the node's own PID namespace.

`python -m chaos.inpod.process_helper ACTION --uid POD --container ID …` (kill, crash-loop, pause, resume, fill-files,
free-files, look), in a privileged pod with hostPID on the target's node. From inside the container's own PID namespace
SIGKILL and SIGSTOP to its first process silently do nothing, so they must come from here. Prints one JSON line a phase:
`{"phase": …, "at": ns, …}`; exits 3 when the target is not there and 4 when nothing was seen to change. Standard
library only: its start-up is part of every fault's delay.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
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
_EVERY_CLOSED: Final = 0.05  # seconds between two looks at what a process has closed: the kernel tells nobody
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


def file_limits(pid: int) -> tuple[int, int]:
    """Return a process's soft and hard limit of open files, as everybody may read them."""
    line = next(one for one in Path(f"/proc/{pid}/limits").read_text().splitlines() if one.startswith("Max open files"))
    soft, hard = line.split()[3:5]
    return int(soft), int(hard)


def files_of(pid: int) -> dict[str, int]:
    """Return how many descriptors a process has open, its limit, and how many it could still open; empty when it is
    gone.
    """
    try:
        taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        limit, _ = file_limits(pid)
    except OSError:
        return {}
    return {"open": len(taken), "limit": limit, "spare": limit - sum(number < limit for number in taken)}


def set_file_limit(pid: int, soft: int, hard: int) -> None:
    """Set a process's limit of open files. Where root itself may not (a machine that withholds CAP_SYS_RESOURCE), the
    process's own user may.
    """
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    except PermissionError:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        user, group = (
            int(next(line for line in status if line.startswith(word)).split()[1]) for word in ("Uid:", "Gid:")
        )
        child = os.fork()
        if not child:
            try:
                os.setgroups([])
                os.setresgid(group, group, group)
                os.setresuid(user, user, user)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitpid(child, 0)[1]:
            raise


def fill_files(pids: list[int], before: dict[int, int]) -> None:
    """Cut each process's limit of open files to the first descriptor that it has free; keep the limits before."""
    for pid in pids:
        try:
            taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
            first = next(number for number in range(len(taken) + 1) if number not in taken)
            soft, hard = file_limits(pid)
            before.setdefault(pid, soft)
            if first < soft:
                set_file_limit(pid, first, hard)
        except OSError:
            continue  # it ended while we looked


def free_files(pids: list[int], before: dict[int, int]) -> dict[int, int]:
    """Set each process's limit of open files again; return the limits that it has then.

    Args:
        before: the limits by process. One that is not known, of a process that was begun meanwhile, gets the largest of
            these; where none is known, as much as it may have.
    """
    found = {}
    for pid in pids:
        try:
            _, hard = file_limits(pid)
            soft = before.get(pid, max(before.values(), default=hard))
            set_file_limit(pid, soft, hard)
            found[pid] = file_limits(pid)[0]
        except OSError:
            continue
    return found


def hold_files(pids: list[int], seconds: float) -> int:
    """Keep a container from opening any file until SIGTERM or the deadline. A descriptor that it closes is taken from
    it within _EVERY_CLOSED.
    """
    at, end = time.time_ns(), time.monotonic() + seconds
    before: dict[int, int] = {}
    told = False
    try:
        while (left := end - time.monotonic()) > 0:
            fill_files(pids, before)
            seen = [files_of(pid) for pid in before]
            if not told and seen and all(one.get("spare", 0) == 0 for one in seen):
                say("injected", effect=at, limits=before, files=seen)
                told = True
            if not told and time.time_ns() - at > 2e9:
                return NO_EFFECT
            if signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, min(left, _EVERY_CLOSED)):
                break
    finally:
        free_files(list(before), before)
    say("recovered", effect=time.time_ns())
    return 0


def hold(seconds: float) -> str:
    """Wait for SIGTERM or the deadline; return which it was."""
    received = signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, seconds)
    return "told" if received else "deadline"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chaos.inpod.process_helper")
    parser.add_argument("action", choices=["kill", "crash-loop", "pause", "resume", "fill-files", "free-files", "look"])
    parser.add_argument("--uid", required=True)
    parser.add_argument("--container", required=True)
    parser.add_argument("--signal", type=int, default=int(signal.SIGKILL))
    parser.add_argument("--for", dest="seconds", type=float, default=10.0)
    parser.add_argument(
        "--serving", default="", help="PORT[/path] by which the killed container's successor shows that it serves"
    )
    parser.add_argument("--limits", type=json.loads, default={}, help="of open files, by process: as they were")
    options = parser.parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    pids = processes(options.uid, options.container)
    if not pids:
        say("vanished")
        return VANISHED
    if options.action == "look":
        say("present", pids=pids, states=[state(pid) for pid in pids], files=[files_of(pid) for pid in pids])
        return 0
    if options.action == "fill-files":
        return hold_files(pids, options.seconds)
    if options.action == "free-files":
        now = free_files(pids, {int(pid): soft for pid, soft in options.limits.items()})
        say("recovered", effect=time.time_ns(), limits=now)
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
