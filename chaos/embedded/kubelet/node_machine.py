"""A node's machine, as the server holds it: starts `nodeinit`, and turns its datagrams into awaitable calls and
callbacks.

One `Machine` per power cycle of a node: powering off ends everything in it together with its first process.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from chaos.embedded.kubelet import cgroups, devices
from chaos.errors import EnvironmentUnfit

HOME: Final = "/var/lib/sharedfate"
SHARED: Final = "SHAREDFATE_SHARED_DIRS"  # environment: directories, separated by colons
KUBELET: Final = "/var/lib/kubelet"  # in the node; the same files lie under the node's run directory
OFF_SECONDS: Final = 2.0
DATAGRAM: Final = 1 << 18  # bytes of a request at most, as nodeinit receives them
# What of the machine a node and its pods may see; all else is not there, whatever it is called.
PROGRAMS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "share", "local")  # of /usr
LOCAL_PROGRAMS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libexec")  # of /usr/local
SETTINGS: Final = (
    "alternatives", "bindresvport.blacklist", "ca-certificates", "ca-certificates.conf", "crypto-policies",
    "debian_version", "ethertypes", "gai.conf", "host.conf", "iproute2", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "localtime", "locale.alias", "magic", "magic.mime", "mime.types", "netconfig", "networks", "nsswitch.conf",
    "os-release", "pki/ca-trust", "pki/tls/cert.pem", "pki/tls/certs", "protocols", "rpc", "services", "shells",
    "ssl/cert.pem", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "xattr.conf",
)  # of /etc, where everybody may read them  # fmt: skip
EMPTY: Final = (
    "dev", "etc", "home", "media", "mnt", "opt", "proc", "run", "srv", "sys", "tmp", "usr", "var/cache", "var/lib",
    "var/local", "var/log", "var/opt", "var/spool", "var/tmp",
)  # directories  # fmt: skip
USERS: Final = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n",
}


class MachineDown(RuntimeError):
    """The node has no power: the request was not, or cannot be, carried out."""


class MachineError(RuntimeError):
    """The node failed to carry out a request; the message is its own (or runc's)."""


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a container's main process."""

    container: str
    code: int
    at: float  # seconds since the epoch
    oom: bool


def installation() -> list[str]:
    """Directories that the running installation needs: interpreter, environment, and the package of a checkout."""
    package = Path(__file__).resolve().parents[2]
    found = [
        Path(sys.prefix),
        Path(sys.base_prefix),
        package,
        package.parent / "sharedfate",  # by which pytest loads the plugin
        package.parent / "manifests",
        package.parent / "experiments",
    ]
    kept: list[str] = []
    for path in dict.fromkeys(str(p.resolve()) for p in found if p.exists()):
        if path not in ("/", "/usr") and not any(_within(path, other) for other in kept):
            kept.append(path)
    return kept


def program_directories() -> list[str]:
    """/usr, and the program directories beside it where /usr is not merged."""
    beside = [f"/{name}" for name in PROGRAMS if name not in ("share", "local", "libexec")]
    return ["/usr", *(path for path in beside if os.path.isdir(path) and not os.path.islink(path))]


def plan_masks() -> list[str]:
    """Entries of the program directories that nodes do not see: all that are not on the list."""
    return [
        f"{directory}/{entry.name}"
        for directory, allowed in (("/usr", PROGRAMS), ("/usr/local", LOCAL_PROGRAMS))
        if os.path.isdir(directory)
        for entry in os.scandir(directory)
        if entry.name not in allowed
    ]


def plan_skeleton() -> dict[str, Any]:
    """What the root of a node and of the installation's image is made of, programs apart: `nodeinit.make_skeleton`."""
    return {
        "empty": EMPTY,
        "links": {name: os.readlink(f"/{name}") for name in PROGRAMS if os.path.islink(f"/{name}")},
        "settings": SETTINGS,
        "users": USERS,
    }


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def plan_binds(masks: Sequence[str]) -> list[str]:
    """Read-only bind mounts of a node: the installation, and file systems mounted below programs."""
    shown = program_directories()

    def seen(path: str) -> bool:
        return any(_within(path, one) for one in shown) and not any(_within(path, mask) for mask in masks)

    device = os.stat("/usr").st_dev
    binds = [path for path in installation() if not seen(path) or os.stat(path).st_dev != device]
    with open("/proc/self/mountinfo") as file:
        for line in file:
            target = line.split()[4]
            if seen(target) and target not in shown and target.count("/") <= 3 and target not in binds:
                binds.append(target)
    return binds


def plan_shared() -> list[str]:
    """Directories of the machine that its owner shares with every node, writable; empty by default."""
    return [path for path in os.environ.get(SHARED, "").split(":") if os.path.isabs(path) and os.path.isdir(path)]


class Machine:
    """One powered node. `on_exit` is called for each container that ends, `on_sandbox_lost` with a pod's UID when
    something else killed the pod's pause process.
    """

    def __init__(
        self,
        name: str,
        run_dir: Path,
        images: Path,
        cgroup: str,
        *,
        files: Mapping[str, str],
        on_exit: Callable[[Exit], None],
        on_sandbox_lost: Callable[[str], None],
    ) -> None:
        self.name = name
        self.run_dir = run_dir
        self.images = images
        self.cgroup = cgroup
        self.masks = plan_masks()
        self.binds = plan_binds(self.masks)
        self._files = dict(files)
        self._on_exit = on_exit
        self._on_sandbox_lost = on_sandbox_lost
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._replies: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._jobs: dict[int, asyncio.Future[int]] = {}
        self._ready: asyncio.Future[None] | None = None
        self._backlog: list[tuple[bytes, list[int]]] = []
        self._next = 0

    @property
    def installation(self) -> dict[str, str]:
        """The read-only mounts of the installation's image: path in the image -> path in the node."""
        programs = {path: f"{HOME}/programs{path}" for path in program_directories()}
        return programs | {path: path for path in self.binds}

    @property
    def up(self) -> bool:
        return self._control is not None

    @property
    def pid(self) -> int:
        """PID of the outer process; /proc/PID/ns holds the node's namespaces (except the PID one)."""
        if self._process is None:
            raise MachineDown(f"node {self.name} is off")
        return self._process.pid

    async def start(self) -> None:
        """Power on; raises EnvironmentUnfit when this machine cannot run nodes."""
        loop = asyncio.get_running_loop()
        base = self.run_dir / "root"
        for path in (base, self.run_dir / "kubelet", self.images):
            path.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        config = {
            "name": self.name, "base": str(base), "kubelet": str(self.run_dir / "kubelet"), "images": str(self.images),
            "controllers": {name: root + self.cgroup for name, root in cgroups.controllers().items()},
            "skeleton": plan_skeleton(), "programs": program_directories(),
            "masks": self.masks, "binds": self.binds, "shared": plan_shared(), "files": self._files,
        }  # fmt: skip
        devices.wall(os.path.dirname(self.cgroup))
        cgroups.prepare(self.cgroup)
        script = str(Path(__file__).with_name("nodeinit.py"))
        interpreter = os.path.realpath(sys.executable)
        with open(self.run_dir / "node.log", "ab") as log:
            self._process = subprocess.Popen(
                [interpreter, "-I", "-S", script, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={},  # a node's pods may read it, and whoever started the server may have secrets in his
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        theirs.close()
        ours.setblocking(False)
        self._control = ours
        self._ready = loop.create_future()
        loop.add_reader(ours.fileno(), self._on_readable)
        self._send(orjson.dumps(config), [])
        try:
            async with asyncio.timeout(20):
                await asyncio.shield(self._ready)
        except TimeoutError:
            await self.stop()
            raise EnvironmentUnfit(
                f"node {self.name} did not come up within 20 s; its log is {self.run_dir}/node.log"
            ) from None

    async def stop(self) -> None:
        """Power off: the kernel kills all processes when the node's first process ends. Idempotent."""
        self._lost()  # its socket closes: that is its sign
        if self._process is not None:
            process, self._process = self._process, None
            await asyncio.to_thread(_await_end, process)
        await asyncio.to_thread(cgroups.remove_tree, self.cgroup)

    def _lost(self) -> None:
        if self._control is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._control.fileno())
        loop.remove_writer(self._control.fileno())
        self._control.close()
        self._control = None
        down = MachineDown(f"node {self.name} is off")
        waiting: list[asyncio.Future[Any]] = [*self._replies.values(), *self._jobs.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(down)
                future.exception()  # marked as seen: nobody may be waiting
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(EnvironmentUnfit(f"node {self.name} ended while starting: {self._last_words()}"))
        self._replies.clear()
        self._jobs.clear()

    def _last_words(self) -> str:
        lines = (self.run_dir / "node.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "its log is empty"

    # datagrams

    def _send(self, data: bytes, fds: list[int]) -> None:
        if self._control is None:
            raise MachineDown(f"node {self.name} is off")
        if self._backlog:
            self._backlog.append((data, [os.dup(fd) for fd in fds]))
            return
        try:
            socket.send_fds(self._control, [data], fds)
        except BlockingIOError:
            self._backlog.append((data, [os.dup(fd) for fd in fds]))
            asyncio.get_running_loop().add_writer(self._control.fileno(), self._on_writable)
        except OSError as error:
            raise MachineDown(f"node {self.name} is off") from error

    def _on_writable(self) -> None:
        while self._backlog and self._control is not None:
            data, fds = self._backlog[0]
            try:
                socket.send_fds(self._control, [data], fds)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            for fd in fds:
                os.close(fd)
            del self._backlog[0]
        if self._control is not None:
            asyncio.get_running_loop().remove_writer(self._control.fileno())

    def _on_readable(self) -> None:
        for _ in range(64):
            if self._control is None:
                return
            try:
                data, fds, _, _ = socket.recv_fds(self._control, 1 << 18, 8)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._lost()
                return
            self._on_message(orjson.loads(data), fds)

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        match message.get("event"):
            case "exit":
                self._on_exit(Exit(message["container"], message["code"], message["at"] / 1e9, message["oom"]))
            case "sandbox":
                self._on_sandbox_lost(message["sandbox"])
            case "done":
                job = self._jobs.pop(message["job"], None)
                if job is not None and not job.done():
                    job.set_result(message["code"])
            case "ready":
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(None)
            case "failed":
                if self._ready is not None and not self._ready.done():
                    self._ready.set_exception(
                        EnvironmentUnfit(f"node {self.name} cannot be started on this machine: {message['message']}")
                    )
            case _:
                future = self._replies.pop(message["id"], None)
                if future is not None and not future.done():
                    future.set_result((message, fds))
                else:
                    for fd in fds:
                        os.close(fd)

    async def ask(self, do: str, *, fds: Sequence[int] = (), **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        """Send one request; raises MachineError in the node's words, MachineDown without power."""
        self._next += 1
        number = self._next
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        data = orjson.dumps({"id": number, "do": do, **arguments})
        try:
            if len(data) > DATAGRAM:
                raise MachineError(f"{do}: the request has {len(data)} bytes, more than the limit of {DATAGRAM}")
            self._send(data, list(fds))
        except (MachineDown, MachineError):
            del self._replies[number]
            raise
        reply, passed = await future
        if "error" in reply:
            raise MachineError(reply["error"])
        return reply, passed

    async def spawn(
        self, arguments: Sequence[str], fds: Sequence[int], *, session: bool = False
    ) -> tuple[int, asyncio.Future[int]]:
        """Start a program on the node with three descriptors; (its PID there, a future of its exit code)."""
        job: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._jobs[self._next + 1] = (
            job  # the number that `ask` is about to use: `done` may come right behind the reply
        )
        number = self._next + 1
        try:
            reply, _ = await self.ask("spawn", arguments=list(arguments), session=session, fds=fds)
        except (MachineError, MachineDown):
            self._jobs.pop(number, None)
            raise
        return reply["pid"], job


def _await_end(process: subprocess.Popen[bytes]) -> None:
    """Wait for the outer process, which reaps the node's first one; kill it on a timeout."""
    try:
        process.wait(OFF_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def find_runc() -> str:
    """Path of runc; raises EnvironmentUnfit."""
    found = shutil.which("runc", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise EnvironmentUnfit("runc is missing: install it (Debian and Ubuntu: apt-get install runc)")
    return found
