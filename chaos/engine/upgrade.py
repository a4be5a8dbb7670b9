"""Measures what a roll-out of proxies costs: which applications restart, which requests are lost, which long streams
are cut.
"""

from __future__ import annotations

import time
from typing import Final

from chaos.engine.restarts import Snapshot, container_snapshot
from chaos.engine.targets import WHOLE_POD, placebo, proxy_on_path, workload_of
from chaos.engine.trial import Trial
from chaos.faults.model import Fault
from chaos.history.model import Flag, Outcome, Samples
from chaos.model.flow import WindowKind
from chaos.model.placement import Placement
from chaos.verdict.check import decided, measured

STREAMS: Final = 4  # long-lived connections of each tenant
_QUIET_SECONDS: Final = 1.0


def watch(trial: Trial, fault: Fault) -> None:
    """Roll out the proxies before the first tenant's servers, and show the effects.

    Where a proxy is a container of the application's pod, its roll-out is the application's: the model says so, and
    both directions are looked at.
    """
    deployment = trial.deployment
    last = proxy_on_path(trial.placement, server=deployment.tenants[0].server, side="server")
    target = workload_of(trial.cluster, last or placebo(trial.placement))
    with deployment.streams(STREAMS) as streams:
        trial.baseline()
        before = container_snapshot(trial.cluster, deployment.namespaces)
        with trial.fault(fault, target, seconds=240.0) as injection:
            begin = injection.begin
        end = injection.restored_at
        trial.window(WindowKind.FAULT, begin, end, "first effect until it was rolled out")
        trial.hold(_QUIET_SECONDS)
        after, until = container_snapshot(trial.cluster, deployment.namespaces), time.time_ns()
    seconds = (end - begin) / 1e9
    trial.show(
        decided("the roll-out was seen", seconds > 0, f"{fault.name} of {target} took {seconds:.1f} s", seconds, "s")
    )

    restarted = application_restarts(trial.placement, before, after)
    here = {key for key in applications(trial.placement, before) if (key[0], WHOLE_POD) in trial.excused}
    names = ", ".join(sorted({f"{before[key].namespace}/{before[key].container}" for key in restarted})) or "none"
    trial.show(
        decided(
            "applications restart exactly where the proxy is a part of their pod",
            restarted == here and bool(here) == trial.mesh.mode.in_pod,
            f"{len(restarted)} application containers were replaced: {names}",
            len(restarted),
            "containers",
        )
    )
    view = trial.view(until=until)
    for flow in deployment.flows:
        lost = int((_during(view.flows[flow], begin, until)["outcome"] != Outcome.OK).sum())
        trial.show(
            measured(
                f"requests lost by {flow}", f"{lost} requests did not end well during the roll-out", lost, "requests"
            )
        )
    for flow in streams:
        cut = streams_cut(_during(view.flows[flow], begin, until))
        trial.show(
            measured(
                f"long streams cut of {flow.client}",
                f"{cut} connections had to be made again for {STREAMS} streams",
                cut,
                "connections",
            )
        )


def streams_cut(samples: Samples) -> int:
    """Count the connections that answered their first request in that time: each replaces one that was cut. Pure."""
    return int(((samples["outcome"] == Outcome.OK) & ((samples["flags"] & Flag.NEW_CONNECTION) != 0)).sum())


def applications(placement: Placement, seen: Snapshot) -> set[tuple[str, str]]:
    """Return (pod UID, container) of the tenants' applications: the containers of their pods that are no proxies.
    Pure.
    """
    pods, proxies = {pod.uid for pod in placement.pods}, {(proxy.uid, proxy.container) for proxy in placement.proxies}
    return {key for key in seen if key[0] in pods and key not in proxies and not seen[key].init}


def application_restarts(placement: Placement, before: Snapshot, after: Snapshot) -> set[tuple[str, str]]:
    """Return those of them that were replaced. Pure."""
    return {
        key
        for key in applications(placement, before)
        if key not in after or after[key].container_id != before[key].container_id
    }


def _during(samples: Samples, begin: int, until: int) -> Samples:
    inside: Samples = samples[(samples["due"] >= begin) & (samples["due"] < until)]
    return inside
