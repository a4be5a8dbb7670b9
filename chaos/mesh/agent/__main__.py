"""Run the node agent: `python -m chaos.mesh.agent`, in the DaemonSet's pod beside Envoy, with hostPID.

Environment: NODE_NAME, NODE_IP. Status on port 15020: /healthz, and /debug to the pod's own loopback (port-forward,
exec). Stopping it releases nothing: traffic goes on.
"""

from __future__ import annotations

import http.server
import ipaddress
import json
import logging
import os
import queue
import sys
import threading
from pathlib import Path

from chaos.errors import ApiError, SharedfateError
from chaos.interrupts import on_termination
from chaos.kube.client import Cluster, Object
from chaos.mesh.agent.work import NodeAgent
from chaos.mesh.snapshot import SANDBOX_DIR
from chaos.names import LABEL_MESH, LABEL_MODE, PORT_AGENT

log = logging.getLogger("agent")
_Item = tuple[str, str, Object]


def _follow(
    cluster: Cluster, kind: str, labels: str | None, changes: queue.Queue[_Item], stop: threading.Event
) -> None:
    while not stop.is_set():
        try:
            for change in cluster.follow(kind, labels=labels, stop=stop):
                changes.put((kind, change.type, change.object))
        except ApiError as error:
            log.warning("following %s: %s", kind, error)
            stop.wait(1.0)


def _serve_status(agent: NodeAgent) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages = {"/healthz": b"ok"}
            if ipaddress.ip_address(self.client_address[0]).is_loopback:
                pages["/debug"] = json.dumps(agent.status()).encode()
            found = pages.get(self.path)
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("0.0.0.0", PORT_AGENT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True, name="status").start()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    stop = threading.Event()
    changes: queue.Queue[_Item] = queue.Queue()

    def end() -> None:
        stop.set()
        changes.put(("", "", {}))

    on_termination(end)
    try:
        cluster = Cluster(None)
        node = os.environ["NODE_NAME"]
    except (SharedfateError, KeyError) as error:
        print(f"agent: cannot start: {error}", file=sys.stderr)
        return 1
    folder = Path(SANDBOX_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    agent = NodeAgent(cluster, node, os.environ.get("NODE_IP", "").split(","), folder)
    _serve_status(agent)
    # known before any pod is: a pod whose namespace is not in the mesh would be released
    for namespace in cluster.list("Namespace", labels=f"{LABEL_MESH}=enabled"):
        agent.take("Namespace", "ADDED", namespace)
    # a namespace that leaves the mesh loses the label: that arrives as DELETED
    for kind, labels in (("Namespace", f"{LABEL_MESH}=enabled"), ("Pod", LABEL_MODE)):
        threading.Thread(target=_follow, args=(cluster, kind, labels, changes, stop), daemon=True, name=kind).start()
    wait = 1.0
    while not stop.is_set():
        try:
            item = changes.get(timeout=wait)
            while item is not None:
                if item[0]:
                    agent.take(*item)
                item = changes.get_nowait()
        except queue.Empty:
            pass
        if not stop.is_set():
            wait = agent.step()
    return 0


if __name__ == "__main__":
    sys.exit(main())
