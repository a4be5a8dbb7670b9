"""Where a container's control group is mounted, in both versions of cgroups. Standard library only."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Final

# Whose mounts are looked at. With version 1 a container, privileged or not, is given its own cgroup alone; with hostPID
# process 1 is the node's, which sees all of them. The embedded cluster's nodes mount none, but give them to a helper.
_VIEWERS: Final = ("self", "1")


def find_directory(cgroups: str, controller: str, proc: Path = Path("/proc")) -> tuple[Path, int]:
    """Return the directory of a process's cgroup of that controller, as it is reached from here, and the version.

    Args:
        cgroups: /proc/PID/cgroup of the process.

    Raises LookupError where it is mounted nowhere.
    """
    for viewer in _VIEWERS:
        try:
            path, version = detect_directory((proc / viewer / "mountinfo").read_text(), cgroups, controller)
        except (LookupError, OSError):
            continue
        directory = Path(f"{proc}/{viewer}/root{path}")
        if (directory / "cgroup.procs").exists():
            return directory, version
    raise LookupError(f"no {controller} cgroup of the container is mounted here, nor where process 1 is")


def detect_directory(mountinfo: str, cgroups: str, controller: str) -> tuple[str, int]:
    """Return the directory of a process's cgroup of that controller, and the version of cgroups, from /proc texts.

    Version 1 is taken where both are mounted: there version 2 carries no controllers.

    Args:
        mountinfo: /proc/self/mountinfo.
        cgroups: /proc/PID/cgroup of the process.

    Raises LookupError where no such hierarchy is mounted.
    """
    mounts = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split()[:3]
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            mounts[kind] = before.split()[3:5]  # root within the hierarchy, mount point
    for version, kind, wanted in ((1, "cgroup", controller), (2, "cgroup2", "")):
        path = next(
            (
                path
                for _, names, path in (line.split(":", 2) for line in cgroups.splitlines())
                if (wanted in names.split(",") if wanted else names == "")
            ),
            None,
        )
        if kind in mounts and path is not None:
            root, point = mounts[kind]
            return posixpath.normpath(posixpath.join(point, posixpath.relpath(path, root))), version
    raise LookupError(f"no {controller} cgroup of the container is mounted here")
