"""Runs inside a pod: accepts connections on ports and reports who connected. `python -m chaos.inpod.listener
PORT...`

Prints one JSON line when it listens, and one a connection: `{"port": 15008, "peer": "10.244.1.7"}`. It answers nothing.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys


def main() -> None:
    chosen = selectors.DefaultSelector()
    for text in sys.argv[1:]:
        chosen.register(socket.create_server(("", int(text)), backlog=64), selectors.EVENT_READ)
    print(json.dumps({"listens": [int(text) for text in sys.argv[1:]]}), flush=True)
    while True:
        for key, _ in chosen.select():
            server = key.fileobj
            assert isinstance(server, socket.socket)
            connection, peer = server.accept()
            print(json.dumps({"port": server.getsockname()[1], "peer": peer[0]}), flush=True)
            connection.close()


if __name__ == "__main__":
    main()
