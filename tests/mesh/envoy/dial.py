"""Run in a pod's namespace: one CONNECT over mutual TLS and HTTP/2, as a hostile or mistaken peer would make it.

`python dial.py IP AUTHORITY CERT KEY`: prints the status of the CONNECT, and when it is 200, the first line of the answer
to a GET through the tunnel; prints 0 when the connection is refused.
"""

from __future__ import annotations

import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events


def dial(ip: str, authority: str, cert: str, key: str) -> tuple[int, str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    status, body = 0, b""
    try:
        with context.wrap_socket(socket.create_connection((ip, 15008), timeout=3)) as stream:
            connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            connection.initiate_connection()
            connection.send_headers(1, [(":method", "CONNECT"), (":authority", authority)])
            stream.sendall(connection.data_to_send())
            while not body and (data := stream.recv(65536)):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.ResponseReceived):
                        status = int(dict(event.headers)[b":status"])
                        if status == 200:
                            connection.send_data(1, b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n")
                    elif isinstance(event, h2.events.DataReceived):
                        body += event.data
                    elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                        return status, body.decode(errors="replace")
                stream.sendall(connection.data_to_send())
    except OSError:
        pass
    return status, body.decode(errors="replace")


if __name__ == "__main__":
    found, text = dial(*sys.argv[1:5])
    print(found, text.partition("\r\n")[0])
