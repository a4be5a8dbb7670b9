"""Runs on a node: finds the processes that hold sockets of a network namespace, and the node's links.

`python -m chaos.inpod.socket_holders POD_UID` prints `{"cookie", "links"}` of a pod that lives; with `--cookie N`
instead, `{"holders", "links"}`: the processes that still hold a socket of that namespace, whoever lives in it or
nobody. A pooled connection that is merely idle keeps the namespace of a pod that went, and its link. In a privileged
pod with hostPID.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
from pathlib import Path
from typing import Final

from chaos.inpod.process_helper import processes
from chaos.inpod.sniffer import enter

_PIDFD_GETFD: Final = 438
_COOKIE: Final = 71  # SO_NETNS_COOKIE, Linux 5.14
_libc = ctypes.CDLL(None, use_errno=True)


def cookie_of(sock: socket.socket) -> int:
    """The number of the network namespace that the socket belongs to, never used twice while the kernel runs."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _COOKIE, 8), "little")


def holders(cookie: int, proc: Path = Path("/proc")) -> list[int]:
    """PIDs that hold a socket of that namespace."""
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            process = os.pidfd_open(int(entry.name))
        except OSError:
            continue
        try:
            if any(
                _cookie_at(process, int(handle.name)) == cookie
                for handle in (entry / "fd").iterdir()
                if _is_socket(handle)
            ):
                found.append(int(entry.name))
        except OSError:
            continue  # it ended while we looked
        finally:
            os.close(process)
    return found


def _is_socket(handle: Path) -> bool:
    try:
        return os.readlink(handle).startswith("socket:")
    except OSError:
        return False


def _cookie_at(process: int, number: int) -> int:
    copy = _libc.syscall(_PIDFD_GETFD, process, number, 0)
    if copy < 0:
        return -1
    with socket.socket(fileno=copy) as sock:
        try:
            return cookie_of(sock)
        except OSError:
            return -1


def links() -> list[str]:
    """Names of the node's own network links."""
    return sorted(name for _, name in socket.if_nameindex())


def main() -> None:
    parser = argparse.ArgumentParser(prog="chaos.inpod.socket_holders")
    parser.add_argument("uid", nargs="?", default="")
    parser.add_argument("--cookie", type=int, default=0)
    options = parser.parse_args()
    found: dict[str, object] = {}
    if options.cookie:
        found["holders"] = holders(options.cookie)
    if options.uid:
        enter(f"/proc/{processes(options.uid, '')[0]}/ns/net")
        with socket.socket() as sock:
            found["cookie"] = cookie_of(sock)
    enter("/proc/1/ns/net")
    print(json.dumps({**found, "links": links()}))


if __name__ == "__main__":
    main()
