"""The table of Jobs' fates (`chaos.model.job_fate`), held against the Job controller in fast forward: pods do here what
kubelets make of a proxy's death in each kind of mode, and the controller decides what becomes of the Job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from chaos.embedded.clock import Clock, stamp
from chaos.embedded.deletion import delete
from chaos.embedded.resources import JOB, POD, Object
from chaos.engine.job_rows import detect_fate
from chaos.kube.objects import true_conditions
from chaos.model.job_fate import APP, DURING, ROWS, End, JobFate, Row, Trouble, predict_fate
from chaos.model.modes import MODES, ProxyMode
from tests.embedded.controllers.harness import NS, World, workload, world
from tests.parity.warp import WarpLoop, run_warped

WORK = 10  # seconds that a run of the application takes
# What strikes pods that run; of those whose proxy never gets ready the kubelet decides, and not the controller.
STRUCK = [row for row in ROWS if row.trouble is not Trouble.NEVER_READY]
OVER = 100  # seconds without a change: longer than a Job waits before its fourth try


class Kubelet:
    """Says of one Job's pods what a kubelet would, in a mode."""

    def __init__(self, w: World, clock: Clock, mode: ProxyMode, row: Row) -> None:
        self.w, self.clock, self.mode, self.row = w, clock, mode, row
        self.name = row.name.removeprefix("Job ").replace(", ", "-").replace(" ", "-")
        self.pods: list[Object] = []  # by name
        self.ever: dict[str, Object] = {}  # by UID: those that are gone too
        self.first: set[str] = set()  # UIDs of the pods that ran when it was struck

    def look(self, pods: Iterable[Object]) -> None:
        ours = [pod for pod in pods if pod["metadata"]["labels"].get("job-name") == self.name]
        self.pods = sorted(ours, key=lambda pod: str(pod["metadata"]["name"]))
        self.ever |= {pod["metadata"]["uid"]: pod for pod in ours}

    def create(self) -> None:
        job = workload("Job", self.name, restartPolicy=self.row.policy.restart, **self.row.policy.spec)
        job["spec"]["template"]["spec"]["containers"][0]["name"] = APP
        self.w.create(JOB, job)

    def strike(self) -> None:
        """Let what befalls the Job befall its first pods, and those that are spared end well."""
        self.first = {pod["metadata"]["uid"] for pod in self.pods}
        alone = self.mode.in_pod or self.row.trouble is Trouble.EVICTED
        struck = self.pods[:1] if alone else self.pods if self.mode.hops else []
        if self.row.trouble is Trouble.UPGRADED and self.mode.in_pod:
            struck = []  # a pod that runs keeps the proxy that it has
        for pod in self.pods:
            if pod in struck:
                self._befall(pod)
            else:
                self._finish(pod)

    def go_on(self) -> None:
        """Let pods that came later end well, and applications that were started again."""
        for pod in self.pods:
            status = (pod["status"].get("containerStatuses") or [{}])[0]
            restarts = int(status.get("restartCount", 0))
            if pod["metadata"]["uid"] not in self.first and pod["status"].get("phase") == "Running" and not status:
                self._finish(pod)
            elif restarts and "running" in status["state"]:
                self._finish(pod, restarts=restarts, proxy=int(self.mode.in_pod))

    def fate(self) -> JobFate:
        said = true_conditions(self.w.store.get(JOB, NS, self.name))
        end = End.COMPLETED if "Complete" in said else End.FAILED if "Failed" in said else End.HUNG
        return detect_fate(end, map(dict, self.ever.values()))

    def _ended(self, code: int) -> dict[str, Any]:
        return {"terminated": {"exitCode": code, "finishedAt": stamp(self.clock.now())}}

    def _say(self, pod: Object, phase: str, app: dict[str, Any], *, restarts: int = 0, proxy: int = 0) -> None:
        """Say how the pod and its application are, how often that was started again, and how often its proxy."""

        def change(new: dict[str, Any]) -> None:
            status = {"name": APP, "restartCount": restarts, "containerID": "c", "state": app}
            if restarts:
                status["lastState"] = self._ended(1)
            state = {"running": {}} if phase == "Running" else self._ended(0)
            beside = {"name": "proxy", "restartCount": proxy, "state": state}
            ordinary = [beside] * self.mode.ends_with_app
            new["status"] |= {"phase": phase, "containerStatuses": [status, *ordinary]}
            if self.mode.in_pod and not ordinary:
                new["status"]["initContainerStatuses"] = [beside]

        self.w.store.mutate(POD, NS, pod["metadata"]["name"], change)

    def _finish(self, pod: Object, **more: int) -> None:
        """End its application well, and the pod unless an ordinary container goes on beside it."""
        self._say(pod, "Running" if self.mode.ends_with_app else "Succeeded", self._ended(0), **more)

    def _befall(self, pod: Object) -> None:
        again, inside = self.row.policy.restart == "OnFailure", int(self.mode.in_pod)
        match self.row.trouble:
            case Trouble.EVICTED:
                self._say(pod, "Failed", self._ended(143))
                self.w.store.mutate(POD, NS, pod["metadata"]["name"], _disrupt)
                self.look(self.w.pods())  # it is gone at the next look
                delete(self.w.store, POD, NS, pod["metadata"]["name"], clock=self.clock)
            case Trouble.AFTER if not self.mode.ends_with_app:
                self._finish(pod)
            case Trouble.AFTER if again:
                self._finish(pod, proxy=1)
            case Trouble.AFTER:
                self._say(pod, "Failed", self._ended(0))
            case trouble if trouble in (*DURING, Trouble.UPGRADED) and again:
                self._say(pod, "Running", {"running": {}}, restarts=1, proxy=inside)
            case _:
                self._say(pod, "Failed", self._ended(1))


def _disrupt(pod: dict[str, Any]) -> None:
    pod["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})


async def play(mode: ProxyMode, rows: Sequence[Row], clock: Clock) -> dict[str, JobFate]:
    async with world(clock=clock) as w:
        kubelets = [Kubelet(w, clock, mode, row) for row in rows]

        async def go(seconds: int) -> None:
            await asyncio.sleep(seconds)
            pods = w.pods()
            for one in kubelets:
                one.look(pods)

        for one in kubelets:
            one.create()
        await go(WORK)
        for one in kubelets:
            assert len(one.pods) == one.row.policy.parallelism
            one.strike()
        quiet, before = 0, list[Any]()
        while quiet < OVER:
            await go(WORK)
            for one in kubelets:
                one.go_on()
            now = [(pod["metadata"]["uid"], pod["status"].get("phase")) for one in kubelets for pod in one.pods]
            quiet, before = (quiet + WORK if now == before else 0), now
        return {one.row.name: one.fate() for one in kubelets}


@pytest.mark.parametrize("mode", ["none", "native-sidecar", "sidecar", "node", "ambient-namespace"])
def test_every_predicted_fate_is_what_the_job_controller_makes_of_it(mode: str) -> None:
    loop = WarpLoop()
    seen = run_warped(play(MODES[mode], STRUCK, loop), loop)
    for row in STRUCK:
        predicted, fate = predict_fate(MODES[mode], row.policy, row.trouble), seen[row.name]
        assert fate == predicted or fate.end is predicted.end is End.FAILED, (
            f"{row.name}: {fate}, predicted {predicted}"
        )
