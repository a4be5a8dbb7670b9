"""The second witness of a fault: what the cluster, the kernel or the loader reports of it, never the fault itself.

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
from types import MappingProxyType
from typing import Any, Final

import urllib3

from chaos.engine import onlookers
from chaos.errors import ApiError, NotReady, SharedfateError
from chaos.faults import helper_pod
from chaos.faults.container import serving_endpoint
from chaos.faults.model import Fault, Receipt, Target, Witness, settings_of
from chaos.faults.network.partition import MODULE
from chaos.faults.workload import pods_of
from chaos.history.model import Event, EventKind
from chaos.kube.client import Cluster
from chaos.kube.objects import container_status, controller, is_deleting
from chaos.kube.quantity import parse
from chaos.load.client import LoaderClient

AGGRESSOR_RATE: Final = 5.0  # requests a second that an aggressor must have made, by the loader's own counts
USE_SLACK: Final = 1.5  # of its cut limit, which a throttled container may be seen to use: readings lag by a second
_READING_NS: Final = 1_500_000_000  # a reading of CPU use covers the second before it
LEASE_SECONDS: Final = 12.0  # a kubelet renews its node's lease every 10 s
HOG_CORES: Final = 0.05  # that a neighbour which eats CPU must have got: on a full machine it gets little
HOG_MEMORY: Final = 0.8  # of the memory that it was to hold
SPARE_FILES: Final = 3  # descriptors that a process may have closed since they were last taken from it
MISANSWER_SECONDS: Final = 5.0  # within which a proxy that misanswers meets a request that it does
_RENEWAL_SLACK: Final = 1.0  # seconds by which a lease renewed after the fault is newer than it
_CLOCK_SLACK_NS: Final = 2_000_000_000  # Kubernetes' stamps are whole seconds


@dataclass(slots=True)
class SecondWitness:
    """Observes one fault on one target. `before`, `during` and `after` look; `doubt` says what was missing."""

    cluster: Cluster
    fault: Fault
    target: Target
    began: int = 0
    seen: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def before(self) -> None:
        """Look before the fault."""
        self.began = time.time_ns()
        match self.fault.witness:
            case Witness.PODS:
                self.seen["pods"] = sorted(self._pod_uids())
            case Witness.LIMIT:
                self.seen["limit_before"] = self._limit()
            case Witness.LOADER:
                self.seen["requests_before"] = self._aggressor_asked()
            case Witness.SILENCE:
                self.seen["answered_before"] = self._answers()
            case Witness.REQUESTS:
                self.seen["misanswered_before"] = self._misanswered()
            case Witness.PLANE:
                self.seen["before"] = onlookers.what_proxies_say(self.cluster)
                if self._is_slow:
                    self.seen["push_before"] = self._push("before", onlookers.PROMPT_SECONDS)
            case Witness.API_SERVER:
                self.seen["asked_before"] = onlookers.meets_trouble(self.cluster, self._account(), self._asked)
            case _:
                pass

    def during(self, receipt: Receipt) -> None:
        """Look while the fault is in force; for a pulse, right after its first effect."""
        try:
            match self.fault.witness:
                case Witness.SILENCE:
                    if self.seen["answered_before"]:
                        self.seen["answers"] = self._answers()
                    else:
                        self.seen["states"] = self._states(receipt)
                case Witness.FILES:
                    self.seen["files"] = self._looked_at(receipt)["files"]
                case Witness.PACKETS | Witness.LINK:
                    self.seen["packets"] = self._packets(receipt)
                    self.seen["own"] = int(receipt.evidence.get("own_packets", 0))
                case Witness.LEASE:
                    self.seen["renewed_for"] = self._renewed_for(receipt)
                case Witness.REQUESTS:
                    self.seen["misanswered"] = self._misanswered_since()
                case Witness.PLANE:
                    self.seen["during"] = onlookers.what_proxies_say(self.cluster)
                    if self._is_slow:
                        self.seen["push"] = self._push("during", float(self._asked["delay"]) / 2)
                case Witness.API_SERVER:
                    self.seen["asked"] = onlookers.meets_trouble(self.cluster, self._account(), self._asked)
                case Witness.USAGE:
                    self.seen["pod"] = helper_pod.pod_name(receipt, self.fault.name)
                    self.seen["in_force"] = [receipt.injected_at, time.time_ns()]
                case Witness.LIMIT:
                    self.seen["limit"] = self._limit()
                    self.seen["in_force"] = [receipt.injected_at, time.time_ns()]
                case Witness.LOADER:
                    self.seen["requests"] = self._aggressor_asked()
                    self.seen["seconds"] = (time.time_ns() - receipt.injected_at) / 1e9
                case Witness.PODS:
                    self.seen["pods_during"] = sorted(self._pod_uids())
                case _:
                    pass
        except (SharedfateError, urllib3.exceptions.HTTPError) as error:
            self.failures.append(str(error))

    def after(self, events: Sequence[Event]) -> None:
        """Look after the undo, also at what the recorder wrote meanwhile."""
        try:
            match self.fault.witness:
                case Witness.CONTAINER:
                    self.seen["container"] = self._container()
                case Witness.PODS:
                    self.seen["pods_after"] = sorted(self._pod_uids())
                case Witness.LIMIT:
                    self.seen["used"] = self._used(events)
                case Witness.USAGE:
                    self.seen["cores"], self.seen["mib"] = self._eaten(events)
                case _:
                    pass
        except (SharedfateError, urllib3.exceptions.HTTPError) as error:
            self.failures.append(str(error))

    def doubt(self) -> str:
        """Return why the fault was not seen to act; empty when it was."""
        what = detect_no_effect(self.fault.witness, self.seen, target=self.target, began=self.began, asked=self._asked)
        return f"{what} ({'; '.join(self.failures)})" if what and self.failures else what

    # ---- looks

    def _pod_uids(self) -> set[str]:
        if self.target.kind == "node":
            return {pod["metadata"]["uid"] for pod in self.cluster.list("Pod", fields=self._on_node) if _movable(pod)}
        if self.target.kind == "workload":
            return {
                pod["metadata"]["uid"]
                for pod in pods_of(self.cluster, self.target)
                if "deletionTimestamp" not in pod["metadata"]
            }
        pod = self.cluster.find("Pod", self.target.name, self.target.namespace)
        return {pod["metadata"]["uid"]} if pod is not None and "deletionTimestamp" not in pod["metadata"] else set()

    @property
    def _on_node(self) -> str:
        return f"spec.nodeName={self.target.name}"

    def _renewed_for(self, receipt: Receipt) -> float:
        """Return the seconds since the node's kubelet renewed its lease, once they show whether it is alive."""

        def age() -> float:
            lease = self.cluster.get("Lease", self.target.name, "kube-node-lease")
            return (time.time_ns() - _instant(lease["spec"]["renewTime"])) / 1e9

        while True:
            since = age()
            if since > LEASE_SECONDS or (time.time_ns() - receipt.injected_at) / 1e9 > since + _RENEWAL_SLACK:
                return since
            time.sleep(0.5)  # a lease that is not renewed gives no event

    @property
    def _asked(self) -> Mapping[str, Any]:
        return settings_of(self.fault)

    @property
    def _is_slow(self) -> bool:
        return self._asked.get("answer") == "slow"

    def _push(self, when: str, within: float) -> float | None:
        return onlookers.push_seconds(self.cluster, f"witness-{when}-{self.began}", within=within)

    def _misanswered(self) -> int:
        return onlookers.misanswered(onlookers.proxy_pages(self.cluster).get(self.target.uid, ""))

    def _misanswered_since(self) -> int:
        """Return the target's count once it has moved: requests come when they come."""
        before = self.seen.get("misanswered_before", 0)
        with suppress(NotReady):
            self.cluster.wait(
                f"{self.target} misanswers", lambda: self._misanswered() != before, seconds=MISANSWER_SECONDS, every=0.2
            )
        return self._misanswered()

    def _account(self) -> str:
        """The service account of a workload's pods, as the API server names it."""
        kind = self.target.workload_kind or "Deployment"
        spec = self.cluster.get(kind, self.target.name, self.target.namespace)["spec"]["template"]["spec"]
        return f"system:serviceaccount:{self.target.namespace}:{spec.get('serviceAccountName', 'default')}"

    def _eaten(self, events: Sequence[Event]) -> tuple[float, float]:
        """Return the most cores, and MiB, of the fault's own pod in any reading while it was in force."""
        begin, end = self.seen.get("in_force") or (0, 0)
        used = [
            reading
            for event in events
            if event.kind is EventKind.USAGE and event.data["pod"] == self.seen.get("pod") and begin <= event.at <= end
            for reading in event.data["containers"].values()
        ]
        return max((one["cores"] for one in used), default=0.0), max((one["bytes"] for one in used), default=0) / 2**20

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
        return float(parse(text)) if text else None

    def _used(self, events: Sequence[Event]) -> float | None:
        """Return the fewest cores of the container in any reading while the fault was in force; None without a
        reading.
        """
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

    def _aggressor_asked(self) -> int:
        """The aggressor's requests that fell due; those of slow readers end late."""
        counts = LoaderClient.of(self.cluster, self.target.namespace, self.target.name).state()["flows"]
        return sum(int(flow["due"]) for flow in counts if str(flow["name"]).startswith("aggressor-"))

    def _answers(self) -> bool | None:
        """Whether the container answers its readiness probe's endpoint; None when it has no such probe."""
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
        """Read the kernel's state letters of the container's processes."""
        return [str(letter) for letter in self._looked_at(receipt)["states"]]

    def _looked_at(self, receipt: Receipt) -> Mapping[str, Any]:
        """Look at the container's processes, with a helper of the trial's own."""
        arguments = helper_pod.container_arguments(self.target)
        return helper_pod.run(self.cluster, receipt, "look", arguments, awaited="present", seconds=10).seen

    def _packets(self, receipt: Receipt) -> Mapping[str, int]:
        """Read the kernel's counters of the fault's rules, with a helper of the trial's own."""
        with suppress(ApiError, urllib3.exceptions.HTTPError):  # nothing listens there, and the rules meet a packet
            self.cluster.pod_http(self.target.namespace, self.target.name, 1, "/", timeout=0.5)
        arguments = ["--receipt", receipt.id, *helper_pod.container_arguments(self.target)]
        found = helper_pod.run(
            self.cluster, receipt, "count", arguments, awaited="counted", seconds=10, module=MODULE
        ).seen
        return {name: int(found.get(name, 0)) for name in ("namespaces", "dropped", "delayed", "held_back")}


def detect_no_effect(
    witness: Witness,
    seen: Mapping[str, Any],
    *,
    target: Target,
    began: int,
    asked: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Return why the witness's readings do not show that the fault acted; empty when they do. Pure.

    Args:
        began: ns since the epoch, before the fault.
        asked: the fault's settings.
    """
    match witness:
        case Witness.NONE:
            return f"nothing but the fault itself says what it did to {target}"
        case Witness.LINK:
            packets = seen.get("packets") or {}
            wanted = {"delayed": "delay_ms", "dropped": "loss", "held_back": "rate_kbit"}
            idle = [word for word, setting in wanted.items() if asked.get(setting) and not packets.get(word)]
            if not any(asked.get(setting) for setting in wanted.values()):
                return f"nothing was asked of the link of {target}"
            names = ", ".join(one.replace("_", " ") for one in idle)
            return f"no packet of {target} was {names}, by the kernel's counters" if idle else ""
        case Witness.REQUESTS:
            count = int(seen.get("misanswered") or 0)
            acted = count > 0 and count != int(seen.get("misanswered_before") or 0)
            return "" if acted else f"{target} misanswered no request, by its own counts"
        case Witness.PLANE:
            return _detect_sound_plane(seen, target=target, asked=asked)
        case Witness.API_SERVER:
            if seen.get("asked_before"):
                return f"the account of {target} met such trouble before the fault"
            return "" if seen.get("asked") else f"no request by the account of {target} met the trouble"
        case Witness.LEASE:
            since = seen.get("renewed_for")
            return "" if since and since > LEASE_SECONDS else f"the kubelet of {target} went on renewing its lease"
        case Witness.USAGE:
            if asked.get("cores") and float(seen.get("cores") or 0) < HOG_CORES:
                return f"the neighbour of {target} used {float(seen.get('cores') or 0):.2f} cores, by the kubelet"
            if float(seen.get("mib") or 0) < HOG_MEMORY * float(asked.get("memory_mib") or 0):
                return f"the neighbour of {target} held {float(seen.get('mib') or 0):.0f} MiB, by the kubelet"
            eats = asked.get("cores") or asked.get("memory_mib")
            return "" if eats else f"nothing was asked of the neighbour of {target}"
        case Witness.CONTAINER:
            now = seen.get("container") or {}
            if now.get("id", "") in ("", target.container_id):
                return f"{target} runs on as the same container"
            if now.get("started") and _instant(now["started"]) < began - _CLOCK_SLACK_NS:
                return f"{target}: its container was started before the fault"
            return ""
        case Witness.PODS:
            before, looks = set(seen.get("pods") or ()), ("pods_during", "pods_after")
            gone = any(before - set(seen[look]) for look in looks if look in seen)  # a look that failed shows nothing
            return "" if gone else f"every pod of {target} is still there"
        case Witness.SILENCE:
            if seen.get("answered_before"):
                return "" if seen.get("answers") is False else f"{target} went on answering its probe"
            states = seen.get("states") or ()  # without a probe that was answered, silence would say nothing
            return "" if states and set(states) == {"T"} else f"{target}: the kernel does not say that it is stopped"
        case Witness.FILES:
            files = [one for one in seen.get("files") or () if one]
            spare = [one for one in files if one["spare"] > SPARE_FILES]
            return "" if files and not spare else f"{target} may still open files, by the kernel"
        case Witness.PACKETS:
            packets = seen.get("packets") or {}
            if not packets.get("namespaces"):
                return f"no rule against the packets of {target} is in force anywhere on its node"
            met = int(packets.get("dropped", 0)) - int(seen.get("own") or 0)  # beyond the fault's own question
            return "" if met > 0 else f"the rules against the packets of {target} met none"
        case Witness.LIMIT:
            old, new, used = seen.get("limit_before"), seen.get("limit"), seen.get("used")
            if new is None or (old is not None and new >= old):
                return f"the kubelet did not say that the CPU limit of {target} was cut"
            if used is not None and used > USE_SLACK * new + 0.005:
                return f"{target} used {used:.3f} cores, with a limit of {new:.3f}"
            return ""
        case Witness.LOADER:
            made = int(seen.get("requests") or 0) - int(seen.get("requests_before") or 0)
            need = AGGRESSOR_RATE * float(seen.get("seconds") or 1.0)
            return "" if made >= need else f"the loader counted {made} requests of its aggressor, fewer than {need:.0f}"


def _detect_sound_plane(seen: Mapping[str, Any], *, target: Target, asked: Mapping[str, Any]) -> str:
    """Why the proxies' own pages do not show that their control plane misbehaves as asked; empty when they do. Pure."""
    before, during = seen.get("before") or {}, seen.get("during") or {}
    if not before.get("proxies") or not during.get("proxies"):
        return f"no proxy of {target} shows what it got of it"
    if "life" in asked:
        if not before.get("good_certificates"):
            return "no proxy held a good certificate before the fault"
        good, of = during.get("good_certificates", 0), during.get("certificates", 0)
        return f"{good} of {of} certificates are still good, by the proxies that hold them" if good or not of else ""
    if asked.get("answer") == "slow":
        if seen.get("push_before") is None:
            return f"a change reached no proxy of {target} even before the fault"
        if "push" not in seen:
            return f"nobody saw whether a change reached the proxies of {target}"
        late = seen["push"]
        return "" if late is None else f"a change reached the proxies of {target} within {late:.1f} s"
    if not before.get("connected"):
        return f"no proxy was connected to {target} before the fault"
    if "answer" not in asked:  # it pushes what is wrong: streams stand, and what is called by it does not answer
        failed = int(during.get("failed_connects") or 0) - int(before.get("failed_connects") or 0)
        return "" if failed > 0 else f"no connection of the proxies of {target} failed, by their own counts"
    return f"{during['connected']} proxies are connected to {target}" if during.get("connected") else ""


def _movable(pod: Mapping[str, Any]) -> bool:
    """Whether a drain should move the pod: not one that is already being deleted, and not a DaemonSet's."""
    owner = controller(pod)
    return not is_deleting(pod) and (owner is None or owner["kind"] != "DaemonSet")


def _instant(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() * 1e9)
