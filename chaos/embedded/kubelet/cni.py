"""A node's Container Network Interface: its configuration directory, and the plugins chained behind the built-in one.

A node's `/etc/cni/net.d` holds one list whose first plugin, `sharedfate`, is built in: it links pods through
`network.fabric` and runs no program. Plugins that others (istio-cni, linkerd-cni) append are run as a container runtime
runs them: ADD when a pod's sandbox is made, DEL in the opposite order when it ends, CHECK when the node's kubelet
restarts; with the environment, standard input and results of the specification
(https://www.cni.dev/docs/spec, 0.3.0 to 1.1.0). A plugin is installed by a pod, so it gets no more than a privileged
container has: runc runs it over the node's own root, with that container's capabilities and system calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from chaos.embedded.beneath import Beneath
from chaos.embedded.kubelet import devices
from chaos.embedded.kubelet.node_machine import HOME, Machine, MachineDown, MachineError
from chaos.embedded.kubelet.spec import KERNEL, MASKED, capabilities_in, plan_seccomp
from chaos.embedded.network import addresses
from chaos.embedded.resources import Object

DIRECTORY: Final = "/etc/cni/net.d"
PROGRAMS: Final = "/opt/cni/bin"
NAMESPACES: Final = "/var/run/netns"
OWN: Final = "sharedfate"  # the plugin that is the node
INTERFACE: Final = "eth0"
SECONDS: Final = 30.0  # that one plugin may take
OUTPUT: Final = 1 << 20  # bytes of a result

Command = Literal["ADD", "DEL", "CHECK"]
_WORDS: Final = {"ADD": "add", "DEL": "delete", "CHECK": "check"}
DEFAULT: Final = (
    json.dumps({"cniVersion": "1.0.0", "name": "sharedfate", "plugins": [{"type": OWN}]}, indent=2) + "\n"
)  # what a node is born with, as 10-sharedfate.conflist


class NetworkFailed(MachineError):
    """A pod's network cannot be set up; the message is a container runtime's."""


@dataclass(frozen=True, slots=True)
class Network:
    """A configuration list, as its plugins receive it."""

    name: str
    version: str
    chained: tuple[Mapping[str, Any], ...]  # behind our own
    checked: bool = True  # disableCheck


@dataclass(frozen=True, slots=True)
class Attachment:
    """One pod's network, as plugins see it."""

    network: Network
    sandbox: str
    environment: Mapping[str, str]
    result: Mapping[str, Any]


def netns_of(sandbox: str) -> str:
    """Path of a pod's network namespace on its node."""
    return f"{NAMESPACES}/cni-{sandbox}"


def choose_network(files: Sequence[tuple[str, str]]) -> Network:
    """The list of the first file, by name, that contains one (libcni's rule). Raises NetworkFailed."""
    for name, text in sorted(files):
        with contextlib.suppress(ValueError):
            return _network(name, text)
    raise NetworkFailed(f"cni plugin not initialized: no network config found in {DIRECTORY}")


def _network(name: str, text: str) -> Network:
    """Read a list; ValueError for an invalid one, NetworkFailed for one without this node's network."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no object")
    plugins = found.get("plugins") if name.endswith(".conflist") else [found]
    if not isinstance(plugins, list) or not plugins or not found.get("name"):
        raise ValueError("no plugins")
    if not all(isinstance(one, dict) and isinstance(one.get("type"), str) for one in plugins):
        raise ValueError("a plugin without a type")
    if plugins[0]["type"] != OWN:
        first = plugins[0]["type"]
        raise NetworkFailed(
            f'{DIRECTORY}/{name} begins with plugin "{first}": the first plugin must be "{OWN}", which connects the'
            " pods; others can be chained behind it"
        )
    version = str(found.get("cniVersion", "0.2.0"))
    return Network(str(found["name"]), version, tuple(plugins[1:]), not found.get("disableCheck"))


def plan_result(version: str, *, address: str, sandbox: str, link: str) -> dict[str, Any]:
    """The built-in plugin's result, which the next plugin receives."""
    gateway = ".".join((*address.split(".")[:3], "1"))
    mac = ":".join(f"{byte:02x}" for byte in addresses.hardware_address(address))
    of_before = {"version": "4"} if version.startswith("0.") else {}
    return {
        "cniVersion": version,
        "interfaces": [{"name": link}, {"name": INTERFACE, "mac": mac, "sandbox": netns_of(sandbox)}],
        "ips": [{**of_before, "interface": 1, "address": f"{address}/32", "gateway": gateway}],
        "routes": [{"dst": "0.0.0.0/0", "gw": gateway}],
        "dns": {},
    }


def plan_environment(pod: Object, sandbox: str) -> dict[str, str]:
    """The environment that a runtime gives plugins, without the command."""
    meta = pod["metadata"]
    arguments = {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": meta["namespace"],
        "K8S_POD_NAME": meta["name"],
        "K8S_POD_INFRA_CONTAINER_ID": sandbox.replace("-", ""),
        "K8S_POD_UID": meta["uid"],
    }
    return {
        "CNI_CONTAINERID": sandbox.replace("-", ""),
        "CNI_NETNS": netns_of(sandbox),
        "CNI_IFNAME": INTERFACE,
        "CNI_ARGS": ";".join(f"{name}={value}" for name, value in arguments.items()),
        "CNI_PATH": PROGRAMS,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }


def plan_input(network: Network, plugin: Mapping[str, Any], result: Mapping[str, Any] | None) -> bytes:
    """A plugin's standard input: its own configuration, the list's name and version, and the previous result."""
    body = dict(plugin) | {"name": network.name, "cniVersion": network.version}
    if result is not None:
        body["prevResult"] = dict(result)
    return orjson.dumps(body)


def plan_plugin(program: str, environment: Mapping[str, str], *, root: str, cgroup: str) -> dict[str, Any]:
    """config.json for runc: a program of the node in the node's namespaces, restricted like a privileged container."""
    capabilities = list(capabilities_in(""))
    nodes_own: list[dict[str, Any]] = [
        {"destination": path, "type": "bind", "source": path, "options": ["rbind", "rprivate"]}
        for path in ("/dev", "/sys")
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": [program],
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        },
        "root": {"path": root, "readonly": False},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            *nodes_own,
        ],
        "linux": {
            "namespaces": [{"type": "mount"}],
            "cgroupsPath": cgroup,
            "resources": {"devices": devices.RULES},
            "seccomp": plan_seccomp(capabilities),
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(KERNEL),
        },
    }


def read_failure(code: int, out: bytes, err: bytes) -> str:
    """A plugin's failure, in libcni's words."""
    with contextlib.suppress(ValueError):
        found = json.loads(out)
        if isinstance(found, dict) and found.get("msg"):
            details = found.get("details")
            return f"{found['msg']}; {details}" if details else str(found["msg"])
    text = err.decode(errors="replace").strip()
    if text:
        return f'netplugin failed: "{text[:4096]}"'
    return f"netplugin failed with no error message: exit status {code}"


class Plugins:
    """Runs the plugins of one pod's network on its node. `files` is the pod's directory, `inside` its path there."""

    def __init__(self, machine: Machine, files: Beneath, inside: str, cgroup: str) -> None:
        self._machine = machine
        self._files = files
        self._inside = inside
        self._cgroup = cgroup

    async def network(self) -> Network:
        """Read the node's network from its directory. Raises NetworkFailed, MachineDown."""
        reply, _ = await self._machine.ask("network_configurations", path=DIRECTORY)
        return choose_network([(one["name"], one["text"]) for one in reply["files"]])

    async def add(self, attachment: Attachment) -> Attachment:
        """Run ADD, each with the previous result. Raises NetworkFailed of the first failure."""
        result: Mapping[str, Any] = attachment.result
        for plugin in attachment.network.chained:
            out = await self._run("ADD", attachment, plugin, result)
            if out.strip():
                try:
                    result = json.loads(out)
                except ValueError as error:
                    raise self._failed("ADD", attachment, plugin, f"error decoding result: {error}") from None
        return Attachment(attachment.network, attachment.sandbox, attachment.environment, result)

    async def delete(self, attachment: Attachment) -> None:
        """Run DEL, from the last to the first. Raises NetworkFailed of the first failure, after all have run."""
        failures: list[NetworkFailed] = []
        for plugin in reversed(attachment.network.chained):
            try:
                await self._run("DEL", attachment, plugin, attachment.result)
            except NetworkFailed as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def check(self, attachment: Attachment) -> None:
        """Run CHECK, unless the list disables it. Raises NetworkFailed of the first failure."""
        if attachment.network.checked and not attachment.network.version.startswith(("0.1", "0.2", "0.3")):
            for plugin in attachment.network.chained:
                await self._run("CHECK", attachment, plugin, attachment.result)

    @staticmethod
    def _failed(command: Command, attachment: Attachment, plugin: Mapping[str, Any], why: str) -> NetworkFailed:
        verb = {"ADD": "setup", "DEL": "destroy", "CHECK": "check"}[command]
        of = f'plugin type="{plugin["type"]}" name="{attachment.network.name}" failed ({_WORDS[command]}): {why}'
        sandbox = attachment.environment["CNI_CONTAINERID"]
        return NetworkFailed(f'rpc error: code = Unknown desc = failed to {verb} network for sandbox "{sandbox}": {of}')

    async def _run(
        self, command: Command, attachment: Attachment, plugin: Mapping[str, Any], result: Mapping[str, Any] | None
    ) -> bytes:
        kind = plugin["type"]
        if "/" in kind or kind in ("", ".", ".."):
            raise self._failed(command, attachment, plugin, f"invalid plugin name: {kind}")
        name = f"cni-{secrets.token_hex(6)}"
        root = f"{HOME}/views/{name}"
        try:
            found, _ = await self._machine.ask("view", path=root, program=f"{PROGRAMS}/{kind}")
            if not found["there"]:
                why = f'failed to find plugin "{kind}" in path [{PROGRAMS}]'
                raise self._failed(command, attachment, plugin, why)
            config = plan_plugin(
                f"{PROGRAMS}/{kind}",
                {**attachment.environment, "CNI_COMMAND": command},
                root=root,
                cgroup=f"{self._cgroup}/{name}",
            )
            bundle = self._files.below(f"network/{name}")
            await asyncio.to_thread(_put, bundle, orjson.dumps(config))
            code, out, err = await self._spawned(
                ["runc", "--root", "/run/runc", "run", "--bundle", f"{self._inside}/network/{name}", name],
                plan_input(attachment.network, plugin, result),
                f"{self._cgroup}/{name}",
            )
        except MachineError as error:
            if isinstance(error, NetworkFailed):
                raise
            raise self._failed(command, attachment, plugin, str(error)) from error
        except TimeoutError:
            raise self._failed(command, attachment, plugin, "context deadline exceeded") from None
        finally:
            with contextlib.suppress(MachineDown, MachineError):
                await self._machine.ask("drop_view", path=root)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._files.remove, f"network/{name}")
        if code:
            raise self._failed(command, attachment, plugin, read_failure(code, out, err))
        return out

    async def _spawned(self, arguments: Sequence[str], given: bytes, cgroup: str) -> tuple[int, bytes, bytes]:
        """Run a plugin; (exit code, stdout, stderr). Raises TimeoutError after killing it."""
        from chaos.embedded.kubelet.execs import pipe_reader, pipe_writer

        read_in, write_in = os.pipe()
        read_out, write_out = os.pipe()
        read_err, write_err = os.pipe()
        try:
            pid, job = await self._machine.spawn(arguments, [read_in, write_out, write_err])
        except BaseException:
            for fd in (write_in, read_out, read_err):
                os.close(fd)
            raise
        finally:
            for fd in (read_in, write_out, write_err):
                os.close(fd)
        writer = await pipe_writer(write_in)
        outputs = [await pipe_reader(fd) for fd in (read_out, read_err)]
        try:
            async with asyncio.timeout(SECONDS):
                writer.write(given)
                writer.close()
                out, err = await asyncio.gather(*(_limited(reader) for reader, _ in outputs))
                return await asyncio.shield(job), out, err
        except TimeoutError:
            with contextlib.suppress(MachineDown, MachineError):
                await self._machine.ask("kill", pid=pid, signal=9)
                await self._machine.ask("drop_cgroup", cgroup=cgroup)
            raise
        finally:
            for _, transport in outputs:
                transport.close()


def _put(bundle: Beneath, config: bytes) -> None:
    bundle.make()
    bundle.write("config.json", config, mode=0o600)


async def _limited(reader: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while chunk := await reader.read(1 << 16):
        if len(kept) < OUTPUT:  # the rest is read and dropped: a program that cannot write does not end
            kept += chunk
    return bytes(kept)
