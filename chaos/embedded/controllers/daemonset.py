"""DaemonSet: one pod on every eligible node, rolled out node by node, with its revisions (ControllerRevision)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from chaos.embedded.api.errors import StatusError
from chaos.embedded.controllers.base import (
    BURST,
    Controller,
    Source,
    available_in,
    is_finished,
    is_ready,
    is_terminating,
    its_controller_or_adopter,
    itself,
    key_of,
    phase,
    pod_from_template,
)
from chaos.embedded.controllers.deployment import resolve
from chaos.embedded.controllers.placement import node_affinity_fits, tolerates
from chaos.embedded.controllers.revisions import REVISION_HASH, current_revision
from chaos.embedded.resources import DAEMON_SET, NODE, POD, Object
from chaos.embedded.store import Key, WatchEvent

_NAMES: Final = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
FAILED_RETRY: Final = (
    1.0  # seconds before a failed daemon pod is replaced, doubling (daemon controller's failedPodsBackoff)
)


def daemon_pod(daemon_set: Object, node: str, digest: str) -> dict[str, Any]:
    """The pod for one node: node affinity binds it (the scheduler decides last), with the daemons' tolerations."""
    pod = pod_from_template(daemon_set["spec"]["template"], owner_resource=DAEMON_SET, owner=daemon_set)
    generation = daemon_set["metadata"].get("annotations", {}).get("deprecated.daemonset.template.generation", "1")
    pod["metadata"].setdefault("labels", {}).update({REVISION_HASH: digest, "pod-template-generation": str(generation)})
    spec = pod["spec"]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = [{**held, **term} for held in required["nodeSelectorTerms"]] if required else [term]
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    names = (
        [*_NAMES, ("node.kubernetes.io/network-unavailable", "NoSchedule")] if spec.get("hostNetwork") else list(_NAMES)
    )
    held = spec.setdefault("tolerations", [])
    for key, effect in names:
        toleration = {"key": key, "operator": "Exists", "effect": effect}
        if toleration not in held:
            held.append(toleration)
    return pod


def fits(daemon_set: Object, node: Object) -> tuple[bool, bool]:
    """(whether to start a pod there, whether a running pod may stay)."""
    pod = daemon_pod(daemon_set, node["metadata"]["name"], "")
    if not node_affinity_fits(pod, node):
        return False, False
    taints = node["spec"].get("taints", [])
    if node["spec"].get("unschedulable"):
        taints = [*taints, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    tolerations = pod["spec"].get("tolerations", [])
    run = all(tolerates(tolerations, taint) for taint in taints if taint["effect"] in ("NoSchedule", "NoExecute"))
    stay = all(tolerates(tolerations, taint) for taint in taints if taint["effect"] == "NoExecute")
    return run, stay


def plan_rollout(
    daemon_set: Object,
    by_node: Mapping[str, Sequence[Object]],
    desired: int,
    digest: str,
    available: Mapping[str, bool],
) -> tuple[list[Object], list[str]]:
    """(old pods to delete, nodes that get a surge pod) for a rolling update; `available` maps pod UIDs."""
    rolling = daemon_set["spec"].get("updateStrategy", {}).get("rollingUpdate") or {}
    unavailable = resolve(rolling.get("maxUnavailable", 1), desired, up=True)
    surge = resolve(rolling.get("maxSurge", 0), desired, up=True)
    delete: list[Object] = []
    if surge == 0:
        unavailable_now, candidates, replace = 0, [], []
        for pods in by_node.values():
            old, new = _old_and_new(pods, digest)
            if new is None and old is None:
                unavailable_now += 1
            elif new is not None:
                unavailable_now += not available[new["metadata"]["uid"]]
            elif old is not None and is_terminating(old):
                unavailable_now += 1
            elif old is not None and not available[old["metadata"]["uid"]]:
                replace.append(old)
                unavailable_now += 1
            elif old is not None:
                candidates.append(old)
        return [*replace, *candidates[: max(0, unavailable - unavailable_now)]], []
    surging, wanting = 0, []
    for node, pods in by_node.items():
        old, new = _old_and_new(pods, digest)
        if old is None:
            continue
        if new is None:
            if not is_terminating(old):
                if available[old["metadata"]["uid"]]:
                    wanting.append(node)
                else:
                    delete.append(old)
        else:
            surging += 1
            if available[new["metadata"]["uid"]] and not is_terminating(old):
                delete.append(old)
    return delete, wanting[: max(0, surge - surging)]


def _old_and_new(pods: Sequence[Object], digest: str) -> tuple[Object | None, Object | None]:
    old = new = None
    for pod in pods:
        if pod["metadata"].get("labels", {}).get(REVISION_HASH) == digest:
            new = pod
        else:
            old = pod
    return old, new


class DaemonSetController(Controller):
    name = "daemonset-controller"
    account = "daemon-set-controller"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}  # (set uid, node) -> (count, not before)

    def sources(self) -> Sequence[Source]:
        return [(DAEMON_SET, itself), (POD, its_controller_or_adopter(self.store, DAEMON_SET)), (NODE, self._node)]

    def _node(self, event: WatchEvent) -> Sequence[Key]:
        """Map a node's change to all DaemonSets, if its labels, taints or existence changed."""
        before = event.before
        if (
            event.type == "MODIFIED"
            and before is not None
            and event.object["spec"] == before["spec"]
            and event.object["metadata"].get("labels") == before["metadata"].get("labels")
        ):
            return []
        return [key_of(one) for one in self.store.list(DAEMON_SET)]

    def reconcile(self, key: Key) -> float | None:
        daemon_set = self.store.find(DAEMON_SET, *key)
        if daemon_set is None:
            live = {one["metadata"]["uid"] for one in self.store.list(DAEMON_SET)}
            self._failures = {held: count for held, count in self._failures.items() if held[0] in live}
            return None
        pods = self.claim(DAEMON_SET, daemon_set)
        digest = current_revision(self.store, DAEMON_SET, daemon_set)["metadata"]["labels"][REVISION_HASH]
        nodes = self.store.list(NODE)
        verdicts = {node["metadata"]["name"]: fits(daemon_set, node) for node in nodes}
        now = self.clock.now()
        waits = {
            pod["metadata"]["uid"]: available_in(pod, daemon_set["spec"].get("minReadySeconds", 0), now) for pod in pods
        }
        again = min((wait for wait in waits.values() if wait), default=None)
        if not is_terminating(daemon_set):
            surge = (daemon_set["spec"].get("updateStrategy", {}).get("rollingUpdate") or {}).get(
                "maxSurge", 0
            ) not in (0, "0%")
            wait = self._manage(daemon_set, pods, verdicts, digest, surge=surge)
            again = min((x for x in (again, wait) if x is not None), default=None)
            if daemon_set["spec"].get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate":
                self._roll(daemon_set, pods, verdicts, digest, waits)
        self._status(daemon_set, pods, verdicts, digest, waits)
        return again

    def _by_node(self, pods: Sequence[Object]) -> dict[str, list[Object]]:
        """Pods by the node that they run on or are meant for, without finished ones that are being deleted."""
        found: dict[str, list[Object]] = {}
        for pod in pods:
            if is_terminating(pod) and is_finished(pod):
                continue
            found.setdefault(_node_of(pod), []).append(pod)
        return found

    def _manage(
        self,
        daemon_set: Object,
        pods: Sequence[Object],
        verdicts: Mapping[str, tuple[bool, bool]],
        digest: str,
        *,
        surge: bool,
    ) -> float | None:
        by_node = self._by_node(pods)
        create: list[str] = []
        delete: list[Object] = []
        again: float | None = None
        for node, (run, stay) in verdicts.items():
            here = by_node.get(node, [])
            if run and not here:
                create.append(node)
            elif stay:
                running = []
                for pod in here:
                    if is_terminating(pod):
                        continue
                    if is_finished(pod):
                        wait = self._replace_failed(daemon_set, node, pod)
                        again = wait if wait and (again is None or wait < again) else again
                    else:
                        running.append(pod)
                if not surge:
                    delete += sorted(running, key=lambda pod: pod["metadata"]["creationTimestamp"])[1:]
            else:
                delete += [pod for pod in here if not is_terminating(pod)]
        delete += [
            pod for node, here in by_node.items() if node not in verdicts for pod in here if not is_terminating(pod)
        ]
        for node in create[:BURST]:
            self._create(daemon_set, node, digest)
        for pod in delete:
            self._delete(daemon_set, pod)
        return 0.0 if len(create) > BURST else again

    def _replace_failed(self, daemon_set: Object, node: str, pod: Object) -> float | None:
        """Delete a finished pod, with growing delay, so that a new one is made; seconds to wait, if any."""
        key = (daemon_set["metadata"]["uid"], node)
        now = self.clock.now().timestamp()
        count, due = self._failures.get(key, (0, 0.0))
        if now < due:
            return due - now
        self._failures[key] = (count + 1, now + min(900.0, FAILED_RETRY * 2**count))
        reason, kind = ("SucceededDaemonPod", "Normal") if phase(pod) == "Succeeded" else ("FailedDaemonPod", "Warning")
        verb = "succeeded" if phase(pod) == "Succeeded" else "failed"
        self.recorder.event(
            daemon_set,
            kind,
            reason,
            f"Found {verb} daemon pod {pod['metadata']['namespace']}/"
            f"{pod['metadata']['name']} on node {node}, will try to {'delete' if verb == 'succeeded' else 'kill'} it",
        )
        self._delete(daemon_set, pod)
        return None

    def _roll(
        self,
        daemon_set: Object,
        pods: Sequence[Object],
        verdicts: Mapping[str, tuple[bool, bool]],
        digest: str,
        waits: Mapping[str, float | None],
    ) -> None:
        by_node = {node: here for node, here in self._by_node(pods).items() if node in verdicts}
        for node, (run, _) in verdicts.items():
            if run:
                by_node.setdefault(node, [])
        desired = sum(run for run, _ in verdicts.values())
        available = {uid: wait == 0 for uid, wait in waits.items()}
        delete, surge = plan_rollout(daemon_set, by_node, desired, digest, available)
        for pod in delete:
            if self.store.find(POD, *key_of(pod)) is not None:
                self._delete(daemon_set, pod)
        for node in surge:
            self._create(daemon_set, node, digest)

    def _create(self, daemon_set: Object, node: str, digest: str) -> None:
        try:
            pod = self.create(POD, daemon_pod(daemon_set, node, digest))
        except StatusError as error:
            self.recorder.event(daemon_set, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self.recorder.event(daemon_set, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")

    def _delete(self, daemon_set: Object, pod: Object) -> None:
        self.delete(POD, pod)
        self.recorder.event(daemon_set, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    def _status(
        self,
        daemon_set: Object,
        pods: Sequence[Object],
        verdicts: Mapping[str, tuple[bool, bool]],
        digest: str,
        waits: Mapping[str, float | None],
    ) -> None:
        by_node = self._by_node(pods)
        desired = current = ready = available = updated = misplaced = 0
        for node, (run, _) in verdicts.items():
            here = by_node.get(node, [])
            if not run:
                misplaced += bool(here)
                continue
            desired += 1
            if not here:
                continue
            current += 1
            best = min(here, key=lambda pod: (not is_ready(pod), pod["metadata"]["creationTimestamp"]))
            ready += is_ready(best)
            available += waits[best["metadata"]["uid"]] == 0
            updated += any(pod["metadata"].get("labels", {}).get(REVISION_HASH) == digest for pod in here)
        status: dict[str, Any] = {
            "currentNumberScheduled": current,
            "desiredNumberScheduled": desired,
            "numberMisscheduled": misplaced,
            "numberReady": ready,
            "observedGeneration": daemon_set["metadata"].get("generation", 1),
        }
        for name, number in (
            ("updatedNumberScheduled", updated),
            ("numberAvailable", available),
            ("numberUnavailable", desired - available),
        ):
            if number:
                status[name] = number
        self.set_status(DAEMON_SET, daemon_set, status)


def _node_of(pod: Object) -> str:
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    required = (
        pod["spec"]
        .get("affinity", {})
        .get("nodeAffinity", {})
        .get("requiredDuringSchedulingIgnoredDuringExecution", {})
    )
    for term in required.get("nodeSelectorTerms", ()):
        for field in term.get("matchFields", ()):
            if field["key"] == "metadata.name" and field["operator"] == "In" and field["values"]:
                return str(field["values"][0])
    return ""
