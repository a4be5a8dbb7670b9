"""Runs on a node: reads every TCP packet that crosses the node's network, and reports who sent what in which
form.

`python -m chaos.inpod.sniffer NAME MARKER SECONDS`, in a privileged pod with hostPID: enters the network
namespace of the node's first process, makes /tmp/NAME.on once it listens, and ends when /tmp/NAME.off is there or the
time is over. Prints one JSON object for each direction of each connection. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_CLONE_NEWNET: Final = 0x40000000
_ALL: Final = 3  # ETH_P_ALL
_BUFFER: Final = 64 << 20


@dataclass(slots=True)
class Heard:
    """One direction of one connection."""

    source: str
    source_port: int
    target: str
    target_port: int
    packets: int = 0  # with a payload
    bytes: int = 0
    records: int = 0  # payloads that begin with the header of a TLS record
    marked: int = 0  # payloads in which the marker can be read


def is_record(payload: bytes) -> bool:
    """Whether it begins with the header of a TLS record (RFC 8446, 5.1): type, version 3.x, length."""
    return (
        len(payload) >= 5
        and 20 <= payload[0] <= 23
        and payload[1] == 3
        and payload[2] <= 4
        and 0 < int.from_bytes(payload[3:5], "big") <= 16_640
    )


def take(packet: bytes, marker: bytes, heard: dict[tuple[str, int, str, int], Heard]) -> None:
    """Count one IPv4 packet; ignore others, and those without a payload."""
    if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != 6:
        return
    head = (packet[0] & 15) * 4
    data = packet[head + (packet[head + 12] >> 4) * 4 : int.from_bytes(packet[2:4], "big") or len(packet)]
    if not data:
        return
    key = (
        socket.inet_ntoa(packet[12:16]),
        int.from_bytes(packet[head : head + 2], "big"),
        socket.inet_ntoa(packet[16:20]),
        int.from_bytes(packet[head + 2 : head + 4], "big"),
    )
    one = heard.get(key)
    if one is None:
        one = heard[key] = Heard(*key)
    one.packets += 1
    one.bytes += len(data)
    one.records += is_record(data)
    one.marked += marker in data


def enter(path: str) -> None:
    """Enter a network namespace, permanently."""
    handle = os.open(path, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns {path}")
    os.close(handle)


def listen(name: str, marker: bytes, seconds: float, folder: Path = Path("/tmp")) -> list[Heard]:
    """Read until told to stop or the time is over. Raises OSError when packets were lost: a lost packet may have been
    the one that matters.
    """
    heard: dict[tuple[str, int, str, int], Heard] = {}
    off = folder / f"{name}.off"
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE
        wire.setblocking(False)
        (folder / f"{name}.on").touch()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not select.select([wire], [], [], 0.05)[0]:
                if off.exists():
                    break
                continue
            for _ in range(1000):
                try:
                    take(wire.recv(65_536), marker, heard)
                except BlockingIOError:
                    break
        lost = int.from_bytes(wire.getsockopt(263, 6, 8)[4:8], sys.byteorder)  # SOL_PACKET, PACKET_STATISTICS
    (folder / f"{name}.on").unlink()
    if lost:
        raise OSError(f"{lost} packets were lost")
    return list(heard.values())


def main() -> int:
    name, marker, seconds = sys.argv[1], sys.argv[2].encode(), float(sys.argv[3])
    if len(sys.argv) < 5:
        enter("/proc/1/ns/net")  # the node's own, by way of hostPID
    print(json.dumps([asdict(one) for one in listen(name, marker, seconds)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
