"""A real Envoy under the real control plane, in a network namespace of its own (see test_real_envoy.py, which runs
this).

Prints one JSON line: what the proxy acknowledged, what it refused, how fast updates came, and what it reports itself.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from chaos.mesh.ca import Authority
from chaos.mesh.controlplane.cache import KINDS
from chaos.mesh.controlplane.server import SERVER_NAMES, Plane, start_server
from chaos.mesh.envoy import bootstrap
from chaos.mesh.envoy.build import build
from tests.mesh.controlplane.objects import config, namespace, node, service, sidecar_pod, slice_of
from tests.mesh.controlplane.test_server import Reviews

ENVOY = str(Path(sys.executable).with_name("envoy"))


def admin(page: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:15000{page}", timeout=2) as answer:
        return json.load(answer)


def stat(name: str) -> int:
    return sum(s["value"] for s in admin(f"/stats?format=json&filter=^{name}$")["stats"] if "value" in s)


async def until(what: Any, seconds: float = 8.0) -> float:
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        try:
            if await asyncio.to_thread(what):
                return time.monotonic() - start
        except OSError:
            pass
        await asyncio.sleep(0.02)
    raise TimeoutError(f"not so after {seconds} s")


async def main() -> None:
    me = sidecar_pod("me", ip="127.0.0.1")
    other = sidecar_pod("other", ip="127.0.0.2")
    plane = Plane(Reviews(me, other), Authority.new(), build=build)  # type: ignore[arg-type]
    for obj in (
        config("sidecar", certificate_seconds=4),
        node("node-1"),
        namespace("tenant-a"),
        me,
        other,
        service(),
        slice_of(other),
    ):
        plane.fold(obj["kind"], "ADDED", obj)
    for kind in KINDS:
        plane.whole(kind)
    server, port = await start_server(plane, "127.0.0.1:0")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        ca, token, file = (Path(folder, name) for name in ("ca.pem", "token", "bootstrap.json"))
        ca.write_bytes(plane.authority.root_pem)
        token.write_text("me")
        file.write_text(
            json.dumps(
                bootstrap(
                    xds_host="127.0.0.1",
                    xds_port=port,
                    server_name=SERVER_NAMES[0],
                    ca_path=str(ca),
                    token_path=str(token),
                )
            )
        )
        envoy = subprocess.Popen(
            [ENVOY, "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        )
        try:
            await until(lambda: admin("/server_info")["state"] == "LIVE")
            await until(
                lambda: (
                    plane.streams and not any(t["pending"] for s in plane.streams for t in s.session.status().values())
                )
            )
            [stream] = plane.streams
            result["status"] = stream.session.status()
            before = stat("cluster_manager.cds.update_success")
            began = time.monotonic()
            plane.fold(
                "Service", "ADDED", {**service("second"), "spec": {**service()["spec"], "clusterIP": "10.96.0.21"}}
            )
            await until(lambda: stat("cluster_manager.cds.update_success") > before)
            result["update_seconds"] = time.monotonic() - began
            serial = [line["serial"] for line in plane.handed.as_json()][-1]
            await until(lambda: [line["serial"] for line in plane.handed.as_json()][-1] != serial)
            result["rotated"] = (
                await until(
                    lambda: any(
                        int(c["serial_number"], 16) == int(plane.handed.as_json()[-1]["serial"], 16)
                        for entry in admin("/certs")["certificates"]
                        for c in entry["cert_chain"]
                    )
                )
                >= 0
            )
            await server.stop(0)
            server, _ = await start_server(plane, f"127.0.0.1:{port}")
            listeners = stat("listener_manager.lds.update_success")
            await until(lambda: len(plane.streams) == 1 and stream not in plane.streams)
            await asyncio.sleep(0.3)
            result["reconnected_without_resend"] = stat("listener_manager.lds.update_success") == listeners
            result["handed"] = sorted({line["identity"] for line in plane.handed.as_json() if not line["refused"]})
        finally:
            envoy.terminate()
            envoy.wait(5)
            await server.stop(0)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
