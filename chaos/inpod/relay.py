"""Runs in a pod, by exec: connects standard input and output to a port of the pod's own loopback.

`python -m chaos.inpod.relay PORT`. For clusters where neither the API server nor a port-forward reaches the port. Ends
when either side does; with exit code 1 and the reason on standard error when the port does not answer.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

_PIECE = 65_536


def relay(port: int, *, source: int = 0, sink: int = 1) -> str:
    """Pass bytes both ways until one side ends; return why there was no connection, else ""."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    except OSError as error:
        return f"port {port} of this pod: {error}"
    connection.settimeout(None)
    threading.Thread(target=_give, args=(source, connection), daemon=True).start()
    while data := connection.recv(_PIECE):
        view = memoryview(data)
        while view:
            view = view[os.write(sink, view) :]
    return ""


def _give(source: int, connection: socket.socket) -> None:
    while data := os.read(source, _PIECE):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_RDWR)  # whoever asked has gone: the other direction ends too


if __name__ == "__main__":
    sys.exit(relay(int(sys.argv[1])) or 0)
