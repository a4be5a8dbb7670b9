"""More workloads of a tenant, beside the reference ones, that exist while a part of a trial runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Final

from chaos.engine.targets import WHOLE_POD
from chaos.engine.trial import Trial
from chaos.kube.client import Object
from chaos.kube.control_key import stored_key
from chaos.kube.objects import is_ready_pod
from chaos.mesh.inject import told_digests

SECONDS: Final = 60  # longest wait for the pods' start, and for their end


def inject_alone(trial: Trial, objects: Sequence[Object]) -> list[Object]:
    """Return the objects, patched for the trial's mode. What injection brings to the namespace besides, as a waypoint,
    is there and stays.
    """
    ours = {(obj["kind"], obj["metadata"]["name"]) for obj in objects}
    return [obj for obj in trial.mesh.inject(objects) if (obj["kind"], obj["metadata"]["name"]) in ours]


class Beside(AbstractContextManager["Beside"]):
    """Workloads in the first tenant's namespace while the block runs; it begins when their pods are ready.

    Args:
        objects: without a mesh.
        ready: of each value of the label `app`, how many pods are waited for.
    """

    def __init__(self, trial: Trial, objects: Sequence[Object], ready: Mapping[str, int]) -> None:
        self._trial, self._cluster, self._ready = trial, trial.cluster, dict(ready)
        self._namespace = trial.deployment.tenants[0].namespace
        self._objects = inject_alone(trial, objects)

    def __enter__(self) -> Beside:
        with ExitStack() as stack:
            stack.callback(self._remove)
            for obj in told_digests(self._objects, stored_key(self._cluster, run=self._trial.deployment.run)):
                self._cluster.apply(obj)
            self._cluster.wait(f"{', '.join(self._ready)}: every pod is ready", self._all_ready, seconds=SECONDS)
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def pods(self, app: str) -> list[Object]:
        """The pods of one of them that there are now."""
        return self._cluster.list("Pod", self._namespace, labels=f"app={app}")

    def _all_ready(self) -> bool:
        return all(sum(map(is_ready_pod, self.pods(app))) == number for app, number in self._ready.items())

    def _remove(self) -> None:
        self._trial.excused |= {(pod["metadata"]["uid"], WHOLE_POD) for app in self._ready for pod in self.pods(app)}
        for obj in self._objects:
            self._cluster.delete(obj["kind"], obj["metadata"]["name"], self._namespace)
        self._cluster.wait(
            f"{', '.join(self._ready)} are gone", lambda: not any(map(self.pods, self._ready)), seconds=SECONDS
        )
