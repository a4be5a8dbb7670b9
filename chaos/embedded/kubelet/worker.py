"""One pod's life on a node: a task that compares desired with actual state, acts, and reports, until the pod is gone.

As in the kubelet, `sync` writes status first, acts (pod_actions.py), and runs again when something happens (the pod
changed, the relist found an end, a probe's result, a back-off ran out). It acts on the node through sandbox.py and
containers.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from chaos.embedded.clock import parse_time
from chaos.embedded.kubelet.container_records import Backoff, PodState, Record, is_sidecar
from chaos.embedded.kubelet.containers import Containers
from chaos.embedded.kubelet.environment import ConfigError
from chaos.embedded.kubelet.node_machine import MachineDown, MachineError
from chaos.embedded.kubelet.pod_actions import plan_actions
from chaos.embedded.kubelet.sandbox import Sandbox
from chaos.embedded.kubelet.status import pod_status, stamp
from chaos.embedded.resources import POD, Object
from chaos.embedded.store import Conflict, NotFound, Store

log = logging.getLogger(__name__)
RESYNC: Final = 60.0  # seconds between looks at a pod in which nothing happens, times 1 to 1.5
RETRY: Final = 10.0  # after a failure, likewise
MOUNT_RETRY: Final = 0.5  # doubling to a minute


class Host(Protocol):
    """The node, as a worker uses it."""

    name: str
    store: Store
    address: str
    backoff: Backoff

    def jitter(self, seconds: float) -> float: ...
    def reachable(self) -> bool: ...
    def event(self, pod: Object, kind: str, reason: str, message: str, field_path: str = "") -> None: ...
    def facts(self) -> Mapping[str, str]: ...
    async def next_look(self) -> None: ...
    def finished(self, uid: str) -> None: ...


class PodWorker:
    """The worker of one pod."""

    def __init__(self, host: Host, pod: Object, sandbox: Sandbox, containers: Containers) -> None:
        self.host = host
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.state: PodState = containers.state
        self.sandbox = sandbox
        self.containers = containers
        self.removed = False  # the API has no such pod any longer
        self.sandbox_lost = False  # somebody killed its pause process
        self._unchecked = False  # the kubelet was away: what of the network has changed meanwhile
        self._wake = asyncio.Event()
        self._shortened = asyncio.Event()
        self._mount_retry = MOUNT_RETRY
        self._task: asyncio.Task[None] | None = None
        containers.changed = self._changed
        containers.report = self.write_status

    # from outside

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"pod {self.pod['metadata']['name']}")

    async def pause(self) -> None:
        """Pause without touching containers or records: the kubelet stops, or its node has no power."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self.containers.stop_probes()

    def resume(self) -> None:
        self.containers.start_probes(self.pod)
        self._unchecked = True
        self.start()
        self.wake()

    def update(self, pod: Object) -> None:
        """Take a newer version of the pod: from the watch, or from a write of its status.

        A status write is applied to the latest version, so its answer may carry a change that the watch has yet to
        deliver. The first of the two wakes the next pass; older versions are dropped.
        """
        if int(pod["metadata"]["resourceVersion"]) <= int(self.pod["metadata"]["resourceVersion"]):
            return
        before, self.pod = self.pod, pod
        if "deletionTimestamp" in pod["metadata"]:
            self._shorten()
        old, new = before["metadata"], pod["metadata"]
        if (
            before["spec"] != pod["spec"]
            or old.get("deletionTimestamp") != new.get("deletionTimestamp")
            or old.get("generation") != new.get("generation")
            or _gates(before) != _gates(pod)
            or old.get("labels") != new.get("labels")
            or old.get("annotations") != new.get("annotations")
        ):
            self.wake()

    def remove(self, pod: Object) -> None:
        """Stop: the pod was removed from the API without waiting for this kubelet."""
        self.pod = pod
        self.removed = True
        self._shorten()
        self.wake()

    def _shorten(self) -> None:
        """Wake those who wait within a grace period that may have been shortened, by an event each."""
        shortened, self._shortened = self._shortened, asyncio.Event()
        shortened.set()

    def relist(self) -> None:
        """Record the ends since the last relist (the kubelet's PLEG)."""
        if self.containers.absorb() or self.sandbox_lost:
            self.wake()

    def wake(self) -> None:
        self._wake.set()

    def _changed(self) -> None:
        """React to a changed probe result; while the pod ends no pass would report it."""
        if self.state.terminal and not self.state.stopped:
            self.write_status()
        self.wake()

    # the life

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                delay = await self._sync()
            except MachineDown:
                return  # the node resumes its workers when it has power again
            except Exception:  # whatever one pod provokes: said, and tried again, as a kubelet does
                log.exception(
                    "pod %s/%s: a sync failed", self.pod["metadata"]["namespace"], self.pod["metadata"]["name"]
                )
                delay = self.host.jitter(RETRY)
            if delay is None:
                self.host.finished(self.uid)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):  # not wait_for: before Python 3.12 it may swallow a cancellation
                    await self._wake.wait()

    async def _sync(self) -> float | None:
        """Make one pass; seconds until the next one at the latest, None when the pod is gone."""
        meta = self.pod["metadata"]
        if self.removed or "deletionTimestamp" in meta or self.state.terminal:
            return await self._end()
        if self.pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):  # so it was before this kubelet knew it
            self.state.terminal = self.state.stopped = True
            return RESYNC
        self.state.started_at = self.state.started_at or stamp(time.time())
        left = self._deadline()
        if left is not None and left <= 0:
            self.state.reason, self.state.message = (
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            )
            self.host.event(self.pod, "Normal", "DeadlineExceeded", self.state.message)
            return await self._end()
        if self.sandbox_lost:
            await self._lose_sandbox()
        if self._unchecked:
            self._unchecked = False
            if problem := await self.sandbox.check_network():
                why = f"unable to get pod sandbox status: {problem}"
                self.host.event(self.pod, "Warning", "FailedPodSandBoxStatus", why)
        self.write_status()
        self.containers.poke()
        actions = plan_actions(self.pod, self.state)
        if actions.end:
            return await self._end()
        wait = min(self.host.jitter(RESYNC), left + 0.01 if left is not None else RESYNC * 2)
        if not self.state.records or actions.sandbox:
            wait_for_volumes = await self._volumes()
            if wait_for_volumes:
                return wait_for_volumes
        if actions.sandbox:
            return await self._make_sandbox()
        await self.containers.resize(self.pod)
        before = {
            name: next((r for r in reversed(self.state.records.get(name, [])) if r.state == "exited"), None)
            for name in actions.start
        }
        if actions.kill:
            await asyncio.gather(*(self._kill_one(kill.record, kill.message) for kill in actions.kill))
        for container in self.pod["spec"].get("ephemeralContainers") or []:
            if self.state.latest(container["name"]) is None and container["name"] not in self.state.waiting:
                await self.containers.start(self.pod, container, None)
                self.write_status()
        began = False
        for name in actions.start:
            container = next(
                c
                for c in [*self.pod["spec"].get("initContainers", []), *self.pod["spec"]["containers"]]
                if c["name"] == name
            )
            started = await self.containers.start(self.pod, container, before[name])
            began = began or started.began
            if started.retry is not None:
                wait = min(wait, self.host.jitter(min(started.retry, RESYNC)))
        if began:
            return 0.0
        if not actions.start and not actions.kill:
            await self._volumes()
            self.write_status()
        return wait

    def _deadline(self) -> float | None:
        """Seconds left of activeDeadlineSeconds."""
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        if limit is None:
            return None
        return float(parse_time(self.state.started_at).timestamp() + limit - time.time())

    async def _volumes(self) -> float | None:
        """Make or refresh the volumes; seconds to wait when that failed."""
        facts = dict(self.host.facts()) | {"pod_ip": self.state.address}
        try:
            await self.sandbox.prepare_volumes(self.pod, facts)
        except (ConfigError, OSError) as error:
            self.host.event(self.pod, "Warning", "FailedMount", str(error))
            wait, self._mount_retry = self._mount_retry, min(self._mount_retry * 2, 60.0)
            return wait
        self._mount_retry = MOUNT_RETRY
        return None

    async def _make_sandbox(self) -> float:
        if self.state.sandbox >= 0:
            self.host.event(
                self.pod, "Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created."
            )
        try:
            address = await self.sandbox.make(self.pod, self.state.sandbox + 1)
        except (MachineError, OSError) as error:
            self.host.event(self.pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            await self.sandbox.drop(host_network=bool(self.pod["spec"].get("hostNetwork")))
            return self.host.jitter(RETRY)
        self.state.sandbox += 1
        self.state.sandbox_ready = True
        self.state.address = address
        return 0.0

    async def _lose_sandbox(self) -> None:
        """End containers that lost their sandbox; a new sandbox and new containers follow."""
        self.sandbox_lost = False
        if self.state.sandbox_ready:
            await asyncio.gather(
                *(
                    self.containers.kill(self.pod, record, self._grace, self._shortening)
                    for record in self.state.running()
                    if record.unseen is None
                )
            )
            self.containers.absorb()
            await self.sandbox.drop(host_network=bool(self.pod["spec"].get("hostNetwork")))
            self.state.sandbox_ready = False
            self.state.address = ""

    async def _kill_one(self, record: Record, message: str) -> None:
        self.host.event(self.pod, "Normal", "Killing", message, self.containers.field_path(self.pod, record.name))
        failed = self.state.probes[record.id].failed
        probe = record.spec.get(f"{failed}Probe") or {}
        grace = probe.get("terminationGracePeriodSeconds") or self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        await self.containers.kill(self.pod, record, lambda: max(1.0, float(grace)), self._shortening)

    # the end

    def _shortening(self) -> asyncio.Event:
        return self._shortened

    def _grace(self) -> float:
        """The pod's remaining grace in seconds, as by the kubelet: at least one, and a forced 0 means the pod's own."""
        meta, spec = self.pod["metadata"], self.pod["spec"]
        own = spec.get("terminationGracePeriodSeconds", 30)
        asked = meta.get("deletionGracePeriodSeconds") or own
        return max(1.0, float(min(asked, own) if not meta.get("deletionTimestamp") else asked))

    async def _end(self) -> float | None:
        """Stop everything, report, and (for a deleted pod) release it."""
        deleted = self.removed or "deletionTimestamp" in self.pod["metadata"]
        self.state.terminal = True
        if not self.state.stopped:
            self.write_status()
            sidecars = any(is_sidecar(record.spec) for record in self.state.running())
            await self._stop_all()
            problem = await self.sandbox.drop(host_network=bool(self.pod["spec"].get("hostNetwork")))
            if problem:
                why = f'failed to "KillPodSandbox" for "{self.uid}" with KillPodSandboxError: "{problem}"'
                self.host.event(self.pod, "Warning", "FailedKillPod", f"error killing pod: {why}")
            self.state.sandbox_ready = False
            if not deleted and not self.removed:
                self.write_status()
                await self.host.next_look()
                if sidecars:  # their end is seen at one look, and acted upon at the next
                    await self.host.next_look()
            self.state.stopped = True
        self.write_status()
        deleted = self.removed or "deletionTimestamp" in self.pod["metadata"]
        if not deleted:
            return RESYNC
        await self.containers.forget_all()
        await self.sandbox.remove_files()
        self.host.backoff.forget(lambda key: key.startswith(self.uid))
        self._let_go()
        return None if self._is_gone() else 1.0

    async def _stop_all(self) -> None:
        """Run Events and preStop hooks all at once; native sidecars get SIGTERM after the others, last first."""
        pod, spec = self.pod, self.pod["spec"]
        sidecars = [c["name"] for c in spec.get("initContainers", []) if is_sidecar(c)]
        running = {record.name: record for record in self.state.running() if record.unseen is None}
        for name in running:
            self.host.event(
                pod, "Normal", "Killing", f"Stopping container {name}", self.containers.field_path(pod, name)
            )
        ended = {name: asyncio.Event() for name in running}

        async def stop(name: str, record: Record) -> None:
            needed_by = sidecars[sidecars.index(name) + 1 :] if name in sidecars else ()
            after = [ended[other] for other in running if name in sidecars and other not in sidecars]
            after += [ended[other] for other in needed_by if other in running]
            try:
                await self.containers.kill(self.pod, record, self._grace, self._shortening, after=after)
            finally:
                ended[name].set()

        await asyncio.gather(*(stop(name, record) for name, record in running.items()))
        self.containers.absorb()

    def _let_go(self) -> None:
        """Delete the pod with grace 0, upon which the API removes it (unless a finalizer holds it)."""
        if self.removed or not self.host.reachable():
            return
        meta = self.pod["metadata"]

        def end(pod: dict[str, Any]) -> None:
            pod["metadata"]["deletionGracePeriodSeconds"] = 0

        with contextlib.suppress(NotFound, Conflict):
            self.host.store.mutate(POD, meta["namespace"], meta["name"], end, uid=self.uid)

    def _is_gone(self) -> bool:
        meta = self.pod["metadata"]
        held = self.host.store.find(POD, meta["namespace"], meta["name"])
        return self.removed or (self.host.reachable() and (held is None or held["metadata"]["uid"] != self.uid))

    # status

    def write_status(self) -> None:
        """Write the status, if the API is reachable and something differs."""
        if self.removed or not self.host.reachable():
            return
        meta = self.pod["metadata"]
        now = stamp(time.time())

        def change(pod: dict[str, Any]) -> None:
            pod["status"] = pod_status(pod, self.state, host=self.host.address, now=now)
            if pod["spec"].get("hostNetwork"):
                pod["status"] |= {"podIP": self.host.address, "podIPs": [{"ip": self.host.address}]}

        with contextlib.suppress(NotFound, Conflict):
            self.update(self.host.store.mutate(POD, meta["namespace"], meta["name"], change, uid=self.uid))

    def usage_paths(self) -> list[tuple[Record, str]]:
        """(record, its cgroup on the machine) of running containers."""
        return [(record, self.containers.cgroup_root + record.cgroup) for record in self.state.running()]


def _gates(pod: Object) -> list[tuple[str, str]]:
    """The pod's readiness gates: conditions that others write."""
    wanted = {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []}
    return [(c["type"], c["status"]) for c in pod.get("status", {}).get("conditions", []) if c["type"] in wanted]
