"""Three nodes in namespaces of their own: their network, what runs on each, the way in, and the way down.

The tainted control plane runs etcd, the API server, controllers, scheduler and CoreDNS as programs of its node; each
node runs containerd, kubelet and kube-proxy. Pods' network is as kindnet makes it: a range a node (CNI's ptp), routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from chaos.embedded.kubelet import cgroups, nodeinit
from chaos.embedded.kubelet.node_machine import plan_masks, plan_skeleton, program_directories
from chaos.errors import EnvironmentUnfit, Misuse, NotReady
from chaos.kube.client import Cluster
from chaos.kube.objects import has_condition
from proof.kubernetes.images import PAUSE
from proof.kubernetes.pki import Authority, Pair, kubeconfig, signing_pair
from proof.kubernetes.store import take

CONTEXT: Final = "real-kubernetes"
NODES: Final = ("real-control-plane", "real-worker", "real-worker2")
CONTROL_PLANE: Final = NODES[0]
PODS: Final = "10.244.0.0/16"
SERVICES: Final = "10.96.0.0/16"
DNS: Final = "10.96.0.10"
API: Final = "10.96.0.1"
TAINT: Final = "node-role.kubernetes.io/control-plane"
READY_SECONDS: Final = 300.0
Object = dict[str, Any]


def address(node: str) -> str:
    return f"10.90.0.{NODES.index(node) + 1}"


def pod_range(node: str) -> str:
    return f"10.244.{NODES.index(node)}.0/24"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A program of a node, by its arguments."""

    name: str
    arguments: tuple[str, ...]


@dataclass(slots=True)
class RealCluster:
    """A cluster below one folder. `up`, `down`; `down` is safe at any time, and leaves nothing but the folder's logs.

    Args:
        folder: what it writes; emptied first.
        programs: as `proof.kubernetes.build` compiles them.
        store: the nodes' images, as `proof.kubernetes.store` unpacks them.
    """

    folder: Path
    programs: Path
    store: Path
    _processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    _door: Door | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def cgroup(self) -> str:
        return f"{cgroups.ROOT}/real-kubernetes"

    def up(self) -> Cluster:
        """Start every node, and wait until all are Ready. Raises NotReady naming those that are not."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "images").mkdir()
        listener = socket.create_server(("127.0.0.1", 0))
        authority, accounts = Authority.new(), signing_pair()
        for node in NODES:
            self._write_node(node, authority, accounts)
        server = f"https://127.0.0.1:{listener.getsockname()[1]}"
        admin = authority.issue("admin", "system:masters")
        self.kubeconfig.write_text(kubeconfig(server, authority.pem, admin, name=CONTEXT))
        self.kubeconfig.chmod(0o600)
        for node in NODES:
            self._start_node(node)
        self._wire()
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        self._door = Door(listener, self._processes[CONTROL_PLANE].pid, (address(CONTROL_PLANE), 6443))
        self._door.start()
        return self._await_ready()

    def down(self) -> None:
        """End every node, with all that is in it. Safe to repeat."""
        if self._door is not None:
            self._door.stop()
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(timeout=30)
        self._processes.clear()
        for node in NODES:
            cgroups.remove_tree(f"{self.cgroup}/{node}")
            for name in ("containerd", "kubelet", "etcd", "root", "etc"):
                shutil.rmtree(self.folder / node / name, ignore_errors=True)
        shutil.rmtree(self.folder / "images", ignore_errors=True)
        self.kubeconfig.unlink(missing_ok=True)
        for group in _hierarchies(self.cgroup).values():  # of those that the embedded cluster does not use
            _remove_groups(group)

    # ---- one node

    def _write_node(self, node: str, authority: Authority, accounts: Pair) -> None:
        home = self.folder / node
        etc = home / "etc"
        for directory in (etc, home / "containerd", home / "kubelet", home / "root", home / "logs"):
            directory.mkdir(parents=True)
        take(self.store, home / "containerd")
        server = f"https://{address(CONTROL_PLANE)}:6443"
        users = {
            "kubelet": authority.issue(f"system:node:{node}", "system:nodes", hosts=(node, address(node), "127.0.0.1")),
            "kube-proxy": authority.issue("system:kube-proxy"),
        }
        if node == CONTROL_PLANE:
            (home / "etcd").mkdir()
            for name in ("kube-controller-manager", "kube-scheduler"):
                users[name] = authority.issue(f"system:{name}")
            users["coredns"] = authority.issue("coredns", "system:masters")
            names = ("localhost", "127.0.0.1", address(node), API, "kubernetes", "kubernetes.default.svc")
            self._write_pair(etc / "apiserver", authority.issue("kube-apiserver", "system:masters", hosts=names))
            self._write_pair(etc / "accounts", accounts)
            (etc / "Corefile").write_text(
                f".:53 {{\n  errors\n  kubernetes cluster.local in-addr.arpa {{\n"
                f"    kubeconfig {etc}/coredns.kubeconfig\n    pods insecure\n    ttl 5\n  }}\n  cache 5\n}}\n"
            )
        for name, pair in users.items():
            (etc / f"{name}.kubeconfig").write_text(kubeconfig(server, authority.pem, pair, name=name))
        self._write_pair(etc / "kubelet", users["kubelet"])
        (etc / "authority.pem").write_bytes(authority.pem)
        for name, text in node_files(node, home, self.programs).items():
            (etc / name).write_text(text)

    @staticmethod
    def _write_pair(stem: Path, pair: Pair) -> None:
        stem.with_suffix(".crt").write_bytes(pair.certificate)
        stem.with_suffix(".key").write_bytes(pair.key)

    def _start_node(self, node: str) -> None:
        home, group = self.folder / node, f"{self.cgroup}/{node}"
        cgroups.prepare(group)
        shared = [str(home / name) for name in ("containerd", "etcd", "logs") if (home / name).is_dir()]
        plan = {
            "name": node,
            "base": str(home / "root"),
            "kubelet": str(home / "kubelet"),
            "images": str(self.folder / "images"),
            "skeleton": plan_skeleton(),
            "controllers": _hierarchies(group),
            "programs": program_directories(),
            "masks": plan_masks(),
            "binds": [str(self.programs), str(home / "etc")],
            "shared": shared,
            "files": {
                "/etc/hostname": f"{node}\n",
                "/etc/hosts": "127.0.0.1 localhost\n" + "".join(f"{address(one)} {one}\n" for one in NODES),
                "/etc/resolv.conf": f"nameserver {address(CONTROL_PLANE)}\n",
                "/etc/machine-id": f"{NODES.index(node):032x}\n",
                "/etc/cni/net.d/10-ptp.conflist": network_file(node),
            },
            "daemons": [
                {
                    "arguments": list(one.arguments),
                    "log": str(home / "logs" / f"{one.name}.log"),
                    "path": str(self.programs),
                }
                for one in daemons(node, home, self.programs)
            ],
        }
        log = (home / "logs" / "node.log").open("w")
        process = self._processes[node] = subprocess.Popen(
            [sys.executable, "-m", "proof.kubernetes.node"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(plan) + "\n")
        process.stdin.flush()
        if process.stdout.readline().strip() != "apart":
            raise EnvironmentUnfit(f"{node} cannot be made here: {(home / 'logs' / 'node.log').read_text()[-1000:]}")

    # ---- the network between them

    def _wire(self) -> None:
        """A bridge in the control plane's own network, a link of each worker to it, routes to each other's pods."""
        middle = CONTROL_PLANE
        self._ip(middle, "link", "add", "cluster0", "type", "bridge")
        self._ip(middle, "address", "add", f"{address(middle)}/24", "dev", "cluster0")
        self._ip(middle, "link", "set", "cluster0", "up")
        for node in NODES[1:]:
            port, pid = f"to-{node[5:]}", str(self._processes[node].pid)
            self._ip(middle, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", pid)
            self._ip(middle, "link", "set", port, "master", "cluster0", "up")
            self._ip(node, "address", "add", f"{address(node)}/24", "dev", "eth0")
            self._ip(node, "link", "set", "eth0", "up")
            self._ip(node, "route", "add", "default", "via", address(middle))
        self._ip(middle, "route", "add", "default", "via", address(NODES[1]))  # kubelet and API server look for one
        for node in NODES:
            self._ip(node, "link", "set", "lo", "up")
            for other in NODES:
                if other != node:
                    self._ip(node, "route", "add", pod_range(other), "via", address(other))
            for name in ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"):
                self._run(node, "sysctl", "-q", "-w", name)

    def _ip(self, node: str, *words: str) -> None:
        self._run(node, "ip", *words)

    def _run(self, node: str, *words: str) -> None:
        net = f"/proc/{self._processes[node].pid}/ns/net"
        done = subprocess.run(["nsenter", f"--net={net}", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise EnvironmentUnfit(f"{node}: {' '.join(words)}: {done.stderr.strip()}")

    # ---- until it is there

    def _await_ready(self) -> Cluster:
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                cluster = Cluster(self.kubeconfig, kind="context", name=CONTEXT, owned=True)
                break
            except Exception as error:
                if time.monotonic() > end:
                    raise NotReady(f"the API server does not answer: {error}; {self._logs()}") from error
                time.sleep(1)
        self._publish_dns(cluster)

        def missing() -> list[str]:
            ready = {one["metadata"]["name"] for one in cluster.list("Node") if has_condition(one, "Ready")}
            return [node for node in NODES if node not in ready]

        while found := missing():
            if time.monotonic() > end:
                raise NotReady(f"not Ready: {', '.join(found)}; {self._logs()}")
            time.sleep(0.5)
        return cluster

    def _publish_dns(self, cluster: Cluster) -> None:
        """The Service kube-dns, with the control plane's CoreDNS behind it."""
        ports = [{"name": name.lower(), "port": 53, "protocol": name} for name in ("UDP", "TCP")]
        meta = {"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
        for document in (
            {"apiVersion": "v1", "kind": "Service", "metadata": {**meta, "name": "kube-dns"}}
            | {"spec": {"clusterIP": DNS, "ports": ports}},
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": ports}
            | {
                "metadata": {**meta, "name": "kube-dns-1", "labels": {"kubernetes.io/service-name": "kube-dns"}},
                "endpoints": [{"addresses": [address(CONTROL_PLANE)], "conditions": {"ready": True}}],
            },
        ):
            self._kubectl(document)

    def _kubectl(self, document: Object) -> None:
        kubectl = shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))
        end = time.monotonic() + 60
        while True:
            done = subprocess.run(
                [kubectl, "--kubeconfig", str(self.kubeconfig), "apply", "-f", "-"],
                input=json.dumps(document),
                capture_output=True,
                text=True,
                check=False,
            )
            if not done.returncode:
                return
            if time.monotonic() > end:
                raise NotReady(f"{document['kind']} was refused: {done.stderr.strip()}")
            time.sleep(1)

    def _logs(self) -> str:
        return f"logs: {self.folder}/*/logs"


def _hierarchies(group: str) -> dict[str, str]:
    """The node's part of each hierarchy; a kubelet wants cpuset and blkio besides those that a pod's limits need."""
    found = dict(cgroups.controllers())
    if "" not in found:
        above = os.path.dirname(found["cpu"])
        found |= {name: f"{above}/{name}" for name in ("cpuset", "blkio") if os.path.isdir(f"{above}/{name}")}
    return {name: root + group for name, root in found.items()}


def _remove_groups(group: str) -> None:
    """Remove the control group, which holds no process any more, with those below it; and what holds it, when empty."""
    for directory, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(group))


def daemons(node: str, home: Path, programs: Path) -> Iterator[Daemon]:
    """What runs on a node, in this order. Pure."""
    etc = home / "etc"

    def program(name: str, *flags: str) -> Daemon:
        return Daemon(name, (str(programs / name), *flags))

    if node == CONTROL_PLANE:
        here = address(node)
        yield program("etcd", f"--data-dir={home}/etcd", "--unsafe-no-fsync", "--log-level=warn")
        yield program(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--service-cluster-ip-range={SERVICES}",
            f"--advertise-address={here}",
            f"--client-ca-file={etc}/authority.pem",
            f"--tls-cert-file={etc}/apiserver.crt",
            f"--tls-private-key-file={etc}/apiserver.key",
            f"--kubelet-client-certificate={etc}/apiserver.crt",
            f"--kubelet-client-key={etc}/apiserver.key",
            f"--kubelet-certificate-authority={etc}/authority.pem",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={etc}/accounts.crt",
            f"--service-account-signing-key-file={etc}/accounts.key",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
        )
        yield program(
            "kube-controller-manager",
            f"--kubeconfig={etc}/kube-controller-manager.kubeconfig",
            f"--root-ca-file={etc}/authority.pem",
            f"--service-account-private-key-file={etc}/accounts.key",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
        )
        yield program("kube-scheduler", f"--kubeconfig={etc}/kube-scheduler.kubeconfig", "--leader-elect=false")
        yield program("coredns", "-conf", f"{etc}/Corefile")
    yield program("containerd", "--config", f"{etc}/containerd.toml")
    yield program(
        "kubelet",
        f"--config={etc}/kubelet.yaml",
        f"--kubeconfig={etc}/kubelet.kubeconfig",
        f"--hostname-override={node}",
        f"--node-ip={address(node)}",
    )
    yield program("kube-proxy", f"--config={etc}/kube-proxy.yaml", f"--hostname-override={node}")


def node_files(node: str, home: Path, programs: Path) -> dict[str, str]:
    """The configurations of a node's programs, by their names. Pure."""
    etc = home / "etc"
    kubelet: Object = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{etc}/authority.pem"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "tlsCertFile": f"{etc}/kubelet.crt",
        "tlsPrivateKeyFile": f"{etc}/kubelet.key",
    }
    if node == CONTROL_PLANE:
        kubelet["registerWithTaints"] = [{"key": TAINT, "effect": "NoSchedule"}]
    proxy: Object = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": f"{etc}/kube-proxy.kubeconfig"},
        "conntrack": {"maxPerCore": 0},  # the machine's own table
    }
    return {
        "kubelet.yaml": yaml.safe_dump(kubelet),
        "kube-proxy.yaml": yaml.safe_dump(proxy),
        "containerd.toml": f"""version = 3
root = "{home}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{programs}"]
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
""",
    }


def network_file(node: str) -> str:
    """A node's CNI network: each pod a link of its own to the node. Pure."""
    ipam = {
        "type": "host-local",
        "dataDir": "/run/cni-ipam",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": pod_range(node)}]],
    }
    plugins: Sequence[Object] = (
        {"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": ipam},
        {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": True}},
    )
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})


class Door:
    """Passes what comes to a socket of the machine's own network on to an address in a node's."""

    def __init__(self, listener: socket.socket, pid: int, target: tuple[str, int]) -> None:
        self.listener, self.pid, self.target = listener, pid, target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="door", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
        self.listener.close()

    def _serve(self) -> None:
        with open(f"/proc/{self.pid}/ns/net") as namespace:
            nodeinit.call("setns", namespace.fileno(), nodeinit.CLONE_NEWNET)  # of this thread alone
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._pass, sock=self.listener))
        self._loop.run_forever()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer), return_exceptions=True)
        for end in (writer, far_writer):
            end.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # either end may go at any time
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()


@contextmanager
def running(folder: Path, programs: Path, store: Path) -> Iterator[RealCluster]:
    """A cluster whose nodes have the images of that store, until left. Raises Misuse while another one lives there."""
    claim = folder.with_suffix(".lock").open("w")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise Misuse(f"{folder}: another real Kubernetes lives there: end it first") from error
    cluster = RealCluster(folder, programs, store)
    try:
        cluster.up().close()
        yield cluster
    finally:
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        cluster.down()  # whole: half a node is nobody's to remove
        claim.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
