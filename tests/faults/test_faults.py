"""Faults without a cluster: receipts, selection, and the helper's work on real processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.errors import Misuse, NoTargets
from chaos.faults.catalogue import FAULTS, fault_class, fault_from
from chaos.faults.injection import injected
from chaos.faults.kill import Kill
from chaos.faults.model import Fault, Receipt, Target, refuse_wrong_target, settings_of
from chaos.faults.selection import Pick, pick
from chaos.inpod import process_helper as helper
from chaos.model.faulting import FaultShape

TARGET = Target("container", "p", "ns", "0a-1b", "proxy", "containerd://abc", "n1")


def test_a_receipt_survives_its_json() -> None:
    receipt = Receipt("1", "run", "kill", settings_of(Kill()), TARGET, 5, facts={"restarts": 0})
    assert Receipt.from_json(receipt.to_json()) == receipt


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_of_the_catalogue_keeps_the_protocol(name: str) -> None:
    found = fault_class(name)
    assert found.name == name
    assert found.shape in FaultShape
    assert all(hasattr(found, method) for method in ("plan", "inject", "recover"))


def test_a_fault_comes_back_from_its_settings() -> None:
    fault: Fault = Kill(signal=15)
    assert fault_from("kill", settings_of(fault)) == fault


def test_an_unknown_fault_names_those_that_exist() -> None:
    with pytest.raises(Misuse, match=r"known are .*kill"):
        fault_class("kil")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(Misuse, match="no setting signl"):
        fault_from("kill", {"signl": 9})


def test_an_empty_selection_is_an_error() -> None:
    with pytest.raises(NoTargets, match="proxies of tenant z"):
        pick([], Pick.ALL, what="proxies of tenant z")


def test_a_fault_without_a_target_is_an_error_and_touches_nothing() -> None:
    with pytest.raises(NoTargets), injected(None, Kill(), run="r"):  # type: ignore[arg-type]
        pytest.fail("the block must not run")


def test_the_same_seed_picks_the_same_target() -> None:
    names = [str(n) for n in range(50)]
    first = pick(names, Pick.RANDOM, what="x", chance=random.Random(3))
    assert first == pick(reversed(names), Pick.RANDOM, what="x", chance=random.Random(3))


def test_a_fault_refuses_a_kind_of_target_that_it_does_not_take() -> None:
    with pytest.raises(Misuse, match="acts on container"):
        refuse_wrong_target(Kill(), Target("node", "n1"))


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


def fake_proc(folder: Path, pid: int, cgroup: str, inner: int = 1) -> None:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "cgroup").write_text(f"4:memory:{cgroup}\n")
    (folder / str(pid) / "status").write_text(f"Name:\tx\nNSpid:\t{pid}\t{inner}\n")


@pytest.mark.parametrize(
    "cgroup",
    [
        "/kubepods/burstable/pod0a-1b/abc",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a_1b.slice/cri-containerd-abc.scope",
        "/kubepods.slice/kubepods-pod0a_1b.slice/crio-abc.scope",
    ],
)
def test_a_containers_processes_are_found_by_its_cgroup_first_process_first(tmp_path: Path, cgroup: str) -> None:
    fake_proc(tmp_path, 20, cgroup, inner=7)
    fake_proc(tmp_path, 30, cgroup, inner=1)
    fake_proc(tmp_path, 40, cgroup.replace("abc", "def"))
    fake_proc(tmp_path, 50, cgroup.replace("1b", "2c"))
    assert helper.processes("0a-1b", "abc", tmp_path) == [30, 20]


def test_a_killed_process_is_seen_gone(child: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    assert helper.kill([child.pid], signal.SIGKILL, 5.0)
    assert '"phase": "injected"' in capsys.readouterr().out


def test_a_signal_that_ends_nothing_is_no_effect(child: subprocess.Popen[bytes]) -> None:
    assert not helper.kill([child.pid], signal.SIGCONT, 0.1)


def test_a_stopped_process_is_seen_stopped_and_then_not(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "processes", lambda uid, container_id: [child.pid])
    assert helper.set_stopped("u", "c", True) == [child.pid]
    assert helper.state(child.pid) == "T"
    assert helper.set_stopped("u", "c", False) == [child.pid]
    assert helper.state(child.pid) != "T"


def test_a_container_without_processes_is_said_to_have_vanished(capsys: pytest.CaptureFixture[str]) -> None:
    with_mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        assert helper.main(["kill", "--uid", "none-such", "--container", "none-such"]) == helper.VANISHED
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, with_mask)
    assert "vanished" in capsys.readouterr().out
