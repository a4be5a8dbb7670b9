"""A node: its own network, mounts, processes and control groups; in it whatever programs it is given, kept running.

`python -m proof.kubernetes.node`, with its plan as a line of JSON on stdin; a second line, once its network is wired,
starts the programs. It ends with whoever started it, and the kernel ends all that is in it. What it sees of the
machine is what a node of the embedded cluster sees (`chaos.embedded.kubelet.nodeinit`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from chaos.embedded.kubelet import nodeinit

# What a kubelet sets of its machine, or refuses to start: files in their place, and the machine's own stay untouched.
TUNABLES: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RESTART_SECONDS: Final = 2.0


def become(plan: dict[str, Any]) -> None:
    """Returns in the node's first process alone; each end takes the other along."""
    nodeinit.call("prctl", nodeinit.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for directory in plan["controllers"].values():
        os.makedirs(directory, exist_ok=True)
        _populate(directory)
        nodeinit.write(f"{directory}/cgroup.procs", "0")
    nodeinit.call(
        "unshare",
        nodeinit.CLONE_NEWNS
        | nodeinit.CLONE_NEWCGROUP
        | nodeinit.CLONE_NEWUTS
        | nodeinit.CLONE_NEWIPC
        | nodeinit.CLONE_NEWPID
        | nodeinit.CLONE_NEWNET,
    )
    print("apart", flush=True)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    nodeinit.call("prctl", nodeinit.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
    socket.sethostname(plan["name"])
    nodeinit.make_root(plan)
    if "" in plan["controllers"]:  # version 2: a cgroup with children holds no process of its own
        os.mkdir("/sys/fs/cgroup/init")
        nodeinit.write("/sys/fs/cgroup/init/cgroup.procs", "0")
    _settle_kernel_files()


def _populate(directory: str) -> None:
    """A cpuset of version 1 takes no process before it has processors and memory, of those that its parent has."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        own = Path(directory, name)
        if own.exists() and not own.read_text().strip():
            _populate(os.path.dirname(directory))
            own.write_text((own.parent.parent / name).read_text())


def _settle_kernel_files() -> None:
    """The network's settings are the node's own to write; those of the machine are not, and look as they should."""
    bind, again = nodeinit.MS_BIND, nodeinit.MS_BIND | nodeinit.MS_REMOUNT
    safe = nodeinit.MS_NOSUID | nodeinit.MS_NODEV | nodeinit.MS_NOEXEC
    nodeinit.mount("/proc/sys/net", "/proc/sys/net", "", bind)
    nodeinit.mount("", "/proc/sys/net", "", again | safe)
    os.mknod("/dev/kmsg", stat.S_IFCHR | 0o600, os.makedev(1, 11))  # a kubelet reads there of containers out of memory
    os.makedirs("/run/tunables", exist_ok=True)
    for name, value in TUNABLES.items():
        own = f"/run/tunables/{name.replace('/', '-')}"
        nodeinit.write(own, value + "\n")
        nodeinit.mount(own, f"/proc/sys/{name}", "", bind)


def keep_running(programs: list[dict[str, Any]]) -> None:
    """Start the programs in their order, and each again when it ends. Reaps; never returns."""
    running: dict[int, dict[str, Any]] = {}
    due = [(0.0, one) for one in programs]
    while True:
        now = time.monotonic()
        for at, one in [entry for entry in due if entry[0] <= now]:
            due.remove((at, one))
            running[_start(one)] = one
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if pid in running:
                    due.append((time.monotonic() + RESTART_SECONDS, running.pop(pid)))
        time.sleep(0.1)


def _start(program: dict[str, Any]) -> int:
    with open(program["log"], "ab") as log:
        process = subprocess.Popen(
            program["arguments"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": f"{program['path']}:{PATH}", "HOME": "/root"},
            start_new_session=True,
        )
    return process.pid


def main() -> None:
    plan = json.loads(sys.stdin.readline())
    become(plan)
    if not sys.stdin.readline():
        return
    keep_running(plan["daemons"])


if __name__ == "__main__":
    main()
