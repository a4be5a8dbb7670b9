"""Starts the control plane in its pod: `python -m chaos.mesh.controlplane`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path

from chaos.control_key import Gate
from chaos.kube.client import Cluster
from chaos.kube.control_key import stored_key
from chaos.mesh.authority import plane_authority, stored_authority
from chaos.mesh.controlplane.cache import KINDS, ObjectCache
from chaos.mesh.controlplane.reconcilers import Reconcilers
from chaos.mesh.controlplane.server import Plane, start_server
from chaos.mesh.controlplane.status import start_status
from chaos.mesh.controlplane.watch import Watches
from chaos.mesh.envoy.build import build
from chaos.mesh.mutations import MUTATIONS_VARIABLE
from chaos.mesh.proxyconfig import proxy_config
from chaos.names import PORT_XDS, PORT_XDS_STATUS, SYSTEM_NAMESPACE


async def run(cluster: Cluster, *, labelled: str, host: str, port: int, status_port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    root = await asyncio.to_thread(stored_authority, cluster, run=labelled)
    own = await asyncio.to_thread(plane_authority, cluster, run=labelled)
    key = await asyncio.to_thread(stored_key, cluster, run=labelled)

    def published() -> dict[str, str]:
        config = plane.cache.config()
        assert config is not None
        return proxy_config(config["mode"], own.root_pem.decode())

    reconcilers = Reconcilers(cluster, published=published)

    def on_snapshot(cache: ObjectCache) -> None:
        reconcilers.on_snapshot(cache, lambda: reconcilers.on_snapshot(plane.cache, plane.refresh))

    mutable = os.environ.get(MUTATIONS_VARIABLE) == "allowed"
    plane = Plane(cluster, root, own=own, build=build, on_snapshot=on_snapshot, mutable=mutable)
    watches = Watches(cluster, KINDS, fold=plane.fold, whole=plane.whole)
    watches.start()
    server, _ = await start_server(plane, f"{host}:{port}")
    status = await start_status(
        {
            "/healthz": lambda: (200, {"ok": True}),
            "/readyz": lambda: (200 if plane.synced.is_set() else 503, {"ready": plane.synced.is_set()}),
            "/debug": lambda: (200, {**plane.status(), "failed_writes": reconcilers.failures}),
        },
        host=host,
        port=status_port,
        gate=Gate(key.digest(SYSTEM_NAMESPACE)),
    )
    await stopping.wait()
    watches.stop()
    status.close()
    await server.stop(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chaos.mesh.controlplane", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, default=None, help="default: the pod's own service account")
    parser.add_argument("--run", default=os.environ.get("RUN", "none"), help="the run's label on what it creates")
    parser.add_argument("--host", default="0.0.0.0")  # within a pod's network namespace
    parser.add_argument("--port", type=int, default=PORT_XDS)
    parser.add_argument("--status-port", type=int, default=PORT_XDS_STATUS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(
        run(
            Cluster(options.kubeconfig),
            labelled=options.run,
            host=options.host,
            port=options.port,
            status_port=options.status_port,
        )
    )


if __name__ == "__main__":
    main()
