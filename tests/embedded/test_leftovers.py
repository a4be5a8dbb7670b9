"""Whatever way and at whatever moment a cluster ends, nothing of it is left: processes, namespaces, mounts, cgroups,
files.

Each trial starts a runner in a process of its own, which brings a cluster up, makes and deletes pods without pause, and
takes the cluster down. At a random moment of one of these phases something ends: the runner by itself, the runner or
the cluster by a signal. Then nothing at all has to be done, but after SIGKILL of the cluster, which `sharedfate clean`
has to follow. A second cluster runs beside all of them, and must not notice.

Orphans come to the test's own process (it is their subreaper), so that no survivor can hide.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from chaos import interrupts
from chaos.cli import main
from chaos.cluster.providers import open_cluster
from chaos.embedded import provider
from chaos.embedded.kubelet import cgroups
from chaos.errors import EnvironmentUnfit, Misuse
from chaos.kube.client import Cluster
from chaos.names import IMAGE
from proof.endings import kills
from proof.endings.left import (
    GONE_SECONDS,
    cookies_below,
    descendants,
    everything_left,
    held_namespaces,
    is_dead,
    leftovers,
    orphans_come_here,
    survivors,
    words,
)
from tests.embedded.network.conftest import host_network
from tests.embedded.network.test_network import differences
from tests.report.synthetic import make_run

pytestmark = pytest.mark.privileged
PHASES: Final = {"start": 0.7, "churn": 1.5, "stop": 0.4}  # seconds within which the moment lies
WAYS: Final = (
    "exit",
    "SIGINT to runner",
    "SIGTERM to runner",
    "SIGKILL to runner",
    "SIGINT to cluster",
    "SIGTERM to cluster",
    "SIGKILL to cluster",
)
RUNNER: Final = """
import signal, sys, threading
from chaos.kube.client import Cluster
from chaos.embedded import provider

name, image = sys.argv[1:]
print("start", flush=True)
config = provider.up(name, nodes=2)
cluster = Cluster(config)
ending = threading.Event()

def listen():
    sys.stdin.read()
    ending.set()

threading.Thread(target=listen, daemon=True).start()
print("churn", flush=True)
number = 0
try:
    while not ending.is_set():
        number += 1
        meta = {"name": f"p{number}", "namespace": "default"}
        app = {"name": "app", "image": image, "command": ["sleep", "1000"]}
        volumes = [{"name": "m", "emptyDir": {"medium": "Memory"}}]
        spec = {"terminationGracePeriodSeconds": 1, "containers": [app], "volumes": volumes}
        cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        if number > 3:
            cluster.delete("Pod", f"p{number - 3}", "default", grace=number % 2)
        ending.wait(0.1)
except Exception:  # the cluster is gone: so it was meant
    if not ending.is_set():
        raise
print("stop", flush=True)
provider.down(name)
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """One end of one cluster."""

    way: str
    phase: str
    after: float  # seconds since the phase began

    def __str__(self) -> str:
        return f"{self.way}, {self.after:.2f} s into {self.phase}"


def plan_trials(count: int, seed: int) -> list[Trial]:
    """Every way in every phase in turn, at random moments."""
    chance = random.Random(seed)
    pairs = [(way, phase) for phase in PHASES for way in WAYS if not (way == "exit" and phase != "churn")]
    chance.shuffle(pairs)
    chosen = (pairs[number % len(pairs)] for number in range(count))
    return [Trial(way, phase, chance.uniform(0, PHASES[phase])) for way, phase in chosen]


def live(trial: Trial, name: str, scratch: Path) -> None:
    """Start, disturb, wait, and look: AssertionError with what is left."""
    before = descendants(os.getpid())
    environment = {**os.environ, "TMPDIR": str(scratch)}
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, name, IMAGE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    spaces: set[int] = set()
    try:
        assert runner.stdin is not None
        assert runner.stdout is not None
        for phase in PHASES:
            assert runner.stdout.readline() == f"{phase}\n", f"{trial}: the runner did not come to {phase}"
            if phase == trial.phase:
                time.sleep(trial.after)
                spaces = cookies_below(name)
                strike(trial, runner, name)
                break
            if phase == "churn":
                time.sleep(0.5)
                runner.stdin.close()
        deadline = time.monotonic() + GONE_SECONDS
        while (left := survivors(before | {runner.pid})) and time.monotonic() < deadline:
            asks_in_vain = trial.phase == "churn" or (trial.phase == "start" and all(is_dead(pid) for pid in left))
            if runner.poll() is None and trial.way.endswith("to cluster") and asks_in_vain:
                runner.kill()  # it goes on asking a cluster that is no more, and buries no child meanwhile
            time.sleep(0.02)
        assert not left, f"{trial}: processes {[words(pid) for pid in left]} are still there"
        runner.wait(GONE_SECONDS)
    finally:
        runner.kill()
        runner.wait()
        for pipe in (runner.stdin, runner.stdout):
            if pipe is not None:
                pipe.close()
    if trial.way == "SIGKILL to cluster":
        provider.clean(name)
    if trial.way == "SIGKILL to cluster" or (trial.phase == "churn" and not trial.way.endswith("to cluster")):
        assert not (provider.RUN / name).exists(), trial
    assert leftovers(name) == [], trial
    assert not spaces & held_namespaces(), trial
    assert list(scratch.iterdir()) == [], trial


def strike(trial: Trial, runner: subprocess.Popen[str], name: str) -> None:
    if trial.way == "exit":
        assert runner.stdin is not None
        runner.stdin.close()
        return
    number = signal.Signals[trial.way.split()[0]]
    pid: int | None = runner.pid
    if trial.way.endswith("to cluster"):
        deadline = time.monotonic() + GONE_SECONDS
        while (pid := provider._pid(provider.RUN / name)) is None and trial.phase == "start":
            assert time.monotonic() < deadline, f"{trial}: the cluster did not start"
            time.sleep(0.005)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def start_bystander(name: str) -> Cluster:
    """Another cluster, with a pod on it."""
    cluster = Cluster(provider.up(name, nodes=1))
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {"containers": [{"name": "app", "image": IMAGE, "command": ["sleep", "1000"]}]},
        }
    )
    cluster.wait("the bystander's pod runs", lambda: bystander_pod(cluster)["phase"] == "Running")
    return cluster


def bystander_pod(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get("Pod", "p", "default")["status"]
    return found


def run_trials(trials: list[Trial], scratch: Path) -> None:
    name = f"left-{os.getpid()}"
    network = host_network()
    try:
        with orphans_come_here(), contextlib.closing(start_bystander(f"{name}-b")) as bystander:
            pod = bystander_pod(bystander)
            for number, trial in enumerate(trials):
                folder = scratch / str(number)
                folder.mkdir()
                live(trial, f"{name}-{number}", folder)
            assert bystander_pod(bystander)["containerStatuses"] == pod["containerStatuses"]
    finally:
        provider.down(f"{name}-b")
        for number in range(len(trials)):
            provider.clean(f"{name}-{number}")
    assert leftovers(f"{name}-b") == []
    assert differences(network, host_network()) == {}


def test_nothing_is_left_of_a_cluster_that_ends_at_a_random_moment(tmp_path: Path) -> None:
    run_trials(
        [Trial("exit", "churn", 0.5), Trial("SIGKILL to cluster", "churn", 0.7), *plan_trials(4, seed=7)], tmp_path
    )


@pytest.mark.slow
def test_nothing_is_left_of_clusters_that_end_at_fifty_random_moments(tmp_path: Path) -> None:
    run_trials(plan_trials(50, seed=50), tmp_path)


@pytest.mark.parametrize("step", ["owner", "pid", "pki", "kubeconfig"])
def test_a_cluster_whose_runner_is_interrupted_at_a_step_of_its_start_ends_before_it(step: str) -> None:
    """The steps are files of its run directory: its process has not said its number at the first."""
    with interrupted_at(step) as (name, left):
        there = (provider.RUN / name).exists()
        assert (there, left()) == (False, [])


def test_a_cluster_whose_runner_is_interrupted_as_it_becomes_ready_ends_with_it() -> None:
    """`up` may have returned by then: the cluster ends because its runner does, so perhaps a moment later."""
    with interrupted_at("ready") as (name, left):
        assert left() == []
        assert not (provider.RUN / name).exists()


@contextlib.contextmanager
def interrupted_at(step: str) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """A cluster's name after a SIGINT to its runner at `step`, and what is left once its processes are gone."""
    name = f"step{os.getpid()}-{step}"
    try:
        with orphans_come_here():
            before = descendants(os.getpid())
            runner = subprocess.Popen(
                [sys.executable, "-c", RUNNER, name, IMAGE], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            while not (provider.RUN / name / step).exists():
                assert runner.poll() is None
                time.sleep(0.002)
            runner.send_signal(signal.SIGINT)
            runner.communicate(timeout=GONE_SECONDS)
            yield name, functools.partial(everything_left, name, before=before, spaces=set())
    finally:
        provider.clean(name)


@pytest.mark.parametrize("mode", kills.MODES)
def test_nothing_is_left_of_a_run_that_is_killed_while_it_deploys(mode: str) -> None:
    """One moment; `python -m proof.endings kills` tries hundreds."""
    network = host_network()
    with orphans_come_here():
        seen = kills.kill(f"dep{os.getpid()}-{mode}", kills.Kill(mode, 1.5, at_once=mode == "node"))
    assert seen["counts"]
    assert seen["wrong"] == []
    assert differences(network, host_network()) == {}


def orphaned(name: str, program: str) -> subprocess.Popen[str]:
    """A runner that has brought a cluster up by `program`, which prints `up`."""
    runner = subprocess.Popen([sys.executable, "-c", program, name], stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    assert runner.stdout.readline() == "up\n"
    return runner


KEEPING: Final = """
import sys, time
from chaos.embedded import provider

provider.up(sys.argv[1], nodes=1)
print("up", flush=True)
time.sleep(600)
"""
UNABLE: Final = """
import sys, asyncio
import chaos.embedded.cluster_process as c

c.DOWN_SECONDS = 1.0

async def never(self):
    await asyncio.sleep(1000)

c.ClusterProcess._stop = never
from chaos.embedded.__main__ import main
main(sys.argv[1:])
"""
KEEPING_ONE_THAT_CANNOT_GO_DOWN: Final = f"""
import subprocess

popen = subprocess.Popen
rest = lambda command: command[command.index("chaos.embedded") + 1 :]
subprocess.Popen = lambda command, **named: popen([command[0], "-c", {UNABLE!r}, *rest(command)], **named)
{KEEPING}
"""


def test_clean_ends_a_cluster_whose_owner_is_gone_whatever_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped by SIGSTOP, so that nothing within it can notice anything."""
    name = f"stuck{os.getpid()}"
    runner = orphaned(name, KEEPING)
    pid = provider._pid(provider.RUN / name)
    assert pid is not None
    try:
        with orphans_come_here():
            os.kill(pid, signal.SIGSTOP)
            assert provider.clean(name) == []  # its owner lives
            assert provider.detect_remains(name) == []
            runner.kill()
            runner.communicate()
            monkeypatch.setattr(provider, "DOWN_SECONDS", 1.0)
            foretold = provider.detect_remains(name)
            assert {f"directory {provider.RUN / name}", f"process {pid}"} <= set(foretold)
            assert f"directory {provider.RUN / name}" in provider.clean(name)
            assert leftovers(name) == []
            assert not (provider.RUN / name).exists()
    finally:
        runner.kill()
        runner.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        provider.clean(name)


def test_a_cluster_that_cannot_go_down_is_ended_by_force_once_its_owner_is_gone() -> None:
    name = f"forced{os.getpid()}"
    with orphans_come_here():
        before = descendants(os.getpid())
        runner = orphaned(name, KEEPING_ONE_THAT_CANNOT_GO_DOWN)
        runner.kill()
        runner.communicate()
        deadline = time.monotonic() + GONE_SECONDS
        while (left := survivors(before)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left, [words(pid) for pid in left]
        assert leftovers(name) == []
    provider.clean(name)
    assert not (provider.RUN / name).exists()


STARTING: Final = """
import sys
from chaos.embedded import provider
from chaos.errors import EnvironmentUnfit

first_words = provider._first_words

def late(line):
    words = first_words(line)
    print("ended", flush=True)
    sys.stdin.readline()
    return words

provider._first_words = late
print("start", flush=True)
try:
    provider.up(sys.argv[1], nodes=1)
except EnvironmentUnfit as error:
    print(error, flush=True)
"""


def test_a_start_that_was_ended_by_another_leaves_the_cluster_that_has_its_name_since() -> None:
    name = f"again{os.getpid()}"
    directory = provider.run_directory(name)
    command = [sys.executable, "-c", STARTING, name]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
            assert runner.stdout is not None
            assert runner.stdout.readline() == "start\n"
            while not (directory / "pki").exists():
                time.sleep(0.002)
            assert provider.down(name)
            assert runner.stdout.readline() == "ended\n"
            provider.up(name, nodes=1)
            before = provider.status(name), (directory / "log").stat().st_ino
            said, _ = runner.communicate("\n", timeout=GONE_SECONDS)
            assert said == f"the embedded cluster {name} was told to end, by somebody else, while it started\n"
            assert (provider.status(name), (directory / "log").stat().st_ino) == before
    finally:
        provider.down(name)
    assert leftovers(name) == []


def test_cleaning_after_one_run_leaves_anothers_dead_cluster() -> None:
    mine, theirs = f"sf-m{os.getpid()}", f"sf-t{os.getpid()}"
    try:
        for name in (mine, theirs):
            provider.run_directory(name).mkdir(parents=True)
            (provider.run_directory(name) / "log").write_text("x")
        done = CliRunner().invoke(main, ["clean", "--run", mine.removeprefix("sf-"), "--dry-run"])
        assert (done.exit_code, done.output) == (0, f"would be removed: directory {provider.RUN / mine}\n")
        assert provider.run_directory(mine).exists()
        done = CliRunner().invoke(main, ["clean", "--run", mine.removeprefix("sf-")])
        assert (done.exit_code, done.output) == (0, f"directory {provider.RUN / mine}\n")
        assert (provider.run_directory(mine).exists(), provider.run_directory(theirs).exists()) == (False, True)
    finally:
        provider.clean(mine)
        provider.clean(theirs)


def test_what_a_link_among_the_run_directories_leads_to_is_not_removed(tmp_path: Path) -> None:
    name = f"sf-link{os.getpid()}"
    (tmp_path / "precious").write_text("x")
    provider.RUN.mkdir(parents=True, exist_ok=True)
    link = provider.run_directory(name)
    link.symlink_to(tmp_path)
    try:
        assert name not in provider.names()
        for words in (["clean", "--run", name.removeprefix("sf-")], ["cluster", "up", "--name", name]):
            done = CliRunner().invoke(main, words)
            assert isinstance(done.exception, Misuse) or done.exit_code == 4, done.output
        assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    finally:
        link.unlink()


def test_a_process_that_outlives_its_cluster_is_caught() -> None:
    with orphans_come_here():
        before = descendants(os.getpid())
        command = (
            "import subprocess, sys; child = [sys.executable, '-c', 'import time; time.sleep(60)']; "
            "print(subprocess.Popen(child, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
        )
        done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
        left = survivors(before)
        assert left == {int(done.stdout)}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert survivors(before) == set()


def test_what_a_process_assembled_by_itself_is_left_alone_while_it_lives_and_cleaned_once_it_is_killed() -> None:
    name = f"claimed{os.getpid()}"
    command = (
        "import sys, time; from chaos.embedded.provider import claimed; from chaos.embedded.kubelet import cgroups; "
        "import os\n"
        "with claimed(sys.argv[1]) as run_dir:\n"
        "    (run_dir / 'something').write_text('x')\n"
        "    for root in set(cgroups.controllers().values()):\n"
        "        os.makedirs(root + cgroups.ROOT + '/' + sys.argv[1] + '/node', exist_ok=True)\n"
        "    print('made', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", command, name], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        tops = [Path(root + cgroups.ROOT) / name for root in set(cgroups.controllers().values())]
        assert provider.clean(name) == []
        assert all(top.is_dir() for top in tops)
        process.kill()
    assert f"cgroup {cgroups.ROOT}/{name}" in provider.clean(name)
    assert not any(top.exists() for top in tops)
    assert not provider.run_directory(name).exists()


def test_a_cluster_that_dies_ends_a_sleep_and_every_call_within_two_seconds() -> None:
    name = f"dies{os.getpid()}"
    with (
        interrupts.listening(),
        contextlib.suppress(EnvironmentUnfit),
        open_cluster("embedded", name=name, nodes=1) as cluster,
    ):
        pid = provider._pid(provider.RUN / name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(EnvironmentUnfit, match=f"{name} has ended by SIGKILL"):
            time.sleep(30)
        with pytest.raises(EnvironmentUnfit, match="has ended by SIGKILL"):
            cluster.get("Namespace", "default")
        assert time.monotonic() - began < 2
    assert leftovers(name) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """In a mount namespace of its own, on a file system of 300 kB that holds a run and not its reports."""
    make_run(tmp_path / "run", modes=("node",))
    size = sum(path.stat().st_size // 4096 + 1 for path in (tmp_path / "run").rglob("*")) * 4096 + 16384
    (tmp_path / "small").mkdir()
    script = (
        f"mount -t tmpfs -o size={size} none {tmp_path}/small && cp -r {tmp_path}/run {tmp_path}/small/ && "
        f"exec {sys.executable} -m chaos report {tmp_path}/small/run"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 4, done.stderr
    assert done.stderr.splitlines() == ["sharedfate: No space left on device"]
