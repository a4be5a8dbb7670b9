"""Runs anywhere in the cluster: connects to a proxy once, as a hostile or misconfigured peer would.

`tls_client JSON`: `{"host", "port", "certificate", "key", "authority"}`, PEM texts; without a
certificate the peer shows none. With an authority it asks for a CONNECT to that authority over HTTP/2 (and when it is
given, for `/echo` through the tunnel), without one for `/echo` itself over HTTP/1.1. Prints
`{"status", "body", "error"}`: the status of the CONNECT or of the request, 0 when the connection was refused.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import tempfile
from typing import Any

_REQUEST = b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n"


def context(certificate: str, key: str, protocol: str) -> ssl.SSLContext:
    """Make a TLS context that trusts anybody: the test is whom the other side trusts."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols([protocol])
    if certificate:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(certificate + key)
            file.flush()
            made.load_cert_chain(file.name)
    return made


def request(stream: ssl.SSLSocket) -> tuple[int, str]:
    stream.sendall(_REQUEST)
    data = b""
    while b"\r\n\r\n" not in data and (more := stream.recv(65_536)):
        data += more
    words = data.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, data.decode(errors="replace")


def connect(stream: ssl.SSLSocket, authority: str) -> tuple[int, str]:
    from h2 import config, connection, events

    h2 = connection.H2Connection(config.H2Configuration(client_side=True, header_encoding=None))
    h2.initiate_connection()
    h2.send_headers(1, [(b":method", b"CONNECT"), (b":authority", authority.encode())])
    stream.sendall(h2.data_to_send())
    status, body = 0, b""
    while not body and (data := stream.recv(65_536)):
        for event in h2.receive_data(data):
            if isinstance(event, events.ResponseReceived):
                status = int(dict(event.headers or ())[b":status"])
                if status == 200:
                    h2.send_data(1, _REQUEST)
            elif isinstance(event, events.DataReceived):
                body += event.data or b""
            elif isinstance(event, (events.StreamEnded, events.StreamReset)):
                return status, body.decode(errors="replace")
        stream.sendall(h2.data_to_send())
    return status, body.decode(errors="replace")


def connect_as(
    host: str, port: int, *, certificate: str = "", key: str = "", authority: str = "", timeout: float = 3.0
) -> dict[str, Any]:
    """Connect; return status and body, or status 0 and the error."""
    try:
        with socket.create_connection((host, port), timeout) as plain:
            with context(certificate, key, "h2" if authority else "http/1.1").wrap_socket(plain) as stream:
                status, body = connect(stream, authority) if authority else request(stream)
                return {"status": status, "body": body[:2000], "error": ""}
    except OSError as error:
        return {"status": 0, "body": "", "error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    print(json.dumps(connect_as(**json.loads(sys.argv[1]))))
