"""One pod's containers on a node: start, kill, resize, and observe their ends.

Effects only; pod_actions.py decides what to do. Events and their words are the kubelet's.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from chaos.embedded.beneath import Beneath
from chaos.embedded.kubelet import cgroups
from chaos.embedded.kubelet.container_records import Backoff, PodState, ProbeState, Record
from chaos.embedded.kubelet.environment import ConfigError, container_environment, service_variables
from chaos.embedded.kubelet.hooks import run_hook
from chaos.embedded.kubelet.images import Image, Images
from chaos.embedded.kubelet.logs import tail_text
from chaos.embedded.kubelet.node_machine import HOME, Exit, Machine, MachineDown, MachineError
from chaos.embedded.kubelet.probes import MakeSocket, ProbeFailed, Probes, ProbeTarget, RunCommand
from chaos.embedded.kubelet.sandbox import Sandbox
from chaos.embedded.kubelet.spec import (
    ContainerContext,
    SpecError,
    held_capabilities,
    plan_oom_score,
    plan_parts,
    plan_spec,
    plan_user,
)
from chaos.embedded.kubelet.status import stamp
from chaos.embedded.quantity import qos_class
from chaos.embedded.resources import SERVICE, Object
from chaos.embedded.store import Store

MESSAGE: Final = 4096  # bytes of a termination message
RUNC: Final = "failed to create containerd task: failed to create shim task: OCI runtime create failed: "


@dataclass(frozen=True, slots=True)
class Started:
    """Result of an attempt to start a container."""

    began: bool = False
    retry: float | None = None  # seconds until another attempt makes sense


class ContainerFailed(Exception):
    """A container could not be created: its waiting reason, and the message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def needs_restart(record: Record, wanted: Mapping[str, Any]) -> bool:
    """Whether the container's resizePolicy requires a restart for this change of resources."""
    policies = {p["resourceName"]: p["restartPolicy"] for p in wanted.get("resizePolicy") or []}
    new = wanted.get("resources") or {}
    changed = {
        name
        for kind in ("requests", "limits")
        for name in {*new.get(kind, {}), *record.resources.get(kind, {})}
        if new.get(kind, {}).get(name) != record.resources.get(kind, {}).get(name)
    }
    return any(policies.get(name) == "RestartContainer" for name in changed)


def resize_summary(pod: Object) -> str:
    """The message of a resize's Events: every container's resources, and the pod's generation."""
    summary: dict[str, Any] = {}
    for kind in ("initContainers", "containers"):
        if held := pod["spec"].get(kind):
            summary[kind] = [{"name": c["name"], "resources": _sorted(c.get("resources") or {})} for c in held]
    return orjson.dumps(summary | {"generation": pod["metadata"].get("generation", 1)}).decode()


def _sorted(value: Any) -> Any:
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


class Containers:
    """All incarnations of one pod's containers."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        machine: Callable[[], Machine],
        images: Images,
        store: Store,
        backoff: Backoff,
        pulls: Backoff,
        event: Callable[..., None],
        facts: Callable[[], Mapping[str, str]],
        make_socket: MakeSocket,
        command: Callable[[str], RunCommand],
        cgroup_root: str,
    ) -> None:
        self.state = PodState()
        self.changed: Callable[[], None] = lambda: None
        self.report: Callable[[], None] = lambda: None  # write the pod's status now
        self.cgroup_root = cgroup_root
        self._sandbox = sandbox
        self._machine = machine
        self._images = images
        self._store = store
        self._backoff = backoff
        self._pulls = pulls
        self._event = event
        self._facts = facts
        self._make_socket = make_socket
        self._command = command
        self._probes: dict[str, Probes] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._early: dict[str, tuple[int, float, bool]] = {}
        self._pod_limits: cgroups.Limits | None = None  # as last put into effect here, on the pod's own cgroup
        self._chores: set[asyncio.Task[None]] = set()

    @staticmethod
    def field_path(pod: Object, name: str) -> str:
        kind = next(
            (
                kind
                for kind in ("initContainers", "ephemeralContainers")
                if any(c["name"] == name for c in pod["spec"].get(kind) or [])
            ),
            "containers",
        )
        return f"spec.{kind}{{{name}}}"

    # starting

    async def start(self, pod: Object, container: Mapping[str, Any], before: Record | None) -> Started:
        """Start or restart a container, unless its back-off forbids it.

        `before` is the last incarnation that had ended when the pass began: one that this pass has killed does not
        count, so that the first failure of a liveness probe is followed by a restart at once.
        """
        name = container["name"]
        meta = pod["metadata"]
        key = f"{meta['uid']}/{name}"
        path = self.field_path(pod, name)
        label = f"{name} in pod {meta['name']}_{meta['namespace']}({meta['uid']})"
        now = time.time()
        last = self.state.latest(name)
        first_try = name not in self.state.waiting
        if before is not None:
            if left := self._backoff.remaining(key, before.finished_at, now):
                self._event(pod, "Warning", "BackOff", f"Back-off restarting failed container {label}", path)
                seconds = self._backoff.seconds(key)
                self.state.waiting[name] = (
                    "CrashLoopBackOff",
                    f"back-off {seconds:g}s restarting failed container={name} "
                    f"pod={meta['name']}_{meta['namespace']}({meta['uid']})",
                )
                return Started(retry=left)
            self._backoff.next(key, before.finished_at, now)
        try:
            image = self._find_image(pod, container, path)
            await self._create(pod, container, image, last.attempt + 1 if last else 0, path)
        except ContainerFailed as error:
            self.state.waiting[name] = (error.reason, str(error))
            soon = error.reason in ("RunContainerError", "PostStartHookError") or first_try  # the next look sees to it
            return Started(retry=0.5 if soon else 10.0)
        self.state.waiting.pop(name, None)
        return Started(began=True)

    def _find_image(self, pod: Object, container: Mapping[str, Any], path: str) -> Image:
        name = container["image"]
        image = self._images.find(name)
        if image is not None:
            self._event(
                pod,
                "Normal",
                "Pulled",
                f'Container image "{name}" already present on machine and can be accessed by the pod',
                path,
            )
            return image
        if container.get("imagePullPolicy") == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            self._event(pod, "Warning", "ErrImageNeverPull", message, path)
            self._event(pod, "Warning", "Failed", "Error: ErrImageNeverPull", path)
            raise ContainerFailed("ErrImageNeverPull", message)
        key, now = f"{pod['metadata']['uid']}/{name}", time.time()
        if self._pulls.remaining_since_update(key, now):
            self._event(pod, "Normal", "BackOff", f'Back-off pulling image "{name}"', path)
            self._event(pod, "Warning", "Failed", "Error: ImagePullBackOff", path)
            raise ContainerFailed("ImagePullBackOff", f'Back-off pulling image "{name}"')
        self._pulls.next(key, now, now)
        message = (
            f'failed to pull image "{name}": the embedded cluster has no registry; load it: '
            f"docker save {name} -o image.tar && "
            "sharedfate cluster load-image image.tar"
        )
        self._event(pod, "Normal", "Pulling", f'Pulling image "{name}"', path)
        self._event(pod, "Warning", "Failed", message[:1].upper() + message[1:], path)
        self._event(pod, "Warning", "Failed", "Error: ErrImagePull", path)
        raise ContainerFailed("ErrImagePull", message)

    def _variables(self, pod: Object, container: Mapping[str, Any], image: Image) -> dict[str, str]:
        namespace = pod["metadata"]["namespace"]

        def lookup(kind: str, name: str) -> Mapping[str, str] | None:
            data = self._sandbox.read(namespace, kind, name)
            return None if data is None else {key: value.decode(errors="replace") for key, value in data.items()}

        base = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME": self._sandbox.hostname,
            **({"TERM": "xterm"} if container.get("tty") else {}),
            **image.environment,
        }
        services = service_variables(
            self._store.list(SERVICE), namespace, links=pod["spec"].get("enableServiceLinks", True)
        )
        facts = dict(self._facts()) | {"pod_ip": self.state.address}
        return container_environment(pod, container, base, services, lookup, facts)

    async def _create(self, pod: Object, container: Mapping[str, Any], image: Image, attempt: int, path: str) -> None:
        """Create and start it. Raises ContainerFailed, after its Events."""
        name, cid = container["name"], secrets.token_hex(32)
        bundle = self._sandbox.directory.below(f"containers/{cid}")
        inside = f"{self._sandbox.inside}/containers/{cid}"
        limits = cgroups.container_limits(container)
        facts = self._facts()
        record = Record(
            cid,
            name,
            attempt,
            self.state.sandbox,
            container["image"],
            image.digest,
            container,
            resources=container.get("resources") or {},
            cgroup=f"{self._sandbox.cgroup}/{cid}",
            log=f"logs/{name}/{attempt}.log",
        )
        score = plan_oom_score(container, qos_class(pod), int(facts["memory_bytes"]))
        around = ContainerContext(
            self._sandbox.pause,
            f"{HOME}/c/{cid}/root",
            self._sandbox.hostname,
            self._sandbox.files(),
            self._sandbox.volumes,
            self._machine().installation,
            f"{inside}/termination-log",
            self._pid_namespace(pod, container),
            f"{HOME}/c/{cid}/parts",
        )
        try:
            variables = self._variables(pod, container, image)
            parts = plan_parts(container, self._sandbox.volumes, variables)
            config = plan_spec(
                pod,
                container,
                image,
                variables,
                around,
                limits=limits,
                cgroup=record.cgroup,
                oom_score=score if score >= 0 or "CAP_SYS_RESOURCE" in held_capabilities() else None,
            )
            user = plan_user(pod, container, image)
        except (ConfigError, SpecError) as error:
            self._event(pod, "Warning", "Failed", f"Error: {error}", path)
            raise ContainerFailed("CreateContainerConfigError", str(error)) from error
        record.user = {"uid": user["uid"], "gid": user["gid"], "supplementalGroups": user["additionalGids"]}
        await asyncio.to_thread(_put, bundle, orjson.dumps(config))
        self._event(pod, "Normal", "Created", "Container created", path)
        self._ended[cid] = asyncio.Event()
        try:
            reply, _ = await self._machine().ask(
                "run",
                container=cid,
                bundle=inside,
                cgroup=record.cgroup,
                lower=list(image.lower),
                parts=parts,
                log=f"{self._sandbox.inside}/logs/{name}/{attempt}.log",
                stdin=bool(container.get("stdin")),
                tty=bool(container.get("tty")),
            )
        except MachineError as error:
            message = RUNC + str(error).replace("runc run failed", "runc create failed")
            record.end(128, time.time(), oom=False, reason="StartError", message=message)
            record.started_at = 0.0
            self._remember(record)
            self._event(pod, "Warning", "Failed", f"Error: {message}", path)
            raise ContainerFailed("RunContainerError", message) from error
        record.pid = reply["pid"]
        record.started_at = time.time()
        record.unseen = self._early.get(cid)  # it may have ended before we came to know of its start
        self._remember(record)
        self._event(pod, "Normal", "Started", "Container started", path)
        if hook := (container.get("lifecycle") or {}).get("postStart"):
            await self._post_start(pod, record, hook, path)
        self._begin_probes(pod, record)

    def _pid_namespace(self, pod: Object, container: Mapping[str, Any]) -> str:
        """The PID namespace to join: the pod's shared one, or an ephemeral container's target's; else None."""
        target = self.state.latest(container.get("targetContainerName") or "")
        if pod["spec"].get("shareProcessNamespace"):
            return f"/proc/{self._sandbox.pause}/ns/pid"
        return f"/proc/{target.pid}/ns/pid" if target is not None and target.state == "running" else ""

    def _remember(self, record: Record) -> None:
        for old in self.state.add(record):
            self.state.probes.pop(old.id, None)
            self._ended.pop(old.id, None)
            self._early.pop(old.id, None)
            for name in (old.log, old.log + ".1"):
                with contextlib.suppress(OSError):
                    self._sandbox.directory.remove(name)

    def _target(self, record: Record) -> ProbeTarget:
        return ProbeTarget(self.state.address, record.spec, self._make_socket, self._command(record.id))

    def _begin_probes(self, pod: Object, record: Record) -> None:
        state = self.state.probes.setdefault(record.id, ProbeState())
        path = self.field_path(pod, record.name)

        def unhealthy(kind: str, output: str) -> None:
            self._event(pod, "Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {output}", path)

        self._probes[record.id] = Probes(record, self._target(record), state, changed=self.changed, unhealthy=unhealthy)

    async def _post_start(self, pod: Object, record: Record, hook: Mapping[str, Any], path: str) -> None:
        try:
            await run_hook(hook, self._target(record))
        except ProbeFailed as error:
            self._event(pod, "Warning", "FailedPostStartHook", "PostStartHook failed", path)
            self._event(pod, "Normal", "Killing", "FailedPostStartHook", path)
            await self.kill(pod, record, lambda: 2.0)
            self.absorb()
            raise ContainerFailed("PostStartHookError", f"PostStartHook failed: {error}") from error

    # probes

    def poke(self) -> None:
        """Probe containers that are not ready at once: status was written."""
        for cid, probes in self._probes.items():
            if not self.state.probes[cid].ready:
                probes.poke()

    def stop_probes(self) -> None:
        for probes in self._probes.values():
            probes.close()
        self._probes.clear()

    def start_probes(self, pod: Object) -> None:
        """Restart probes after a restart of the kubelet, with their earlier results."""
        for record in self.state.running():
            if record.id not in self._probes and record.unseen is None:
                known = self.state.probes.get(record.id, ProbeState())
                ready, started = known.ready, known.started
                self._begin_probes(pod, record)
                known = self.state.probes[record.id]
                known.ready, known.started = known.ready or ready, known.started or started

    # ends

    def on_exit(self, end: Exit) -> bool:
        """Note a container's end before the kubelet's next relist; whether it is one of this pod's."""
        for records in self.state.records.values():
            for record in records:
                if record.id == end.container:
                    record.unseen = (end.code, end.at, end.oom)
        if end.container not in self._ended:
            return False
        self._early[end.container] = (end.code, end.at, end.oom)
        self._ended[end.container].set()
        return True

    def lose_all(self) -> None:
        """Record that every container ended for an unknown reason: the node lost power."""
        for record in self.state.running():
            record.end(255, time.time(), oom=False, reason="Unknown")
            if record.id in self._ended:
                self._ended[record.id].set()
        self.stop_probes()

    def absorb(self) -> bool:
        """Record the ends noted since the last relist; whether there were any."""
        found = False
        for record in self.state.running():
            cid = record.id
            if record.unseen is None:
                continue
            code, at, oom = record.unseen
            record.end(code, at, oom=oom, message=self._termination_message(record, code))
            if probes := self._probes.pop(cid, None):
                probes.close()
            chore = asyncio.create_task(self._forget(cid))
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)
            found = True
        return found

    def _termination_message(self, record: Record, code: int) -> str:
        text = ""
        with contextlib.suppress(OSError):
            data = self._sandbox.directory.read(f"containers/{record.id}/termination-log", MESSAGE)
            text = data.decode(errors="replace")
        if not text and code and record.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            text = tail_text(self._sandbox.directory, record.log, lines=80, limit=2048)
        return text

    async def _forget(self, cid: str) -> None:
        with contextlib.suppress(MachineDown, MachineError):
            await self._machine().ask("forget", container=cid)

    async def forget_all(self) -> None:
        """Wait until the node has removed every ended container."""
        if self._chores:
            await asyncio.gather(*self._chores)
        self.stop_probes()

    # killing

    async def kill(
        self,
        pod: Object,
        record: Record,
        grace: Callable[[], float],
        shortened: Callable[[], asyncio.Event] = asyncio.Event,
        *,
        after: Sequence[asyncio.Event] = (),
    ) -> None:
        """Run preStop, send SIGTERM, and after the grace period SIGKILL; return when the container has ended.

        `grace` may be shortened meanwhile; the event from `shortened` is then set. `after`: events that SIGTERM waits
        for within the grace period (a native sidecar's dependents must end first).
        """
        ended = self._ended[record.id]
        if probes := self._probes.get(record.id):
            probes.ending()
        began = time.monotonic()
        floor = 0.0  # seconds after `began` until which it is left alone in any case

        def left() -> float:
            return max(grace(), floor) - (time.monotonic() - began)

        if (hook := (record.spec.get("lifecycle") or {}).get("preStop")) and not ended.is_set():
            try:
                async with asyncio.timeout(max(0.0, left())):
                    await run_hook(hook, self._target(record))
            except (ProbeFailed, TimeoutError) as error:
                self._event(
                    pod,
                    "Warning",
                    "FailedPreStopHook",
                    f"PreStopHook failed: {error}",
                    self.field_path(pod, record.name),
                )
            floor = time.monotonic() - began + 2.0
        if after:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, left())):
                    for event in after:
                        await event.wait()
            if time.monotonic() - began > 0.5:  # the time that it waited is taken off in whole seconds
                floor = time.monotonic() - began + 2.0
        name = (record.spec.get("lifecycle") or {}).get("stopSignal") or "SIGTERM"
        with contextlib.suppress(MachineError):
            await self._machine().ask("kill", container=record.id, signal=int(getattr(signal, name, signal.SIGTERM)))
        while not ended.is_set() and left() > 0:
            waits = [asyncio.ensure_future(ended.wait()), asyncio.ensure_future(shortened().wait())]
            await asyncio.wait(waits, timeout=left(), return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if not ended.is_set():
            with contextlib.suppress(MachineError):
                await self._machine().ask("kill", container=record.id, signal=int(signal.SIGKILL))
            await ended.wait()
        self.absorb()

    # resizing

    async def resize(self, pod: Object) -> None:
        """Apply changed resources to running containers: live, or by a restart where `resizePolicy` requires it."""
        wanted = {c["name"]: c for c in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]}
        due = [
            record
            for record in self.state.running()
            if record.unseen is None
            and record.name in wanted
            and (wanted[record.name].get("resources") or {}) != record.resources
        ]
        if due and not self.state.resizing:
            self.state.resizing = stamp(time.time())
            self._event(pod, "Normal", "ResizeStarted", f"Pod resize started: {resize_summary(pod)}")
            self.report()
        grace = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        for record in [record for record in due if needs_restart(record, wanted[record.name])]:
            due.remove(record)
            self._event(
                pod,
                "Normal",
                "Killing",
                f"Container {record.name} resize requires restart",
                self.field_path(pod, record.name),
            )
            await self.kill(pod, record, lambda: grace)
            self.changed()
        pod_cgroup = self.cgroup_root + self._sandbox.cgroup
        after = cgroups.pod_limits(pod)
        if not due:
            if (
                after != self._pod_limits
            ):  # a container that is down starts with its new limits: its pod must have the room
                self._pod_limits = after
                with contextlib.suppress(OSError):  # no sandbox yet: it is made with these limits
                    cgroups.apply_limits(pod_cgroup, after)
            self._resized(pod, wanted)
            return
        open_wide = cgroups.Limits(after.shares)  # children first or parent first: with an open parent, either
        try:
            cgroups.apply_limits(pod_cgroup, open_wide)
            for record in due:
                cgroups.apply_limits(self.cgroup_root + record.cgroup, cgroups.container_limits(wanted[record.name]))
                record.resources = wanted[record.name].get("resources") or {}
            cgroups.apply_limits(pod_cgroup, after)
            self._pod_limits = after
        except OSError as error:
            with contextlib.suppress(OSError):
                cgroups.apply_limits(pod_cgroup, after)
            if any(record.unseen is not None for record in due):
                return  # it died on the way; the next one starts with the new limits
            self._event(pod, "Warning", "ResizeError", f"Error resizing the pod: {error.strerror}: {error.filename}")
            return
        self._resized(pod, wanted)

    def _resized(self, pod: Object, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Complete a resize once every container has its resources, restarted ones included."""
        if self.state.resizing and all(
            (record := self.state.latest(name)) is not None and record.resources == (container.get("resources") or {})
            for name, container in wanted.items()
            if name in {one.name for one in self.state.running()}
        ):
            self.state.resizing = ""
            self._event(pod, "Normal", "ResizeCompleted", f"Pod resize completed: {resize_summary(pod)}")
            self.report()


def _put(bundle: Beneath, config: bytes) -> None:
    bundle.make()
    bundle.write("config.json", config, mode=0o600)
    bundle.write("termination-log", b"", mode=0o666)
