"""`python -m proof.kubernetes [-- COMMAND...]`: compile, start, run the command with KUBECONFIG set, take down.

Without a command it stays until it is interrupted. Programs and images are kept below --cache, and made when they are
missing; everything else lies below --folder. Exit code: the command's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from chaos.errors import EnvironmentUnfit, SharedfateError
from proof.kubernetes.build import KUBERNETES, build
from proof.kubernetes.cluster import CONTEXT, running
from proof.kubernetes.images import build_images
from proof.kubernetes.store import unpack

CACHE: Final = Path.home() / ".cache" / "sharedfate" / f"kubernetes-{KUBERNETES}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--folder", type=Path, default=Path("/run/sharedfate-real"))
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if os.geteuid():
            raise EnvironmentUnfit("nodes are namespaces of this machine: needs root")
        programs = build(options.cache)
        images = build_images(options.cache / "images", pause=programs / "pause")
        store = unpack(options.cache / "store", programs, images)
        began = time.monotonic()
        with running(options.folder, programs, store) as cluster:
            print(f"Kubernetes {KUBERNETES} is up after {time.monotonic() - began:.0f} s:", file=sys.stderr)
            print(f"export KUBECONFIG={cluster.kubeconfig}  # --cluster context:{CONTEXT}", flush=True)
            if not options.command:
                with contextlib.suppress(KeyboardInterrupt):
                    signal.pause()
                return 0
            environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
            return subprocess.run(options.command, env=environment, check=False).returncode
    except SharedfateError as error:
        print(f"proof.kubernetes: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
