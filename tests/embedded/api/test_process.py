"""The cluster's process: starts quickly, ends with its runner, and nothing of it stays, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.embedded import provider
from chaos.embedded.kubelet import cgroups
from chaos.errors import ApiError, EnvironmentUnfit, Misuse
from chaos.kube.client import Cluster
from chaos.names import IMAGE

pytestmark = pytest.mark.privileged
_number = iter(range(10_000))


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"proc-{os.getpid()}-{next(_number)}"
    yield chosen
    provider.down(chosen)


def traces(name: str) -> list[str]:
    """What is left of a cluster: processes, cgroups, mounts, its directory."""
    tree = f"{cgroups.ROOT}/{name}"
    found = [f"process {pid}" for pid in provider._processes(provider.RUN / name, tree)]
    found += [root + tree for root in set(cgroups.controllers().values()) if Path(root + tree).exists()]
    found += provider._mounts(provider.RUN / name)
    found += [str(path) for path in [provider.RUN / name] if path.exists()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"/run/sharedfate/{name}".encode() in (entry / "cmdline").read_bytes():
                    found.append(f"process {entry.name} by its command line")
            except OSError:
                continue
    return found


def busy(config: Path, name: str) -> None:
    """A few pods, running."""
    cluster = Cluster(config)
    try:
        for number in range(3):
            cluster.create(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"p{number}", "namespace": "default"},
                    "spec": {"containers": [{"name": "app", "image": IMAGE, "command": ["sleep", "1000"]}]},
                }
            )
        cluster.wait(
            "pods running",
            lambda: all(one.get("status", {}).get("phase") == "Running" for one in cluster.list("Pod", "default")),
        )
    finally:
        cluster.close()


def test_up_and_down_leave_nothing(name: str) -> None:
    config = provider.up(name, nodes=2)
    found = provider.status(name)
    assert found is not None
    assert found.state == "up"
    busy(config, name)
    assert provider.down(name)
    assert traces(name) == []
    assert provider.clean(name) == []
    assert provider.status(name) is None


def test_two_clusters_live_side_by_side(name: str) -> None:
    other = f"{name}-b"
    try:
        one, two = (Cluster(provider.up(which, nodes=1)) for which in (name, other))
        one.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "only-here"}})
        assert two.find("Namespace", "only-here") is None
        one.close()
        two.close()
        provider.down(name)
        survivor = provider.status(other)
        assert survivor is not None
        assert survivor.state == "up"
    finally:
        provider.down(other)
    assert traces(name) + traces(other) == []


def test_a_second_cluster_of_the_same_name_is_refused(name: str) -> None:
    provider.up(name, nodes=1)
    with pytest.raises(Misuse, match="already runs"):
        provider.up(name, nodes=1)


def test_a_cluster_dies_with_its_runner(name: str) -> None:
    script = (
        f"from chaos.embedded import provider; import time; provider.up({name!r}, nodes=1); print('up', flush=True); "
        "time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "up\n"
        runner.kill()
    deadline = time.monotonic() + 30
    while (found := provider.status(name)) is not None and found.state != "dead":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [one for one in provider.clean(name) if not one.startswith("directory")] == []
    assert traces(name) == []


def test_a_kept_cluster_outlives_its_runner(name: str) -> None:
    script = f"from chaos.embedded import provider; provider.up({name!r}, nodes=1, keep=True)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    found = provider.status(name)
    assert found is not None
    assert found.state == "up"
    cluster = Cluster(found.kubeconfig)
    assert len(cluster.list("Node")) == 1
    cluster.close()


@pytest.mark.parametrize("moment", [0.05, 0.25, 0.45, "busy"])
def test_clean_after_sigkill_leaves_nothing(name: str, moment: float | str) -> None:
    if moment == "busy":
        busy(provider.up(name, nodes=2), name)
        found = provider.status(name)
        assert found is not None
        assert found.pid is not None
        os.kill(found.pid, signal.SIGKILL)
    else:
        script = f"from chaos.embedded import provider; provider.up({name!r}, nodes=2)"
        with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as runner:
            directory = provider.RUN / name
            while not (directory / "pid").exists():
                time.sleep(0.005)
            pid = int((directory / "pid").read_text())
            time.sleep(float(moment))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            runner.kill()
    deadline = time.monotonic() + 30
    while (found := provider.status(name)) is not None and found.state != "dead":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    provider.clean(name)
    assert traces(name) == []


@pytest.mark.slow
def test_clean_after_sigkill_at_fifty_random_moments_leaves_nothing(name: str) -> None:
    chance = random.Random(50)
    for _ in range(50):
        test_clean_after_sigkill_leaves_nothing(name, chance.uniform(0, 1.2))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_takes_the_cluster_down_in_order(name: str, number: signal.Signals) -> None:
    config = provider.up(name, nodes=2)
    busy(config, name)
    found = provider.status(name)
    assert found is not None
    assert found.pid is not None
    os.kill(found.pid, number)
    child = provider._children[name].process
    assert child.wait(30) == 0
    assert [one for one in traces(name) if one != str(provider.RUN / name)] == []


def test_a_node_can_lose_its_power_its_link_and_its_kubelet(name: str) -> None:
    cluster = Cluster(provider.up(name, nodes=["n1", "n2"]))
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {
                "nodeName": "n2",
                "containers": [{"name": "app", "image": IMAGE, "command": ["sh", "-c", "echo said; sleep 1000"]}],
            },
        }
    )
    cluster.wait("a log", lambda: cluster.get("Pod", "p", "default")["status"]["phase"] == "Running")
    for off, on in (("cut-link", "restore-link"), ("stop-kubelet", "start-kubelet"), ("power-off", "power-on")):
        cluster.request("POST", f"/embedded/nodes/n2/{off}")
        with pytest.raises(ApiError, match="the kubelet of node n2 cannot be reached") as error:
            cluster.open("GET", "/api/v1/namespaces/default/pods/p/log")
        assert error.value.code == 503
        cluster.request("POST", f"/embedded/nodes/n2/{on}")
        assert cluster.logs("default", "p").startswith("said")
    for operation in ("cut-link", "restore-link", "stop-kubelet", "start-kubelet", "power-off", "power-on"):
        cluster.request("POST", f"/embedded/nodes/n2/{operation}")
    with pytest.raises(Exception, match="want /embedded/nodes/NODE/OPERATION"):
        cluster.request("POST", "/embedded/nodes/n2/explode")
    cluster.close()


def test_a_name_that_cannot_be_one_is_refused_before_anything_starts() -> None:
    for bad in ("", "Upper", "a/b", "..", "x" * 60):
        with pytest.raises(Misuse, match="cluster name"):
            provider.up(bad)


def test_a_missing_binary_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentUnfit, match=r"runc is not on PATH: install it, e.g. apt-get install runc"):
        provider.up(name)
    assert traces(name) == []


def test_the_log_of_a_cluster_that_did_not_come_up_is_kept_until_it_is_cleaned(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "UP_SECONDS", 0.01)
    log = provider.RUN / name / "log"
    with pytest.raises(EnvironmentUnfit, match=f"did not start: .*{log}"):
        provider.up(name)
    assert log.exists()
    assert traces(name) == [str(log.parent)]
    assert provider.clean(name) == [f"directory {log.parent}"]
    assert traces(name) == []


def test_a_start_logs_no_traceback_and_answers_no_request_with_a_server_error(name: str) -> None:
    provider.up(name, nodes=2)
    log = (provider.RUN / name / "log").read_text()
    assert "Traceback" not in log
    rows = [json.loads(line) for line in (provider.RUN / name / "audit.jsonl").read_text().splitlines()]
    assert all(row["code"] < 500 for row in rows)
