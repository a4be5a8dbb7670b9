"""A container's control group, in both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.inpod.cgroups import detect_directory, find_directory


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


OWN, OTHER = "/kubepods/podA/own", "/kubepods/podB/other"


def node(proc: Path, *, sees: str) -> None:
    """A node's /proc: the helper is given its own cgroup alone, process 1 sees what it `sees`."""
    mounts = {"self": f"{OWN} /sys/fs/cgroup/memory", "1": f"{sees} /sys/fs/cgroup/memory"}
    for viewer, mount in mounts.items():
        (proc / viewer).mkdir()
        (proc / viewer / "mountinfo").write_text(f"1 2 0:1 {mount} rw - cgroup cgroup rw,memory\n")
    for directory in ("self/root/sys/fs/cgroup/memory", f"1/root/sys/fs/cgroup/memory{OTHER}"):
        (proc / directory).mkdir(parents=True)
        (proc / directory / "cgroup.procs").touch()


def test_anothers_cgroup_is_found_where_process_one_sees_it(tmp_path: Path) -> None:
    node(tmp_path, sees="/")
    found = find_directory(f"4:memory:{OTHER}\n", "memory", tmp_path)
    assert found == (tmp_path / f"1/root/sys/fs/cgroup/memory{OTHER}", 1)
    assert find_directory(f"4:memory:{OWN}\n", "memory", tmp_path)[0] == tmp_path / "self/root/sys/fs/cgroup/memory"


def test_a_cgroup_that_nobody_sees_is_said_so(tmp_path: Path) -> None:
    node(tmp_path, sees="/kubepods/podC")
    with pytest.raises(LookupError, match="nor where process 1 is"):
        find_directory(f"4:memory:{OTHER}\n", "memory", tmp_path)
