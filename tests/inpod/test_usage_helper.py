"""The meter finds containers by their control groups, and reads them in both versions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.inpod.usage_helper import container_of, containers, look, used

ID = "0123456789abcdef" * 4
UID = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("cgroups", "found"),
    [
        (f"4:memory:/kubepods/burstable/pod{UID}/{ID}\n0::/\n", ID[:12]),
        (f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope\n", ID[:12]),
        (f"0::/kubepods.slice/kubepods-besteffort-pod{UID.replace('-', '_')}.slice/crio-{ID}.scope\n", ID[:12]),
        (f"0::/../../kubelet/kubepods/pod{UID}/{ID}\n", ID[:12]),
        ("0::/system.slice/containerd.service\n", ""),
        (f"0::/docker/{ID}\n", ""),
        (f"0::/kubepods/pod{UID}\n", ""),
        (f"0::/kubepods/pod{UID}/init.scope\n", ""),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_a_container_is_known_by_its_cgroup_in_every_layout(cgroups: str, found: str) -> None:
    assert container_of(cgroups) == found


def test_processes_of_one_container_are_one(tmp_path: Path) -> None:
    for pid in ("1", "22", "333", "self"):
        (tmp_path / pid).mkdir()
    (tmp_path / "1" / "cgroup").write_text("0::/init\n")
    (tmp_path / "22" / "cgroup").write_text(f"0::/kubepods/pod{UID}/{ID}\n")
    (tmp_path / "333" / "cgroup").write_text(f"0::/kubepods/pod{UID}/{ID}\n")
    assert list(containers(tmp_path)) == [ID[:12]]


@pytest.mark.parametrize(
    ("version", "files", "found"),
    [
        (
            1,
            {
                "cpuacct.usage": "1500000\n",
                "memory.usage_in_bytes": "1000\n",
                "memory.stat": "cache 1\ntotal_inactive_file 300\n",
            },
            (1_500_000, 700),
        ),
        (
            2,
            {
                "cpu.stat": "usage_usec 1500\nuser_usec 1\n",
                "memory.current": "1000\n",
                "memory.stat": "anon 1\ninactive_file 1300\n",
            },
            (1_500_000, 0),
        ),
    ],
)
def test_both_versions_are_read(tmp_path: Path, version: int, files: dict[str, str], found: tuple[int, int]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert used(tmp_path, tmp_path, version) == found


def test_a_container_that_ended_while_it_was_looked_at_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text("1 2 0:1 / /gone rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"0::/kubepods/pod{UID}/{ID}\n")
    assert look(tmp_path)["containers"] == {}


def test_it_prints_lines_until_its_time_is_over() -> None:
    command = [sys.executable, "-m", "chaos.inpod.usage_helper", "--every", "0.01", "--for", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    moments = [json.loads(line)["at"] for line in done.stdout.splitlines()]
    assert len(moments) >= 2
    assert moments == sorted(moments)
