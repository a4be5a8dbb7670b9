"""Network plugins chained behind a node's own: asked as a container runtime asks, and held like privileged pods."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chaos.embedded.kubelet import cni, worker
from tests.embedded.kubelet.nodes import World, in_world, pod, shell

OWN = {"type": "sharedfate"}


def conflist(*plugins: Any, **more: Any) -> str:
    return json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": list(plugins)} | more)


# ---- what is planned


@pytest.mark.parametrize(
    ("files", "chained"),
    [
        ({"10-a.conflist": cni.DEFAULT}, []),
        ({"10-a.conflist": conflist(OWN, {"type": "x"})}, ["x"]),
        ({"20-a.conflist": conflist(OWN, {"type": "x"}), "10-a.conflist": conflist(OWN, {"type": "y"})}, ["y"]),
        ({"05-a.conflist": "{", "10-a.conflist": conflist(OWN, {"type": "y"})}, ["y"]),
        ({"05-a.conflist": "[]", "10-a.conf": json.dumps({"name": "n", **OWN})}, []),
        ({"05-a.conflist": conflist(), "10-a.conflist": conflist(OWN)}, []),
        ({"05-a.conflist": conflist(OWN, {"no": "type"}), "10-a.conflist": conflist(OWN)}, []),
    ],
)
def test_the_first_configuration_that_holds_one_counts(files: dict[str, str], chained: list[str]) -> None:
    network = cni.choose_network(list(files.items()))
    assert [one["type"] for one in network.chained] == chained


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "cni plugin not initialized: no network config found in /etc/cni/net.d"),
        ({"a.conflist": "nonsense"}, "cni plugin not initialized: no network config found in /etc/cni/net.d"),
        ({"a.conflist": conflist({"type": "ptp"}, OWN)}, 'begins with plugin "ptp"'),
    ],
)
def test_a_directory_without_our_network_is_refused_in_a_sentence(files: dict[str, str], said: str) -> None:
    with pytest.raises(cni.NetworkFailed, match=said):
        cni.choose_network(list(files.items()))


@pytest.mark.parametrize(
    ("code", "out", "err", "said"),
    [
        (1, b'{"code": 7, "msg": "bad", "details": "very"}', b"", "bad; very"),
        (1, b'{"code": 7, "msg": "bad"}', b"noise", "bad"),
        (2, b"", b"panic: no\n", 'netplugin failed: "panic: no"'),
        (3, b"", b"", "netplugin failed with no error message: exit status 3"),
    ],
)
def test_a_failure_is_worded_as_libcni_words_it(code: int, out: bytes, err: bytes, said: str) -> None:
    assert cni.read_failure(code, out, err) == said


@pytest.mark.parametrize(("version", "family"), [("1.0.0", None), ("1.1.0", None), ("0.4.0", "4"), ("0.3.1", "4")])
def test_a_result_is_of_the_lists_version(version: str, family: str | None) -> None:
    result = cni.plan_result(version, address="10.244.1.5", sandbox="u", link="veth0")
    assert result["cniVersion"] == version
    assert result["ips"][0].get("version") == family
    assert result["interfaces"][1] == {"name": "eth0", "mac": "0a:58:0a:f4:01:05", "sandbox": "/var/run/netns/cni-u"}


# ---- what is run

PLUGIN = r"""#!/bin/sh
input=$(cat)
echo "$CNI_COMMAND|$CNI_IFNAME|$CNI_NETNS|$CNI_CONTAINERID|$CNI_PATH|$CNI_ARGS" >> /var/log/asked
printf '%s\n' "$input" >> /var/log/input
if [ "$CNI_COMMAND" = ADD ]; then
  nsenter --net="$CNI_NETNS" ip -4 -o addr show eth0 >> /var/log/seen 2>&1
  nsenter --net="$CNI_NETNS" ip link add plugged type dummy >> /var/log/seen 2>&1
  mount -t proc proc /mnt >> /var/log/walls 2>&1 && echo MOUNTED >> /var/log/walls
  echo x > /proc/sys/kernel/core_pattern && echo WRITTEN >> /var/log/walls
fi
if [ -e /var/log/refuse-$CNI_COMMAND ]; then
  echo '{"cniVersion":"1.0.0","code":11,"msg":"not today","details":"try later"}'; exit 1
fi
before='import json, sys; print(json.dumps(json.loads(sys.argv[1])["prevResult"]))'
[ "$CNI_COMMAND" = ADD ] && python3 -c "$before" "$input"
exit 0
"""


async def on_node(world: World, script: str, name: str) -> str:
    """Run a script in a privileged pod of the node that sees the node's root; what it printed."""
    volume = {"name": "node", "hostPath": {"path": "/"}}
    mount = {"name": "node", "mountPath": "/node", "mountPropagation": "HostToContainer"}
    one = shell("main", script, volumeMounts=[mount], securityContext={"privileged": True})
    world.create(pod(name, one, restartPolicy="Never", hostNetwork=True, volumes=[volume]))
    await world.until(lambda: world.status(name).get("phase") in ("Succeeded", "Failed"))
    assert world.status(name)["phase"] == "Succeeded", await world.logs(name, "main")
    return await world.logs(name, "main")


async def chain(world: World) -> None:
    body = conflist(OWN, {"type": "watcher", "log": "debug"})
    await on_node(
        world,
        f"cat > /node/opt/cni/bin/watcher <<'END'\n{PLUGIN}END\nchmod 755 /node/opt/cni/bin/watcher\n"
        f"echo '{body}' > /node/etc/cni/net.d/10-sharedfate.conflist",
        "installer",
    )


@pytest.mark.privileged
def test_a_chained_plugin_is_asked_to_add_check_and_delete_each_pod() -> None:
    async def test(world: World) -> None:
        await chain(world)
        made = world.create(pod("app", shell("main", "sleep 60"), terminationGracePeriodSeconds=1))
        uid = made["metadata"]["uid"]
        await world.ready("app")
        address = world.status("app")["podIP"]
        await world.node.stop_kubelet()
        await world.node.start_kubelet()
        await asyncio.sleep(1.5)
        await world.delete("app")
        log = await on_node(world, "cat /node/var/log/asked; echo; cat /node/var/log/input", "reader")
        asked, _, inputs = log.partition("\n\n")
        rows = [line.split("|") for line in asked.splitlines()]
        assert [row[0] for row in rows] == ["ADD", "CHECK", "DEL"]
        identity = uid.replace("-", "")
        arguments = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=app;K8S_POD_INFRA_CONTAINER_ID={identity}"
        for row in rows:
            assert row[1:] == [
                "eth0", f"/var/run/netns/cni-{uid}", identity, "/opt/cni/bin", f"{arguments};K8S_POD_UID={uid}",
            ]  # fmt: skip
        given = [json.loads(line) for line in inputs.splitlines() if line]
        for one in given:
            assert [one[key] for key in ("type", "log", "name", "cniVersion")] == ["watcher", "debug", "net", "1.0.0"]
        assert given[0]["prevResult"]["ips"][0]["address"] == f"{address}/32"
        seen = await on_node(world, "cat /node/var/log/seen /node/var/log/walls; ls /node/run/netns", "walls")
        assert address in seen  # in the pod's own network namespace
        assert "MOUNTED" not in seen
        assert "WRITTEN" not in seen
        assert f"cni-{uid}" not in seen

    in_world(test)


@pytest.mark.privileged
def test_a_pod_whose_plugin_fails_is_told_why_and_made_when_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "RETRY", 1.0)

    async def test(world: World) -> None:
        await chain(world)
        await on_node(world, "touch /node/var/log/refuse-ADD", "refuser")
        made = world.create(pod("app", shell("main", "sleep 60"), terminationGracePeriodSeconds=1))
        identity = made["metadata"]["uid"].replace("-", "")
        said = (
            "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox "
            f'"{identity}": plugin type="watcher" name="net" failed (add): not today; try later'
        )
        await world.until(lambda: ("FailedCreatePodSandBox", said) in world.events("app"))
        await on_node(world, "rm /node/var/log/refuse-ADD", "helper")
        await world.ready("app", seconds=30)
        await on_node(world, "touch /node/var/log/refuse-DEL", "again")
        await world.delete("app")
        ends = [text for reason, text in world.events("app") if reason == "FailedKillPod"]
        assert "failed (delete): not today" in ends[0]

    in_world(test)


@pytest.mark.privileged
def test_a_plugin_that_is_not_there_is_named() -> None:
    async def test(world: World) -> None:
        body = conflist(OWN, {"type": "ghost"})
        await on_node(world, f"echo '{body}' > /node/etc/cni/net.d/00-first.conflist", "installer")
        world.create(pod("app", shell("main", "sleep 60")))
        why = 'plugin type="ghost" name="net" failed (add): failed to find plugin "ghost" in path [/opt/cni/bin]'
        await world.until(lambda: any(why in text for _, text in world.events("app")))

    in_world(test)


@pytest.mark.privileged
def test_a_node_pod_sees_its_pods_networks_come_and_enters_them() -> None:
    async def test(world: World) -> None:
        volume = {"name": "netns", "hostPath": {"path": "/var/run/netns"}}
        mount = {"name": "netns", "mountPath": "/var/run/netns", "mountPropagation": "HostToContainer"}
        script = (
            "while [ ! -e /var/run/netns/cni-* ]; do sleep 0.1; done; sleep 0.5\n"
            "for one in /var/run/netns/cni-*; do nsenter --net=$one ip -4 -o addr show eth0; done"
        )
        agent = shell("main", script, volumeMounts=[mount], securityContext={"privileged": True})
        world.create(pod("agent", agent, restartPolicy="Never", hostNetwork=True, volumes=[volume]))
        await world.until(lambda: world.status("agent").get("phase") == "Running")
        world.create(pod("app", shell("main", "sleep 60")))
        await world.until(lambda: world.status("agent").get("phase") in ("Succeeded", "Failed"), seconds=20)
        assert world.status("app")["podIP"] in await world.logs("agent", "main")

    in_world(test)
