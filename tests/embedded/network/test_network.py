"""The cluster's network in the kernel: reachability, Services, policies, links. Privileged."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from chaos.embedded.network import ClusterNetwork
from chaos.embedded.network.netns import Namespace
from chaos.embedded.resources import NETWORK_POLICY, POD
from proof.endings.left import held_namespaces
from tests.embedded.network.conftest import World, eventually, host_network, uid

pytestmark = pytest.mark.privileged
InWorld = Callable[[Callable[[World], Awaitable[None]]], None]


async def answers(world: World, where: str, address: str, port: int) -> bool:
    try:
        await world.call(where, address, port, timeout=0.25)
    except (OSError, TimeoutError):
        return False
    return True


def test_pods_reach_each_other_on_one_node_and_across_nodes_with_their_own_addresses(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        a, b, c = await world.pod("a", "node-1"), await world.pod("b", "node-1"), await world.pod("c", "node-2")
        assert (a, b, c) == ("10.244.1.2", "10.244.1.3", "10.244.2.2")
        async with world.server("b", 80), world.server("c", 80):
            assert await world.call("a", b, 80) == ("b", a)
            assert await world.call("a", c, 80) == ("c", a)

    run_in_world(body)


def test_probes_come_from_the_nodes_own_address(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        address = await world.pod("a", "node-2")
        async with world.server("a", 80):
            assert await world.call("node-2", address, 80) == ("a", world.network.gateway("node-2"))
            assert await world.call("node-1", address, 80) == ("a", world.network.node_ip("node-1"))

    run_in_world(body)


def test_a_service_spreads_connections_over_its_endpoints_and_keeps_the_source(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        a, b, c = await world.pod("a", "node-1"), await world.pod("b", "node-1"), await world.pod("c", "node-2")
        world.service("web", "10.96.0.50", [(b, 8080), (c, 8080)])
        async with world.server("b", 8080), world.server("c", 8080):
            await eventually(lambda: answers(world, "a", "10.96.0.50", 80))
            seen = [await world.call("a", "10.96.0.50", 80) for _ in range(60)]
            assert set(seen) == {("b", a), ("c", a)}
            assert 10 <= seen.count(("b", a)) <= 50  # a fair coin leaves this range once in 10^7 runs
            assert {server for server, _ in [await world.call("node-1", "10.96.0.50", 80) for _ in range(30)]} == {
                "b",
                "c",
            }

    run_in_world(body)


def test_a_pod_reaches_itself_through_its_service(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        a = await world.pod("a", "node-1")
        world.service("web", "10.96.0.50", [(a, 8080)])
        async with world.server("a", 8080):
            await eventually(lambda: answers(world, "a", "10.96.0.50", 80))

    run_in_world(body)


def test_new_connections_go_elsewhere_once_an_endpoint_is_gone(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        b, c = await world.pod("b", "node-1"), await world.pod("c", "node-2")
        world.service("web", "10.96.0.50", [(b, 8080), (c, 8080)])
        async with world.server("b", 8080), world.server("c", 8080):
            await eventually(lambda: answers(world, "node-1", "10.96.0.50", 80))
            world.endpoints("web", [(c, 8080)])

            async def only_c() -> bool:
                return {(await world.call("b", "10.96.0.50", 80))[0] for _ in range(40)} == {"c"}

            await eventually(only_c)
            world.endpoints("web", [])
            await eventually(lambda: _not(answers(world, "b", "10.96.0.50", 80)))
            with pytest.raises(ConnectionRefusedError):
                await world.call("b", "10.96.0.50", 80)

    run_in_world(body)


async def _not(check: Awaitable[bool]) -> bool:
    return not await check


def test_an_address_of_the_service_range_that_is_nobodys_is_refused(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        await world.pod("a", "node-1")

        async def refused() -> bool:
            try:
                await world.call("a", "10.96.99.99", 80, timeout=0.25)
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                return False
            return False

        await eventually(refused)

    run_in_world(body)


def test_the_world_outside_is_unreachable_at_once(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        await world.pod("a", "node-1")
        with pytest.raises(OSError, match="8\\.8\\.8\\.8"):
            await world.call("a", "8.8.8.8", 53, timeout=1)

    run_in_world(body)


def test_a_node_port_leads_to_the_service_from_another_node(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        b = await world.pod("b", "node-1")
        world.service("web", "10.96.0.50", [(b, 8080)], ports=[{"name": "http", "port": 80, "nodePort": 30080}])
        async with world.server("b", 8080):
            for node in ("node-1", "node-2"):
                await eventually(lambda node=node: answers(world, "node-2", world.network.node_ip(node), 30080))  # type: ignore[misc]
            assert not await answers(world, "node-2", world.network.node_ip("node-1"), 30081)

    run_in_world(body)


def test_a_pods_host_port_is_a_port_of_its_node_and_ends_with_it(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        await world.pod("b", "node-1", ports=[{"containerPort": 8080, "hostPort": 9090}])
        node = world.network.node_ip("node-1")
        async with world.server("b", 8080):
            await eventually(lambda: answers(world, "node-2", node, 9090))
            assert not await answers(world, "node-1", world.network.node_ip("node-2"), 9090)
            world.store.remove(POD, "default", "b")
            await eventually(lambda: _not(answers(world, "node-2", node, 9090)))

    run_in_world(body)


def test_session_affinity_keeps_a_client_with_one_endpoint(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        b, c = await world.pod("b", "node-1"), await world.pod("c", "node-2")
        await world.pod("a", "node-1")
        world.service("web", "10.96.0.50", [(b, 8080), (c, 8080)], sessionAffinity="ClientIP")
        async with world.server("b", 8080), world.server("c", 8080):
            await eventually(lambda: answers(world, "a", "10.96.0.50", 80))
            assert len({await world.call("a", "10.96.0.50", 80) for _ in range(30)}) == 1

    run_in_world(body)


def test_the_bridge_sees_what_pods_of_one_node_say_to_each_other(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        await world.pod("a", "node-1")
        b = await world.pod("b", "node-1")
        sniffer = world.namespaces["node-1"].socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        sniffer.bind(("cni0", 0))
        sniffer.setblocking(False)
        async with world.server("b", 80, name="in-plain-text"):
            await world.call("a", b, 80)
        frames = b""
        with sniffer, suppress(BlockingIOError):  # no more frames
            while True:
                frames += sniffer.recv(4096)
        assert b"in-plain-text" in frames

    run_in_world(body)


def test_a_detached_pod_is_gone_at_once_though_its_namespace_is_pinned(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        await world.pod("a", "node-1")
        with world.namespaces["a"].inside():
            assert "eth0" in dict(socket.if_nameindex()).values()
        assert await world.network.detach_pod("node-1", uid("a"))
        with world.namespaces["a"].inside():
            assert "eth0" not in dict(socket.if_nameindex()).values()
        assert not await world.network.detach_pod("node-1", uid("a"))

    run_in_world(body)


def test_an_address_rests_before_it_is_used_again(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        first = await world.pod("a", "node-1")
        await world.network.detach_pod("node-1", uid("a"))
        assert await world.pod("b", "node-1") != first

    run_in_world(body)


def test_a_cut_link_loses_packets_silently_and_mends(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        await world.pod("a", "node-1")
        c, d = await world.pod("c", "node-2"), await world.pod("d", "node-2")
        async with world.server("c", 80), world.server("d", 80):
            await eventually(lambda: answers(world, "a", c, 80))
            await world.network.cut_link("node-2")
            assert not world.network.link_up("node-2")
            with pytest.raises(TimeoutError):
                await world.call("a", c, 80, timeout=0.3)
            await eventually(lambda: answers(world, "c", d, 80))
            await world.network.restore_link("node-2")
            assert world.network.link_up("node-2")
            await eventually(lambda: answers(world, "a", c, 80))

    run_in_world(body)


def test_a_node_that_comes_again_keeps_its_address_and_gets_its_rules(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        b = await world.pod("b", "node-1")
        world.service("web", "10.96.0.50", [(b, 8080)])
        await world.network.remove_node("node-2")
        assert not world.network.link_up("node-2")
        assert await world.add_node("node-2") == "172.30.0.12"
        await world.pod("c", "node-2")
        async with world.server("b", 8080):
            await eventually(lambda: answers(world, "c", "10.96.0.50", 80))

    run_in_world(body)


def policy(name: str, **spec: object) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def test_a_policy_lets_through_what_it_allows_and_nothing_else(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        b = await world.pod("b", "node-1", labels={"app": "b"})
        friend, stranger = {"app": "friend"}, {"app": "stranger"}
        for number in (1, 2):
            await world.pod(f"f{number}", f"node-{number}", labels=friend)
            await world.pod(f"s{number}", f"node-{number}", labels=stranger)
        async with world.server("b", 80), world.server("b", 81):
            await eventually(lambda: answers(world, "s1", b, 80))
            world.store.create(
                NETWORK_POLICY,
                policy(
                    "only-friends",
                    podSelector={"matchLabels": {"app": "b"}},
                    ingress=[{"from": [{"podSelector": {"matchLabels": friend}}], "ports": [{"port": 80}]}],
                ),
            )
            await eventually(lambda: _not(answers(world, "s1", b, 80)))
            assert [await answers(world, who, b, 80) for who in ("f1", "f2", "s1", "s2")] == [True, True, False, False]
            assert not await answers(world, "f1", b, 81)
            await eventually(lambda: answers(world, "node-1", b, 81))  # the node's own: its kubelet's probes
            world.store.remove(NETWORK_POLICY, "default", "only-friends")
            await eventually(lambda: answers(world, "s2", b, 81))

    run_in_world(body)


def test_an_egress_policy_holds_behind_a_service_too(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        await world.pod("a", "node-1", labels={"app": "a"})
        b, c = await world.pod("b", "node-1"), await world.pod("c", "node-2", labels={"app": "c"})
        world.service("web", "10.96.0.50", [(b, 8080)])
        async with world.server("b", 8080), world.server("c", 8080):
            await eventually(lambda: answers(world, "a", "10.96.0.50", 80))
            world.store.create(
                NETWORK_POLICY,
                policy(
                    "only-c",
                    podSelector={"matchLabels": {"app": "a"}},
                    policyTypes=["Egress"],
                    egress=[{"to": [{"podSelector": {"matchLabels": {"app": "c"}}}]}],
                ),
            )
            await eventually(lambda: _not(answers(world, "a", "10.96.0.50", 80)))
            await eventually(lambda: answers(world, "a", c, 8080))

    run_in_world(body)


def test_attaching_a_pod_takes_less_time_than_starting_a_command_for_each_step(run_in_world: InWorld) -> None:
    async def body(world: World) -> None:
        attaching, starting = [], []
        for number in range(20):
            with Namespace.create() as namespace:
                began = time.perf_counter()
                await world.network.attach_pod("node-1", uid(f"p{number}"), f"/proc/self/fd/{namespace.fd}")
                attaching.append(time.perf_counter() - began)
            began = time.perf_counter()
            subprocess.run(["ip", "-V"], check=True, capture_output=True)
            starting.append(time.perf_counter() - began)
        # A link, its move, two addresses, two routes, a bridge port. The quicker ones: the machine may be busy.
        assert sorted(attaching)[4] < 7 * sorted(starting)[4]

    run_in_world(body)


def test_two_clusters_use_the_same_addresses_without_clashing() -> None:
    async def whole() -> None:
        worlds = World(), World()
        try:
            for number, world in enumerate(worlds):
                await world.start()
                assert await world.pod(f"pod-{number}", "node-1") == "10.244.1.2"
            async with worlds[0].server("pod-0", 80), worlds[1].server("pod-1", 80):
                assert (await worlds[0].call("node-2", "10.244.1.2", 80))[0] == "pod-0"
                assert (await worlds[1].call("node-2", "10.244.1.2", 80))[0] == "pod-1"
        finally:
            for world in worlds:
                await world.stop()

    asyncio.run(whole())


def test_the_hosts_own_network_is_the_same_before_during_and_after() -> None:
    before, during = host_network(), {}

    async def whole() -> None:
        world = World()
        try:
            await world.start()
            b = await world.pod("b", "node-1")
            world.service("web", "10.96.0.50", [(b, 8080)])
            async with world.server("b", 8080):
                await eventually(lambda: answers(world, "node-2", "10.96.0.50", 80))
            during.update(host_network())
        finally:
            await world.stop()

    asyncio.run(whole())
    assert differences(before, during) == {}
    assert differences(before, host_network()) == {}


def differences(first: dict[str, str], second: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    pairs = {name: (first.get(name), second.get(name)) for name in first.keys() | second.keys()}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def test_the_comparison_of_the_hosts_network_sees_a_change() -> None:
    with Namespace.create() as scratch, scratch.inside():
        before = host_network()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        changed = differences(before, host_network())
    assert "ip -j link" in changed


_KILLED = """
    import asyncio
    from proof.endings.left import cookie
    from tests.embedded.network.conftest import World

    async def whole():
        world = World()
        await world.start()
        await world.pod("a", "node-1")
        print(*(cookie(namespace) for namespace in (world.network.fabric, *world.namespaces.values())), flush=True)
        await asyncio.sleep(60)

    asyncio.run(whole())
"""


def test_a_killed_cluster_leaves_no_namespace() -> None:
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_KILLED)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    made = {int(word) for word in child.stdout.readline().split()}
    assert len(made) == 4
    assert held_namespaces() >= made
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 20  # an `nft` that it had just started ends by itself
    while (left := held_namespaces() & made) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_a_network_that_is_not_started_says_so() -> None:
    with pytest.raises(ValueError, match="not started"):
        _ = ClusterNetwork().fabric
