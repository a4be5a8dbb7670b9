"""Finds a node's network namespaces in /proc, and which of them a process serves.

A node's proxy opens its listeners inside the namespaces of the pods that it serves: where it is at home says nothing
about where its packets are. So its listening sockets are looked up in every namespace of the node. Standard library
only.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_CLONE_NEWNET: Final = 0x40000000
_LISTEN: Final = "0A"
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(handle: int) -> None:
    if _libc.setns(handle, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextmanager
def inside(handle: int) -> Iterator[None]:
    """Move this (single-threaded) process into the namespace of the open descriptor, and back."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(handle)
        try:
            yield
        finally:
            _setns(own)
    finally:
        os.close(own)


def namespaces(proc: Path = Path("/proc")) -> dict[int, int]:
    """Inode of every network namespace that some process is in -> one such process."""
    found: dict[int, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                found.setdefault((entry / "ns" / "net").stat().st_ino, int(entry.name))
            except OSError:
                continue  # it ended while we looked
    return found


def opened(pid: int, proc: Path = Path("/proc")) -> int:
    """Open the process's network namespace; FileNotFoundError when it ended."""
    return os.open(proc / str(pid) / "ns" / "net", os.O_RDONLY | os.O_CLOEXEC)


def sockets(pids: Iterable[int], proc: Path = Path("/proc")) -> frozenset[int]:
    """Inodes of the sockets that the processes hold."""
    held = set()
    for pid in pids:
        try:
            handles = list((proc / str(pid) / "fd").iterdir())
        except OSError:
            continue
        for handle in handles:
            try:
                name = os.readlink(handle)
            except OSError:
                continue
            if name.startswith("socket:["):
                held.add(int(name[8:-1]))
    return frozenset(held)


def listening(table: str, held: frozenset[int]) -> frozenset[int]:
    """Ports of the listening sockets in the text of /proc/PID/net/tcp (or tcp6) that are among those held."""
    rows = (line.split() for line in table.splitlines()[1:])
    return frozenset(int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN and int(row[9]) in held)


def served(pids: Iterable[int], proc: Path = Path("/proc")) -> dict[int, frozenset[int]]:
    """Return the namespaces in which the processes listen: one process in each -> the ports."""
    held, found = sockets(pids, proc), {}
    for member in namespaces(proc).values():
        ports: frozenset[int] = frozenset()
        for name in ("tcp", "tcp6"):
            try:
                ports |= listening((proc / str(member) / "net" / name).read_text(), held)
            except OSError:
                continue
        if ports:
            found[member] = ports
    return found
