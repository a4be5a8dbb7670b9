"""A pod's sandbox on a node: namespaces, address, cgroup, files, volumes. Made once, removed once.

The worker (worker.py) decides when. Paths come in pairs: `/var/lib/kubelet/…` in the node is `<run dir>/kubelet/…` for
the server, which writes files from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from chaos.embedded.beneath import Beneath
from chaos.embedded.kubelet import cgroups, cni
from chaos.embedded.kubelet.environment import ConfigError, decoded
from chaos.embedded.kubelet.node_machine import KUBELET, Machine, MachineDown, MachineError
from chaos.embedded.kubelet.volumes import IssueToken, Volume, VolumePlan, plan_volumes, write_files
from chaos.embedded.network import ClusterNetwork
from chaos.embedded.network.addresses import DNS_ADDRESS
from chaos.embedded.network.fabric import pod_link
from chaos.embedded.network.netns import Namespace
from chaos.embedded.resources import CONFIG_MAP, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, SECRET, Object
from chaos.embedded.store import Store

DOMAIN = "cluster.local"


MOST_SERVERS: Final = 3  # and the next two: what the C library reads of resolv.conf (validation.go)
MOST_SEARCHES: Final = 32
MOST_SEARCHED: Final = 2_048  # characters of all domains
LONGEST_DOMAIN: Final = 253


def plan_resolv(pod: Object, node_resolv: str) -> str:
    """The pod's /etc/resolv.conf by its dnsPolicy and dnsConfig: nothing twice, and no more than is read of it."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    config = spec.get("dnsConfig") or {}
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    if policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork")):
        servers, options = [DNS_ADDRESS], {"ndots": "5"}
        searches = [f"{namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN]
    elif policy != "None":
        servers, searches, options = _read_resolv(node_resolv)
    servers += config.get("nameservers") or []
    searches += config.get("searches") or []
    options |= {o["name"]: o.get("value", "") for o in config.get("options") or []}
    searches = _fitting(list(dict.fromkeys(searches)))
    servers = list(dict.fromkeys(servers))[:MOST_SERVERS]
    lines = ([f"search {' '.join(searches)}"] if searches else []) + [f"nameserver {server}" for server in servers]
    if options:
        lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in options.items()))
    return "\n".join(lines) + "\n"


def _read_resolv(text: str) -> tuple[list[str], list[str], dict[str, str]]:
    """The servers, the domains of the last `search`, and the options of a resolv.conf."""
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for words in (line.split() for line in text.splitlines()):
        if words[:1] == ["nameserver"]:
            servers += words[1:2]
        elif words[:1] == ["search"]:
            searches = [word.removesuffix(".") for word in words[1:] if word != "."]
        elif words[:1] == ["options"]:
            options |= {name: value for name, _, value in (word.partition(":") for word in words[1:])}
    return servers, searches, options


def _fitting(searches: list[str]) -> list[str]:
    kept = [one for one in searches[:MOST_SEARCHES] if len(one) <= LONGEST_DOMAIN]
    while len(" ".join(kept)) > MOST_SEARCHED:
        kept.pop()
    return kept


def plan_hosts(pod: Object, address: str, hostname: str) -> str:
    """The pod's /etc/hosts."""
    spec = pod["spec"]
    subdomain = spec.get("subdomain")
    full = f"{hostname}.{subdomain}.{pod['metadata']['namespace']}.svc.{DOMAIN}\t" if subdomain else ""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
        f"{address}\t{full}{hostname}",
    ]
    aliases = [f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or []) for alias in spec.get("hostAliases") or []]
    if aliases:
        lines += ["", "# Entries added by HostAliases.", *aliases]
    return "\n".join(lines) + "\n"


def plan_hostname(pod: Object, node: str) -> str:
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        return node
    name: str = spec.get("hostname") or pod["metadata"]["name"]
    return name[:63].rstrip("-.")


class Sandbox:
    """One pod's sandbox on a node. `make` may be called again after the node has lost it."""

    def __init__(
        self,
        pod: Object,
        node: str,
        run_dir: Path,
        machine: Callable[[], Machine],
        network: ClusterNetwork,
        store: Store,
        issue: IssueToken,
        *,
        cgroup_root: str,
        resolv: str,
    ) -> None:
        self.uid: str = pod["metadata"]["uid"]
        self.node = node
        self.kubelet = Beneath(run_dir / "kubelet")  # on the machine
        self.directory = self.kubelet.below(f"pods/{self.uid}")
        self.inside = f"{KUBELET}/pods/{self.uid}"  # the same, in the node
        self.cgroup = cgroups.pod_path(pod)
        self.hostname = plan_hostname(pod, node)
        self.pause = 0
        self.namespace: Namespace | None = None
        self.volumes: dict[str, Volume] = {}
        self._machine = machine
        self._network = network
        self._store = store
        self._issue = issue
        self._cgroup_root = cgroup_root
        self._resolv = resolv
        self._tokens: dict[tuple[tuple[str, ...], int], tuple[str, float]] = {}
        self._mounted: set[str] = set()
        self._attachment: cni.Attachment | None = None  # where other plugins have had a hand in the pod's network

    # volumes

    def read(self, namespace: str, kind: str, name: str) -> Mapping[str, bytes] | None:
        obj = self._store.find(CONFIG_MAP if kind == "ConfigMap" else SECRET, namespace, name)
        return None if obj is None else decoded(kind, obj)

    def _token(self, pod: Object, *, audiences: list[str], seconds: int) -> str:
        """A token, issued anew after four fifths of its lifetime."""
        key = (tuple(audiences), seconds)
        held = self._tokens.get(key)
        if held is None or time.time() > held[1] + 0.8 * seconds:
            self._tokens[key] = held = (self._issue(pod, audiences=audiences, seconds=seconds), time.time())
        return held[0]

    async def prepare_volumes(self, pod: Object, node: Mapping[str, str]) -> None:
        """Make or refresh all volumes. Raises ConfigError with the Event's message, MachineDown."""
        namespace = pod["metadata"]["namespace"]
        plan = plan_volumes(
            pod,
            f"{self.inside}/volumes",
            lambda kind, name: self.read(namespace, kind, name),
            self._token,
            node,
            lambda name: self._volume_of(namespace, name),
        )
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        for volume in plan.volumes:
            if volume.name in self._mounted:
                continue
            if volume.claimed:
                await asyncio.to_thread(self._make_claimed, volume.claimed)
            if volume.host_type is not None:
                reply, _ = await self._ask("host_path", path=volume.source, type=volume.host_type)
                if reply["problem"]:
                    raise ConfigError(f'MountVolume.SetUp failed for volume "{volume.name}" : {reply["problem"]}')
            elif volume.tmpfs:
                await self._ask("tmpfs", path=volume.source, options=volume.tmpfs)
            if volume.host_type is not None or volume.tmpfs:
                self._mounted.add(volume.name)
        await asyncio.to_thread(self._write, plan, group)
        self.volumes = {volume.name: volume for volume in plan.volumes}

    def _volume_of(self, namespace: str, name: str) -> Object:
        """The volume bound to a claim. Raises ConfigError."""
        claim = self._store.find(PERSISTENT_VOLUME_CLAIM, namespace, name)
        where = f"error processing PVC {namespace}/{name}"
        if claim is None:
            why = f'failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found'
            raise ConfigError(f"{where}: {why}")
        if (claim.get("status") or {}).get("phase") != "Bound" or not claim["spec"].get("volumeName"):
            raise ConfigError(f"{where}: PVC is not bound")
        volume = self._store.find(PERSISTENT_VOLUME, "", claim["spec"]["volumeName"])
        if volume is None or (volume["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
            raise ConfigError(f"{where}: PV {claim['spec']['volumeName']} is not bound to it")
        return volume

    def _make_claimed(self, name: str) -> None:
        """Make a claim's directory on first use: world-writable, as provisioners leave it."""
        if self.kubelet.inode(f"claims/{name}") is None:
            self.kubelet.make(f"claims/{name}", mode=0o777)

    async def _ask(self, do: str, **arguments: Any) -> tuple[dict[str, str], list[int]]:
        try:
            return await self._machine().ask(do, **arguments)
        except MachineError as error:
            raise ConfigError(f"MountVolume.SetUp failed: {error}") from error

    def _write(self, plan: VolumePlan, group: int | None) -> None:
        for volume in plan.volumes:
            path = self.directory.below(f"volumes/{volume.name}")
            if volume.files:
                write_files(path, plan.files[volume.name], group, plan.owners[volume.name])
            elif volume.host_type is None and not volume.tmpfs and volume.name not in self._mounted:
                path.make(mode=0o777 if group is None else 0o2777, group=group)
                self._mounted.add(volume.name)

    # the sandbox itself

    async def make(self, pod: Object, attempt: int) -> str:
        """Make namespaces, files and limits; the pod's address. Raises MachineError, MachineDown, OSError."""
        host_network = bool(pod["spec"].get("hostNetwork"))
        reply, fds = await self._machine().ask(
            "sandbox",
            sandbox=self.uid,
            hostname=self.hostname,
            host_network=host_network,
            cgroup=f"{self.cgroup}/sandbox-{attempt}",
            share_processes=bool(pod["spec"].get("shareProcessNamespace")),
        )
        self.pause = reply["pid"]
        if self.namespace is not None:
            self.namespace.close()
        self.namespace = Namespace(fds[0])
        cgroups.apply_limits(self._cgroup_root + self.cgroup, cgroups.pod_limits(pod))
        if host_network:
            address = self._network.node_ip(self.node)
        else:
            plugins = self._plugins()
            network = await plugins.network()
            address = await self._network.attach_pod(self.node, self.uid, f"/proc/self/fd/{fds[0]}")
            if network.chained:
                await self._chain(plugins, network, pod, address)
        await asyncio.to_thread(self._write_files, pod, address)
        return address

    def _write_files(self, pod: Object, address: str) -> None:
        self.directory.make()
        for name, text in (
            ("hosts", plan_hosts(pod, address, self.hostname)),
            ("hostname", self.hostname + "\n"),
            ("resolv.conf", plan_resolv(pod, self._resolv)),
        ):
            self.directory.write(name, text.encode())

    def _plugins(self) -> cni.Plugins:
        return cni.Plugins(self._machine(), self.directory, self.inside, self.cgroup)

    async def _chain(self, plugins: cni.Plugins, network: cni.Network, pod: Object, address: str) -> None:
        result = cni.plan_result(network.version, address=address, sandbox=self.uid, link=pod_link(self.uid))
        attachment = cni.Attachment(network, self.uid, cni.plan_environment(pod, self.uid), result)
        self._attachment = attachment  # what fails half-way is to be undone too
        self._attachment = await plugins.add(attachment)

    async def check_network(self) -> str:
        """Run the chained plugins' CHECK; the problem, "" for none."""
        if self._attachment is not None:
            try:
                await self._plugins().check(self._attachment)
            except cni.NetworkFailed as error:
                return str(error)
        return ""

    def files(self) -> dict[str, str]:
        """The files of containers below /etc."""
        return {f"/etc/{name}": f"{self.inside}/{name}" for name in ("hosts", "hostname", "resolv.conf")}

    def lost(self) -> None:
        """Record that the sandbox is gone: the node lost power."""
        if self.namespace is not None:
            self.namespace.close()
            self.namespace = None
        self.pause = 0
        self._mounted.clear()
        self._attachment = None

    async def drop(self, *, host_network: bool) -> str:
        """Remove the sandbox at once: its link, namespaces and cgroup. Idempotent. The failure of chained plugins' DEL,
        "" for none.
        """
        attachment, self._attachment, problem = self._attachment, None, ""
        if attachment is not None:
            try:
                await self._plugins().delete(attachment)
            except cni.NetworkFailed as error:
                problem = str(error)
            except MachineDown:
                problem = ""  # everything that they made went with the power
        if not host_network:
            await self._network.detach_pod(self.node, self.uid)
        if self.namespace is not None:
            self.namespace.close()
            self.namespace = None
        with contextlib.suppress(MachineDown):
            await self._machine().ask("drop_sandbox", sandbox=self.uid, cgroup=self.cgroup)
        return problem

    async def remove_files(self) -> None:
        """Remove the pod's directory, after unmounting what is mounted below it."""
        for name, volume in self.volumes.items():
            if volume.tmpfs and name in self._mounted:
                with contextlib.suppress(MachineDown, MachineError):
                    await self._machine().ask("unmount", path=volume.source)
        with contextlib.suppress(OSError):  # what a pod of the node holds on to goes with the cluster's directory
            await asyncio.to_thread(self.kubelet.remove, f"pods/{self.uid}")
