"""What a machine holds of a cluster or of a process: by the cluster's name and by descent, so that what others run
beside it is never counted.

Orphans come to the process that looks (`orphans_come_here` makes it their subreaper), so that no survivor can hide.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chaos.embedded import provider
from chaos.embedded.kubelet import cgroups
from chaos.embedded.network.netns import Namespace

SET_CHILD_SUBREAPER: Final = 36
GONE_SECONDS: Final = 60.0
_FOLDERS: Final = ("/run", "/tmp", "/var/lib", "/var/tmp", "/dev/shm", "/run/sharedfate", "/run/netns", "/run/runc")


@contextlib.contextmanager
def orphans_come_here() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def parents() -> dict[int, int]:
    """Of every process, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def descendants(pid: int) -> set[int]:
    above = parents()
    found: set[int] = set()
    more = {pid}
    while more := {child for child, parent in above.items() if parent in more} - found:
        found |= more
    return found


def survivors(before: set[int]) -> set[int]:
    """What is below this process and was not before; dead orphans are buried."""
    for pid in descendants(os.getpid()) - before:
        with contextlib.suppress(ChildProcessError):  # not ours, but further down
            os.waitpid(pid, os.WNOHANG)
    return descendants(os.getpid()) - before


def wait_for_survivors(before: set[int], seconds: float = GONE_SECONDS) -> list[str]:
    """Wait until all that is new below this process has ended; what has not after that time, a line each."""
    end = time.monotonic() + seconds
    while (left := survivors(before)) and time.monotonic() < end:
        time.sleep(0.02)
    return [f"process {words(pid)}" for pid in sorted(left)]


def is_dead(pid: int) -> bool:
    """Ended, and not yet buried by its parent."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def words(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().decode()[:200]!r}"
    return str(pid)


def leftovers(name: str) -> list[str]:
    """What a machine still holds of a cluster, but for its run directory."""
    found = [
        f"cgroup {path}"
        for root in set(cgroups.controllers().values())
        for path in [Path(root + cgroups.ROOT, name)]
        if path.exists()
    ]
    found += [f"mount {path}" for path in provider._mounts(provider.RUN / name)]
    for folder in _FOLDERS:
        with contextlib.suppress(OSError):
            found += [str(path) for path in Path(folder).iterdir() if name in path.name and path != provider.RUN / name]
    return found


def host_mentions(name: str) -> list[str]:
    """Links, rules and named network namespaces of the machine itself that carry a cluster's name."""
    commands = (["ip", "-j", "link"], ["nft", "list", "ruleset"], ["ip", "netns", "list"])
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
    return [" ".join(command) for command, text in zip(commands, said, strict=True) if name in text]


def cookie(namespace: Namespace) -> int:
    """The namespace's identity for the machine's lifetime; its inode number is soon another's."""
    with namespace.socket() as inside:
        return int.from_bytes(inside.getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder)  # SO_NETNS_COOKIE


def held_namespaces(of: set[int] | None = None) -> set[int]:
    """Cookies of the network namespaces that any process, or one `of` these, is in or holds open."""
    found: dict[int, str] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")) if of is None else of:
        with contextlib.suppress(OSError):
            for path in (f"/proc/{pid}/ns/net", *(f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd"))):
                with contextlib.suppress(OSError):
                    if os.readlink(path).startswith("net:["):
                        found[os.stat(path).st_ino] = path
    held = set()
    for path in found.values():
        with contextlib.suppress(OSError), Namespace.open(path) as namespace:
            held.add(cookie(namespace))
    return held


def cookies_below(name: str) -> set[int]:
    """The network namespaces that the cluster of that name holds now."""
    pid = provider._pid(provider.RUN / name)
    return held_namespaces({pid, *descendants(pid)}) - held_namespaces({os.getpid()}) if pid else set()


def everything_left(name: str, *, before: set[int], spaces: set[int]) -> list[str]:
    """All that is left of a cluster that should have ended: processes, namespaces, cgroups, mounts, files, rules."""
    left = wait_for_survivors(before)
    left += leftovers(name)
    left += [f"network namespace {one}" for one in sorted(spaces & held_namespaces())]
    left += host_mentions(name)
    return left
