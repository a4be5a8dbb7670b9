"""A tenant's client that is taken down while a trial runs, and still calls: whether its last calls were answered, and
what became of the proxy beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import TracebackType
from typing import Any, Final

from chaos.engine.beside import inject_alone
from chaos.engine.targets import WHOLE_POD, proxy_serving
from chaos.engine.trial import Trial
from chaos.errors import ApiError, ExperimentFailure
from chaos.kube.client import Object
from chaos.kube.objects import ContainerSeen, container_status, containers_seen, is_ready_pod
from chaos.mesh import manifests
from chaos.model.modes import ProxyMode
from chaos.model.placement import Proxy
from chaos.verdict.check import Check, decided

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
    last_ok: float | None = None  # seconds after SIGTERM
    containers: Mapping[str, ContainerSeen] = field(default_factory=dict)  # of its pod, when its own had ended

    def last_calls(self) -> str:
        """What became of the calls after SIGTERM, in words."""
        said = f"{self.after_ok} of {self.after_ok + self.after_failed} calls after SIGTERM were answered"
        if self.first_failed is None:
            return said
        how = ", ".join(f"{count} {error}" for error, count in sorted(self.errors.items()))
        return f"{said}; the first was lost {self.first_failed:.1f} s after it ({how})"

    @property
    def answered_again(self) -> bool:
        """Whether calls after SIGTERM were lost, and later ones answered."""
        return None not in (self.first_failed, self.last_ok) and self.last_ok > self.first_failed  # type: ignore[operator]


class AfterKill(StrEnum):
    """What becomes of the last calls once the proxy that carries them was killed."""

    ANSWERED = "the last calls are answered all the same"
    BACK = "the last calls are answered again"
    LOST = "the last calls are lost to the end"


def predict_after_kill(mode: ProxyMode) -> AfterKill:
    """Predict what becomes of last calls whose proxy is killed meanwhile. Pure.

    The kubelet restarts nothing in a pod that ends (unless Kubernetes' gate SidecarsRestartableDuringPodTermination is
    on): a native sidecar stays down. A proxy of another pod comes back.
    """
    if not mode.hops:
        return AfterKill.ANSWERED
    return AfterKill.LOST if mode.in_pod else AfterKill.BACK


def judge_after_kill(seen: ClosingSeen, predicted: AfterKill, *, killed: bool, container: str) -> list[Check]:
    """Hold what was seen of last calls against the prediction. Pure.

    Args:
        killed: whether the proxy was there to be killed when the client had got SIGTERM.
        container: the proxy's, where it is one of the client's pod; "": it is in another.
    """
    checks = [
        decided(
            "the proxy still runs while its client ends",
            killed and seen.after_ok > 0,
            f"{'it was there to be killed' if killed else 'it had ended before it could be killed'}; "
            f"{seen.after_ok} calls after SIGTERM were answered",
            seen.after_ok,
            "requests",
        )
    ]
    held = {
        AfterKill.ANSWERED: not seen.after_failed,
        AfterKill.BACK: seen.after_failed > 0 and seen.answered_again,
        AfterKill.LOST: seen.after_failed > 0 and not seen.answered_again,
    }[predicted]
    said = seen.last_calls()
    if seen.last_ok is not None:
        said += f"; the last was answered {seen.last_ok:.1f} s after SIGTERM"
    checks.append(decided(predicted.value, held, said, seen.after_failed, "requests"))
    if container:
        one = seen.containers.get(container)
        down = one is not None and one.state == "terminated" and one.restarts == 0
        state = f"{one.state}, after {one.restarts} restarts" if one is not None else "not in the pod's status"
        checks.append(
            decided("the proxy of a pod that ends is not restarted", down, f"at the client's end it was {state}")
        )
    return checks


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
        self._objects = inject_alone(trial, objects)
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

    def proxy(self) -> Proxy:
        """The L4 proxy that serves it; in mode `none` the placebo of its node."""
        (pod, *_) = self._pods()
        found = proxy_serving(self.trial.deployment.placement(), pod)
        if found is None:
            raise ExperimentFailure(f"{self.name}: no proxy serves {self.tenant.namespace}/{pod['metadata']['name']}")
        return found

    def shut_down(self, *, meanwhile: Callable[[], None] = lambda: None) -> ClosingSeen:
        """Take the client down as a rollout does, and read what it left.

        Raises ExperimentFailure when it ended without a report.

        Args:
            meanwhile: is called once it was told to end.
        """
        pods, version = self.cluster.list_at("Pod", self.tenant.namespace, labels=self._selector)
        self.trial.excused |= {(pod["metadata"]["uid"], WHOLE_POD) for pod in pods}
        self._delete()
        meanwhile()
        for change in self.cluster.watch(
            "Pod", self.tenant.namespace, labels=self._selector, since=version, seconds=SECONDS
        ):
            ended = container_status(change.object, CONTAINER).get("state", {}).get("terminated")
            if change.type != "BOOKMARK" and ended:
                seen = parse_report(str(ended.get("message", "")))
                return replace(seen, containers=containers_seen(change.object))
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
            before["ok"],
            before["failed"],
            after["ok"],
            after["failed"],
            after["first_failed"],
            after["errors"],
            after["last_ok"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ExperimentFailure(
            f"the client ended before it could tell of its last calls: it left {message[:80]!r}"
        ) from error
