"""Nodes as machines of their own: what their pods can and cannot reach, power, kubelet, link, logs, exec, usage."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import orjson
import pytest

from chaos.embedded import store
from chaos.embedded.kubelet import worker
from chaos.embedded.kubelet.cgroups import controllers, remove_tree
from chaos.embedded.resources import LEASE, NODE, POD
from chaos.names import IMAGE
from tests.embedded.kubelet.nodes import World, container, in_world, pod, shell

pytestmark = pytest.mark.privileged


def test_a_node_sees_neither_the_machines_processes_nor_its_siblings() -> None:
    async def body(world: World) -> None:
        marker = f"marker-{os.getpid()}"
        outside = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", marker + "-machine"])
        try:
            everything = {"hostPID": True}
            privileged = {"securityContext": {"privileged": True}}
            for number in (1, 2):
                world.create(
                    pod(
                        f"p{number}",
                        container("app", "python3", "-c", "import time; time.sleep(600)", f"{marker}-{number}"),
                        node=f"node-{number}",
                    )
                )
                world.create(
                    pod(
                        f"spy{number}",
                        shell("app", "exec sleep 600", **privileged),
                        node=f"node-{number}",
                        **everything,
                    )
                )
            for name in ("p1", "p2", "spy1", "spy2"):
                await world.ready(name)
            for number in (1, 2):
                _, seen = await world.run(f"spy{number}", "app", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
                assert f"{marker}-{number}" in seen
                assert f"{marker}-{3 - number}" not in seen
                assert f"{marker}-machine" not in seen
                _, refused = await world.run(
                    f"spy{number}", "app", "sh", "-c", f"kill -9 {outside.pid} || kill -9 -{outside.pid}"
                )
                assert "No such process" in refused
            assert outside.poll() is None
            assert all(world.status(name, "app")["restartCount"] == 0 for name in ("p1", "p2"))
        finally:
            outside.kill()
            outside.wait()

    in_world(body, nodes=2)


def test_a_pod_is_found_in_its_node_by_uid_and_container_id_and_can_be_signalled_from_a_helper() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600")))
        world.create(pod("helper", shell("app", "exec sleep 600", securityContext={"privileged": True}), hostPID=True))
        await world.ready("p")
        await world.ready("helper")
        uid = world.store.get(POD, "default", "p")["metadata"]["uid"]
        cid = world.status("p", "app")["containerID"].partition("://")[2]
        find = f"grep -l 'pod{uid}/{cid}' /proc/[0-9]*/cgroup | cut -d/ -f3 | sort -n | head -1"
        code, said = await world.run("helper", "app", "sh", "-c", f"kill -9 $({find})")
        assert (code, said) == (0, "")
        await world.until(lambda: world.status("p", "app")["restartCount"] == 1)
        _, paths = await world.run("helper", "app", "sh", "-c", "cat /proc/[0-9]*/cgroup | grep kubepods | head -1")
        assert paths.partition("/")[2].startswith("kubepods/")

    in_world(body)


def test_a_pod_whose_sandbox_was_killed_gets_a_new_one() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600"), terminationGracePeriodSeconds=1))
        world.create(pod("helper", shell("app", "exec sleep 600", securityContext={"privileged": True}), hostPID=True))
        await world.ready("p")
        await world.ready("helper")
        uid = world.store.get(POD, "default", "p")["metadata"]["uid"]
        find = f"grep -l pod{uid}/sandbox /proc/[0-9]*/cgroup | cut -d/ -f3"
        assert await world.run("helper", "app", "sh", "-c", f"kill -9 $({find})") == (0, "")
        await world.until(
            lambda: world.status("p", "app")["restartCount"] == 1 and world.conditions("p")["Ready"] == "True"
        )
        assert any(reason == "SandboxChanged" for reason, _ in world.events("p"))
        await world.delete("p")

    in_world(body)


def test_homes_and_credentials_are_masked_and_the_installation_is_there() -> None:
    async def body(world: World) -> None:
        secret = Path(f"/tmp/kubelet-test-secret-{os.getpid()}")
        secret.write_text("secret")
        try:
            world.create(
                pod(
                    "p",
                    shell("app", "exec sleep 600", securityContext={"privileged": True}),
                    hostPID=True,
                    volumes=[{"name": "root", "hostPath": {"path": "/"}}],
                )
            )
            await world.ready("p")
            for root, word in (("", "No such file"), ("/proc/1/root", "Permission denied")):
                _, said = await world.run(
                    "p",
                    "app",
                    "sh",
                    "-c",
                    f"cat {root}/etc/shadow {root}{secret}; ls -A {root}/home {root}/run/sharedfate",
                )
                assert said.count(word) >= 2
                assert world.run_dir.name not in said
                _, homes = await world.run("p", "app", "sh", "-c", f"ls -A {root}{Path.home()} 2>/dev/null")
                assert set(homes.split()) <= {part for path in world.node.machine().binds for part in path.split("/")}
            code, said = await world.run(
                "p", "app", "python", "-c", "import chaos.names, aiohttp; print(chaos.names.IMAGE)"
            )
            assert (code, said.strip()) == (0, IMAGE)
            code, said = await world.run("p", "app", "envoy", "--version")
            assert code == 0
            assert "envoy" in said
        finally:
            secret.unlink()

    in_world(body)


def test_what_a_container_writes_stays_in_it() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "echo x > /opt/kubelet-test; echo y > /etc/kubelet-test; exec sleep 600")))
        world.create(pod("q", shell("app", "exec sleep 600")))
        await world.ready("p")
        await world.ready("q")
        code, _ = await world.run("q", "app", "test", "-e", "/opt/kubelet-test")
        assert code == 1
        assert not Path("/opt/kubelet-test").exists()
        assert not Path("/etc/kubelet-test").exists()

    in_world(body)


def test_after_a_power_cycle_containers_read_unknown_and_run_again_in_a_new_sandbox() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600")))
        await world.ready("p")
        before = world.status("p")["podIP"]
        pids = world.processes("p", "app")
        await world.node.power_off()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        renewed = world.store.get(LEASE, "kube-node-lease", "node-1")["spec"]["renewTime"]
        await world.node.power_on()
        await world.until(
            lambda: world.status("p", "app")["restartCount"] == 1 and world.conditions("p")["Ready"] == "True"
        )
        last = world.status("p", "app")["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (255, "Unknown")
        assert ("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.") in world.events("p")
        assert world.status("p")["podIP"] != before or before
        assert world.store.get(LEASE, "kube-node-lease", "node-1")["spec"]["renewTime"] > renewed

    in_world(body)


def test_a_stopped_kubelet_leaves_containers_running_and_learns_afterwards() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600")))
        world.create(pod("q", shell("app", "exec sleep 600"), terminationGracePeriodSeconds=1))
        await world.ready("p")
        await world.ready("q")
        pids = world.processes("p", "app")
        await world.node.stop_kubelet()
        version = world.store.get(POD, "default", "p")["metadata"]["resourceVersion"]
        os.kill(min(world.processes("q", "app")), 9)
        world.create(pod("late", shell("app", "exec sleep 600")))
        await asyncio.sleep(1.5)
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        assert world.store.get(POD, "default", "p")["metadata"]["resourceVersion"] == version
        assert world.status("late")["phase"] == "Pending"
        assert world.status("q", "app")["restartCount"] == 0
        await world.node.start_kubelet()
        await world.ready("late")
        await world.until(lambda: world.status("q", "app")["restartCount"] == 1)

    in_world(body)


def test_behind_a_cut_link_nothing_is_reported_until_it_is_restored() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600")))
        await world.ready("p")
        await world.network.cut_link("node-1")
        os.kill(min(world.processes("p", "app")), 9)
        world.create(pod("late", shell("app", "exec sleep 600")))
        await asyncio.sleep(1.5)
        assert world.status("p", "app")["restartCount"] == 0
        assert world.status("late")["phase"] == "Pending"
        await world.network.restore_link("node-1")
        await world.ready("late")
        await world.until(lambda: world.status("p", "app")["restartCount"] == 1)

    in_world(body)


def test_a_kubelet_that_fell_too_far_behind_behind_a_cut_link_lists_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600"), terminationGracePeriodSeconds=1))
        await world.ready("p")
        await world.network.cut_link("node-1")
        for number in range(2 * store.BACKLOG):
            world.store.mutate(
                POD,
                "default",
                "p",
                lambda new, number=number: new["metadata"].update(annotations={"n": str(number)}),  # type: ignore[misc]  # mypy infers no lambda with defaults
            )
        world.create(pod("late", shell("app", "exec sleep 600")))
        world.store.remove(POD, "default", "p")
        await world.network.restore_link("node-1")
        await world.ready("late")
        await world.until(lambda: [one.pod["metadata"]["name"] for one in world.node._workers.values()] == ["late"])

    monkeypatch.setattr(store, "BACKLOG", 20)
    in_world(body)


def test_a_pod_whose_pass_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(world: World) -> None:
        uid = "0f0f0f0f-1111-2222-3333-444444444444"
        in_the_way = world.node.run_dir / "kubelet" / "pods" / uid / "containers"
        in_the_way.parent.mkdir(parents=True)
        in_the_way.write_text("no directory")
        wanted = pod("p", shell("app", "exec sleep 600"), terminationGracePeriodSeconds=1)
        wanted["metadata"]["uid"] = uid
        world.create(wanted)
        await world.until(lambda: "a sync failed" in caught.text)
        in_the_way.unlink()
        await world.ready("p")

    monkeypatch.setattr(worker, "RETRY", 0.2)
    caught = Caught()
    logging.getLogger(worker.__name__).addHandler(caught)
    try:
        in_world(body)
    finally:
        logging.getLogger(worker.__name__).removeHandler(caught)


class Caught(logging.Handler):
    """What was logged."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()


def test_the_node_object_has_what_schedulers_and_people_look_for() -> None:
    async def body(world: World) -> None:
        node = world.store.get(NODE, "", "node-1")
        assert node["spec"]["podCIDR"] == "10.244.1.0/24"
        assert {c["type"]: c["status"] for c in node["status"]["conditions"]} == {
            "MemoryPressure": "False",
            "DiskPressure": "False",
            "PIDPressure": "False",
            "Ready": "True",
        }
        assert node["status"]["capacity"]["cpu"] == str(os.cpu_count())
        assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.36.")
        assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"

    in_world(body)


def test_logs_answer_tail_timestamps_previous_and_follow() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "for i in 1 2 3; do echo line $i; done; printf rest; exec sleep 600")))
        await world.ready("p")
        await world.says("p", "app", "line 3\n")
        assert await world.logs("p", "app", tail_lines=1) == "line 3\n"
        assert await world.logs("p", "app", limit_bytes=4) == "line"
        stamped = await world.logs("p", "app", timestamps=True, tail_lines=1)
        assert stamped[10] == "T"
        assert stamped.endswith("Z line 3\n")
        with pytest.raises(LookupError, match="previous terminated container"):
            await world.logs("p", "app", previous=True)
        following = asyncio.create_task(world.logs("p", "app", follow=True))
        await asyncio.sleep(0.1)
        os.kill(min(world.processes("p", "app")), 9)
        assert await asyncio.wait_for(following, 20) == "line 1\nline 2\nline 3\nrest"
        await world.until(lambda: world.status("p", "app")["restartCount"] == 1)
        assert await world.logs("p", "app", previous=True, tail_lines=2) == "line 3\nrest"

    in_world(body)


def test_exec_passes_input_output_exit_codes_and_terminals() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600", env=[{"name": "X", "value": "y"}])))
        await world.ready("p")
        assert await world.run("p", "app", "sh", "-c", "echo $X; exit 7") == (7, "y\n")
        assert await world.run("p", "app", "cat", stdin=b"through") == (0, "through")
        code, said = await world.run("p", "app", "sh", "-c", "test -t 0 && stty size && exit 3", tty=True)
        assert code == 3
        assert "\r\n" in said
        code, said = await world.run("p", "app", "/no/such")
        assert code != 0
        assert "no such file" in said
        with pytest.raises(LookupError):
            await world.run("p", "missing", "true")
        session = await world.node.exec("default", "p", "app", ["sleep", "600"], stdin=False, tty=False)
        await asyncio.sleep(0.2)
        session.kill()
        assert await asyncio.wait_for(session.wait(), 20) == 137

    in_world(body)


def test_connect_reaches_a_port_inside_the_pod() -> None:
    async def body(world: World) -> None:
        world.create(
            pod(
                "p",
                container(
                    "app",
                    "python3",
                    "-c",
                    "import socket\ns = socket.create_server(('127.0.0.1', 7000))\n"
                    "while True: c, _ = s.accept(); c.sendall(b'inside'); c.close()",
                ),
            )
        )
        await world.ready("p")
        async with asyncio.timeout(20):
            while True:
                try:
                    reader, writer = await world.node.connect("default", "p", 7000)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
        assert await reader.read() == b"inside"
        writer.close()
        await writer.wait_closed()

    in_world(body)


def test_usage_tells_cpu_and_memory_of_each_container() -> None:
    async def body(world: World) -> None:
        world.create(
            pod(
                "p",
                container("busy", "python3", "-c", "while True: pass", resources={"limits": {"cpu": "200m"}}),
                shell("idle", "exec sleep 600"),
            )
        )
        await world.ready("p")
        world.node.usage()
        await asyncio.sleep(1.5)
        figures = {row.container: row for row in world.node.usage()}
        assert 0.03e9 < figures["busy"].cpu_nanocores < 0.3e9  # the machine may be busy; the limit holds in any case
        assert figures["idle"].cpu_nanocores < 0.05e9
        assert figures["busy"].memory_bytes > 1 << 20

    in_world(body)


def test_an_image_from_an_archive_runs_with_its_own_settings() -> None:
    async def body(world: World) -> None:
        archive = world.run_dir / "app.tar"
        make_archive(
            archive,
            "demo:1",
            {
                "Cmd": ["/bin/sh", "-c", "echo $GREETING from $(pwd); exec /bin/sleep 600"],
                "Env": ["GREETING=hello", "PATH=/bin"],
                "WorkingDir": "/srv",
            },
        )
        assert world.images.load(archive) == ["docker.io/library/demo:1"]
        world.create(pod("p", {"name": "app", "image": "demo:1"}))
        await world.ready("p")
        await world.says("p", "app", "\n")
        assert await world.logs("p", "app") == "hello from /srv\n"
        code, _ = await world.run("p", "app", "/bin/sh", "-c", "test -e /gone || test -e /usr/bin/python3")
        assert code == 1

    in_world(body)


def test_an_image_of_as_many_layers_as_docker_makes_runs() -> None:
    async def body(world: World) -> None:
        archive = world.run_dir / "app.tar"
        command = ["/bin/sh", "-c", "for n in 3 64 127; do test -e /layer-$n && echo $n; done; exec /bin/sleep 600"]
        make_archive(archive, "deep:1", {"Cmd": command, "Env": ["PATH=/bin"]}, layers=127)
        world.images.load(archive)
        world.create(pod("p", {"name": "app", "image": "deep:1"}))
        await world.ready("p")
        await world.says("p", "app", "127\n")
        assert await world.logs("p", "app") == "3\n64\n127\n"

    in_world(body)


def make_archive(path: Path, name: str, config: dict[str, object], *, layers: int = 2) -> None:
    """A `docker save` archive of two layers, whose second takes away a file of the first (dash, sleep and their
    libraries), and of more that add one file each.
    """
    programs = {"/bin/sh": "/bin/dash", "/bin/sleep": "/bin/sleep"}
    for program in tuple(programs.values()):
        for word in subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split():
            if word.startswith("/"):
                programs[word] = word

    def layer(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for target, data in files.items():
                info = tarfile.TarInfo(target.lstrip("/"))
                info.size, info.mode = len(data), 0o755
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    first = layer(
        {target: Path(source).read_bytes() for target, source in programs.items()} | {"/gone": b"x", "/srv/keep": b""}
    )
    second = layer({"/.wh.gone": b""})
    parts = {
        "config.json": orjson.dumps({"config": config}),
        "1/layer.tar": first,
        "2/layer.tar": second,
        **{f"{number}/layer.tar": layer({f"/layer-{number}": b""}) for number in range(3, layers + 1)},
    }
    names = [member for member in parts if member.endswith(".tar")]
    parts["manifest.json"] = orjson.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": names}])
    with tarfile.open(path, "w") as tar:
        for member, data in parts.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_node_that_goes_leaves_no_process_no_cgroup_and_no_mount() -> None:
    names: list[str] = []
    pids: list[int] = []

    async def body(world: World) -> None:
        names.append(world.run_dir.name)
        world.create(pod("p", shell("app", "exec sleep 600")))
        await world.ready("p")
        for root in controllers().values():
            for tasks in Path(root, "sharedfate", names[0]).rglob("cgroup.procs"):
                pids.extend(int(pid) for pid in tasks.read_text().split())
        assert {world.node.machine().pid, *world.processes("p", "app")} <= set(pids)

    in_world(body)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    for root in controllers().values():
        assert not Path(root, "sharedfate", names[0]).exists()
    assert names[0] not in Path("/proc/self/mountinfo").read_text()


def test_a_node_dies_with_its_server_even_when_that_is_killed_outright() -> None:
    script = (
        "import asyncio, sys\nfrom tests.embedded.kubelet.nodes import *\nasync def body(world):\n"
        " world.create(pod('p', shell('app', 'exec sleep 600')))\n await world.ready('p')\n"
        " print(world.run_dir.name, world.node.machine().pid, *world.processes('p', 'app'), flush=True)\n"
        " await asyncio.sleep(60)\nin_world(body)"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert server.stdout is not None
    name, *pids = server.stdout.readline().split()
    assert all(Path("/proc", pid).exists() for pid in pids)
    server.kill()
    server.communicate()
    try:
        deadline = time.monotonic() + 30
        while any(Path("/proc", pid).exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(Path("/proc", pid).exists() for pid in pids)
    finally:
        remove_tree(f"/sharedfate/{name}")
        shutil.rmtree(f"/run/sharedfate/{name}", ignore_errors=True)
