"""An application that speaks WebSocket's handshake (RFC 6455), and echoes what comes after it. With `call ADDRESS`: its
client.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import socketserver
import sys

from chaos.names import PORT_HTTP

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accepted(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode()


def head(stream: socket.socket) -> dict[str, str]:
    """The first line (as "") and the fields of what the other side begins with, byte by byte: what follows is not
    HTTP.
    """
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte:
            raise ConnectionError(f"ended after {text!r}")
        text += byte
    first, *lines = text.decode().strip().split("\r\n")
    return {"": first, **{name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}}


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        asked = head(self.request)
        if asked.get("upgrade") != "websocket":
            self.request.sendall(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
            return
        self.request.sendall(
            (
                f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accepted(asked['sec-websocket-key'])}\r\n\r\n"
            ).encode()
        )
        self.request.sendall(b"hello from the server")  # it speaks first: nothing of it may wait for the client
        while data := self.request.recv(4096):
            self.request.sendall(data.upper())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def call(address: str) -> None:
    """Upgrade, listen, speak twice; prints the status and what came."""
    key = base64.b64encode(os.urandom(16)).decode()
    with socket.create_connection((address, 80), 5) as stream:
        stream.settimeout(5)
        stream.sendall(
            (
                f"GET /chat HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
            ).encode()
        )
        answer = head(stream)
        print(answer[""].split()[1], answer.get("sec-websocket-accept") == accepted(key))
        for said in (b"", b"one", b"two"):
            stream.sendall(said)
            print(stream.recv(4096).decode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["call"]:
        call(sys.argv[2])
    else:
        with Server(("0.0.0.0", PORT_HTTP), Handler) as server:
            server.serve_forever()
