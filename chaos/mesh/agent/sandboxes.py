"""Finds pods' network namespaces through /proc alone: /proc/*/cgroup names the pod, /proc/*/ns/net the namespace.

Cgroup paths hold the pod's UID in every layout: `…/pod<uid>/…` (cgroupfs, embedded), `…-pod<uid with _>.slice/…`
(systemd; containerd and CRI-O), in version 1 and 2, also seen from within a cgroup namespace (`/../../pod<uid>/…`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_POD: Final = re.compile(
    r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})(?:\.slice)?(?:/|$)"
)
_LISTEN: Final = "0A"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod's network namespace, through the oldest process in it (its pause process, where there is one)."""

    uid: str
    pid: int
    inode: int

    @property
    def name(self) -> str:
        """Unique for each sandbox: a pod's new sandbox gets another name."""
        return f"{self.uid}-{self.inode}"


def detect_pod(cgroup: str) -> str | None:
    """Return the pod's UID in the text of /proc/<pid>/cgroup."""
    for line in cgroup.splitlines():
        if found := _POD.search(line.split(":", 2)[-1]):
            return found[1].replace("_", "-")
    return None


def _started(proc: Path, pid: int) -> int:
    return int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])


def find_sandboxes(proc: Path = Path("/proc")) -> dict[str, Sandbox]:
    """Map pod UIDs to sandboxes, for every pod with a live process. Pods in the node's own namespace are left out."""
    own = os.stat(proc / "1" / "ns" / "net").st_ino
    oldest: dict[str, tuple[int, Sandbox]] = {}
    for entry in os.listdir(proc):
        if not entry.isdigit():
            continue
        pid = int(entry)
        try:
            uid = detect_pod((proc / entry / "cgroup").read_text())
            if uid is None:
                continue
            inode = os.stat(proc / entry / "ns" / "net").st_ino
            started = _started(proc, pid)
        except OSError:
            continue  # gone meanwhile
        if inode != own and (uid not in oldest or (started, pid) < (oldest[uid][0], oldest[uid][1].pid)):
            oldest[uid] = (started, Sandbox(uid, pid, inode))
    return {uid: sandbox for uid, (_, sandbox) in oldest.items()}


def listening_ports(pid: int, proc: Path = Path("/proc")) -> set[int]:
    """Return the TCP ports with a listener in the process's network namespace."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / str(pid) / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def link(folder: Path, sandbox: Sandbox, proc: Path = Path("/proc")) -> None:
    """Make or renew the sandbox's link to its namespace; atomically, because Envoy reads it."""
    path = folder / sandbox.name
    target = str(proc / str(sandbox.pid) / "ns" / "net")
    if path.is_symlink() and os.readlink(path) == target:
        return
    fresh = folder / f".{sandbox.name}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)


def prune(folder: Path, keep: set[str]) -> list[str]:
    """Remove the links of sandboxes that are gone; return their names."""
    gone = [path.name for path in folder.iterdir() if path.is_symlink() and path.name not in keep]
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    return gone
