"""The second witness of a fault: what the cluster, the kernel or the loader says of it, never the fault itself.

A fault's own evidence may be wrong, as any program may. So each fault declares by what else its effect is seen
(`chaos.faults.model.Witness`), and the trial asks that: before the fault, while it is in force, and after the undo. A
fault that was not seen to act puts nobody at risk, and its trial is *inconclusive*.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import urllib3

from chaos.engine.recorder import quantity
from chaos.errors import ApiError, SharedfateError
from chaos.faults import helper_pod
from chaos.faults.container import serving_endpoint
from chaos.faults.model import Fault, Receipt, Target, Witness
from chaos.faults.network.partition import MODULE
from chaos.faults.workload import pods_of
from chaos.history.model import Event, EventKind
from chaos.kube.client import Cluster
from chaos.kube.objects import container_status
from chaos.load.client import LoaderClient

AGGRESSOR_RATE: Final = 5.0  # requests a second that an aggressor must have ended, by the loader's own counts
USE_SLACK: Final = 1.5  # of its cut limit, which a throttled container may be seen to use: readings lag by a second
_READING_NS: Final = 1_500_000_000  # a reading of CPU use covers the second before it
_CLOCK_SLACK_NS: Final = 2_000_000_000  # Kubernetes' stamps are whole seconds


@dataclass(slots=True)
class SecondWitness:
    """Asks about one fault on one target. `before`, `during` and `after` look; `doubt` says what was missing."""

    cluster: Cluster
    fault: Fault
    target: Target
    began: int = 0
    seen: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def before(self) -> None:
        """What there is before the fault."""
        self.began = time.time_ns()
        match self.fault.witness:
            case Witness.PODS:
                self.seen["pods"] = sorted(self._pod_uids())
            case Witness.LIMIT:
                self.seen["limit_before"] = self._limit()
            case Witness.LOADER:
                self.seen["ended_before"] = self._aggressor_ended()
            case Witness.SILENCE:
                self.seen["answered_before"] = self._answers()
            case _:
                pass

    def during(self, receipt: Receipt) -> None:
        """What there is while the fault is in force; of a pulse, right after its first effect."""
        try:
            match self.fault.witness:
                case Witness.SILENCE:
                    if self.seen["answered_before"]:
                        self.seen["answers"] = self._answers()
                    else:
                        self.seen["states"] = self._states(receipt)
                case Witness.PACKETS:
                    self.seen["packets"] = self._packets(receipt)
                case Witness.LIMIT:
                    self.seen["limit"] = self._limit()
                    self.seen["in_force"] = [receipt.injected_at, time.time_ns()]
                case Witness.LOADER:
                    self.seen["ended"] = self._aggressor_ended()
                    self.seen["seconds"] = (time.time_ns() - receipt.injected_at) / 1e9
                case Witness.PODS:
                    self.seen["pods_during"] = sorted(self._pod_uids())
                case _:
                    pass
        except (SharedfateError, urllib3.exceptions.HTTPError) as error:
            self.failures.append(str(error))

    def after(self, events: Sequence[Event]) -> None:
        """What there is after the undo, and what the recorder wrote down meanwhile."""
        try:
            match self.fault.witness:
                case Witness.CONTAINER:
                    self.seen["container"] = self._container()
                case Witness.PODS:
                    self.seen["pods_after"] = sorted(self._pod_uids())
                case Witness.LIMIT:
                    self.seen["used"] = self._used(events)
                case _:
                    pass
        except (SharedfateError, urllib3.exceptions.HTTPError) as error:
            self.failures.append(str(error))

    def doubt(self) -> str:
        """Why the fault was not seen to act; empty when it was."""
        what = detect_no_effect(self.fault.witness, self.seen, target=self.target, began=self.began)
        return f"{what} ({'; '.join(self.failures)})" if what and self.failures else what

    # ---- looks

    def _pod_uids(self) -> set[str]:
        if self.target.kind == "workload":
            return {
                pod["metadata"]["uid"]
                for pod in pods_of(self.cluster, self.target)
                if "deletionTimestamp" not in pod["metadata"]
            }
        pod = self.cluster.find("Pod", self.target.name, self.target.namespace)
        return {pod["metadata"]["uid"]} if pod is not None and "deletionTimestamp" not in pod["metadata"] else set()

    def _status(self) -> dict[str, Any]:
        pod = self.cluster.find("Pod", self.target.name, self.target.namespace)
        return container_status(pod, self.target.container) if pod is not None else {}

    def _container(self) -> dict[str, Any]:
        status = self._status()
        return {
            "id": status.get("containerID", ""),
            "started": (status.get("state", {}).get("running") or {}).get("startedAt", ""),
            "restarts": status.get("restartCount", 0),
        }

    def _limit(self) -> float | None:
        text = ((self._status().get("resources") or {}).get("limits") or {}).get("cpu")
        return quantity(text) if text else None

    def _used(self, events: Sequence[Event]) -> float | None:
        """Fewest cores that the container used in a reading while the fault was in force; None without a reading."""
        begin, end = self.seen.get("in_force") or (0, 0)
        readings = [
            event.data["containers"][self.target.container]["cores"]
            for event in events
            if event.kind is EventKind.USAGE
            and (event.data["namespace"], event.data["pod"]) == (self.target.namespace, self.target.name)
            and self.target.container in event.data["containers"]
            and begin + _READING_NS <= event.at <= end
        ]
        return min(readings, default=None)

    def _aggressor_ended(self) -> int:
        counts = LoaderClient.of(self.cluster, self.target.namespace, self.target.name).state()["flows"]
        return sum(int(flow["done"]) for flow in counts if str(flow["name"]).startswith("aggressor-"))

    def _answers(self) -> bool | None:
        """Whether the container answers where its readiness probe asks; None when it has no such probe."""
        pod = self.cluster.find("Pod", self.target.name, self.target.namespace)
        if pod is None or not (endpoint := serving_endpoint(pod, self.target.container)):
            return None
        port, slash, rest = endpoint.partition("/")
        try:
            self.cluster.pod_http(self.target.namespace, self.target.name, int(port), slash + rest, timeout=1.0)
        except (ApiError, urllib3.exceptions.HTTPError):
            return False
        return True

    def _states(self, receipt: Receipt) -> list[str]:
        """The kernel's state letters of the container's processes, read by a helper of the trial's own."""
        arguments = helper_pod.container_arguments(self.target)
        found = helper_pod.run(self.cluster, receipt, "look", arguments, awaited="present", seconds=10).seen
        return [str(letter) for letter in found["states"]]

    def _packets(self, receipt: Receipt) -> Mapping[str, int]:
        """The kernel's counters of the fault's rules, read by a helper of the trial's own."""
        with suppress(ApiError, urllib3.exceptions.HTTPError):  # nothing listens there, and the rules meet a packet
            self.cluster.pod_http(self.target.namespace, self.target.name, 1, "/", timeout=0.5)
        arguments = ["--receipt", receipt.id, *helper_pod.container_arguments(self.target)]
        found = helper_pod.run(
            self.cluster, receipt, "count", arguments, awaited="counted", seconds=10, module=MODULE
        ).seen
        return {"namespaces": int(found["namespaces"]), "dropped": int(found["dropped"])}


def detect_no_effect(witness: Witness, seen: Mapping[str, Any], *, target: Target, began: int) -> str:
    """Why what the witness saw does not show that the fault acted; empty when it does. Pure.

    Args:
        began: ns since the epoch, before the fault.
    """
    match witness:
        case Witness.NONE:
            return ""
        case Witness.CONTAINER:
            now = seen.get("container") or {}
            if now.get("id", "") in ("", target.container_id):
                return f"{target} runs on as the same container"
            if now.get("started") and _instant(now["started"]) < began - _CLOCK_SLACK_NS:
                return f"{target}: its container was started before the fault"
            return ""
        case Witness.PODS:
            before, later = set(seen.get("pods") or ()), set(seen.get("pods_after") or ())
            meanwhile = set(seen.get("pods_during") or ())
            return "" if before and (before - later or before - meanwhile) else f"every pod of {target} is still there"
        case Witness.SILENCE:
            if seen.get("answered_before"):
                return "" if seen.get("answers") is False else f"{target} went on answering its probe"
            states = seen.get("states") or ()  # without a probe that was answered, silence would say nothing
            return "" if states and set(states) == {"T"} else f"{target}: the kernel does not say that it is stopped"
        case Witness.PACKETS:
            packets = seen.get("packets") or {}
            if not packets.get("namespaces"):
                return f"no rule against the packets of {target} is in force anywhere on its node"
            return "" if packets.get("dropped") else f"the rules against the packets of {target} met none"
        case Witness.LIMIT:
            old, new, used = seen.get("limit_before"), seen.get("limit"), seen.get("used")
            if new is None or (old is not None and new >= old):
                return f"the kubelet did not say that the CPU limit of {target} was cut"
            if used is not None and used > USE_SLACK * new + 0.005:
                return f"{target} used {used:.3f} cores, with a limit of {new:.3f}"
            return ""
        case Witness.LOADER:
            ended = int(seen.get("ended") or 0) - int(seen.get("ended_before") or 0)
            need = AGGRESSOR_RATE * float(seen.get("seconds") or 1.0)
            return (
                "" if ended >= need else f"the loader counted {ended} requests of its aggressor, fewer than {need:.0f}"
            )


def _instant(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() * 1e9)
