"""`sharedfate cluster` end to end: a cluster for kubectl, images from archives, nodes that lose power, link or
kubelet.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.api.conftest import kubectl
from tests.embedded.kubelet.test_node import make_archive

pytestmark = pytest.mark.privileged
NAME = f"command-{os.getpid()}"
Command = Callable[..., subprocess.CompletedProcess[str]]


def sharedfate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaos.cli", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def cluster(*arguments: str) -> str:
    done = sharedfate("cluster", *arguments[:1], "--name", NAME, *arguments[1:])
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def k() -> Iterator[Callable[..., str]]:
    """kubectl on a cluster that the command brought up, and takes down."""
    config = cluster("up").strip()
    assert cluster("kubeconfig").strip() == config

    def call(*arguments: str, stdin: str | None = None) -> str:
        command = [kubectl(), "--kubeconfig", config, "--cache-dir", f"{Path(config).parent}/kubectl", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    try:
        yield call
    finally:
        cluster("down")
    gone = sharedfate("cluster", "status", "--name", NAME, "--json")
    assert (gone.returncode, json.loads(gone.stdout)["state"]) == (4, "down")


def await_true(check: Callable[[], Any], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def make_oci(docker: Path, path: Path, name: str) -> None:
    """The same image as an OCI layout with compressed layers, as `skopeo copy` and `buildah push` write it."""
    folder = path.with_suffix("")
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    with tarfile.open(docker) as tar:

        def member(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        row = json.loads(member("manifest.json"))[0]
        manifest = {
            "schemaVersion": 2,
            "config": blob(member(row["Config"]), "config.v1+json"),
            "layers": [blob(gzip.compress(member(layer)), "layer.v1.tar+gzip") for layer in row["Layers"]],
        }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json") | {
        "annotations": {"io.containerd.image.name": name}
    }
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.rglob("*")):
            tar.add(file, file.relative_to(folder), recursive=False)


def test_images_from_docker_and_oci_archives_run_under_their_names(k: Callable[..., str], tmp_path: Path) -> None:
    docker, oci = tmp_path / "docker.tar", tmp_path / "oci.tar"
    make_archive(
        docker,
        "demo:1",
        {"Cmd": ["/bin/sh", "-c", "echo $GREETING; exec /bin/sleep 600"], "Env": ["GREETING=hello", "PATH=/bin"]},
    )
    make_oci(docker, oci, "example.com/team/demo:2")
    k("run", "early", "--image=demo:1", "--restart=Never")
    await_true(lambda: "sharedfate cluster load-image" in k("describe", "pod", "early"))
    loaded = cluster("load-image", str(docker), str(oci)).splitlines()
    assert loaded == ["docker.io/library/demo:1", "example.com/team/demo:2"]
    k("run", "late", "--image=example.com/team/demo:2", "--restart=Never")
    for pod in ("early", "late"):  # the early one at its next try
        k("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=90s")
        await_true(lambda pod=pod: k("logs", pod) == "hello\n")  # type: ignore[misc]
    assert "example.com/team/demo:2" in k("get", "pod", "late", "-o", "jsonpath={.status.containerStatuses[0].image}")
    k("delete", "pod", "early", "late", "--grace-period=0", "--force")


def test_what_is_no_image_archive_is_refused_with_its_name(k: Callable[..., str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.tar"
    wrong.write_bytes(b"no tar")
    done = sharedfate("cluster", "load-image", "--name", NAME, str(wrong))
    assert done.returncode == 4
    assert str(wrong) in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_node_loses_power_link_and_kubelet_by_command_and_gets_them_back(k: Callable[..., str]) -> None:
    from chaos.names import IMAGE

    k(
        "run",
        "p",
        f"--image={IMAGE}",
        "--overrides",
        json.dumps({"spec": {"nodeName": "node-2"}}),
        "--command",
        "--",
        "sleep",
        "1000",
    )
    k("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    restarts = "jsonpath={.status.containerStatuses[0].restartCount}"
    for off, on in (("stop-kubelet", "start-kubelet"), ("cut-link", "restore-link"), ("power-off", "power-on")):
        assert k("get", "pod", "p", "-o", restarts) == "0"
        cluster("node", "node-2", off)
        cluster("node", "node-2", on)
    await_true(lambda: k("get", "pod", "p", "-o", restarts) == "1")
    k("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    done = sharedfate("cluster", "node", "--name", NAME, "node-2", "explode")
    assert (done.returncode, "power-off" in done.stderr) == (4, True)
    done = sharedfate("cluster", "node", "--name", NAME, "node-9", "power-off")
    assert (done.returncode, "node-9" in done.stderr) == (4, True)
    k("delete", "pod", "p", "--grace-period=0", "--force")
