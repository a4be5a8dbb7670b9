"""Defines a fault: it breaks and mends exactly one target. Choosing, looping, recording and undoing belong to the
framework.

A fault's author writes three small methods for **one** target:

    plan      reads the cluster and returns the facts that an undo needs; changes nothing
    inject    breaks the target and returns the evidence that it did
    recover   mends it and returns the evidence; idempotent, the exact inverse, callable in another process years later,
              also when inject was cut off half-way or never began

The receipt is stored in the cluster between plan and inject, so that a restarted runner and the watchdog both find it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Final, Literal, Protocol, get_args, get_origin, get_type_hints, runtime_checkable

from chaos.errors import Misuse
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase, FaultShape

Facts = dict[str, Any]  # JSON
TargetKind = Literal["container", "pod", "workload", "node"]
TARGET_KINDS: Final[tuple[str, ...]] = get_args(TargetKind)

_NAME: Final = re.compile(r"[-.:\w]+", re.ASCII)  # of an object: one part of a path
EXISTENCE = "existence"  # in `aspects`: the fault takes its target, or all in it, away


class Witness(StrEnum):
    """By which independent observation a fault is seen to act; a trial asks it (`chaos.engine.witness`)."""

    CONTAINER = "container"  # container ID and start time, from the API server
    PODS = "pods"  # UIDs of the target's pods
    SILENCE = "silence"  # the target does not answer where its readiness probe asks, or, by the kernel, is stopped
    FILES = "files"  # the kernel's limit of the target's open files, and what it has open
    PACKETS = "packets"  # the kernel's counters of the fault's rules
    LINK = "link"  # the kernel's counters of a link that delays, loses or slows
    LIMIT = "limit"  # the limit that the kubelet says, and the CPU that was used
    LOADER = "loader"  # the loader's own counts of its aggressor
    USAGE = "usage"  # what the kubelet says that the fault's own pod used
    LEASE = "lease"  # the node's kubelet does not renew its lease
    REQUESTS = "requests"  # the proxy's own counts of the requests that it answered in its servers' place, or held up
    PLANE = "plane"  # what the proxies' own pages show of their control plane
    API_SERVER = "api-server"  # what the API server answers to the target's own account
    NONE = "none"  # there is none: a trial of this fault cannot tell


@dataclass(frozen=True, slots=True)
class Target:
    """What a fault acts on. Fields that a kind does not have are empty.

    `container`: one container of a pod (a proxy, an application). `pod`, `workload`, `node`: as they say.
    """

    kind: TargetKind
    name: str  # of the pod, the workload or the node
    namespace: str = ""
    uid: str = ""  # of the pod: a fault never hits a namesake
    container: str = ""
    container_id: str = ""
    node: str = ""
    workload_kind: str = ""  # Deployment | DaemonSet | StatefulSet
    tenant: str = ""
    labels: str = ""  # of the pod, as `name=value,name=value`
    selector: str = ""  # of the workload's pods, as a list request takes it

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{place}[{self.container}]" if self.container else place


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything that an undo needs, and what was seen. Stored as a ConfigMap before the first effect."""

    id: str
    run: str
    fault: str
    settings: Mapping[str, Any]
    target: Target
    deadline: int  # ns since the epoch: overdue receipts are undone by whoever sees them
    phase: FaultPhase = FaultPhase.PLANNED
    facts: Mapping[str, Any] = field(default_factory=dict)  # from plan: what undo needs
    injected_at: int = 0  # ns: first effect, as seen
    recovered_at: int = 0  # ns
    evidence: Mapping[str, Any] = field(default_factory=dict)
    by: str = ""  # who injects it: a process and its machine

    @property
    def holder(self) -> str:
        """The holder, for people: run, receipt, and process."""
        return f"run {self.run}, receipt {self.id}" + (f", {self.by}" if self.by else "")

    def to_json(self) -> Facts:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Receipt:
        """The inverse of `to_json`; raises Misuse, which names the field, for anything else."""
        values = _checked(cls, data, "receipt")
        values["target"] = Target(**_checked(Target, values["target"], "target"))
        return cls(**values)


def _checked(cls: type[Target] | type[Receipt], data: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the fields of a stored dataclass, checked against their types; raises Misuse."""
    hints, known = get_type_hints(cls), {one.name: one for one in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in known:
            raise Misuse(f"{what} has a field {name!r} that this release does not know")
        hint = hints[name]
        if hint is Target or get_origin(hint) is Mapping:
            right = isinstance(value, Mapping)
        elif get_origin(hint) is Literal:
            right = value in get_args(hint)
        elif hint is FaultPhase:
            right = value in list(FaultPhase)
            value = FaultPhase(value) if right else value
        else:
            right = isinstance(value, hint) and not isinstance(value, bool)
            if right and hint is int:
                right = abs(value) < 1 << 63
            if right and what == "target" and name in ("name", "namespace", "container"):
                right = not value or (_NAME.fullmatch(value) is not None and bool(value.strip(".")))
        if not right:
            raise Misuse(f"{what}.{name} is {value!r:.60}")
        values[name] = value
    required = {name for name, one in known.items() if one.default is one.default_factory is dataclasses.MISSING}
    if lacking := sorted(required - values.keys()):
        raise Misuse(f"{what} lacks {', '.join(lacking)}")
    return values


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was read back from the system after an effect. `at`: ns since the epoch, when the effect took place."""

    at: int
    seen: Mapping[str, Any]


@runtime_checkable
class Fault(Protocol):
    """Breaks and mends exactly one target."""

    name: ClassVar[str]
    shape: ClassVar[FaultShape]
    targets: ClassVar[frozenset[str]]  # kinds of target that it takes
    aspects: ClassVar[frozenset[str]]  # what of its target it changes (see chaos.faults.clashes)
    witness: ClassVar[Witness]  # by what else it is seen to act
    needs: ClassVar[tuple[Need, ...]]  # what the cluster must allow

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        """Return the facts that `inject` and `recover` need. Raises TargetVanished when the target is not there."""
        ...

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        """Break the target. Raises NoEffect when nothing was seen to change."""
        ...

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        """Mend the target, from the receipt alone, whether or not `inject` had an effect (`receipt.phase`).

        Raises RecoveryFailed when it is not mended, and TargetVanished when there is nothing left that could be.
        """
        ...


def settings_of(fault: Fault) -> Facts:
    """Return a fault's fields as JSON, from which `fault_from` makes it again."""
    return {f.name: getattr(fault, f.name) for f in dataclasses.fields(fault)}  # type: ignore[arg-type]


def refuse_wrong_target(fault: Fault, target: Target) -> None:
    """Raise Misuse when the fault does not take that kind of target."""
    if target.kind not in fault.targets:
        raise Misuse(
            f"fault {fault.name} acts on {' or '.join(sorted(fault.targets))}, and {target} is a {target.kind}"
        )
