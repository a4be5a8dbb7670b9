"""Writes every frame of every interface of the network namespace that it runs in to a file, until SIGTERM.

`python sniff.py FILE`; says `listening` on standard output once no frame can be missed. Standard library alone: a test
that needs a packet sniffer of the machine's would be a test that not every machine runs.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

EVERY_PROTOCOL = 0x0003  # ETH_P_ALL


def main() -> None:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    packets.settimeout(0.05)
    with Path(sys.argv[1]).open("wb", buffering=0) as file:
        print("listening", flush=True)
        while not stopped:
            try:
                file.write(packets.recv(65536))
            except TimeoutError:
                continue


if __name__ == "__main__":
    main()
