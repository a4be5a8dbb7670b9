"""The stop signal: how an operator ends all faults at once, and how a runner sees it.

Three ways, any of which is enough: `sharedfate stop` (a ConfigMap in the system namespace), a file that appears
(`SHAREDFATE_STOP_FILE`), an HTTP POST to a port on loopback (`SHAREDFATE_STOP_PORT`). It reaches the runners
that began before it; a runner that starts later is not stopped by an old signal.
"""

from __future__ import annotations

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

import urllib3

from chaos.errors import Misuse, SharedfateError
from chaos.kube.client import Cluster
from chaos.names import GROUP, SYSTEM_NAMESPACE

MARK: Final = "sharedfate-stop"  # the ConfigMap
ANNOTATION_AT: Final = f"{GROUP}/pressed-at"  # ns since the epoch
_BEGAN: Final = time.time_ns()


def request_stop(cluster: Cluster, *, why: str, now: int | None = None) -> None:
    """Ask every runner of the cluster to stop; the caller undoes what is held (`undo_overdue`)."""
    if cluster.find("Namespace", SYSTEM_NAMESPACE) is None:
        return  # then no fault has a receipt, and no runner holds one
    meta = {"name": MARK, "namespace": SYSTEM_NAMESPACE, "annotations": {ANNOTATION_AT: str(now or time.time_ns())}}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"why": why}})


def clear_stop(cluster: Cluster) -> bool:
    """Withdraw the stop signal; return False when there was none."""
    return cluster.delete("ConfigMap", MARK, SYSTEM_NAMESPACE)


class StopSignal:
    """Read by a runner while it holds faults.

    `file`, `port`: None reads the environment; "" and 0 disable them.
    """

    def __init__(
        self, cluster: Cluster, *, file: str | None = None, port: int | None = None, since: int = _BEGAN
    ) -> None:
        self._cluster = cluster
        self._since = since
        named = os.environ.get("SHAREDFATE_STOP_FILE", "") if file is None else file
        self._file = Path(named) if named else None
        self._told = _listener(_environment_port() if port is None else port)

    def requested(self) -> str:
        """Return who asked for a stop; "" when nobody has."""
        if self._file is not None and self._file.exists():
            return f"the file {self._file} is there"
        if self._told is not None and self._told.is_set():
            return "a POST to the stop port"
        return self._marked()

    def _marked(self) -> str:
        try:
            mark = self._cluster.find("ConfigMap", MARK, SYSTEM_NAMESPACE)
        except (SharedfateError, urllib3.exceptions.HTTPError, OSError):
            return ""  # an API server that does not answer, or is gone, has not been told to stop us
        if mark is None or int(mark["metadata"].get("annotations", {}).get(ANNOTATION_AT, 0)) < self._since:
            return ""
        return f"`sharedfate stop`: {mark.get('data', {}).get('why', '')}"


def _environment_port() -> int:
    text = os.environ.get("SHAREDFATE_STOP_PORT", "0") or "0"
    if not text.isdigit():
        raise Misuse(f"SHAREDFATE_STOP_PORT is {text!r}: want a port number")
    return int(text)


_listeners: dict[int, threading.Event] = {}  # one for each port and process: it stays until the process ends


def _listener(port: int) -> threading.Event | None:
    """Return an event that is set when somebody posts to /stop on 127.0.0.1:port."""
    if not port:
        return None
    if port not in _listeners:
        told = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                right = self.path == "/stop"
                if right:
                    told.set()  # before the answer: whoever has it can rely on it
                self.send_response(202 if right else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        try:
            server = HTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise Misuse(f"stop port {port} cannot be used: {error.strerror}") from error
        threading.Thread(target=server.serve_forever, daemon=True, name="stop-port").start()
        _listeners[port] = told
    return _listeners[port]
