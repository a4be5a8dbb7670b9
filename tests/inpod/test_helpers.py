"""What runs inside helper pods, on real processes: the memory of a real cgroup filled, a real hog, a loop of real
deaths.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.embedded.kubelet import cgroups
from chaos.inpod import process_helper as helper
from chaos.inpod.cgroups import detect_directory
from chaos.inpod.oom_helper import LIMITS

pytestmark = pytest.mark.privileged
LIMIT = 48 << 20
_OOM = (
    "import sys; from chaos.inpod import oom_helper; pids = [int(sys.argv.pop(1))]; "
    "oom_helper.processes = lambda uid, container: pids; sys.exit(oom_helper.main(sys.argv[1:]))"
)


@pytest.fixture
def confined() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a memory cgroup of its own with a limit."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("needs root: control groups")
    where = cgroups.controllers()
    root, limit = (where[""], "memory.max") if "" in where else (where["memory"], "memory.limit_in_bytes")
    directory = Path(root, f"sharedfate-test-{os.getpid()}")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        directory.mkdir()
        if "" in where:  # version 2 hands a controller out when it is asked to
            Path(root, "cgroup.subtree_control").write_text("+memory")
        (directory / limit).write_text(str(LIMIT))
        (directory / "cgroup.procs").write_text(str(process.pid))
        yield process
    finally:
        process.kill()
        process.wait()
        for _ in range(100):  # the kernel tells nobody when a killed process has left its cgroup
            with contextlib.suppress(OSError):
                directory.rmdir()
                break
            time.sleep(0.02)


def test_a_full_memory_cgroup_kills_the_container_and_not_the_filler(confined: subprocess.Popen[bytes]) -> None:
    command = [
        sys.executable,
        "-c",
        _OOM,
        str(confined.pid),
        "out-of-memory",
        "--uid",
        "u",
        "--container",
        "c",
        "--most",
        "64",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = json.loads(done.stdout)
    assert (said["phase"], said.get("limit")) == ("injected", LIMIT), said
    assert said["oom_kills"] >= 1
    assert confined.wait(5) == -signal.SIGKILL


def test_a_limit_that_is_too_high_is_not_filled(confined: subprocess.Popen[bytes]) -> None:
    command = [
        sys.executable,
        "-c",
        _OOM,
        str(confined.pid),
        "out-of-memory",
        "--uid",
        "u",
        "--container",
        "c",
        "--most",
        "16",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, json.loads(done.stdout)["phase"]) == (helper.NO_EFFECT, "refused")
    assert confined.poll() is None


def test_the_directory_that_is_detected_holds_the_process(confined: subprocess.Popen[bytes]) -> None:
    directory, version = detect_directory(
        Path("/proc/self/mountinfo").read_text(), Path(f"/proc/{confined.pid}/cgroup").read_text(), "memory"
    )
    assert str(confined.pid) in Path(directory, "cgroup.procs").read_text().split()
    assert int(Path(directory, LIMITS[version]).read_text()) == LIMIT


def test_a_hog_says_what_it_got_and_ends_when_it_is_told() -> None:
    command = [sys.executable, "-m", "chaos.inpod.hog", "hog", "--cores", "1", "--memory", "24", "--for", "30"]
    hog = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert hog.stdout is not None
        said = json.loads(hog.stdout.readline())
        assert said["phase"] == "injected"
        assert said["cores"] > 0.05
        assert said["resident_mib"] >= 24
        hog.terminate()
        assert '"recovered"' in hog.communicate(timeout=10)[0]
    finally:
        hog.kill()
        hog.communicate()


_LOOP = """
import sys
from chaos.inpod import process_helper as helper
def mine(uid, container):
    pids = [int(entry.name) for entry in helper.Path("/proc").iterdir() if entry.name.isdigit()]
    parts = {pid: helper.command_line(pid).split(bytes(1)) for pid in pids if helper.state(pid)}
    wanted = (sys.argv[1].encode(), b"import time; time.sleep(60)")
    return sorted(pid for pid, line in parts.items() if all(part in line for part in wanted))
helper.processes = mine
sys.exit(helper.main(["crash-loop", "--uid", "u", "--container", "c", "--for", "20"]))
"""


def test_each_successor_dies_until_the_loop_is_told_to_end() -> None:
    mark = f"loop-{os.getpid()}"
    victim = [sys.executable, "-c", "import time; time.sleep(60)", mark]
    first = subprocess.Popen(victim)
    loop = subprocess.Popen([sys.executable, "-c", _LOOP, mark], stdout=subprocess.PIPE, text=True)
    try:
        assert first.wait(20) == -signal.SIGKILL
        second = subprocess.Popen(victim)
        assert second.wait(20) == -signal.SIGKILL
        loop.terminate()
        assert loop.wait(10) == 0
        assert loop.stdout is not None
        lines = [json.loads(line) for line in loop.stdout.read().splitlines()]
        assert (lines[-1]["phase"], lines[-1]["kills"]) == ("recovered", 2)
        third = subprocess.Popen(victim)
        with pytest.raises(subprocess.TimeoutExpired):
            third.wait(0.5)
        third.kill()
        third.wait()
    finally:
        loop.kill()
        loop.communicate()
