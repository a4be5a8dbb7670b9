"""A tenant's client that is taken down while a trial runs, and still calls: whether its last calls were answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from chaos.engine.targets import WHOLE_POD
from chaos.engine.trial import Trial
from chaos.errors import ApiError, ExperimentFailure
from chaos.kube.client import Object
from chaos.kube.objects import container_status, is_ready_pod
from chaos.mesh import manifests

CONTAINER: Final = "closing"
SECONDS: Final = 60  # longest wait for the pod's start, and for its end


@dataclass(frozen=True, slots=True)
class ClosingSeen:
    """What a client's container left: counts of requests before and after SIGTERM, and how the failed ones ended."""

    before_ok: int
    before_failed: int
    after_ok: int
    after_failed: int
    first_failed: float | None  # seconds after SIGTERM
    errors: Mapping[str, int]

    def last_calls(self) -> str:
        """What became of the calls after SIGTERM, in words."""
        said = f"{self.after_ok} of {self.after_ok + self.after_failed} calls after SIGTERM were answered"
        if self.first_failed is None:
            return said
        how = ", ".join(f"{count} {error}" for error, count in sorted(self.errors.items()))
        return f"{said}; the first was lost {self.first_failed:.1f} s after it ({how})"


class ClosingClient(AbstractContextManager["ClosingClient"]):
    """A client that exists while the block runs. It calls the first tenant's server.

    Args:
        last: seconds for which it calls after SIGTERM.
    """

    def __init__(self, trial: Trial, *, last: float = 3.0) -> None:
        self.trial, self.cluster, self.name = trial, trial.cluster, "closing"
        self.tenant = trial.deployment.tenants[0]
        objects = manifests.closing(
            self.name, tenant=self.tenant.name, nodes=trial.placement.nodes_of(self.tenant.client), last=last
        )
        # What injection brings to the namespace besides, as a waypoint, is there and stays.
        self._objects = [obj for obj in trial.mesh.inject(objects) if obj["metadata"]["name"] == self.name]
        self._selector = f"app={self.name}"

    def __enter__(self) -> ClosingClient:
        for obj in self._objects:
            self.cluster.apply(obj)
        self.cluster.wait(f"{self.name} calls and is answered", self._calls, seconds=SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.trial.excused |= {(pod["metadata"]["uid"], WHOLE_POD) for pod in self._pods()}
        self._delete()
        self.cluster.wait(f"{self.name} is gone", lambda: not self._pods(), seconds=SECONDS)

    def shut_down(self) -> ClosingSeen:
        """Take the client down as a rollout does, and read what it left.

        Raises ExperimentFailure when it ended without a report.
        """
        pods, version = self.cluster.list_at("Pod", self.tenant.namespace, labels=self._selector)
        self.trial.excused |= {(pod["metadata"]["uid"], WHOLE_POD) for pod in pods}
        self._delete()
        for change in self.cluster.watch(
            "Pod", self.tenant.namespace, labels=self._selector, since=version, seconds=SECONDS
        ):
            ended = container_status(change.object, CONTAINER).get("state", {}).get("terminated")
            if change.type != "BOOKMARK" and ended:
                return parse_report(str(ended.get("message", "")))
        raise ExperimentFailure(f"{self.name}: its container did not end within {SECONDS} s of its deletion")

    def _pods(self) -> list[Object]:
        return self.cluster.list("Pod", self.tenant.namespace, labels=self._selector)

    def _calls(self) -> bool:
        (pod, *_) = self._pods() or [{}]
        if not pod or not is_ready_pod(pod):
            return False
        try:
            return "answered" in self.cluster.logs(self.tenant.namespace, pod["metadata"]["name"], container=CONTAINER)
        except ApiError:
            return False

    def _delete(self) -> None:
        for obj in self._objects:
            self.cluster.delete(obj["kind"], obj["metadata"]["name"], self.tenant.namespace)


def parse_report(message: str) -> ClosingSeen:
    """Read the termination message of `chaos.apps.closing`. Pure. Raises ExperimentFailure when it is none."""
    try:
        raw: dict[str, Any] = json.loads(message)
        before, after = raw["before"], raw["after"]
        return ClosingSeen(
            before["ok"], before["failed"], after["ok"], after["failed"], after["first_failed"], after["errors"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ExperimentFailure(
            f"the client ended before it could tell of its last calls: it left {message[:80]!r}"
        ) from error
