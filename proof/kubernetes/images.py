"""The two images that the nodes are given: ours, from its Dockerfile over a base by debootstrap, and the pause image.

Both by buildah, whose storage is a folder of ours. Some minutes and two gigabytes the first time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chaos.build import build
from chaos.errors import EnvironmentUnfit
from chaos.names import IMAGE

ROOT: Final = Path(__file__).resolve().parents[2]
PAUSE: Final = "localhost/pause:1"
BASE: Final = "localhost/debian-python:bookworm"
PACKAGES: Final = "python3,python3-venv,python-is-python3,ca-certificates,iproute2,nftables"
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


def build_images(folder: Path, *, pause: Path) -> list[Path]:
    """The archives of both, built where they are not there yet, ours for each build of the code that pods run. Raises
    EnvironmentUnfit with a tool's last words.

    Args:
        pause: the static program that holds a pod's namespaces.
    """
    missing = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]
    if missing:
        raise EnvironmentUnfit(f"images need {' and '.join(missing)}: apt-get install buildah debootstrap")
    folder.mkdir(parents=True, exist_ok=True)
    storage = folder / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n')
    environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(storage)}
    ours, small = folder / f"sharedfate-{build()}.tar", folder / "pause.tar"
    if not ours.exists():
        for older in folder.glob("sharedfate*.tar"):
            older.unlink()
        _build_ours(folder, ours, environment)
    if not small.exists():
        _build_pause(pause, small, environment)
    shutil.rmtree(folder / "graph", ignore_errors=True)
    return [ours, small]


def _build_ours(folder: Path, archive: Path, environment: Mapping[str, str]) -> None:
    base = folder / "base"
    if not (base / "usr/bin/python").exists():
        shutil.rmtree(base, ignore_errors=True)
        _run(environment, "debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(base))
        shutil.rmtree(base / "var/cache/apt")
        shutil.copy(CERTIFICATES, base / CERTIFICATES.relative_to("/"))  # a company's own too
    container = _run(environment, "buildah", "from", "scratch")
    _run(environment, "buildah", "add", "--quiet", container, str(base), "/")
    variables = [f"PIP_CERT={CERTIFICATES}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    flags = [word for one in variables for word in ("--env", one)]
    _run(environment, "buildah", "config", *flags, container)
    _run(environment, "buildah", "commit", "--quiet", container, BASE)
    sharedfate = (sys.executable, "-m", "chaos.cli", "image")
    how = ("--engine", "buildah", "--isolation", "chroot", "--no-pull", "--python-image", BASE, "--folder", str(ROOT))
    _run(environment, *sharedfate, "build", *how)
    part = archive.with_suffix(".part")
    _run(environment, *sharedfate, "save", "--engine", "buildah", str(part))
    part.rename(archive)


def _build_pause(program: Path, archive: Path, environment: Mapping[str, str]) -> None:
    container = _run(environment, "buildah", "from", "scratch")
    _run(environment, "buildah", "add", "--quiet", container, str(program), "/pause")
    _run(environment, "buildah", "config", "--entrypoint", '["/pause"]', "--user", "65535:65535", container)
    _run(environment, "buildah", "commit", "--quiet", container, PAUSE)
    part = archive.with_suffix(".part")
    _run(environment, "buildah", "push", "--quiet", PAUSE, f"oci-archive:{part}:{PAUSE}")
    part.rename(archive)


def _run(environment: Mapping[str, str], *arguments: str) -> str:
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=1800, check=False, env=dict(environment), cwd=ROOT
    )
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()[-2000:]
        raise EnvironmentUnfit(f"{' '.join(arguments[:4])} ... failed: {said}")
    return done.stdout.strip()


NAMES: Final = (IMAGE, PAUSE)
