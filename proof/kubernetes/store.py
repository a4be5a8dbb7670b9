"""A node's images, unpacked once: a containerd of its own makes its root folder, and each node takes it by hard links.

Layers are only ever read through overlays, so nodes may share them; databases are copied. Taking a folder and removing
it again takes seconds, where unpacking takes a minute a node.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from chaos.errors import EnvironmentUnfit

_START_SECONDS: Final = 30.0
_IMPORT_SECONDS: Final = 900.0


def digest_of(archives: Iterable[Path]) -> str:
    """What is in them, in 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for archive in archives:
        with archive.open("rb") as data:
            whole.update(hashlib.file_digest(data, "sha256").digest())
    return whole.hexdigest()[:16]


def unpack(cache: Path, programs: Path, archives: list[Path]) -> Path:
    """The root folder of a containerd that has these images; older ones below `cache` go. Raises EnvironmentUnfit with
    containerd's words.
    """
    store = cache / digest_of(archives)
    if store.is_dir():
        return store
    shutil.rmtree(cache, ignore_errors=True)
    part = store.with_suffix(".part")
    part.mkdir(parents=True)
    settings, socket = cache / "containerd.toml", cache / "containerd.sock"
    settings.write_text(configuration(part, cache / "state", socket))
    with (cache / "log").open("w") as log:
        containerd = subprocess.Popen(
            ["unshare", "--mount", "--", str(programs / "containerd"), "--config", str(settings)],
            stdout=log,
            stderr=log,
        )
    try:
        ctr = [str(programs / "ctr"), "--address", str(socket), "--namespace", "k8s.io"]
        _await(ctr, containerd, cache / "log")
        for archive in archives:
            done = subprocess.run(
                [*ctr, "images", "import", str(archive)],
                capture_output=True,
                text=True,
                timeout=_IMPORT_SECONDS,
                check=False,
            )
            if done.returncode:
                raise EnvironmentUnfit(f"containerd does not take {archive}: {done.stderr.strip()[-500:]}")
    finally:
        containerd.terminate()
        containerd.wait(timeout=30)
    part.rename(store)
    return store


def configuration(root: Path, state: Path, socket: Path) -> str:
    """Of a containerd that unpacks and runs nothing. Pure."""
    disabled = ", ".join(f'"io.containerd.{name}"' for name in ("nri.v1.nri", "grpc.v1.cri", "cri.v1.runtime"))
    return (
        f'version = 3\nroot = "{root}"\nstate = "{state}"\ndisabled_plugins = [{disabled}]\n\n'
        f'[plugins."io.containerd.server.v1.grpc"]\n  address = "{socket}"\n\n[grpc]\n  address = "{socket}"\n'
    )


def take(store: Path, root: Path) -> None:
    """Make `root` such a folder too: by hard links where both lie on one file system, else by a copy."""
    if subprocess.run(["cp", "-a", "--link", f"{store}/.", str(root)], capture_output=True, check=False).returncode:
        done = subprocess.run(
            ["cp", "-a", "--remove-destination", f"{store}/.", str(root)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EnvironmentUnfit(f"{root} cannot be filled from {store}: {done.stderr.strip()[-500:]}")
    for database in root.rglob("*.db"):
        if "snapshots" not in database.relative_to(root).parts:
            own = shutil.copy2(database, database.with_suffix(".own"))
            Path(own).rename(database)


def _await(ctr: list[str], containerd: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode:
        if time.monotonic() > end or containerd.poll() is not None:
            raise EnvironmentUnfit(f"containerd does not start: {log.read_text()[-500:]}")
        time.sleep(0.2)
