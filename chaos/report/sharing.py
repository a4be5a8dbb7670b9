"""Reads who shared what in a trial from its `placement` event: for the diagram, and for the statement on equal CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.documents import read_bytes
from chaos.history.model import EventKind
from chaos.history.store import EVENTS_FILE, event_from
from chaos.model.placement import Pod, Proxy
from chaos.report.finding import baseline_latency, milliseconds
from chaos.report.records import RunRecord


@dataclass(frozen=True, slots=True)
class Sharing:
    """The placement of a trial, at its begin."""

    pods: tuple[Pod, ...]
    proxies: tuple[Proxy, ...]

    @property
    def millicores(self) -> int:
        return sum(proxy.cpu_millicores for proxy in self.proxies)

    @property
    def nodes(self) -> list[str]:
        return sorted({pod.node for pod in self.pods} | {proxy.node for proxy in self.proxies})


def target_of(sharing: Sharing, target: str) -> Proxy | None:
    """The proxy that a trial broke, by the target that its result names; the first of several: a fault that comes again
    may find a successor, which was not there at the beginning. None when it was none of the placement's.
    """
    named = target.split(", ")
    return next((proxy for proxy in sharing.proxies if str(proxy) in named), None)


def sharing_from(data: Mapping[str, Any]) -> Sharing:
    """Parse a `placement` event. Raises KeyError or TypeError for any other data."""
    return Sharing(tuple(map(Pod.from_dict, data["pods"])), tuple(map(Proxy.from_dict, data["proxies"])))


def read_sharing(directory: Path) -> Sharing | None:
    """Return the placement of a saved trial; None when its history was not kept."""
    path = directory / EVENTS_FILE
    if not path.exists():
        return None
    for line in read_bytes(path).splitlines(keepends=True):
        if b'"placement"' in line and line.endswith(b"\n"):
            event = event_from(line)
            if event.kind is EventKind.PLACEMENT:
                return sharing_from(event.data)
    return None


def cpu_statement(run: RunRecord, sharings: Sequence[Sharing | None]) -> str:
    """State whether all proxies of a mode together had the same CPU in each mode, which makes the modes
    comparable.

    Read from the placements, not from the option: a mode that got another sum is named.
    """
    sums: dict[str, set[int]] = {}
    counts: dict[str, int] = {}
    for trial, sharing in zip(run.trials, sharings, strict=True):
        if sharing is not None and sharing.proxies:
            sums.setdefault(trial.mode, set()).add(sharing.millicores)
            counts[trial.mode] = max(counts.get(trial.mode, 0), len(sharing.proxies))
    if not sums:
        return "No placement was recorded, so whether the proxies of each mode had the same CPU in total is not known."
    text = ", ".join(f"{mode}: {'/'.join(map(str, sorted(sums[mode])))}m over {counts[mode]}" for mode in sorted(sums))
    budget = run.header.get("budget_millicores")
    wanted = int(budget) if budget else max(max(values) for values in sums.values())
    # A budget that is divided equally loses less than a millicore an instance
    odd = [
        mode for mode, values in sums.items() if not all(wanted - counts[mode] <= value <= wanted for value in values)
    ]
    if odd:
        return (
            f"The proxies did NOT have the same CPU in each mode ({text} instances; the budget is {wanted}m): "
            f"do not compare {', '.join(sorted(odd))} with the others."
        )
    if not all(value for values in sums.values() for value in values):
        return "The proxies had no CPU limit on record, so whether the modes are comparable is not known."
    return (
        f"All proxies of a mode together may use the same CPU in each mode: {wanted} millicores, divided equally over "
        "the "
        f"instances of a layer ({text} instances). What differs is who shares a proxy with whom."
    )


def budget_rule(run: RunRecord, sharings: Sequence[Sharing | None]) -> str:
    """What the rule of equal CPU does to latency, with the figures of this run; "" where no proxy is smaller than
    another's.
    """
    size: dict[str, int] = {}
    for trial, sharing in zip(run.trials, sharings, strict=True):
        if sharing is not None and (limits := [proxy.cpu_millicores for proxy in sharing.proxies if proxy.layers]):
            size[trial.mode] = min(limits)
    if len(set(size.values())) < 2 or not all(size.values()):
        return ""
    small, large = min(size, key=lambda mode: size[mode]), max(size, key=lambda mode: size[mode])
    seen = {mode: baseline_latency([one for one in run.trials if one.mode == mode]) for mode in (small, large)}
    figures = ""
    if (slow := seen[small]) is not None and (fast := seen[large]) is not None:
        figures = (
            f" Here calls had a p99 of {milliseconds(slow[1])} in {small} and of {milliseconds(fast[1])} in {large}."
        )
    return (
        f"The rule has a price for modes of many proxies: one of {small} may use {size[small]}m of a core, one of "
        f"{large} {size[large]}m. A container that has used up its share waits for the next period of 0.1 s, so small "
        f"shares stretch the slowest calls even while nothing is wrong.{figures} That is what this rule costs, and "
        f"not what {small} costs where each proxy may use what it needs: --chaos-budget sets the sum."
    )


def emulated(cluster: Mapping[str, Any]) -> str:
    """State which results come from an emulated control plane."""
    if cluster["kind"] == "embedded":
        return (
            "Emulated: the Kubernetes API, scheduler, controllers and kubelets (one process, held against recordings "
            "of a "
            "real Kubernetes); nodes are network, mount and PID namespaces of one machine, which share its cores. "
            "Real: the "
            "proxies (Envoy), the kernel's networking, mutual TLS, CPU and memory limits, and signals."
        )
    return f"Nothing is emulated: this is a cluster of kind {cluster['kind']}."
