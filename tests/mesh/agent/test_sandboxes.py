"""Pods are found by /proc alone, in every layout that a node may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chaos.mesh.agent.sandboxes import Sandbox, detect_pod, find_sandboxes, link, listening_ports, prune

UID = "0b1e6f8a-3c55-4a7e-9c0e-2f1d7d5a9b10"
CID = "c" * 64


@pytest.mark.parametrize(
    "line",
    [
        f"0::/kubepods/burstable/pod{UID}/{CID}",
        f"12:cpu,cpuacct:/kubepods/besteffort/pod{UID}/{CID}",
        f"0::/kubepods.slice/kubepods-burstable.slice/"
        f"kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-containerd-{CID}.scope",
        f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/crio-{CID}.scope",
        f"0::/../../pod{UID}/{CID}",
        f"0::/../kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-containerd-{CID}.scope",
        f"3:memory:/kubelet/kubepods/pod{UID}/{CID}",
    ],
    ids=["cgroupfs", "v1", "containerd", "crio", "namespaced", "namespaced-systemd", "kind"],
)
def test_a_pod_is_recognised_in_every_layout(line: str) -> None:
    assert detect_pod(f"1:name=systemd:/\n{line}\n") == UID


@pytest.mark.parametrize(
    "line", ["0::/system.slice/ssh.service", "0::/", "0::/kubepods/podless/abc", f"0::/kubepods/pod{UID[:-1]}/x"]
)
def test_other_processes_are_no_pods(line: str) -> None:
    assert detect_pod(line) is None


def _process(proc: Path, pid: int, cgroup: str, netns: Path, started: int) -> None:
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "net").mkdir()
    (folder / "cgroup").write_text(cgroup)
    (folder / "stat").write_text(f"{pid} (a b) c) S {' '.join(str(n) for n in range(18))} {started} 0\n")
    (folder / "ns" / "net").symlink_to(netns)


def test_the_oldest_process_of_a_pod_stands_for_it(tmp_path: Path) -> None:
    host, own = tmp_path / "host", tmp_path / "own"
    host.touch()
    own.touch()
    proc = tmp_path / "proc"
    _process(proc, 1, "0::/init.scope", host, 1)
    _process(proc, 40, f"0::/kubepods/pod{UID}/app", own, 900)
    _process(proc, 30, f"0::/kubepods/pod{UID}/pause", own, 500)
    _process(proc, 50, f"0::/kubepods/pod{UID[:-1]}1/hostnetwork", host, 500)
    assert find_sandboxes(proc) == {UID: Sandbox(UID, 30, own.stat().st_ino)}


def test_links_follow_the_process_and_go_with_the_sandbox(tmp_path: Path) -> None:
    first, second = Sandbox(UID, 30, 7), Sandbox(UID, 31, 7)
    link(tmp_path, first)
    link(tmp_path, second)
    assert os.readlink(tmp_path / first.name) == "/proc/31/ns/net"
    assert prune(tmp_path, {first.name}) == []
    assert prune(tmp_path, set()) == [first.name]
    assert list(tmp_path.iterdir()) == []


def test_only_listening_sockets_are_evidence(tmp_path: Path) -> None:
    net = tmp_path / "9" / "net"
    net.mkdir(parents=True)
    head = "  sl  local_address rem_address   st tx_queue\n"
    (net / "tcp").write_text(head + "   0: 0100007F:3A99 00000000:0000 0A 0\n   1: 0A00F40A:3A9E 0B00F40A:1234 01 0\n")
    assert listening_ports(9, tmp_path) == {15001}
