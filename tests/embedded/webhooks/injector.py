"""A small webhook server of our own: the path says what it answers. Standard library alone, so that a pod runs it too.

`python injector.py CERTIFICATE KEY PORT [ADDRESS]`. It keeps the reviews that it was asked, the last at GET /asked.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[Mapping[str, Any]], tuple[int, Any]]
SIDECAR = {
    "name": "sidecar",
    "image": os.environ.get("SIDECAR_IMAGE", "example:1"),
    "command": ["sleep", "infinity"],
    "env": [{"name": "BY", "value": "injector"}],
}


def patch(*operations: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a response that carries a JSON patch."""
    return {"patch": base64.b64encode(json.dumps(operations).encode()).decode(), "patchType": "JSONPatch"}


def reply(request: Mapping[str, Any], **response: Any) -> tuple[int, Any]:
    """A good AdmissionReview, but for what is said otherwise."""
    body = {"uid": request["uid"], "allowed": True} | response
    return 200, {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": body}


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _label(name: str, value: str) -> Answer:
    def answer(request: Mapping[str, Any]) -> tuple[int, Any]:
        labels = {**(request["object"]["metadata"].get("labels") or {}), name: value}
        return reply(request, **patch(add("/metadata/labels", labels)))

    return answer


def _inject(request: Mapping[str, Any]) -> tuple[int, Any]:
    if any(one["name"] == "sidecar" for one in request["object"]["spec"]["containers"]):
        return reply(request)
    return reply(request, **patch(add("/spec/containers/-", SIDECAR)))


def _seen(request: Mapping[str, Any]) -> tuple[int, Any]:
    """Says in a label how many containers it saw, and how often it was asked."""
    meta = request["object"]["metadata"]
    times = int((meta.get("labels") or {}).get("asked", "0")) + 1
    count = str(len(request["object"]["spec"]["containers"]))
    labels = {**(meta.get("labels") or {}), "asked": str(times), "containers": count}
    return reply(request, **patch(add("/metadata/labels", labels)))


def _slow(request: Mapping[str, Any]) -> tuple[int, Any]:
    time.sleep(3)
    return reply(request)


ANSWERS: dict[str, Answer] = {
    "/allow": reply,
    "/deny": lambda request: reply(request, allowed=False, status={"message": "no pets"}),
    "/deny-code": lambda request: reply(
        request, allowed=False, status={"code": 403, "reason": "Forbidden", "message": "no pets"}
    ),
    "/deny-reason": lambda request: reply(request, allowed=False, status={"reason": "TooManyPets"}),
    "/deny-bare": lambda request: reply(request, allowed=False),
    "/warn": lambda request: reply(request, warnings=["careful", "careful", "really"], auditAnnotations={"why": "so"}),
    "/warn-much": lambda request: reply(
        request,
        warnings=[f"{n} {'x' * 2000}" for n in range(100)],
        auditAnnotations={str(n): "x" * 20_000 for n in range(100)},
    ),
    "/warn-deny": lambda request: reply(request, allowed=False, warnings=["careful"]),
    "/label": _label("by", "webhook"),
    "/label-again": _label("by", "another"),
    "/inject": _inject,
    "/seen": _seen,
    "/slow": _slow,
    "/500": lambda request: (500, "broken\n"),
    "/503": lambda request: (503, "busy"),
    "/404": lambda request: (404, "404 page not found\n"),
    "/400": lambda request: (400, "what?"),
    "/302": lambda request: (302, ""),
    "/empty": lambda request: (200, ""),
    "/text": lambda request: (200, "hello"),
    "/list": lambda request: (200, [1]),
    "/bare": lambda request: (200, {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}),
    "/uid": lambda request: reply(request, uid="another"),
    "/kind": lambda request: (200, {"response": {"uid": request["uid"], "allowed": True}}),
    "/beta": lambda request: (200, reply(request)[1] | {"apiVersion": "admission.k8s.io/v1beta1"}),
    "/type": lambda request: reply(request, allowed="yes"),
    "/patch-bare": lambda request: reply(request, patch=patch(add("/a", 1))["patch"]),
    "/type-bare": lambda request: reply(request, patchType="JSONPatch"),
    "/patch-text": lambda request: reply(request, patch="!", patchType="JSONPatch"),
    "/patch-json": lambda request: reply(request, patch=base64.b64encode(b"[{").decode(), patchType="JSONPatch"),
    "/patch-merge": lambda request: reply(request, patch=base64.b64encode(b"{}").decode(), patchType="MergePatch"),
    "/patch-missing": lambda request: reply(request, **patch(add("/spec/no/where", 1))),
    "/patch-remove": lambda request: reply(request, **patch({"op": "remove", "path": "/metadata/nothing"})),
    "/patch-test": lambda request: reply(request, **patch({"op": "test", "path": "/kind", "value": "Cat"})),
    "/patch-replace": lambda request: reply(request, **patch({"op": "replace", "path": "/metadata/x", "value": 1})),
    "/patch-type": lambda request: reply(request, **patch(add("/data", "text"))),
    "/close": lambda request: (0, None),
}


class Server:
    """The server on a thread of its own; `asked` holds each review's request."""

    def __init__(self, certificate: str, key: str, *, address: str = "127.0.0.1", port: int = 0) -> None:
        asked = self.asked = list[dict[str, Any]]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._write(200, json.dumps(asked[-1:]).encode())

            def do_POST(self) -> None:
                path = self.path.partition("?")[0]
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append({**review["request"], "path": self.path})
                code, body = ANSWERS[path](review["request"])
                if not code:
                    self.close_connection = True
                    return
                self._write(code, body.encode() if isinstance(body, str) else json.dumps(body).encode(), body)

            def _write(self, code: int, data: bytes, body: Any = None) -> None:
                self.send_response(code)
                self.send_header(
                    "Content-Type", "text/plain" if isinstance(body, str) and code != 200 else "application/json"
                )
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                return

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server = _Quiet((address, port), Handler)
        self._server.context = context
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(ThreadingHTTPServer):
    """Clients that refuse the certificate are no news; the handshake is made on the connection's own thread."""

    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(10)
        try:
            wrapped = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return
        with wrapped:
            self.RequestHandlerClass(wrapped, client_address, self)  # type: ignore[arg-type]  # typeshed's Self

    def handle_error(self, request: Any, client_address: Any) -> None:
        return


if __name__ == "__main__":
    server = Server(sys.argv[1], sys.argv[2], address=(sys.argv[4:] or ["0.0.0.0"])[0], port=int(sys.argv[3]))
    server.start()
    threading.Event().wait()
