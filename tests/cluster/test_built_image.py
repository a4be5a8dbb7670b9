"""The image for real: built with buildah from a base made by debootstrap, saved as an OCI archive, loaded, and pods run
from it.

Some minutes and a few gigabytes: part of `make proof`. Needs buildah and debootstrap, and package mirrors.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.embedded.provider import down, load_image, up
from chaos.kube.client import Cluster
from tests.stranger.clusters import command

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("buildah") and shutil.which("debootstrap")),
        reason="needs buildah and debootstrap: apt-get install buildah debootstrap",
    ),
]
ROOT = Path(__file__).resolve().parents[2]
NAME = "images.example/mesh/sharedfate:built"
BASE = "localhost/debian-python:bookworm"
PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates,iproute2,nftables"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def run(*arguments: str, seconds: float = 300, **environment: str) -> str:
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=seconds, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The archive; buildah's own storage is a folder that goes with the test."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )
    environment: dict[str, Any] = {"CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "SHAREDFATE_IMAGE": NAME}
    root = folder / "rootfs"
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
    shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    container = run("buildah", "from", "scratch", **environment)
    run("buildah", "add", "--quiet", container, str(root), "/", **environment)
    run(
        "buildah",
        "config",
        "--env",
        f"PIP_CERT={CERTIFICATES}",
        "--env",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        container,
        **environment,
    )
    run("buildah", "commit", "--quiet", container, BASE, **environment)
    run("buildah", "rm", container, **environment)
    shutil.rmtree(root)
    built = command(
        "image",
        "build",
        "--engine",
        "buildah",
        "--isolation",
        "chroot",
        "--no-pull",
        "--python-image",
        BASE,
        "--folder",
        str(ROOT),
        seconds=900,
        **environment,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    path = folder / "image.tar"
    saved = command("image", "save", "--engine", "buildah", str(path), **environment)
    assert saved.returncode == 0, saved.stderr[-2000:]
    run("buildah", "rmi", "--all", "--force", **environment)
    yield path
    shutil.rmtree(folder)


def test_pods_run_from_the_built_image_as_its_unprivileged_user_and_find_what_our_parts_need(archive: Path) -> None:
    name = f"image-{uuid.uuid4().hex[:6]}"
    cluster = Cluster(up(name), kind="embedded", name=name)
    try:
        assert load_image(name, archive) == [NAME]
        script = (
            "import json,os,shutil,chaos.load.agent,chaos.mesh.controlplane.server; from chaos.mesh import manifests; "
            "print(json.dumps({'user': os.getuid(), 'roles': len(manifests.load('rbac/runner.yaml', {})), "
            "'programs': [bool(shutil.which(p)) for p in ('envoy', 'nft', 'nsenter', 'ip')]}))"
        )
        cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "built", "namespace": "default"},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "built", "image": NAME, "command": ["python", "-c", script]}],
                },
            }
        )
        cluster.wait(
            "the pod ended",
            lambda: cluster.get("Pod", "built", "default")["status"].get("phase") in ("Succeeded", "Failed"),
        )
        said = cluster.logs("default", "built")
        assert json.loads(said.splitlines()[-1]) == {"user": 65532, "roles": 1, "programs": [True] * 4}, said
    finally:
        cluster.close()
        down(name)
