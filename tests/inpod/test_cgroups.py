"""A container's control group, in both versions."""

from __future__ import annotations

import pytest

from chaos.inpod.cgroups import detect_directory


@pytest.mark.parametrize(
    ("mounts", "cgroups", "found"),
    [
        (
            "1 2 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "4:memory:/kubepods/podX/c\n0::/\n",
            ("/sys/fs/cgroup/memory/kubepods/podX/c", 1),
        ),
        (
            "1 2 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "0::/kubepods.slice/c.scope\n",
            ("/sys/fs/cgroup/kubepods.slice/c.scope", 2),
        ),
        (
            "1 2 0:1 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "0::/../../kubepods/c\n",
            ("/sys/fs/cgroup/kubepods/c", 2),
        ),
    ],
)
def test_a_containers_memory_cgroup_is_found_in_both_versions(
    mounts: str, cgroups: str, found: tuple[str, int]
) -> None:
    assert detect_directory(mounts, cgroups, "memory") == found
