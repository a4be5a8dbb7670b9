"""A mesh of somebody else: our own, rendered under another name and applied with kubectl, with applications that carry
no label of ours. Nothing in it says `sharedfate`; to the runner it is as foreign as any."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from chaos.kube.applying import is_ready
from chaos.kube.client import Cluster
from chaos.mesh import manifests

NAME: Final = "stranger"
# namespace -> nodes of its client, nodes of its servers: as the reference topology, so that both directions can be seen
PLACES: Final = {
    "shop": (["node-1"], ["node-1"]),
    "bank": (["node-2"], ["node-1", "node-2"]),
    "post": (["node-2"], ["node-2"]),
}
NAMESPACES: Final = (*PLACES, f"{NAME}-system")
_IN_POD: Final = {
    "path": ["sidecar@client", "sidecar@server"],
    "proxies": [{"name": "sidecar", "layers": ["l4", "l7"], "scope": "pod", "container": "proxy"}],
    "loader": {
        "labels": {f"{NAME}.io/mode": "sidecar"},
        "annotations": {f"{NAME}.io/proxy-container": "proxy"},
        "containers": ["capture", "proxy"],
    },
}
_NODE_PODS: Final = {"namespace": f"{NAME}-system", "labels": {"app": "node-proxy"}}
_CARRIED: Final = {"readiness-gates": [f"{NAME}.io/captured"]}
# How the mesh looks in each of our modes, to somebody who writes a target file.
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "sidecar": _IN_POD,
    "node": {
        "path": ["node@client", "node@server"],
        "proxies": [
            {"name": "node", "layers": ["l4", "l7"], "scope": "node", "container": "proxy", "pods": _NODE_PODS}
        ],
        "loader": {"labels": {f"{NAME}.io/mode": "node"}, **_CARRIED},
    },
    "ambient-namespace": {
        "path": ["node@client", "waypoint@server", "node@server"],
        "proxies": [
            {"name": "node", "layers": ["l4"], "scope": "node", "container": "proxy", "pods": _NODE_PODS},
            {
                "name": "waypoint",
                "layers": ["l7"],
                "scope": "namespace",
                "container": "proxy",
                "pods": {"labels": {f"{NAME}.io/layer": "l7"}},
            },
        ],
        "loader": {"labels": {f"{NAME}.io/mode": "ambient-namespace"}, **_CARRIED},
    },
}


def applications(namespaces: Iterable[str] = PLACES) -> list[dict[str, Any]]:
    """A frontend that idles and a backend that answers, in each namespace; no label or annotation of ours."""
    found = []
    for name in namespaces:
        client, server = PLACES[name]
        for obj in manifests.tenant("x", client_nodes=client, server_nodes=server, servers=2):
            text = (
                yaml.safe_dump(obj).replace("tenant-x", name).replace("client", "frontend").replace("server", "backend")
            )
            plain = yaml.safe_load(text.replace("chaos.apps.backend", "chaos.apps.server"))
            for meta in (plain["metadata"], plain.get("spec", {}).get("template", {}).get("metadata", {})):
                if "labels" in meta:
                    meta["labels"] = {key: value for key, value in meta["labels"].items() if "/" not in key}
            if plain["kind"] == "Deployment" and plain["metadata"]["name"] == "frontend":
                (container,) = plain["spec"]["template"]["spec"]["containers"]
                container["command"] = ["sleep", "7200"]
                del container["readinessProbe"], container["ports"]
            found.append(plain)
    return found


def install(admin: Cluster, mode: str, folder: Path, *, namespaces: Iterable[str] = PLACES) -> str:
    """Render the mode under the stranger's name and apply it with kubectl; the YAML. Waits until all of it is ready."""
    apps = folder / "apps.yaml"
    apps.write_text(manifests.dump(applications(namespaces)))
    command = [sys.executable, "-m", "chaos.cli", "render", "--mode", mode, "-f", str(apps)]
    rendered = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "SHAREDFATE_NAME": NAME}
    ).stdout
    file = folder / "mesh.yaml"
    file.write_text(rendered)
    kubectl(admin, "apply", "-f", str(file))
    workloads = [
        obj for obj in manifests.parse(rendered, source="rendered") if obj["kind"] in ("Deployment", "DaemonSet")
    ]
    admin.wait(
        f"the stranger's mesh in mode {mode}",
        lambda: all(
            is_ready(admin.get(obj["kind"], obj["metadata"]["name"], obj["metadata"]["namespace"])) for obj in workloads
        ),
        seconds=120,
    )
    return rendered


def kubectl(admin: Cluster, *arguments: str) -> str:
    program = next(Path(sys.executable).parent.glob("kubectl*"))
    done = subprocess.run(
        [program, "--kubeconfig", str(admin.kubeconfig), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def target_file(mode: str, *, namespaces: Iterable[str] = PLACES, rate: float = 200.0) -> dict[str, Any]:
    """What a user would write of it."""
    names = list(namespaces)
    mesh: Any = "none" if mode == "none" else {"name": f"their-{mode}", **LOOKS[mode]}
    return {
        "version": 1,
        "tenants": [{"name": name, "namespaces": [name]} for name in names],
        "mesh": mesh,
        "calls": [
            {
                "client": f"{name}/frontend",
                "server": f"{name}/backend",
                "reach": f"backend.{name}:80",
                "path": "/healthz",
                "rate": rate,
            }
            for name in names
        ],
    }
