"""A node's worth of pods as bare network namespaces, the real Envoy, and a small xDS server over a socket of the file
system.

Nothing touches the host: each namespace belongs to a process of ours and vanishes with it, the links stand between
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc

from chaos.mesh import capture
from chaos.mesh.ca import Authority
from chaos.mesh.controlplane.secrets import HandedLog, ProxySecrets
from chaos.mesh.controlplane.xds import SECRET, XdsSession
from chaos.mesh.envoy import bootstrap, parts
from chaos.mesh.envoy.build import build
from chaos.mesh.envoy.ports import l7_hop
from chaos.mesh.mutations import NO_DEFECTS, Defects
from chaos.mesh.snapshot import (
    AccessLog,
    AppProtocol,
    Endpoint,
    Features,
    MeshSnapshot,
    ProxyRole,
    Service,
    ServicePort,
    Waypoint,
    Workload,
)
from chaos.model.modes import MODES, Layer, Scope
from chaos.model.placement import Proxy
from chaos.names import PORT_HTTP, PORT_TCP

GATEWAY = "10.244.1.1"
PROBED = 9000  # the port of each pod that its kubelet probes
ENVOY = shutil.which("envoy") or str(Path(sys.executable).with_name("envoy"))


LAYERS = {
    ProxyRole.SIDECAR: frozenset(Layer),
    ProxyRole.NODE: frozenset(Layer),
    ProxyRole.L4: frozenset({Layer.L4}),
    ProxyRole.WAYPOINT: frozenset({Layer.L7}),
}


def run(*command: str, text: str = "", check: bool = True) -> str:
    done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=20, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


@dataclass
class Namespace:
    """A network namespace that lives as long as its process."""

    process: subprocess.Popen[bytes]

    @classmethod
    def new(cls) -> Namespace:
        process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.stat("/proc/self/ns/net").st_ino
        until(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino != own)
        space = cls(process)
        space.run("ip", "link", "set", "lo", "up")
        return space

    @property
    def path(self) -> str:
        return f"/proc/{self.process.pid}/ns/net"

    @property
    def inode(self) -> int:
        return os.stat(self.path).st_ino

    def command(self, *command: str) -> list[str]:
        return ["nsenter", f"--net={self.path}", *command]

    def run(self, *command: str, text: str = "", check: bool = True) -> str:
        return run(*self.command(*command), text=text, check=check)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def until(ready: Callable[[], Any], seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := ready()):
        if time.monotonic() > end:
            raise AssertionError("not so in time")
        time.sleep(0.01)
    return found


@dataclass
class Bench:
    """Use as `with bench(...)`."""

    mode: str
    folder: Path
    features: Features = field(default_factory=lambda: Features(access_log=AccessLog.ALL))
    defects: Defects = NO_DEFECTS
    authority: Authority = field(default_factory=Authority.new)
    log: HandedLog = field(default_factory=HandedLog)
    spaces: dict[str, Namespace] = field(default_factory=dict)
    pods: dict[str, Workload] = field(default_factory=dict)
    proxies: dict[str, Proxy] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    world: MeshSnapshot = field(init=False)  # set by the first `push`
    seconds: float = 3600.0  # life of certificates
    nacks: list[str] = field(default_factory=list)
    _streams: dict[str, asyncio.Event] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _links: int = 0

    # ---- namespaces

    def fabric(self) -> Namespace:
        if "fabric" not in self.spaces:
            space = self.spaces["fabric"] = Namespace.new()
            space.run("ip", "link", "add", "cni0", "type", "bridge")
            space.run("ip", "addr", "add", f"{GATEWAY}/24", "dev", "cni0")
            space.run("ip", "link", "set", "cni0", "up")
            space.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        return self.spaces["fabric"]

    def attach(self, name: str, ip: str) -> Namespace:
        fabric, space = self.fabric(), Namespace.new()
        self.spaces[name] = space
        self._links += 1
        link = f"menv{self._links}"
        fabric.run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(space.process.pid))
        fabric.run("ip", "link", "set", link, "master", "cni0", "up")
        space.run("ip", "addr", "add", f"{ip}/24", "dev", "eth0")
        space.run("ip", "link", "set", "eth0", "up")
        space.run("ip", "route", "add", "default", "via", GATEWAY)
        return space

    def pod(
        self, tenant: str, name: str, number: int, account: str = "", module: str = "chaos.apps.server"
    ) -> Workload:
        """A pod; servers run the reference server, or another module."""
        ip = f"10.244.1.{number}"
        space = self.attach(name, ip)
        uid = f"{number:08d}-0000-0000-0000-000000000000"
        sandbox = f"{uid}-{space.inode}"
        (self.folder / "sandboxes" / sandbox).symlink_to(space.path)
        role = "server" if "server" in name else "client"
        pod = Workload(uid, tenant, name, "node-1", ip, account or role, ready=True, sandbox=sandbox)
        self.pods[uid] = pod
        if role == "server":
            self.start(space, sys.executable, "-m", module, env={"POD_NAME": name})
        return pod

    def start(self, space: Namespace, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        name = f"{len(self.processes)}-{Path(command[0]).name}.log"
        with (self.folder / name).open("wb") as log:
            process = subprocess.Popen(
                space.command(*command), stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        self.processes.append(process)
        return process

    # ---- the mesh

    def make_world(self, waypoints: tuple[Waypoint, ...] = (), **changes: Any) -> MeshSnapshot:
        services = []
        tenants = sorted({p.namespace for p in self.pods.values()})
        for number, tenant in enumerate(tenants, 1):
            ends = sorted(
                (p for p in self.pods.values() if p.namespace == tenant and "server" in p.name), key=lambda p: p.uid
            )
            services.append(
                Service(
                    tenant,
                    "server",
                    f"10.96.0.{number}",
                    (
                        ServicePort(
                            80, AppProtocol.HTTP, tuple(Endpoint(p.uid, p.ip, PORT_HTTP) for p in ends), PORT_HTTP
                        ),
                        ServicePort(
                            9000, AppProtocol.TCP, tuple(Endpoint(p.uid, p.ip, PORT_TCP) for p in ends), PORT_TCP
                        ),
                    ),
                    tuple(sorted({p.identity for p in ends})),
                )
            )
        return replace(
            MeshSnapshot(
                MODES[self.mode], self.features, {"node-1": GATEWAY}, dict(self.pods), tuple(services), waypoints
            ),
            **changes,
        )

    def push(self, world: MeshSnapshot) -> None:
        self.world = world
        for event in list(self._streams.values()):
            assert self._loop is not None
            self._loop.call_soon_threadsafe(event.set)

    def proxy(
        self,
        role: ProxyRole,
        space: Namespace,
        name: str,
        *,
        scope: Scope,
        key: str,
        namespace: str = "sharedfate-system",
        account: str = "node-proxy",
    ) -> subprocess.Popen[bytes]:
        """Start an Envoy in that namespace and wait until it is ready."""
        self.proxies[name] = Proxy(namespace, name, "proxy", f"uid-{name}", "node-1", LAYERS[role], scope, key, account)
        config = bootstrap(node_id=name, token_path="")
        xds = config["static_resources"]["clusters"][0]
        for key_ in ("transport_socket", "upstream_bind_config", "dns_lookup_family", "respect_dns_ttl"):
            xds.pop(key_)
        xds["type"] = "STATIC"
        xds["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = {
            "pipe": {"path": str(self.folder / "xds.sock")}
        }
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(config))
        process = self.start(
            space,
            ENVOY,
            "-c",
            str(file),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--drain-time-s",
            "1",
            "--file-flush-interval-msec",
            "200",
            "--component-log-level",
            "misc:error",
            "--log-level",
            os.environ.get("MENV_LOG", "warning"),
        )
        until(lambda: "LIVE" in space.run("curl", "-s", "-m1", "127.0.0.1:15021/ready", check=False))
        return process

    def capture(self, pod: Workload, inbound: capture.Inbound) -> None:
        plan = capture.plan_capture(inbound=inbound, node=[GATEWAY], probed=[PROBED])
        capture.apply_rules(plan, netns=self.spaces[pod.name].path)

    def everything(self) -> None:
        """All pods behind the mode's proxies, captured."""
        mode = MODES[self.mode]
        inbound = capture.Inbound.TUNNEL if mode.separate_layers else capture.Inbound.REDIRECT
        ports = {15001, 15008 if mode.separate_layers else 15006}
        if not hasattr(self, "world"):
            self.push(self.make_world(self.waypoints()))
        if mode.in_pod:
            for pod in list(self.pods.values()):
                self.proxy(
                    ProxyRole.SIDECAR,
                    self.spaces[pod.name],
                    f"sidecar-{pod.name}",
                    scope=Scope.POD,
                    key=pod.uid,
                    namespace=pod.namespace,
                    account=pod.service_account,
                )
        elif "node" not in self.spaces:
            role = ProxyRole.L4 if mode.separate_layers else ProxyRole.NODE
            self.proxy(role, self.attach("node", "10.244.1.200"), "node", scope=Scope.NODE, key="node-1")
        for waypoint in self.world.waypoints:
            name = waypoint.proxy.pod
            proxy = self.proxies[name]
            self.proxy(
                ProxyRole.WAYPOINT,
                self.spaces[name],
                name,
                scope=proxy.scope,
                key=proxy.key,
                namespace=proxy.namespace,
                account=proxy.service_account,
            )
        for pod in self.pods.values():
            until(lambda pod=pod: ports <= self.listening(pod))  # type: ignore[misc]  # mypy infers no lambda with defaults
            self.capture(pod, inbound)

    def waypoints(self) -> tuple[Waypoint, ...]:
        """Namespaces for the waypoints that the mode needs; `everything` starts their Envoys."""
        hop = l7_hop(MeshSnapshot(MODES[self.mode]))
        if hop is None:
            return ()
        servers = [p for p in self.pods.values() if "server" in p.name]
        wanted = {
            Scope.NAMESPACE: {(p.namespace, p.namespace) for p in servers},
            Scope.NODE: {("node-1", "sharedfate-system")},
            Scope.POD: {(p.uid, p.namespace) for p in servers},
        }[hop.scope]
        found = []
        for number, (key, namespace) in enumerate(sorted(wanted)):
            ip, name = f"10.244.1.{210 + number}", f"waypoint-{number}"
            self.attach(name, ip)
            self.proxies[name] = Proxy(
                namespace, name, "proxy", f"uid-{name}", "node-1", hop.layers, hop.scope, key, "waypoint"
            )
            found.append(Waypoint(self.proxies[name], ip))
        return tuple(sorted(found))

    def listening(self, pod: Workload) -> set[int]:
        from chaos.mesh.agent.sandboxes import listening_ports

        return listening_ports(self.spaces[pod.name].process.pid)

    # ---- looking

    def curl(self, pod: str, url: str, *options: str) -> tuple[int, str]:
        """(status, body and headers) of a request made in the pod's namespace; status 0: no answer."""
        out = self.spaces[pod].run("curl", "-s", "-i", "-m", "5", "-w", "\n%{http_code}", *options, url, check=False)
        body, _, code = out.rpartition("\n")
        return int(code or 0), body

    def admin(self, space: str, path: str) -> str:
        return self.spaces[space].run("curl", "-s", f"127.0.0.1:15000{path}")

    # ---- the xDS server

    def serve(self) -> None:
        ready = threading.Event()

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            bench = self

            class Discovery(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
                async def DeltaAggregatedResources(self, _: Any, context: Any) -> None:  # noqa: N802
                    await bench._stream(context)

            server = grpc.aio.server()
            ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(Discovery(), server)
            server.add_insecure_port(f"unix:{self.folder / 'xds.sock'}")
            await server.start()
            self._stop = asyncio.Event()
            ready.set()
            await self._stop.wait()
            await server.stop(None)

        self._thread = threading.Thread(target=asyncio.run, args=(main(),))
        self._thread.start()
        assert ready.wait(10)

    async def _stream(self, context: Any) -> None:
        session, wake, name = XdsSession(), asyncio.Event(), ""
        secrets: ProxySecrets | None = None

        async def write() -> None:
            while True:
                await wake.wait()
                wake.clear()
                proxy = self.proxies[name]
                assert secrets is not None
                built = build(proxy, self.world, defects=self.defects)
                asked = session.subscribed(SECRET)
                found = secrets.wanted(asked, self.world.identities(proxy))
                for response in session.plan({**built.by_type, SECRET: found}, time.monotonic()):
                    await context.write(response)

        writer = asyncio.create_task(write())
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                if not name:
                    name = request.node.id
                    secrets = ProxySecrets(
                        self.proxies[name], self.authority, self.log, seconds=self.seconds, clock=time.time
                    )
                    self._streams[name] = wake
                answer = session.request(request, time.monotonic())
                if answer.refused:
                    self.nacks.append(answer.message)
                wake.set()
        except grpc.aio.AioRpcError:
            pass
        finally:
            writer.cancel()
            self._streams.pop(name, None)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for space in self.spaces.values():
            space.end()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)


@contextlib.contextmanager
def bench(mode: str, **options: Any) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="menv-"))
    (folder / "sandboxes").mkdir()
    patched = pytest.MonkeyPatch()
    patched.setattr(parts, "SANDBOX_DIR", str(folder / "sandboxes"))
    made = Bench(mode, folder, **options)
    try:
        made.serve()
        yield made
    finally:
        made.end()
        patched.undo()
        if not os.environ.get("MENV_KEEP"):
            shutil.rmtree(folder)
