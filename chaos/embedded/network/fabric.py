"""`ClusterNetwork`: the fabric that links the nodes, each node's pod bridge, and each pod's link to it.

    fabric namespace                     node N's namespace                        pod
    bridge `fabric` 172.30.0.1 ── port ══ eth0 172.30.0.10+N
      API server :6443, DNS :53           bridge `cni0` 10.244.N.1 ── vethXXXXXXXX ══ eth0 10.244.N.y/32

A pod has a /32 address and its node's bridge for a router, and bridge ports are isolated from each other: what one pod
sends to another of the same node passes the node's routing, so that Services and policies hold for it, source addresses
are kept, answers come back the way that they went, and everything can be seen on `cni0`. The price is one more hop than
a switched bridge.

Called by the assembly (start, stop, sockets for its servers) and by the kubelets (nodes and pods). Everything is
asynchronous where the kernel may take its time (a bridge port is removed under a kernel lock), links on one thread and
rules on another, in the order of asking.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos.embedded.network import addresses
from chaos.embedded.network.netns import Namespace, NamespaceThread, write_sysctls
from chaos.embedded.network.rtnetlink import Links
from chaos.errors import EnvironmentUnfit

_ROUTER_SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0",  # a packet to a neighbour rightly leaves by the bridge that it came by
    "ipv4/conf/default/send_redirects": "0",
    "ipv6/conf/default/disable_ipv6": "1",  # of links made from now on; ::1 stays
}
_BRIDGE_SYSCTLS = {"bridge/bridge-nf-call-iptables": "0", "bridge/bridge-nf-call-arptables": "0"}
_POD_SYSCTLS = {
    "ipv6/conf/default/disable_ipv6": "1",
    "ipv4/ip_unprivileged_port_start": "0",  # as container runtimes set it
    "ipv4/ping_group_range": "0 2147483647",
}


@dataclass(slots=True)
class _Wiring:
    """One node's network, as this process holds it."""

    namespace: Namespace
    links: Links
    bridge: int
    uplink: int
    pods: dict[str, int] = field(default_factory=dict)  # pod UID -> host number
    connected: bool = True


def _sysctls(settings: dict[str, str]) -> None:
    """Write the sysctls that this kernel has: the bridge's exist only with br_netfilter."""
    write_sysctls({name: value for name, value in settings.items() if Path("/proc/sys/net", name).exists()})


def pod_link(uid: str) -> str:
    """Name of the node's end of a pod's link."""
    return "veth" + uid.replace("-", "")[:10]


class ClusterNetwork:
    """The network of one embedded cluster. Make it, `await start()`, add nodes, attach pods, `await stop()`."""

    def __init__(self) -> None:
        self._thread = NamespaceThread()
        self._rules_thread = NamespaceThread("nft")  # of its own, so that no pod waits for a rule set to be written
        self._fabric: Namespace | None = None
        self._links: Links | None = None
        self._bridge = 0
        self._numbers: dict[str, int] = {}
        self._nodes: dict[str, _Wiring] = {}
        self._next: dict[str, int] = {}  # node -> host number to try first: addresses rest before they come again
        self._on_node: list[Callable[[], None]] = []

    # The fabric

    @property
    def fabric(self) -> Namespace:
        """The fabric's namespace; ValueError before start."""
        if self._fabric is None:
            raise ValueError("the cluster's network is not started")
        return self._fabric

    async def start(self) -> None:
        """Make the fabric. EnvironmentUnfit when this process may not make network namespaces."""
        try:
            self._fabric = Namespace.create()
        except OSError as error:
            raise EnvironmentUnfit(f"cannot make a network namespace ({error}): run as root") from error
        await self._thread.run(self._fabric, self._make_fabric)

    def _make_fabric(self) -> None:
        self._links = Links(self.fabric)
        _sysctls(_ROUTER_SYSCTLS)
        self._links.set_up(self._links.index("lo"))
        self._bridge = self._links.add_bridge("fabric", addresses.hardware_address(addresses.FABRIC_ADDRESS))
        _sysctls(_BRIDGE_SYSCTLS)
        self._links.add_address(self._bridge, addresses.FABRIC_ADDRESS, addresses.FABRIC_PREFIX)

    def listen(self, port: int, *, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Open a bound (for TCP: listening) non-blocking socket on the fabric's address, for the cluster's servers."""
        opened = self.fabric.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setblocking(False)
        opened.bind((addresses.FABRIC_ADDRESS, port))
        if kind == socket.SOCK_STREAM:
            opened.listen(512)
        return opened

    def socket_of_fabric(self) -> socket.socket:
        """Open a TCP socket on the fabric, for calls from the cluster's servers to pods."""
        return self.fabric.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)

    async def stop(self) -> None:
        """Close everything: the links go with the namespaces, when their processes have ended."""
        for name in tuple(self._nodes):
            await self.remove_node(name)
        if self._links is not None:
            self._links.close()
            self._links = None
        if self._fabric is not None:
            self._fabric.close()
            self._fabric = None
        self._thread.close()
        self._rules_thread.close()

    # Nodes

    def number(self, node: str) -> int:
        """The node's number, from 1 in order of first use; kept when the node is removed and added again."""
        if node not in self._numbers:
            if len(self._numbers) == addresses.MAX_NODES:
                raise EnvironmentUnfit(f"the embedded cluster's network has room for {addresses.MAX_NODES} nodes")
            self._numbers[node] = len(self._numbers) + 1
        return self._numbers[node]

    def node_ip(self, node: str) -> str:
        """The node's InternalIP."""
        return addresses.node_address(self.number(node))

    def pod_cidr(self, node: str) -> str:
        """`10.244.N.0/24`: the node's spec.podCIDR."""
        return f"{addresses.pod_network(self.number(node))}/{addresses.POD_PREFIX}"

    def gateway(self, node: str) -> str:
        """The node's address on its pod bridge: the source of its kubelet's probes."""
        return addresses.pod_gateway(self.number(node))

    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that are wired."""
        return tuple(self._nodes)

    def namespace(self, node: str) -> Namespace:
        """The node's network namespace; KeyError when the node is not wired."""
        return self._nodes[node].namespace

    async def add_node(self, name: str, netns_path: str | Path) -> str:
        """Wire the node with the namespace at the path (/proc/PID/ns/net), replacing earlier wiring; its address."""
        await self.remove_node(name)
        number = self.number(name)
        namespace = Namespace.open(netns_path)
        try:
            wiring = await self._thread.run(namespace, lambda: self._wire(number, namespace))
        except BaseException:
            namespace.close()
            raise
        self._nodes[name] = wiring
        for tell in self._on_node:
            tell()
        return self.node_ip(name)

    def _wire(self, number: int, namespace: Namespace) -> _Wiring:
        fabric = self._links
        if fabric is None:
            raise ValueError("the cluster's network is not started")
        links = Links(namespace)
        try:
            _sysctls(_ROUTER_SYSCTLS)
            links.set_up(links.index("lo"))
            address = addresses.node_address(number)
            port = fabric.add_veth(
                f"node-{number}",
                master=self._bridge,
                peer="eth0",
                peer_namespace=namespace,
                peer_hardware=addresses.hardware_address(address),
            )
            uplink = links.index("eth0")
            links.add_address(uplink, address, addresses.FABRIC_PREFIX)
            links.set_up(uplink)
            fabric.await_carrier(port)
            fabric.await_carrier(self._bridge)
            links.await_carrier(uplink)
            bridge = links.add_bridge("cni0", addresses.hardware_address(addresses.pod_gateway(number)))
            _sysctls(_BRIDGE_SYSCTLS)
            links.add_address(bridge, addresses.pod_gateway(number), addresses.POD_PREFIX)
            links.add_route("0.0.0.0", 0, link=uplink, gateway=addresses.FABRIC_ADDRESS)
            # A Service's address is rewritten on its way out; only what has a route gets that far, link or no link.
            links.add_route(*addresses.SERVICE_CIDR, link=bridge, source=address)
            fabric.add_route(addresses.pod_network(number), addresses.POD_PREFIX, link=self._bridge, gateway=address)
            for name, other in self._nodes.items():
                peer = self._numbers[name]
                links.add_route(
                    addresses.pod_network(peer), addresses.POD_PREFIX, link=uplink, gateway=addresses.node_address(peer)
                )
                other.links.add_route(
                    addresses.pod_network(number), addresses.POD_PREFIX, link=other.uplink, gateway=address
                )
        except BaseException:
            fabric.delete(f"node-{number}")
            links.close()
            raise
        return _Wiring(namespace, links, bridge, uplink)

    @contextmanager
    def on_node(self, tell: Callable[[], None]) -> Iterator[None]:
        """Register a callback for each new node, which has no rules yet."""
        self._on_node.append(tell)
        try:
            yield
        finally:
            self._on_node.remove(tell)

    async def remove_node(self, name: str) -> None:
        """Take the node off the fabric and close its namespace; no error when it is not wired."""
        wiring = self._nodes.pop(name, None)
        if wiring is None:
            return
        links, number = self._links, self._numbers[name]
        if links is not None:
            await self._thread.run(None, lambda: links.delete(f"node-{number}"))
        wiring.links.close()
        wiring.namespace.close()

    async def cut_link(self, node: str) -> None:
        """Cut the node's link: packets both ways are dropped, none is refused; its own pods still reach each other."""
        await self._plug(node, connected=False)

    async def restore_link(self, node: str) -> None:
        """Undo `cut_link`. Idempotent."""
        await self._plug(node, connected=True)

    async def _plug(self, node: str, *, connected: bool) -> None:
        wiring, links = self._nodes[node], self._links
        if links is None:
            raise ValueError("the cluster's network is not started")
        name, master = f"node-{self._numbers[node]}", self._bridge if connected else 0
        await self._thread.run(None, lambda: links.set_master(links.index(name), master))
        wiring.connected = connected

    def link_up(self, node: str) -> bool:
        """Whether the node is wired and its link is not cut, so that its kubelet reaches the API server."""
        wiring = self._nodes.get(node)
        return wiring is not None and wiring.connected

    # Pods

    async def attach_pod(self, node: str, uid: str, netns_path: str | Path) -> str:
        """Link the pod's namespace to its node; the pod's address. A UID that is attached already gets a new link."""
        wiring = self._nodes[node]
        await self.detach_pod(node, uid)
        host = self._take_host(node, wiring)
        wiring.pods[uid] = host
        address = addresses.pod_address(self._numbers[node], host)
        try:
            with Namespace.open(netns_path) as pod:
                await self._thread.run(pod, lambda: self._attach(wiring, pod_link(uid), pod, address))
        except BaseException:
            await self.detach_pod(node, uid)
            raise
        return address

    def _take_host(self, node: str, wiring: _Wiring) -> int:
        taken, size = set(wiring.pods.values()), addresses.LAST_POD - addresses.FIRST_POD + 1
        first = self._next.get(node, addresses.FIRST_POD)
        for step in range(size):
            host = addresses.FIRST_POD + (first - addresses.FIRST_POD + step) % size
            if host not in taken:
                self._next[node] = host + 1
                return host
        raise EnvironmentUnfit(f"no free pod address on {node}: {size} are in use")

    @staticmethod
    def _attach(wiring: _Wiring, name: str, pod: Namespace, address: str) -> None:
        _sysctls(_POD_SYSCTLS)
        port = wiring.links.add_veth(
            name,
            master=wiring.bridge,
            peer="eth0",
            peer_namespace=pod,
            peer_hardware=addresses.hardware_address(address),
        )
        wiring.links.isolate(port)
        with Links(pod) as links:
            links.set_up(links.index("lo"))
            link = links.index("eth0")
            links.add_address(link, address, 32)
            links.set_up(link)
            wiring.links.await_carrier(port)
            wiring.links.await_carrier(wiring.bridge)
            links.await_carrier(link)
            gateway = ".".join((*address.split(".")[:3], "1"))
            links.add_route("0.0.0.0", 0, link=link, gateway=gateway)

    async def detach_pod(self, node: str, uid: str) -> bool:
        """Delete the pod's link, even while something holds its namespace; False when there is none."""
        wiring = self._nodes.get(node)
        if wiring is None or wiring.pods.pop(uid, None) is None:
            return False
        return await self._thread.run(None, lambda: wiring.links.delete(pod_link(uid)))

    def socket(self, node: str, *, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Open a socket in the node's namespace, for its kubelet's probes."""
        return self._nodes[node].namespace.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)

    async def nft(self, node: str, ruleset: str) -> None:
        """Apply an nftables script in the node's namespace, as one transaction.

        Raises OSError in nft's words when it is refused, KeyError when the node is not wired.
        """
        wiring = self._nodes[node]
        await self._rules_thread.run(wiring.namespace, lambda: _nft(ruleset))


def _nft(ruleset: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=ruleset, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"nft refused the node's rules: {done.stderr.strip()}")
