"""HorizontalPodAutoscaler: compute a target's replicas from its pods' usage, and limit how fast they change.

The algorithm, its tolerance, windows, conditions and words are those of k8s.io/kubernetes/pkg/controller/podautoscaler.
The metrics are the kubelets' (Resource, ContainerResource); others fail as on a cluster without a metrics adapter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from chaos.embedded.api.admission import admit_update
from chaos.embedded.api.custom import objects as custom
from chaos.embedded.api.errors import StatusError
from chaos.embedded.clock import Clock, parse_time, stamp
from chaos.embedded.controllers.base import Controller, Source, is_terminating, itself, key_of, phase
from chaos.embedded.controllers.labels import matches
from chaos.embedded.node_api import ContainerUsage
from chaos.embedded.objects import condition, turned_at
from chaos.embedded.quantity import canonical_quantity, parse_quantity
from chaos.embedded.resources import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
    Object,
    Resource,
)
from chaos.embedded.store import Conflict, Key, NotFound, Store, WatchEvent, copy

PERIOD: Final = 15.0  # --horizontal-pod-autoscaler-sync-period
TOLERANCE: Final = 0.1
STABLE: Final = 300  # seconds: --horizontal-pod-autoscaler-downscale-stabilization
FRESH: Final = timedelta(seconds=300)  # a pod's CPU may be that of its start
FIRST_READY: Final = timedelta(seconds=30)
WINDOW: Final = timedelta(seconds=1)  # of a sample
_SCALABLE: Final = (DEPLOYMENT, REPLICA_SET, STATEFUL_SET)

Usage = Callable[[], Iterable[ContainerUsage]]


class NoMetric(Exception):
    """A metric is not available; the text says why."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The replicas that one metric proposes.

    Attributes:
        replicas: the proposed count.
        average: average usage of a pod, in thousandths.
        utilization: usage in percent of the requests, for a utilization target.
    """

    replicas: int
    average: int
    utilization: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A target's pods, grouped by their samples: `ready` is a count, the others are names."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def group_pods(pods: Sequence[Object], sampled: Mapping[str, datetime], resource: str, now: datetime) -> Group:
    """Group a target's pods. `sampled` maps each pod with a sample to its time."""
    ready, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        name = pod["metadata"]["name"]
        if is_terminating(pod) or phase(pod) == "Failed":
            ignored.add(name)
        elif phase(pod) == "Pending":
            unready.add(name)
        elif name not in sampled:
            missing.add(name)
        elif resource == "cpu" and _is_unready(pod, sampled[name], now):
            unready.add(name)
        else:
            ready += 1
    return Group(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _is_unready(pod: Object, sampled: datetime, now: datetime) -> bool:
    entry, began = condition(pod, "Ready"), (pod.get("status") or {}).get("startTime")
    turned = turned_at(entry) if entry is not None else None
    if entry is None or not began or turned is None:
        return True
    off, start = entry["status"] == "False", parse_time(began)
    if start + FRESH > now:
        return off or sampled < turned + WINDOW
    return off and start + FIRST_READY > turned


def is_within(ratio: float, tolerances: tuple[float, float]) -> bool:
    down, up = tolerances
    return 1.0 - down <= ratio <= 1.0 + up


def propose(
    used: Mapping[str, int],
    group: Group,
    current: int,
    *,
    target: int,
    tolerances: tuple[float, float] = (TOLERANCE, TOLERANCE),
    requests: Mapping[str, int] | None = None,
) -> Proposal:
    """Compute the replicas for a metric. Amounts are in thousandths; `target` is an amount, or a percentage of
    `requests`.

    Raises NoMetric.
    """
    metrics = {name: value for name, value in used.items() if name not in group.unready | group.ignored}
    if not metrics:
        raise NoMetric("did not receive metrics for targeted pods (pods might be unready)")
    ratio, average, utilization = _ratio(metrics, requests, target)

    def told(replicas: int) -> Proposal:
        return Proposal(replicas, average, utilization)

    up_with_unready = bool(group.unready) and ratio > 1.0
    if not up_with_unready and not group.missing:
        return told(current if is_within(ratio, tolerances) else math.ceil(ratio * group.ready))
    if group.missing and ratio < 1.0:
        for name in group.missing:
            metrics[name] = target if requests is None else requests.get(name, 0) * max(100, target) // 100
    elif group.missing and ratio > 1.0:
        metrics |= dict.fromkeys(group.missing, 0)
    if up_with_unready:
        metrics |= dict.fromkeys(group.unready, 0)
    again, _, _ = _ratio(metrics, requests, target)
    if is_within(again, tolerances) or (ratio < 1.0 < again) or (ratio > 1.0 > again):
        return told(current)
    replicas = math.ceil(again * len(metrics))
    if (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current):
        return told(current)
    return told(replicas)


def _ratio(
    metrics: Mapping[str, int], requests: Mapping[str, int] | None, target: int
) -> tuple[float, int, int | None]:
    """(usage / target, average usage, usage in percent of the requests)."""
    if requests is None:
        average = sum(metrics.values()) // len(metrics)
        return average / target, average, None
    known = {name: value for name, value in metrics.items() if name in requests}
    asked = sum(requests[name] for name in known)
    if not asked:
        raise NoMetric("no metrics returned matched known pods")
    utilization = sum(known.values()) * 100 // asked
    return utilization / target, sum(known.values()) // len(known), utilization


def requests_of(pods: Sequence[Object], resource: str, container: str = "") -> dict[str, int]:
    """Each pod's requests, in thousandths. Raises NoMetric for a pod without one."""
    found: dict[str, int] = {}
    for pod in pods:
        name, total, seen = pod["metadata"]["name"], 0, False
        sidecars = [one for one in pod["spec"].get("initContainers") or [] if one.get("restartPolicy") == "Always"]
        for one in [*pod["spec"]["containers"], *sidecars]:
            if container not in ("", one["name"]):
                continue
            seen = True
            asked = ((one.get("resources") or {}).get("requests") or {}).get(resource)
            if asked is None:
                raise NoMetric(f"missing request for {resource} in container {one['name']} of Pod {name}")
            total += math.ceil(parse_quantity(asked) * 1000)
        if not seen:
            raise NoMetric(f"container {container} not found in Pod {name}")
        found[name] = total
    return found


# ---- how fast


@dataclass(slots=True)
class Memory:
    """Past recommendations and scalings of an autoscaler: (when, replicas)."""

    recommended: list[tuple[datetime, int]] = field(default_factory=list)
    up: list[tuple[datetime, int]] = field(default_factory=list)
    down: list[tuple[datetime, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Limited:
    """A permitted count, and the AbleToScale and ScalingLimited conditions: (status, reason, message)."""

    replicas: int
    able: tuple[str, str, str]
    limited: tuple[str, str, str]


_READY: Final = ("True", "ReadyForNewScale", "recommended size matches current size")
_IN_RANGE: Final = ("DesiredWithinRange", "the desired count is within the acceptable range")
_TOO_MANY: Final = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW: Final = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_UP_LIMIT: Final = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT: Final = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")


def limit(spec: Mapping[str, Any], memory: Memory, current: int, wanted: int, now: datetime) -> Limited:
    """Limit a recommendation to what is permitted now, and remember it."""
    least, most, behavior = spec.get("minReplicas", 1), spec["maxReplicas"], spec.get("behavior")
    up_rules, down_rules = (((behavior or {}).get(way) or {}) for way in ("scaleUp", "scaleDown"))
    up_window = up_rules.get("stabilizationWindowSeconds", 0) if behavior is not None else 0
    down_window = down_rules.get("stabilizationWindowSeconds", STABLE)
    stable = _stabilized(memory, current, wanted, now, up_window, down_window, bounded=behavior is not None)
    able = _READY
    if stable != wanted:
        rising = behavior is not None and wanted >= current
        which = ("Up", "lower", "lowest") if rising else ("Down", "higher", "highest")
        words = (
            f"recent recommendations were {which[1]} than current one, applying the {which[2]} recent recommendation"
        )
        able = ("True", f"Scale{which[0]}Stabilized", words)
    if behavior is None:
        replicas, why = _by_rule(current, stable, least, most)
    else:
        replicas, why = _by_policies(memory, current, stable, least, most, up_rules, down_rules, now)
    return Limited(replicas, able, ("False" if replicas == stable else "True", *why))


def _stabilized(memory: Memory, current: int, wanted: int, now: datetime, up: int, down: int, *, bounded: bool) -> int:
    lowest = highest = wanted
    up_from, down_from = now - timedelta(seconds=up), now - timedelta(seconds=down)
    for at, replicas in memory.recommended:
        if bounded and at > up_from:
            lowest = min(lowest, replicas)
        if at > down_from:
            highest = max(highest, replicas)
    memory.recommended = [one for one in memory.recommended if one[0] >= min(up_from, down_from)] + [(now, wanted)]
    return min(max(current, lowest), highest) if bounded else highest


def _by_rule(current: int, wanted: int, least: int, most: int) -> tuple[int, tuple[str, str]]:
    """The default limit without a behaviour: double at once, or four."""
    fastest = max(2 * current, 4)
    highest, why = (fastest, _UP_LIMIT) if most > fastest else (most, _TOO_MANY)
    if wanted < least:
        return least, _TOO_FEW
    return (highest, why) if wanted > highest else (wanted, _IN_RANGE)


def _by_policies(
    memory: Memory,
    current: int,
    wanted: int,
    least: int,
    most: int,
    up: Mapping[str, Any],
    down: Mapping[str, Any],
    now: datetime,
) -> tuple[int, tuple[str, str]]:
    if wanted > current:
        fastest = max(current, policy_limit(memory, current, up, now, growing=True))
        highest, why = (fastest, _UP_LIMIT) if most > fastest else (most, _TOO_MANY)
        if wanted > highest:
            return highest, why
    elif wanted < current:
        fastest = min(current, policy_limit(memory, current, down, now, growing=False))
        lowest, why = (fastest, _DOWN_LIMIT) if least < fastest else (least, _TOO_FEW)
        if wanted < lowest:
            return lowest, why
    return wanted, _IN_RANGE


def policy_limit(memory: Memory, current: int, rules: Mapping[str, Any], now: datetime, *, growing: bool) -> int:
    """The count that the policies permit now, from the count at the start of each one's period."""
    chosen = rules.get("selectPolicy", "Max")
    if chosen == "Disabled":
        return current
    limits = []
    for policy in rules.get("policies") or []:
        since = now - timedelta(seconds=policy["periodSeconds"])
        added, gone = (sum(change for at, change in held if at > since) for held in (memory.up, memory.down))
        began, value = current - added + gone, policy["value"]
        if policy["type"] == "Pods":
            limits.append(began + value if growing else began - value)
        else:
            limits.append(math.ceil(began * (1 + value / 100)) if growing else int(began * (1 - value / 100)))
    most_change = max if growing else min
    return (most_change if chosen == "Max" else (min if growing else max))(limits, default=current)


# ---- the controller


Chooses = Callable[[Object], bool]


class AutoscalerController(Controller):
    name = "horizontal-pod-autoscaler"

    def __init__(self, store: Store, clock: Clock, usage: Usage = tuple) -> None:
        super().__init__(store, clock)
        self._usage = usage
        self._memory: dict[Key, Memory] = {}
        self._choices: dict[Key, Chooses] = {}  # of autoscalers that have looked for their pods

    def sources(self) -> Sequence[Source]:
        return [(HORIZONTAL_POD_AUTOSCALER, self._changed)]

    def _changed(self, event: WatchEvent) -> Sequence[Key]:
        if event.type == "DELETED":
            self._memory.pop(key_of(event.object), None)
            self._choices.pop(key_of(event.object), None)
        before = event.before
        same = before is not None and before["spec"] == event.object["spec"] and event.type == "MODIFIED"
        return [] if same else list(itself(event))  # its own status is no reason to look again

    def reconcile(self, key: Key) -> float | None:
        autoscaler = self.store.find(HORIZONTAL_POD_AUTOSCALER, *key)
        if autoscaler is None:
            return None
        status = copy(autoscaler.get("status") or {})
        try:
            self._scale(autoscaler, status)
        finally:
            self.set_status(HORIZONTAL_POD_AUTOSCALER, autoscaler, {k: v for k, v in status.items() if v is not None})
        return PERIOD

    def _scale(self, autoscaler: Object, status: dict[str, Any]) -> None:
        spec, key = autoscaler["spec"], key_of(autoscaler)
        try:
            resource, target = self._target(autoscaler)
        except LookupError as error:
            self.recorder.event(autoscaler, "Warning", "FailedGetScale", str(error))
            words = f"the HPA controller was unable to get the target's current scale: {error}"
            self._say(status, "AbleToScale", ("False", "FailedGetScale", words))
            return
        words = "the HPA controller was able to get the target's current scale"
        self._say(status, "AbleToScale", ("True", "SucceededGetScale", words))
        current = _replicas(resource, target)
        now = self.clock.now()
        memory = self._memory.setdefault(key, Memory([(now, current)]))
        wanted, reason, shown = current, "", None
        least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
        if current == 0:
            words = "scaling is disabled since the replica count of the target is zero"
            self._say(status, "ScalingActive", ("False", "ScalingDisabled", words))
        elif current > most:
            wanted, reason = most, "Current number of replicas above Spec.MaxReplicas"
        elif current < least:
            wanted, reason = least, "Current number of replicas below Spec.MinReplicas"
        else:
            found = self._by_metrics(autoscaler, resource, target, current, status)
            if found is None:
                status["currentReplicas"] = current
                return
            proposed, metric, shown = found
            reason = f"{metric} above target" if proposed > current else "All metrics below target"
            allowed = limit(spec, memory, current, proposed, now)
            self._say(status, "AbleToScale", allowed.able)
            self._say(status, "ScalingLimited", allowed.limited)
            wanted = allowed.replicas
        if wanted != current and not self._rescale(autoscaler, status, resource, target, wanted, reason):
            status["currentReplicas"] = current
            return
        if wanted != current:
            (memory.up if wanted > current else memory.down).append((now, abs(wanted - current)))
            status["lastScaleTime"] = stamp(now)
        status |= {"currentReplicas": current, "desiredReplicas": wanted, "currentMetrics": shown}

    def _target(self, autoscaler: Object) -> tuple[Resource, Object]:
        """The scale target. Raises LookupError."""
        named = autoscaler["spec"]["scaleTargetRef"]
        version, kind = named.get("apiVersion", ""), named["kind"]
        resource = next((one for one in _SCALABLE if (one.api_version, one.kind) == (version, kind)), None)
        if resource is None:
            resource = self.store.kinds.by_kind(version, kind)
            if resource is None or resource.custom is None or resource.custom.scale is None:
                raise LookupError(f'no matches for kind "{kind}" in group "{version.rpartition("/")[0]}"')
        found = self.store.find(resource, autoscaler["metadata"]["namespace"], named["name"])
        if found is None:
            where = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
            raise LookupError(f'{where} "{named["name"]}" not found')
        return resource, found

    def _rescale(
        self, autoscaler: Object, status: dict[str, Any], resource: Resource, target: Object, wanted: int, reason: str
    ) -> bool:
        if resource.custom is not None:
            new = dict(custom.with_replicas(resource, target, wanted))
        else:
            new = copy(target)
            new["spec"]["replicas"] = wanted
        try:
            self.store.update(resource, admit_update(self.store, resource, target, new))
        except (Conflict, NotFound, StatusError) as error:
            words = f"New size: {wanted}; reason: {reason}; error: {error}"
            self.recorder.event(autoscaler, "Warning", "FailedRescale", words)
            words = f"the HPA controller was unable to update the target scale: {error}"
            self._say(status, "AbleToScale", ("False", "FailedUpdateScale", words))
            return False
        words = f"the HPA controller was able to update the target scale to {wanted}"
        self._say(status, "AbleToScale", ("True", "SucceededRescale", words))
        self.recorder.event(autoscaler, "Normal", "SuccessfulRescale", f"New size: {wanted}; reason: {reason}")
        return True

    def _by_metrics(
        self, autoscaler: Object, resource: Resource, target: Object, current: int, status: dict[str, Any]
    ) -> tuple[int, str, list[Any]] | None:
        """(replicas, the metric that proposes most, current metrics); None when no metric is available."""
        pods = self._pods(autoscaler, resource, target, status)
        if pods is None:
            return None
        best, by, shown, problems = 0, "", [], []
        metrics = autoscaler["spec"].get("metrics") or []
        for metric in metrics:
            try:
                proposal, name, said = self._by_metric(autoscaler, metric, pods, current)
            except NoMetric as error:
                reason = f"FailedGet{metric['type']}Metric"
                words = f"the HPA was unable to compute the replica count: {error}"
                self.recorder.event(autoscaler, "Warning", reason, str(error))
                problems.append((("False", reason, words), error))
                shown.append({"type": ""})
                continue
            shown.append(said)
            if proposal.replicas > best or not by:
                best, by = proposal.replicas, name
        if problems and (len(problems) == len(metrics) or best < current):
            self._say(status, "ScalingActive", problems[0][0])
            words = f"invalid metrics ({len(problems)} invalid out of {len(metrics)}), first error is: {problems[0][1]}"
            self.recorder.event(autoscaler, "Warning", "FailedComputeMetricsReplicas", words)
            return None
        words = f"the HPA was able to successfully calculate a replica count from {by}"
        self._say(status, "ScalingActive", ("True", "ValidMetricFound", words))
        return best, by, shown

    def _pods(
        self, autoscaler: Object, resource: Resource, target: Object, status: dict[str, Any]
    ) -> list[Object] | None:
        from chaos.embedded.api.selectors import label_selector, selector_text

        key = key_of(autoscaler)
        if resource.custom is None:
            selector = target["spec"]["selector"]
            text = selector_text(selector)

            def chooses(pod: Object) -> bool:
                return matches(selector, pod["metadata"].get("labels"))
        else:
            text = (custom.scale_of(resource, target).get("status") or {}).get("selector", "")
            if not text:
                self.recorder.event(autoscaler, "Warning", "SelectorRequired", "selector is required")
                words = "the HPA target's scale is missing a selector"
                self._say(status, "ScalingActive", ("False", "InvalidSelector", words))
                return None
            chosen = label_selector(text)

            def chooses(pod: Object) -> bool:
                return chosen is None or chosen(pod)

        self._choices[key] = chooses
        pods = [pod for pod in self.store.list(POD, key[0]) if chooses(pod)]
        rivals = [other for other, also in sorted(self._choices.items()) if other[0] == key[0] and any(map(also, pods))]
        if len(rivals) > 1:
            told = " ".join(f"{{{name} {namespace}}}" for namespace, name in rivals)
            words = f"pods by selector {text} are controlled by multiple HPAs: [{told}]"
            self.recorder.event(autoscaler, "Warning", "AmbiguousSelector", words)
            self._say(status, "ScalingActive", ("False", "AmbiguousSelector", words))
            return None
        return pods

    def _by_metric(
        self, autoscaler: Object, metric: Mapping[str, Any], pods: list[Object], current: int
    ) -> tuple[Proposal, str, dict[str, Any]]:
        """(proposal, the metric's name, its status). Raises NoMetric."""
        kind = metric["type"]
        part = kind[0].lower() + kind[1:]
        if part not in ("resource", "containerResource"):
            api = "external" if part == "external" else "custom"
            name = metric[part]["metric"]["name"]
            raise NoMetric(
                f"unable to get metric {name}: unable to fetch metrics from {api} metrics API: there is no adapter "
                f"for {api}.metrics.k8s.io"
            )
        source = metric[part]
        resource, container, target = source["name"], source.get("container", ""), source["target"]
        by_value = "averageValue" in target
        what = "usage" if by_value else "utilization"
        try:
            used, sampled = self._samples(pods, resource, container)
            if not used:
                raise NoMetric(f"unable to get metrics for resource {resource}: no metrics returned from resource "
                               "metrics API")  # fmt: skip
            group = group_pods(pods, sampled, resource, self.clock.now())
            proposal = propose(
                used,
                group,
                current,
                target=math.ceil(parse_quantity(target["averageValue"]) * 1000)
                if by_value
                else target["averageUtilization"],
                tolerances=_tolerances(autoscaler["spec"]),
                requests=None if by_value else requests_of(pods, resource, container),
            )
        except NoMetric as error:
            raise NoMetric(f"failed to get {resource} {what}: {error}") from None
        amount: dict[str, Any] = {"averageValue": _written(resource, proposal.average)}
        if proposal.utilization is not None:
            amount["averageUtilization"] = proposal.utilization
        of = "container resource" if container else "resource"
        name = f"{resource} resource" if by_value else f"{resource} {of} utilization (percentage of request)"
        said = {"name": resource, "current": amount} | ({"container": container} if container else {})
        return proposal, name, {"type": kind, part: said}

    def _samples(self, pods: list[Object], resource: str, container: str) -> tuple[dict[str, int], dict[str, datetime]]:
        """Each pod's usage in thousandths, and the sample's time."""
        names = {key_of(pod) for pod in pods}
        used: dict[str, int] = {}
        sampled: dict[str, datetime] = {}
        for one in self._usage():
            if (one.namespace, one.pod) in names and container in ("", one.container):
                amount = one.cpu_nanocores // 10**6 if resource == "cpu" else one.memory_bytes * 1000
                used[one.pod] = used.get(one.pod, 0) + amount
                sampled[one.pod] = parse_time(one.at)
        if resource not in ("cpu", "memory"):
            return {}, {}
        return used, sampled

    def _say(self, status: dict[str, Any], kind: str, said: tuple[str, str, str]) -> None:
        held = status.get("conditions") or []
        entry = next((one for one in held if one["type"] == kind), None)
        since = stamp(self.clock.now())
        if entry is not None and entry["status"] == said[0]:
            since = entry["lastTransitionTime"]
        new = {"type": kind, "status": said[0], "reason": said[1], "message": said[2], "lastTransitionTime": since}
        if entry is None:
            status["conditions"] = [*held, new]
        else:
            status["conditions"] = [new if one is entry else one for one in held]


def _replicas(resource: Resource, target: Object) -> int:
    if resource.custom is not None:
        return int((custom.scale_of(resource, target).get("spec") or {}).get("replicas", 0))
    return int(target["spec"].get("replicas", 1))


def _tolerances(spec: Mapping[str, Any]) -> tuple[float, float]:
    """(tolerance down, tolerance up)."""
    behavior = spec.get("behavior") or {}
    given = [(behavior.get(way) or {}).get("tolerance") for way in ("scaleDown", "scaleUp")]
    down, up = (TOLERANCE if one is None else float(parse_quantity(one)) for one in given)
    return down, up


def _written(resource: str, thousandths: int) -> str:
    if resource == "memory":
        whole = thousandths // 1000
        return canonical_quantity(f"{whole // 1024}Ki") if whole % 1024 == 0 else str(whole)
    return canonical_quantity(f"{thousandths}m")
