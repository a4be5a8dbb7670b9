"""The helper's work on real processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.inpod import process_helper as helper


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


OPENING = """
import os, sys
if len(sys.argv) > 1:
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
for _ in sys.stdin:
    try:
        open("/dev/null").close()
        print("opened", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


@pytest.fixture(params=[[], ["65532"]], ids=["our user", "another user"])
def opening(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that opens a file for each line that it is sent, and says how that went."""
    if request.param and os.getuid():
        pytest.skip("only root acts on another user's processes")
    process = subprocess.Popen(
        [sys.executable, "-c", OPENING, *request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def opens(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_process_without_a_descriptor_opens_no_file_until_its_limit_is_as_it_was(
    opening: subprocess.Popen[str],
) -> None:
    assert opens(opening) == "opened"
    was = helper.files_of(opening.pid)
    assert was["spare"] == was["limit"] - was["open"] > 0
    before: dict[int, int] = {}
    helper.fill_files([opening.pid], before)
    assert before == {opening.pid: was["limit"]}
    assert helper.files_of(opening.pid)["spare"] == 0
    assert opens(opening) == str(errno.EMFILE)
    helper.fill_files([opening.pid], before)  # what was cut already is no limit to go back to
    assert helper.free_files([opening.pid], before) == before == {opening.pid: was["limit"]}
    assert opens(opening) == "opened"


def test_an_undo_that_does_not_know_the_limit_gives_as_much_as_may_be_had(opening: subprocess.Popen[str]) -> None:
    assert opens(opening) == "opened"
    _, hard = helper.file_limits(opening.pid)
    helper.fill_files([opening.pid], {})
    assert helper.free_files([opening.pid], {}) == {opening.pid: hard}
    assert opens(opening) == "opened"


def test_who_has_gone_has_no_files_to_be_counted() -> None:
    assert helper.files_of(2**22 + 1) == {}
    before: dict[int, int] = {}
    helper.fill_files([2**22 + 1], before)
    assert before == {}
    assert helper.free_files([2**22 + 1], {}) == {}


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
