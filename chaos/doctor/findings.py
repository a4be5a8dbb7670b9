"""Says for each mode, fault and scenario whether it can run in a cluster, and why not. Pure: facts in, findings out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from chaos.cluster.versions import NEWEST, OLDEST
from chaos.doctor.facts import CAPTURE, PRIVILEGED, Facts
from chaos.doctor.tried import PodKind, kinds_of
from chaos.faults.catalogue import FAULTS, fault_class
from chaos.faults.needs import Need
from chaos.mesh.modes import known_modes
from chaos.model.modes import ProxyMode
from chaos.names import IMAGE, SYSTEM_NAMESPACE

# What is wanted, and done without: usage is then missing in the history, and it is not tried whether policies act.
_OPTIONAL: Final = frozenset({"metrics.k8s.io", "networking.k8s.io"})
# Needs of faults that reach whoever shares the node or the API server.
_OF_OTHERS: Final = frozenset({Need.NODES, Need.NODE_POWER, Need.API_TROUBLE})
_RESIZE: Final = ("", "pods/resize")
BUDGET: Final = (
    "pods/resize is not served (Kubernetes 1.33 and newer): the proxies' CPU cannot be limited while they run"
)


@dataclass(frozen=True, slots=True)
class Possibility:
    """One line of the report. `why` is empty when it can run."""

    subject: str
    why: str = ""

    @property
    def can(self) -> bool:
        return not self.why


def blockers(facts: Facts) -> list[str]:
    """Return what keeps everything from running there."""
    found = []
    if facts.version < OLDEST:
        found.append(f"Kubernetes {facts.version[0]}.{facts.version[1]}: at least {OLDEST[0]}.{OLDEST[1]} is needed")
    if facts.choice.why_not:
        found.append(facts.choice.why_not)
    if facts.tried is not None and facts.tried.why_not:
        found.append(facts.tried.why_not)
    missing = [one for one in facts.refused if one.group not in _OPTIONAL and (one.group, one.resource) != _RESIZE]
    if missing:
        shown = ", ".join(map(str, missing[:6])) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        found.append(f"you may not {shown}: bind manifests/rbac/runner.yaml to your user")
    if facts.taken:
        found.append(
            f"namespace {SYSTEM_NAMESPACE} already exists (run {facts.taken}): another run goes on, or was left"
        )
    return found


def of_mode(facts: Facts, mode: ProxyMode) -> Possibility:
    """Whether a proxy mode can be deployed there."""
    subject = f"mode {mode.name}"
    if found := blockers(facts):
        return Possibility(subject, found[0])
    kinds = kinds_of(mode)
    if facts.tried is not None:
        return Possibility(subject, facts.tried.of_kinds(kinds))
    asked = ((PodKind.CAPTURE, CAPTURE), (PodKind.AGENT, PRIVILEGED))
    refused = [f"{kind}: {why}" for kind, name in asked if kind in kinds and (why := facts.pod_security.get(name))]
    return Possibility(subject, "; ".join(refused))


def of_fault(facts: Facts, name: str) -> Possibility:
    """Whether a fault can be injected there."""
    if found := blockers(facts):
        return Possibility(f"fault {name}", found[0])
    if name == "throttle":
        if not facts.resize:
            return Possibility(f"fault {name}", BUDGET)
        if denied := [one for one in facts.refused if (one.group, one.resource) == _RESIZE]:
            return Possibility(f"fault {name}", f"you may not {denied[0]}")
    needs = fault_class(name).needs
    if facts.guarded and _OF_OTHERS.intersection(needs):
        return Possibility(
            f"fault {name}",
            "acts on whole nodes, or on the API server, and so on what is not ours: only in a cluster that we made",
        )
    if Need.HELPERS in needs and (why := _helpers_refused(facts)):
        return Possibility(f"fault {name}", f"{PodKind.HELPER}: {why}")
    lacking = [facts.lacking[need] for need in needs if need in facts.lacking]
    return Possibility(f"fault {name}", "; ".join(lacking))


def _helpers_refused(facts: Facts) -> str:
    if facts.tried is not None:
        return facts.tried.kinds.get(PodKind.HELPER, "")
    return facts.pod_security.get(PRIVILEGED, "")


# Faults whose effect is a matter of CPU: without the budget, modes cannot be compared by it.
_OF_CPU: Final = frozenset({"throttle", "overload"})

_OF_COMMANDS: Final = frozenset({"features", "identities-exposed"})  # scenarios that look from inside


def of_scenario(facts: Facts, name: str, mode: ProxyMode, faults: Iterable[str]) -> Possibility:
    """Whether a scenario can run in a mode there."""
    subject = f"{name}[{mode.name}]"
    if not (found := of_mode(facts, mode)).can:
        return Possibility(subject, found.why)
    if name in _OF_COMMANDS and facts.tried is not None and facts.tried.exec:
        return Possibility(subject, f"it runs commands in pods: {facts.tried.exec}")
    for fault in faults:
        if not (found := of_fault(facts, fault)).can:
            return Possibility(subject, found.why)
        if fault in _OF_CPU and mode.hops and not facts.resize:
            return Possibility(subject, BUDGET)
    return Possibility(subject)


def warnings(facts: Facts) -> list[str]:
    """Return what blocks nothing, and should be known."""
    found = [f"you may not look at {one}" for one in facts.unread]
    if facts.version > NEWEST:
        found.append(
            f"Kubernetes {facts.version[0]}.{facts.version[1]} is newer than what was tested ({NEWEST[0]}.{NEWEST[1]})"
        )
    if without := [node.name for node in facts.nodes if not node.has_image]:
        found.append(
            f"image {IMAGE} is not listed on {', '.join(without[:4])}{' ...' if len(without) > 4 else ''}: it will be "
            "pulled "
            "there; without a registry, import an archive on each node (`sharedfate image save FILE`)"
        )
    if not facts.metrics:
        found.append("metrics.k8s.io is not served: CPU and memory are read by a privileged pod of ours on each node")
    if not facts.resize:
        found.append(f"{BUDGET}; proxies run without a CPU limit, and what hangs on the budget is not run")
    if "Cilium" in facts.network:
        found.append(
            "Cilium: with kube-proxy replacement its socket load balancing resolves Services in the client's own "
            "connect(), "
            "before capture sees the Service's address: set socketLB.hostNamespaceOnly=true, as its documentation says "
            "for other meshes"
        )
    if facts.policies is False:
        found.append(f"NetworkPolicies are not enforced here ({', '.join(facts.network) or 'unknown network plugin'})")
    if facts.tried is not None:
        found += facts.tried.notes
        if facts.tried.exec:
            found.append(f"no command can be run in a pod: {facts.tried.exec}")
    return found


def machine(facts: Facts) -> list[str]:
    """The programs of this machine that matter, and what each is for."""
    purposes: Mapping[str, str] = {
        "runc": "--chaos-cluster=embedded",
        "nft": "--chaos-cluster=embedded",
        "ip": "--chaos-cluster=embedded",
        "kubectl": "looking around; nothing here calls it",
        "kind": "--chaos-cluster=kind",
        "docker": "kind, `sharedfate image`",
        "podman": "kind, `sharedfate image`",
        "buildah": "`sharedfate image`",
    }
    return [
        f"Python {sys.version.split()[0]}",
        *(f"{name}: {path or 'not installed'} (for {purposes[name]})" for name, path in facts.binaries.items()),
    ]


def findings(facts: Facts, scenarios: Mapping[str, Mapping[str, tuple[str, ...] | str]]) -> list[Possibility]:
    """Return all of them, in the order modes, faults, scenarios.

    Args:
        scenarios: scenario -> mode -> the faults that it injects there, or (a text) why it does not apply.
    """
    found = [of_mode(facts, mode) for mode in known_modes().values()]
    found += [of_fault(facts, name) for name in FAULTS]
    for name, by_mode in scenarios.items():
        for mode, faults in by_mode.items():
            found.append(
                Possibility(f"{name}[{mode}]", f"does not apply: {faults}")
                if isinstance(faults, str)
                else of_scenario(facts, name, known_modes()[mode], faults)
            )
    return found
