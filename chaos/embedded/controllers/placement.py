"""The default scheduler's filters and scores, as pure functions.

Filters answer None or Kubernetes' own reason. Scores are normalised to 0..100 and weighted as in kube-scheduler's
default profile. Left out: preemption, image locality, NUMA; `volume_binding` filters by volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from chaos.embedded.controllers.labels import expression_matches, matches
from chaos.embedded.quantity import parse_quantity, pod_requests
from chaos.embedded.resources import Object

ZONE: Final = "topology.kubernetes.io/zone"
_DEFAULT_REQUESTS: Final = {"cpu": Fraction(1, 10), "memory": Fraction(200 * 1024 * 1024)}  # scoring only, as upstream
REASON_AFFINITY: Final = "node(s) didn't match Pod's node affinity/selector"
REASON_UNSCHEDULABLE: Final = "node(s) were unschedulable"
_HELPLESS: Final = (
    REASON_AFFINITY,
    REASON_UNSCHEDULABLE,
    "node(s) had untolerated taint",
    "node(s) didn't match pod affinity rules",
    "node(s) didn't match PersistentVolume's node affinity",
    "node(s) didn't find available persistent volumes to bind",
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
)


@dataclass(slots=True)
class NodeInfo:
    """A node and the pods on it."""

    node: Object
    pods: list[Object] = field(default_factory=list)
    requests: Callable[[Object], Mapping[str, Fraction]] = (
        pod_requests  # a caller that asks often passes one that remembers
    )

    @property
    def name(self) -> str:
        return str(self.node["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        return self.node["metadata"].get("labels", {})  # type: ignore[no-any-return]

    def allocatable(self, resource: str) -> Fraction:
        return parse_quantity(self.node.get("status", {}).get("allocatable", {}).get(resource, "0"))

    def used(self, resource: str, *, default: bool = False) -> Fraction:
        total = Fraction(0)
        for pod in self.pods:
            asked = self.requests(pod)
            total += asked.get(resource, _DEFAULT_REQUESTS.get(resource, Fraction(0)) if default else Fraction(0))
        return total


def tolerates(tolerations: Sequence[Mapping[str, Any]], taint: Mapping[str, Any]) -> bool:
    """Whether any toleration covers the taint."""
    return any(_covers(toleration, taint) for toleration in tolerations)


def _covers(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _term_fits(term: Mapping[str, Any], node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    labels = node["metadata"].get("labels", {})
    return all(expression_matches(e, labels) for e in expressions) and all(
        expression_matches(f, {"metadata.name": node["metadata"]["name"]}) for f in fields
    )


def node_affinity_fits(pod: Object, node: Object) -> bool:
    """Whether the node matches nodeSelector and required node affinity."""
    labels = node["metadata"].get("labels", {})
    if not all(labels.get(key) == value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    required = _affinity(pod, "nodeAffinity").get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or selector_fits(required, node)


def selector_fits(selector: Mapping[str, Any], node: Object) -> bool:
    """Whether a node selector, of a pod's affinity or a volume's, matches the node."""
    return any(_term_fits(term, node) for term in selector.get("nodeSelectorTerms", []))


def _affinity(pod: Object, kind: str) -> Mapping[str, Any]:
    return (pod["spec"].get("affinity") or {}).get(kind) or {}


def taints_of(node: Object) -> list[Mapping[str, Any]]:
    return list(node["spec"].get("taints") or [])


# ---- filters, in the order of the default profile


def filter_node(
    pod: Object,
    info: NodeInfo,
    infos: Sequence[NodeInfo],
    volumes: Callable[[NodeInfo], str | None] = lambda info: None,
) -> str | None:
    """The first reason why the pod cannot run there, or None; `volumes` gives its volumes' reason."""
    for check in (
        _unschedulable,
        _tainted,
        _affine,
        _ports,
        _resources,
        lambda pod, info, infos: volumes(info),
        _spread,
        _inter_pod,
    ):
        reason = check(pod, info, infos)
        if reason is not None:
            return reason
    return None


def _unschedulable(pod: Object, info: NodeInfo, _: Sequence[NodeInfo]) -> str | None:
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if info.node["spec"].get("unschedulable") and not tolerates(pod["spec"].get("tolerations", []), taint):
        return REASON_UNSCHEDULABLE
    return None


def _tainted(pod: Object, info: NodeInfo, _: Sequence[NodeInfo]) -> str | None:
    for taint in taints_of(info.node):
        if taint["effect"] in ("NoSchedule", "NoExecute") and not tolerates(pod["spec"].get("tolerations", []), taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    return None


def _affine(pod: Object, info: NodeInfo, _: Sequence[NodeInfo]) -> str | None:
    return None if node_affinity_fits(pod, info.node) else REASON_AFFINITY


def _host_ports(pod: Object) -> set[tuple[str, str, int]]:
    return {
        (port.get("hostIP") or "0.0.0.0", port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"].get("containers", [])
        for port in container.get("ports", [])
        if port.get("hostPort")
    }


def _ports(pod: Object, info: NodeInfo, _: Sequence[NodeInfo]) -> str | None:
    wanted = _host_ports(pod)
    if not wanted:
        return None
    held = set().union(*(_host_ports(other) for other in info.pods)) if info.pods else set()
    for ip, protocol, port in wanted:
        for other_ip, other_protocol, other_port in held:
            if (protocol, port) == (other_protocol, other_port) and (ip == other_ip or "0.0.0.0" in (ip, other_ip)):
                return "node(s) didn't have free ports for the requested pod ports"
    return None


def _resources(pod: Object, info: NodeInfo, _: Sequence[NodeInfo]) -> str | None:
    if len(info.pods) + 1 > info.allocatable("pods"):
        return "Too many pods"
    for resource, asked in pod_requests(pod).items():
        if asked and info.used(resource) + asked > info.allocatable(resource):
            return f"Insufficient {resource}"
    return None


def _eligible(pod: Object, constraint: Mapping[str, Any], infos: Sequence[NodeInfo]) -> list[NodeInfo]:
    """Nodes that count for a spread constraint (node affinity honoured, taints ignored, by default)."""
    key = constraint["topologyKey"]
    found = [info for info in infos if key in info.labels]
    if constraint.get("nodeAffinityPolicy", "Honor") == "Honor":
        found = [info for info in found if node_affinity_fits(pod, info.node)]
    if constraint.get("nodeTaintsPolicy", "Ignore") == "Honor":
        found = [info for info in found if _tainted(pod, info, infos) is None]
    return found


def _spread_counts(pod: Object, constraint: Mapping[str, Any], infos: Sequence[NodeInfo]) -> dict[str, int]:
    selector = dict(constraint.get("labelSelector") or {})
    for key in constraint.get("matchLabelKeys") or []:
        if key in pod["metadata"].get("labels", {}):
            selector["matchLabels"] = {**selector.get("matchLabels", {}), key: pod["metadata"]["labels"][key]}
    counts: dict[str, int] = {}
    for info in _eligible(pod, constraint, infos):
        value = info.labels[constraint["topologyKey"]]
        counts[value] = counts.get(value, 0) + sum(
            other["metadata"].get("namespace") == pod["metadata"].get("namespace")
            and "deletionTimestamp" not in other["metadata"]
            and matches(selector, other["metadata"].get("labels"))
            for other in info.pods
        )
    return counts


def _spread(pod: Object, info: NodeInfo, infos: Sequence[NodeInfo]) -> str | None:
    for constraint in pod["spec"].get("topologySpreadConstraints", []):
        if constraint.get("whenUnsatisfiable", "DoNotSchedule") != "DoNotSchedule":
            continue
        if constraint["topologyKey"] not in info.labels:
            return "node(s) didn't match pod topology spread constraints (missing required label)"
        counts = _spread_counts(pod, constraint, infos)
        least = 0 if len(counts) < constraint.get("minDomains", 1) else min(counts.values(), default=0)
        own = matches(constraint.get("labelSelector"), pod["metadata"].get("labels"))
        if counts.get(info.labels[constraint["topologyKey"]], 0) + own - least > constraint["maxSkew"]:
            return "node(s) didn't match pod topology spread constraints"
    return None


def _affinity_term_matches(term: Mapping[str, Any], holder: Object, other: Object) -> bool:
    """Whether the pod (anti-)affinity term of `holder`'s pod matches `other`. (A namespace selector matches all
    namespaces here.)
    """
    namespaces = term.get("namespaces") or [holder["metadata"].get("namespace")]
    if "namespaceSelector" not in term and other["metadata"].get("namespace") not in namespaces:
        return False
    return matches(term.get("labelSelector"), other["metadata"].get("labels"))


def _same_domain(term: Mapping[str, Any], one: NodeInfo, other: NodeInfo) -> bool:
    key = term["topologyKey"]
    return key in one.labels and one.labels[key] == other.labels.get(key)


def _inter_pod(pod: Object, info: NodeInfo, infos: Sequence[NodeInfo]) -> str | None:
    """The first of three reasons, in kube-scheduler's order: it is what a Pending pod says of the node."""
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = _affinity(pod, "podAffinity").get(required, [])
    if terms and not all(_term_met(term, pod, info, infos) for term in terms):
        # the first of a group that wants to be near itself may start anywhere with the label
        first = not any(_affinity_term_matches(term, pod, other) for term in terms for i in infos for other in i.pods)
        if not (
            first
            and all(_affinity_term_matches(term, pod, pod) and term["topologyKey"] in info.labels for term in terms)
        ):
            return "node(s) didn't match pod affinity rules"
    if any(_term_met(term, pod, info, infos) for term in _affinity(pod, "podAntiAffinity").get(required, [])):
        return "node(s) didn't match pod anti-affinity rules"
    for other_info in infos:
        for other in other_info.pods:
            for term in _affinity(other, "podAntiAffinity").get(required, []):
                if _affinity_term_matches(term, other, pod) and _same_domain(term, info, other_info):
                    return "node(s) didn't satisfy existing pods anti-affinity rules"
    return None


def _term_met(term: Mapping[str, Any], pod: Object, info: NodeInfo, infos: Sequence[NodeInfo]) -> bool:
    return any(
        _same_domain(term, info, other_info)
        and any(_affinity_term_matches(term, pod, other) for other in other_info.pods)
        for other_info in infos
    )


# ---- scores


def score_nodes(
    pod: Object,
    feasible: Sequence[NodeInfo],
    infos: Sequence[NodeInfo],
    siblings: Callable[[Object], bool] | None = None,
) -> dict[str, float]:
    """Total score by node name. `siblings` selects pods that default spreading separates (same Service or owner)."""
    total = {info.name: 0.0 for info in feasible}

    def add(weight: int, raw: Mapping[str, float], *, reverse: bool = False, normalise: bool = True) -> None:
        most = max(raw.values(), default=0.0)
        for name, value in raw.items():
            scaled = (100.0 * value / most if most else 0.0) if normalise else value
            if reverse and normalise:
                scaled = 100.0 - scaled
            total[name] += weight * scaled

    add(1, {info.name: _least_allocated(pod, info) for info in feasible}, normalise=False)
    add(1, {info.name: _balanced(pod, info) for info in feasible}, normalise=False)
    add(2, {info.name: _preferred_node(pod, info) for info in feasible})
    add(3, {info.name: _intolerable(pod, info) for info in feasible}, reverse=True)
    add(2, _spread_scores(pod, feasible, infos, siblings), normalise=False)
    add(2, _inter_pod_scores(pod, feasible, infos), normalise=False)
    return total


def _shares(pod: Object, info: NodeInfo) -> list[float]:
    asked = pod_requests(pod)
    shares = []
    for resource in ("cpu", "memory"):
        capacity = info.allocatable(resource)
        if capacity:
            wanted = info.used(resource, default=True) + asked.get(resource, _DEFAULT_REQUESTS[resource])
            shares.append(float(min(Fraction(1), wanted / capacity)))
    return shares


def _least_allocated(pod: Object, info: NodeInfo) -> float:
    shares = _shares(pod, info)
    return float(int(sum(int((1 - share) * 100) for share in shares) / len(shares))) if shares else 0.0


def _balanced(pod: Object, info: NodeInfo) -> float:
    shares = _shares(pod, info)
    return float(int((1 - abs(shares[0] - shares[1]) / 2) * 100)) if len(shares) == 2 else 0.0


def _preferred_node(pod: Object, info: NodeInfo) -> float:
    preferred = _affinity(pod, "nodeAffinity").get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return float(sum(term["weight"] for term in preferred if _term_fits(term["preference"], info.node)))


def _intolerable(pod: Object, info: NodeInfo) -> float:
    tolerations = pod["spec"].get("tolerations", [])
    return float(
        sum(
            taint["effect"] == "PreferNoSchedule" and not tolerates(tolerations, taint)
            for taint in taints_of(info.node)
        )
    )


def _spread_scores(
    pod: Object, feasible: Sequence[NodeInfo], infos: Sequence[NodeInfo], siblings: Callable[[Object], bool] | None
) -> dict[str, float]:
    soft = [
        c for c in pod["spec"].get("topologySpreadConstraints", []) if c.get("whenUnsatisfiable") == "ScheduleAnyway"
    ]
    raw = {info.name: 0.0 for info in feasible}
    if soft:
        for constraint in soft:
            counts = _spread_counts(pod, constraint, infos)
            for info in feasible:
                raw[info.name] += (
                    counts.get(info.labels.get(constraint["topologyKey"], ""), 0) + constraint["maxSkew"] - 1
                )
    elif not pod["spec"].get("topologySpreadConstraints") and siblings is not None:
        for info in feasible:
            raw[info.name] = float(
                sum(1 for other in info.pods if "deletionTimestamp" not in other["metadata"] and siblings(other))
            )
    else:
        return raw
    low, high = min(raw.values()), max(raw.values())
    return {name: 100.0 if high == 0 else 100.0 * (high + low - value) / high for name, value in raw.items()}


def _inter_pod_scores(pod: Object, feasible: Sequence[NodeInfo], infos: Sequence[NodeInfo]) -> dict[str, float]:
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    raw = {info.name: 0.0 for info in feasible}
    pairs = [
        (entry["podAffinityTerm"], entry["weight"] * sign)
        for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1))
        for entry in _affinity(pod, kind).get(preferred, [])
    ]
    for other_info in infos:
        for other in other_info.pods:
            theirs = [
                (entry["podAffinityTerm"], entry["weight"] * sign)
                for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1))
                for entry in _affinity(other, kind).get(preferred, [])
            ]
            hits = [(term, weight) for term, weight in pairs if _affinity_term_matches(term, pod, other)]
            hits += [(term, weight) for term, weight in theirs if _affinity_term_matches(term, other, pod)]
            for term, weight in hits:
                for info in feasible:
                    if _same_domain(term, info, other_info):
                        raw[info.name] += weight
    low, high = min(raw.values()), max(raw.values())
    return {name: 0.0 if high == low else 100.0 * (value - low) / (high - low) for name, value in raw.items()}


def failure_message(reasons: Mapping[str, str], whole: str = "") -> str:
    """The default scheduler's message for an unschedulable pod; `reasons` is by node name, `whole` a reason common to
    all.
    """
    total = len(reasons)
    if not total:
        return "no nodes available to schedule pods"

    def counted(texts: Sequence[str]) -> str:
        return ", ".join(sorted(f"{texts.count(text)} {text}" for text in set(texts)))

    told = whole or counted(list(reasons.values()))
    helpless = [bool(whole) or reason.startswith(_HELPLESS) for reason in reasons.values()]
    victims = [
        "Preemption is not helpful for scheduling" if bad else "No preemption victims found for incoming pod"
        for bad in helpless
    ]
    return (
        f"0/{total} nodes are available: {told}. no new claims to deallocate, "
        f"preemption: 0/{total} nodes are available: {counted(victims)}."
    )
