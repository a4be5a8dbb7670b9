"""Pods as real containers on a real node: what they are given, how they live, how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from chaos.embedded.deletion import delete
from chaos.embedded.kubelet.cgroups import controllers
from chaos.embedded.resources import CONFIG_MAP, POD, SECRET, SERVICE
from tests.embedded.kubelet.nodes import World, container, in_world, pod, shell

pytestmark = pytest.mark.privileged

SIDECAR = """import signal, sys, time
def end(*_):
    print('sidecar ends', time.time(), flush=True); sys.exit(0)
signal.signal(15, end)
print('up', flush=True)
while True: time.sleep(1)"""


def test_a_pod_becomes_ready_and_its_status_has_kubernetes_shape() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600")))
        await world.ready("p")
        status = world.status("p")
        assert status["phase"] == "Running"
        assert status["podIP"].startswith("10.244.1.")
        assert status["hostIP"] == world.network.node_ip("node-1")
        row = world.status("p", "app")
        assert row["containerID"].startswith("containerd://")
        assert len(row["containerID"]) == len("containerd://") + 64
        assert (row["ready"], row["started"], row["restartCount"], list(row["state"])) == (True, True, 0, ["running"])
        assert [reason for reason, _ in world.events("p")] == ["Pulled", "Created", "Started"]
        assert all(c["observedGeneration"] == 1 for c in status["conditions"])

    in_world(body)


def test_a_killed_container_runs_again_without_back_off_and_the_pod_tells_how_it_died() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600"), shell("other", "exec sleep 600")))
        await world.ready("p")
        untouched = world.status("p", "other")["containerID"]
        os.kill(min(world.processes("p", "app")), signal.SIGKILL)
        await world.until(
            lambda: world.status("p", "app")["restartCount"] == 1 and "running" in world.status("p", "app")["state"]
        )
        assert "BackOff" not in [reason for reason, _ in world.events("p")]
        last = world.status("p", "app")["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (137, "Error")
        assert world.status("p", "other")["containerID"] == untouched

    in_world(body)


def test_nothing_of_a_deleted_pod_is_left() -> None:
    async def body(world: World) -> None:
        world.create(
            pod(
                "p",
                shell("app", "exec sleep 600"),
                terminationGracePeriodSeconds=1,
                volumes=[{"name": "m", "emptyDir": {"medium": "Memory"}}],
            )
        )
        await world.ready("p")
        uid = world.store.get(POD, "default", "p")["metadata"]["uid"]
        links = _links(world)
        pids = world.processes("p", "app")
        await world.delete("p")
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert not list(Path("/sys/fs/cgroup").glob(f"*/sharedfate/{world.run_dir.name}/**/*{uid}*"))
        assert len(_links(world)) == len(links) - 1
        assert not (world.run_dir / "nodes" / "node-1" / "kubelet" / "pods" / uid).exists()

    def _links(world: World) -> list[str]:
        with world.network.namespace("node-1").inside():
            return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()

    in_world(body)


def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace_and_passes_through_failed() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "trap '' TERM; while :; do sleep 1; done"), terminationGracePeriodSeconds=1))
        await world.ready("p")
        with world.store.watch(POD) as watch:
            began = time.monotonic()
            await world.delete("p")
            took = time.monotonic() - began
            phases = [event.object["status"]["phase"] for event in await watch.batch(1) if event is not None]
        assert took > 0.9
        assert "Failed" in phases

    in_world(body)


def test_native_sidecars_start_first_and_end_last_in_reverse_order() -> None:
    async def body(world: World) -> None:
        main = SIDECAR.replace("print(", "time.sleep(1); print(")
        sidecars = [container(f"s{n}", "python3", "-c", SIDECAR, restartPolicy="Always") for n in (1, 2)]
        world.create(
            pod(
                "p", container("main", "python3", "-c", main), initContainers=sidecars, terminationGracePeriodSeconds=10
            )
        )
        await world.ready("p")
        followed = {name: asyncio.create_task(world.logs("p", name, follow=True)) for name in ("main", "s1", "s2")}
        for name in ("main", "s1", "s2"):
            await world.says("p", name, "up")
        await world.delete("p")
        ends = {name: float((await task).split()[-1]) for name, task in followed.items()}
        assert ends["main"] < ends["s2"] < ends["s1"]

    in_world(body)


def test_a_native_sidecar_does_not_keep_a_finished_pod_alive() -> None:
    async def body(world: World) -> None:
        world.create(
            pod(
                "p",
                shell("main", "exit 0"),
                restartPolicy="Never",
                initContainers=[container("s", "python3", "-c", SIDECAR, restartPolicy="Always")],
            )
        )
        await world.phase("p", "Succeeded")
        assert "terminated" in world.status("p", "s")["state"]

    in_world(body)


def test_init_containers_run_one_after_the_other_before_the_rest() -> None:
    async def body(world: World) -> None:
        mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        world.create(
            pod(
                "p",
                shell("main", "cat /v/order; exec sleep 600", **mount),
                initContainers=[shell(f"i{n}", f"echo {n} >> /v/order", **mount) for n in (1, 2)],
                volumes=[{"name": "v", "emptyDir": {}}],
            )
        )
        await world.ready("p")
        assert await _whole_log(world, "p", "main") == "1\n2\n"

    in_world(body)


def test_a_failing_init_container_fails_a_pod_that_is_never_restarted() -> None:
    async def body(world: World) -> None:
        world.create(
            pod("p", shell("main", "exec sleep 600"), restartPolicy="Never", initContainers=[shell("i", "exit 7")])
        )
        await world.phase("p", "Failed")
        assert world.status("p", "i")["state"]["terminated"]["exitCode"] == 7
        assert "running" not in world.status("p", "main")["state"]

    in_world(body)


def test_restart_policies_decide_who_runs_again_and_back_off_follows_the_second_failure() -> None:
    async def body(world: World) -> None:
        world.create(pod("never", shell("app", "exit 3"), restartPolicy="Never"))
        world.create(pod("onfailure", shell("app", "exit 0"), restartPolicy="OnFailure"))
        world.create(pod("always", shell("app", "exit 3")))
        await world.phase("never", "Failed")
        await world.phase("onfailure", "Succeeded")
        await world.until(lambda: any(reason == "BackOff" for reason, _ in world.events("always")))
        assert world.status("always", "app")["restartCount"] == 1
        assert world.status("always")["phase"] == "Running"
        assert world.status("never", "app")["restartCount"] == 0

    in_world(body)


def test_memory_above_the_limit_reads_oomkilled() -> None:
    async def body(world: World) -> None:
        greedy = "b = bytearray(200 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1"
        world.create(
            pod(
                "p",
                container("app", "python3", "-c", greedy, resources={"limits": {"memory": "32Mi"}}),
                restartPolicy="Never",
            )
        )
        world.create(pod("q", shell("app", "exit 137"), restartPolicy="Never"))
        await world.phase("p", "Failed")
        await world.phase("q", "Failed")
        ends = [world.status(name, "app")["state"]["terminated"] for name in ("p", "q")]
        assert [(end["exitCode"], end["reason"]) for end in ends] == [(137, "OOMKilled"), (137, "Error")]

    in_world(body)


def test_a_failed_liveness_probe_restarts_and_a_failed_readiness_probe_only_unreadies() -> None:
    async def body(world: World) -> None:
        quick = {"periodSeconds": 1, "failureThreshold": 1}
        world.create(
            pod(
                "p",
                shell(
                    "app",
                    "touch /live /good; exec sleep 600",
                    livenessProbe={"exec": {"command": ["test", "-f", "/live"]}, **quick},
                    readinessProbe={"exec": {"command": ["test", "-f", "/good"]}, **quick},
                ),
            )
        )
        await world.ready("p")
        await world.run("p", "app", "rm", "/good")
        await world.until(lambda: world.conditions("p")["Ready"] == "False")
        assert world.status("p", "app")["restartCount"] == 0
        await world.run("p", "app", "rm", "/live")
        await world.until(lambda: world.status("p", "app")["restartCount"] == 1)
        assert ("Killing", "Container app failed liveness probe, will be restarted") in world.events("p")
        await world.ready("p")

    in_world(body)


def test_network_probes_come_from_the_nodes_own_address_and_wait_for_the_startup_probe() -> None:
    async def body(world: World) -> None:
        server = (
            "import http.server, os, time\nclass H(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n"
            "  print(self.path, self.client_address[0], flush=True); self.send_response(200); self.end_headers()\n"
            "while not os.path.exists('/go'): time.sleep(0.05)\nhttp.server.HTTPServer(('', 8080), H).serve_forever()"
        )
        world.create(
            pod(
                "p",
                container(
                    "web",
                    "python3",
                    "-c",
                    server,
                    ports=[{"name": "http", "containerPort": 8080}],
                    startupProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                    readinessProbe={"httpGet": {"port": "http", "path": "/ready"}, "periodSeconds": 1},
                ),
            )
        )
        await world.until(
            lambda: any(
                reason == "Unhealthy" and message.startswith("Startup probe failed: dial tcp")
                for reason, message in world.events("p")
            )
        )
        assert (world.status("p", "web")["started"], world.status("p", "web")["ready"]) == (False, False)
        assert await world.run("p", "web", "touch", "/go") == (0, "")
        await world.ready("p")
        assert world.status("p", "web")["started"]
        await world.says("p", "web", f"/ready {world.network.gateway('node-1')}")

    in_world(body)


def test_readiness_gates_hold_a_pod_back_until_their_condition_is_true() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600"), readinessGates=[{"conditionType": "example.com/gate"}]))
        await world.until(lambda: world.conditions("p").get("ContainersReady") == "True")
        assert world.conditions("p")["Ready"] == "False"

        def open_gate(obj: dict[str, Any]) -> None:
            obj["status"]["conditions"].append(
                {"type": "example.com/gate", "status": "True", "lastTransitionTime": None}
            )

        world.store.mutate(POD, "default", "p", open_gate)
        await world.ready("p")
        assert world.conditions("p")["example.com/gate"] == "True"

    in_world(body)


def test_environment_and_files_come_from_everywhere() -> None:
    async def body(world: World) -> None:
        world.create(
            {"metadata": {"name": "cm", "namespace": "default"}, "data": {"KEY": "from-map", "file.txt": "text"}},
            CONFIG_MAP,
        )
        world.create({"metadata": {"name": "se", "namespace": "default"}, "data": {"PASS": "c2VjcmV0"}}, SECRET)
        world.create(
            {
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]},
            },
            SERVICE,
        )
        env = [
            {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "KEY"}}},
            {"name": "SEC", "valueFrom": {"secretKeyRef": {"name": "se", "key": "PASS"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
            {"name": "BOTH", "value": "$(MAP)-$(SEC)-$$(MAP)"},
        ]
        projected = {
            "name": "all",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token", "audience": "there", "expirationSeconds": 600}},
                    {"configMap": {"name": "cm", "items": [{"key": "file.txt", "path": "sub/file"}]}},
                    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ]
            },
        }
        files = "/all/token /all/sub/file /all/labels /sec/PASS"
        script = f"env; for f in {files}; do echo $f=$(cat $f); done; touch /all/x; exec sleep 600"
        world.create(
            pod(
                "p",
                shell(
                    "app",
                    script,
                    env=env,
                    envFrom=[{"configMapRef": {"name": "cm"}, "prefix": "PRE_"}],
                    resources={"limits": {"memory": "64Mi"}},
                    volumeMounts=[{"name": "all", "mountPath": "/all"}, {"name": "sec", "mountPath": "/sec"}],
                ),
                volumes=[projected, {"name": "sec", "secret": {"secretName": "se", "defaultMode": 0o400}}],
            )
        )
        await world.ready("p")
        said = set((await _whole_log(world, "p", "app")).splitlines())
        assert {
            "MAP=from-map",
            "SEC=secret",
            "BOTH=from-map-secret-$(MAP)",
            "PRE_KEY=from-map",
            f"IP={world.status('p')['podIP']}",
            f"CPU={64 << 20}",
            "WEB_SERVICE_HOST=10.96.0.77",
            "WEB_PORT_80_TCP_PORT=80",
            "HOSTNAME=p",
            "/all/token=token of p for there, 600 s",
            "/all/sub/file=text",
            '/all/labels=app="p"',
            "/sec/PASS=secret",
        } <= said
        assert any("Read-only file system" in line for line in said)

    in_world(body)


async def _whole_log(world: World, name: str, container_name: str) -> str:
    """A log once it has stopped growing."""
    text = ""
    async with asyncio.timeout(15):
        while True:
            await asyncio.sleep(0.2)
            more = await world.logs(name, container_name)
            if more == text and text:
                return text
            text = more


def test_a_missing_config_map_keeps_the_pod_waiting_until_it_is_there() -> None:
    async def body(world: World) -> None:
        world.create(
            pod(
                "p",
                shell("app", "cat /c/k; exec sleep 600", volumeMounts=[{"name": "c", "mountPath": "/c"}]),
                volumes=[{"name": "c", "configMap": {"name": "late"}}],
            )
        )
        await world.until(lambda: any(reason == "FailedMount" for reason, _ in world.events("p")))
        assert any('configmap "late" not found' in message for _, message in world.events("p"))
        world.create({"metadata": {"name": "late", "namespace": "default"}, "data": {"k": "v"}}, CONFIG_MAP)
        await world.ready("p")

    in_world(body)


def test_a_host_path_is_the_nodes_and_an_empty_dir_is_shared_by_the_pod() -> None:
    async def body(world: World) -> None:
        mounts = [{"name": "h", "mountPath": "/h"}, {"name": "e", "mountPath": "/e"}]
        world.create(
            pod(
                "p",
                shell("a", "echo hello > /h/x; echo shared > /e/y; exec sleep 600", volumeMounts=mounts),
                shell("b", "sleep 0.5; cat /e/y; exec sleep 600", volumeMounts=mounts),
                volumes=[{"name": "h", "hostPath": {"path": "/tmp/kubelet-test/dir"}}, {"name": "e", "emptyDir": {}}],
            )
        )
        await world.ready("p")
        world.create(
            pod(
                "q",
                shell("a", "cat /h/x; exec sleep 600", volumeMounts=mounts[:1]),
                volumes=[{"name": "h", "hostPath": {"path": "/tmp/kubelet-test/dir", "type": "Directory"}}],
            )
        )
        await world.ready("q")
        assert await _whole_log(world, "q", "a") == "hello\n"
        assert await _whole_log(world, "p", "b") == "shared\n"
        assert not Path("/tmp/kubelet-test").exists()

    in_world(body)


def test_security_context_is_kept() -> None:
    async def body(world: World) -> None:
        strict = {
            "runAsUser": 1234,
            "runAsGroup": 2345,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "allowPrivilegeEscalation": False,
        }
        world.create(
            pod(
                "p",
                shell(
                    "app",
                    "id -u; id -g; touch /x; grep CapEff /proc/self/status; exec sleep 600",
                    securityContext=strict,
                ),
            )
        )
        world.create(pod("root", shell("app", "true", securityContext={"runAsNonRoot": True})))
        world.create(
            pod(
                "admin",
                shell(
                    "app",
                    "ip link set lo mtu 1400 && echo made; exec sleep 600",
                    securityContext={"capabilities": {"add": ["NET_ADMIN"]}},
                ),
            )
        )
        world.create(pod("plain", shell("app", "ip link set lo mtu 1400 && echo made; exec sleep 600")))
        await world.ready("p")
        await world.ready("admin")
        await world.ready("plain")
        said = (await _whole_log(world, "p", "app")).splitlines()
        assert said[:2] == ["1234", "2345"]
        assert "Read-only file system" in said[2]
        assert int(said[3].split()[1], 16) == 0
        assert world.status("p", "app")["user"]["linux"]["uid"] == 1234
        assert await _whole_log(world, "admin", "app") == "made\n"
        assert "made" not in await _whole_log(world, "plain", "app")
        await world.until(
            lambda: (
                world.status("root", "app")["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError"
            )
        )

    in_world(body)


def test_resources_of_a_running_container_change_without_a_restart() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600", resources={"requests": {"cpu": "100m"}})))
        await world.ready("p")
        before = world.status("p", "app")

        def resize(obj: dict[str, Any]) -> None:
            obj["spec"]["containers"][0]["resources"] = {
                "requests": {"cpu": "100m"},
                "limits": {"cpu": "200m", "memory": "64Mi"},
            }
            obj["metadata"]["generation"] = 2

        world.store.mutate(POD, "default", "p", resize)
        await world.until(
            lambda: world.status("p", "app").get("resources", {}).get("limits") == {"cpu": "200m", "memory": "64Mi"}
        )
        cid = before["containerID"].partition("://")[2]
        where = controllers()
        if "cpu" in where:
            (quota,) = Path(where["cpu"], "sharedfate", world.run_dir.name).glob(f"**/{cid}/cpu.cfs_quota_us")
            (memory,) = Path(where["memory"], "sharedfate", world.run_dir.name).glob(f"**/{cid}/memory.limit_in_bytes")
            assert (quota.read_text().strip(), memory.read_text().strip()) == ("20000", str(64 << 20))
        after = world.status("p", "app")
        assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)

    in_world(body)


def test_a_change_that_a_status_write_meets_first_is_acted_upon() -> None:
    async def body(world: World) -> None:
        world.create(
            pod(
                "p",
                shell("app", "exec sleep 600", resources={"requests": {"cpu": "100m"}}),
                terminationGracePeriodSeconds=1,
            )
        )
        await world.ready("p")
        worker = next(iter(world.node._workers.values()))

        def resize(obj: dict[str, Any]) -> None:
            obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "200m"}}
            obj["metadata"]["generation"] = 2

        world.store.mutate(POD, "default", "p", resize)
        worker.write_status()  # lies over the change before the watch has delivered it
        await world.until(lambda: world.status("p", "app").get("resources", {}).get("requests") == {"cpu": "200m"})
        delete(world.store, POD, "default", "p")
        worker.write_status()
        await world.until(lambda: world.get("p") is None)

    in_world(body)


def test_hooks_run_after_the_start_and_before_the_end() -> None:
    async def body(world: World) -> None:
        hooks = {
            "postStart": {"exec": {"command": ["sh", "-c", "echo started > /v/post"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo stopping > /proc/1/fd/1; sleep 0.5"]}},
        }
        world.create(
            pod(
                "p",
                shell(
                    "app",
                    "trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.1; done",
                    lifecycle=hooks,
                    volumeMounts=[{"name": "v", "mountPath": "/v"}],
                ),
                volumes=[{"name": "v", "emptyDir": {}}],
            )
        )
        await world.ready("p")
        assert (await world.run("p", "app", "cat", "/v/post"))[1] == "started\n"
        following = asyncio.create_task(world.logs("p", "app", follow=True))
        await world.says("p", "app", "up")
        await world.delete("p")
        assert (await following).split() == ["up", "stopping", "term"]

    in_world(body)


def test_the_termination_message_is_what_the_container_left() -> None:
    async def body(world: World) -> None:
        world.create(
            pod(
                "p",
                shell("file", "echo why > /dev/termination-log; exit 3"),
                shell("logs", "echo last words; exit 4", terminationMessagePolicy="FallbackToLogsOnError"),
                restartPolicy="Never",
            )
        )
        await world.phase("p", "Failed")
        assert world.status("p", "file")["state"]["terminated"]["message"] == "why\n"
        assert world.status("p", "logs")["state"]["terminated"]["message"] == "last words\n"

    in_world(body)


def test_names_are_found_by_the_pods_own_files() -> None:
    async def body(world: World) -> None:
        world.create(
            pod(
                "p",
                shell("app", "cat /etc/hosts /etc/resolv.conf; hostname; exec sleep 600"),
                hostname="box",
                subdomain="sub",
                hostAliases=[{"ip": "10.1.2.3", "hostnames": ["far", "away"]}],
                dnsConfig={"options": [{"name": "timeout", "value": "1"}]},
            )
        )
        world.create(pod("h", shell("app", "hostname; ip -o -4 addr show eth0; exec sleep 600"), hostNetwork=True))
        await world.ready("p")
        await world.ready("h")
        said = await _whole_log(world, "p", "app")
        assert f"{world.status('p')['podIP']}\tbox.sub.default.svc.cluster.local\tbox\n" in said
        assert "10.1.2.3\tfar\taway\n" in said
        assert "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\n" in said
        assert "options ndots:5 timeout:1\nbox\n" in said
        host = await _whole_log(world, "h", "app")
        assert host.startswith("node-1\n")
        assert world.network.node_ip("node-1") in host
        assert world.status("h")["podIP"] == world.network.node_ip("node-1")

    in_world(body)


def test_active_deadline_fails_a_pod_that_runs_for_too_long() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "exec sleep 600"), activeDeadlineSeconds=1, terminationGracePeriodSeconds=1))
        await world.phase("p", "Failed")
        assert world.status("p")["reason"] == "DeadlineExceeded"

    in_world(body)


def test_an_unknown_image_says_how_to_load_it_and_a_forbidden_pull_says_so() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "true") | {"image": "nginx", "imagePullPolicy": "IfNotPresent"}))
        world.create(pod("q", shell("app", "true") | {"image": "nginx", "imagePullPolicy": "Never"}))
        await world.until(lambda: any("load-image" in message for _, message in world.events("p")))
        await world.until(
            lambda: (
                world.status("p", "app")["state"].get("waiting", {}).get("reason")
                in ("ErrImagePull", "ImagePullBackOff")
            )
        )
        await world.until(
            lambda: world.status("q", "app")["state"].get("waiting", {}).get("reason") == "ErrImageNeverPull"
        )

    in_world(body)


def test_a_command_that_does_not_exist_reads_as_a_start_error() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", container("app", "/no/such")))
        await world.until(
            lambda: world.status("p", "app")["state"].get("waiting", {}).get("reason") == "RunContainerError"
        )
        last = world.status("p", "app")["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (128, "StartError")
        assert 'runc create failed: unable to start container process: exec: "/no/such"' in last["message"]

    in_world(body)


def test_a_resize_that_asks_for_a_restart_restarts_that_container_only() -> None:
    async def body(world: World) -> None:
        policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
        world.create(
            pod(
                "p",
                shell("app", "exec sleep 600", resizePolicy=policy, resources={"limits": {"memory": "64Mi"}}),
                shell("other", "exec sleep 600"),
                terminationGracePeriodSeconds=1,
            )
        )
        await world.ready("p")
        other = world.status("p", "other")["containerID"]

        def resize(obj: dict[str, Any]) -> None:
            obj["spec"]["containers"][0]["resources"] = {"limits": {"memory": "128Mi"}}

        world.store.mutate(POD, "default", "p", resize)
        await world.until(
            lambda: world.status("p", "app")["restartCount"] == 1 and world.conditions("p")["Ready"] == "True"
        )
        assert world.status("p", "app")["resources"] == {"limits": {"memory": "128Mi"}}
        assert world.status("p", "other")["containerID"] == other

    in_world(body)


def test_containers_share_processes_only_when_the_pod_says_so() -> None:
    async def body(world: World) -> None:
        for name, shared in (("shared", True), ("apart", False)):
            world.create(
                pod(
                    name,
                    container("a", "sleep", "600"),
                    container("b", "sleep", "700"),
                    shareProcessNamespace=shared,
                    terminationGracePeriodSeconds=1,
                )
            )
        await world.ready("shared")
        await world.ready("apart")
        listing = ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert "sleep 700" in (await world.run("shared", "a", *listing))[1]
        assert "sleep 700" not in (await world.run("apart", "a", *listing))[1]
        os.kill(min(world.processes("shared", "a")), signal.SIGKILL)
        await world.until(lambda: world.status("shared", "a")["restartCount"] == 1)

    in_world(body)


def test_an_ephemeral_container_joins_a_running_pod_and_its_target() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", container("app", "sleep", "654"), terminationGracePeriodSeconds=1))
        await world.ready("p")
        before = world.status("p", "app")["containerID"]

        def visit(obj: dict[str, Any]) -> None:
            obj["spec"]["ephemeralContainers"] = [
                shell("debug", "cat /proc/[0-9]*/cmdline; echo; exec sleep 600", targetContainerName="app")
            ]
            obj["metadata"]["generation"] = 2

        world.store.mutate(POD, "default", "p", visit)
        await world.until(
            lambda: any("running" in row["state"] for row in world.status("p").get("ephemeralContainerStatuses", []))
        )
        assert "654" in await _whole_log(world, "p", "debug")
        assert world.status("p", "app")["containerID"] == before
        assert world.conditions("p")["Ready"] == "True"
        await world.delete("p")

    in_world(body)
