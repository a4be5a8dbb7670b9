"""Network namespaces from within one process: a thread enters one, opens a socket, and leaves.

A socket stays in the namespace that it was opened in, so a stay of microseconds suffices, no helper process per
namespace is needed, and the event loop can use the socket afterwards. Longer work (running `nft`, writing sysctls) goes
to one dedicated thread, `NamespaceThread`. Namespaces here are anonymous: held by descriptors and processes, never by a
name under /run/netns that could outlive them.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000
_OWN: Final = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: int) -> None:
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class Namespace:
    """A network namespace, held open by a descriptor until `close`."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def create(cls) -> Namespace:
        """Make an empty, anonymous namespace. It ends with its last holder."""
        made: list[int] = []
        failed: list[OSError] = []

        def unshare() -> None:  # on a thread of its own, which ends there: nothing has to find its way back
            try:
                _call("unshare", _CLONE_NEWNET)
                made.append(os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=unshare, name="netns-create")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return cls(made[0])

    @classmethod
    def open(cls, path: str | Path) -> Namespace:
        """Open the namespace at a path such as /proc/PID/ns/net."""
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    @property
    def fd(self) -> int:
        if self._fd < 0:
            raise ValueError("the network namespace is closed")
        return self._fd

    @property
    def inode(self) -> int:
        """The namespace's inode, as `readlink /proc/PID/ns/net` shows it."""
        return os.fstat(self.fd).st_ino

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Move the calling thread into the namespace for the block. Never await inside: the whole thread moves."""
        own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("setns", self.fd, _CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", own, _CLONE_NEWNET)
        finally:
            os.close(own)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0) -> socket.socket:
        """Open a socket of this namespace, usable from any thread; takes about ten microseconds."""
        with self.inside():
            return socket.socket(family, kind, proto)

    def close(self) -> None:
        """Close the namespace's descriptor. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_sysctls(settings: dict[str, str]) -> None:
    """Set sysctls below /proc/sys/net (`ipv4/ip_forward`) of the calling thread's namespace."""
    for name, value in settings.items():
        Path("/proc/sys/net", name).write_text(value)


class NamespaceThread:
    """One thread for work that stays in a namespace longer than a moment, in order of submission."""

    def __init__(self, name: str = "netns") -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, namespace: Namespace | None, work: Callable[[], T]) -> T:
        """Run `work()` on the thread, inside `namespace` (None: the process's own). Subprocesses started there stay."""

        def task() -> T:
            if namespace is None:
                return work()
            with namespace.inside():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._executor, task)

    def close(self) -> None:
        """Finish the submitted work and end the thread."""
        self._executor.shutdown(wait=True)
