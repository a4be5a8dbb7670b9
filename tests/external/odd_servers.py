"""Servers that behave as one cause of a stuck load each, as pods: a program of the standard library in our image."""

from __future__ import annotations

from typing import Any, Final

from chaos.kube.objects import RESTRICTED
from chaos.names import IMAGE

Object = dict[str, Any]
PORT: Final = 7000
PROGRAM: Final = r"""
import os, socket, socketserver, ssl, struct, tempfile
kind, pair = os.environ["KIND"], os.environ.get("PAIR", "")
context = None
if pair:
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(pair)
        file.flush()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file.name)
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        peer = self.request
        if context is not None:
            peer = context.wrap_socket(peer, server_side=True)
        if kind == "resets":
            peer.recv(65536)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return peer.close()
        if kind == "greets":
            peer.sendall(b"220 hello\r\n")
        while peer.recv(65536):
            if kind == "pong":
                peer.sendall(b"+PONG\r\n")
            if kind == "503":
                peer.sendall(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 1024
    def handle_error(self, request, address):
        pass
Server(("0.0.0.0", 7000), Handler).serve_forever()
"""


def deployment(
    name: str, namespace: str, *, node: str, labels: dict[str, str] | None = None, **environment: str
) -> list[Object]:
    """A server of that KIND (`pong`, `silent`, `resets`, `greets`, `503`; with a PAIR over TLS), and its Service."""
    container = {
        "name": "server",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", PROGRAM],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "ports": [{"containerPort": PORT}],
        "securityContext": RESTRICTED,
    }
    return workload(name, namespace, container, node=node, labels=labels)


def client(name: str, namespace: str, *, node: str) -> list[Object]:
    """A client that idles: its loader stands in for it."""
    container = {
        "name": "client",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "7200"],
        "securityContext": RESTRICTED,
    }
    return workload(name, namespace, container, node=node)[:1]


def workload(
    name: str, namespace: str, container: Object, *, node: str, labels: dict[str, str] | None = None
) -> list[Object]:
    marks = {"app": name, **(labels or {})}
    pod = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": marks}, "spec": pod},
    }
    meta = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": dict(meta), "spec": spec},
        service(name, namespace, 80, PORT),
    ]


def service(name: str, namespace: str, port: int, target: int, *, protocol: str = "tcp", app: str = "") -> Object:
    one = {"name": protocol, "port": port, "targetPort": target, "appProtocol": protocol}
    spec = {"selector": {"app": app or name}, "ports": [one]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
