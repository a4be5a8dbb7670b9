"""Where a container's control group is mounted here, in both versions of cgroups. Standard library only."""

from __future__ import annotations

import posixpath


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
