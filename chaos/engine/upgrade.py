"""Measures what a change to a mesh costs: which applications restart, which requests are lost, which long streams are
cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from chaos.engine.restarts import Snapshot, container_snapshot
from chaos.engine.targets import WHOLE_POD, placebo, proxy_on_path, workload_of
from chaos.engine.trial import Trial
from chaos.errors import Misuse
from chaos.faults import workload
from chaos.faults.model import Fault, Target
from chaos.faults.upgrade import Upgrade
from chaos.history.model import Flag, Outcome, Samples
from chaos.mesh.handle import MeshHandle
from chaos.model.flow import WindowKind
from chaos.model.modes import Layer
from chaos.model.placement import Placement, Proxy
from chaos.verdict.check import decided, measured

STREAMS: Final = 4  # long-lived connections of each tenant
RESTARTS: Final = "applications restart exactly where the proxy is a part of their pod"
VERSION_OPTION: Final = "--chaos-proxy-version"
_QUIET_SECONDS: Final = 1.0


def plan_roll_out(template: Mapping[str, Any], proxy: Proxy, version: str, *, annotation: str = "") -> Upgrade | None:
    """Return the change of a pod template that gives that proxy another version; None where the template decides on no
    proxy. Pure.

    Args:
        version: an image, or what the annotation takes.
        annotation: by which an application's pod names the version of the proxy that the mesh adds to it.
    """
    spec = template["spec"]
    held = [one["name"] for place in ("containers", "initContainers") for one in spec.get(place) or []]
    if proxy.container in held:
        return Upgrade(container=proxy.container, image=version)
    return Upgrade(annotations={annotation: version}) if annotation else None


def version_change(trial: Trial, proxy: Proxy, target: Target, version: str) -> Fault:
    """Return the fault that gives a proxy that version, and takes it back. Raises Misuse where nothing decides."""
    template = workload.living(trial.cluster, target)["spec"]["template"]
    if (planned := plan_roll_out(template, proxy, version, annotation=trial.mesh.version_annotation)) is None:
        raise Misuse(
            f"no other version of {proxy}: {target} has no container {proxy.container}, and its mesh knows no "
            f"annotation that names one. Leave {VERSION_OPTION} out for a rolling restart"
        )
    return planned


def watch(trial: Trial, fault: Fault, *, version: str = "", layer: Layer | None = None) -> None:
    """Roll out the proxies before the first tenant's servers, of that layer or of any, and show the effects.

    With a version they are changed to it, and back, in the fault's place.

    Where a proxy is a container of the application's pod, its roll-out is the application's: the model says so, and
    both directions are looked at.
    """
    last = proxy_on_path(trial.placement, server=trial.deployment.tenants[0].server, side="server", layer=layer)
    proxy = last or placebo(trial.placement)
    target = workload_of(trial.cluster, proxy)
    if version:
        fault = version_change(trial, proxy, target, version)
    change = f"{fault.name} of {target}{f' to {version}, and back,' if version else ''}"
    watch_workloads(trial, fault, [target], change, holds_apps=trial.mesh.mode.in_pod)


def watch_workloads(
    trial: Trial, fault: Fault, targets: Sequence[Target], change: str, *, holds_apps: bool = False
) -> None:
    """Roll out workloads of the mesh, one after the other, and show the effects.

    Args:
        change: it in words.
        holds_apps: their pods are applications' own: they must restart, and no other.
    """

    def roll_out() -> tuple[int, int]:
        times = []
        for target in targets:
            with trial.fault(fault, target, seconds=240.0) as injection:
                times.append(injection.begin)
            times.append(injection.restored_at)
        return times[0], times[-1]

    begin, end = watch_change(trial, roll_out, holds_apps=holds_apps)
    seconds = (end - begin) / 1e9
    trial.show(decided("the roll-out was seen", seconds > 0, f"{change} took {seconds:.1f} s", seconds, "s"))


def watch_change(trial: Trial, change: Callable[[], tuple[int, int]], *, holds_apps: bool = False) -> tuple[int, int]:
    """Change something about the mesh, and show which applications restart, and what is lost; return the begin and the
    end of the change, ns.

    Args:
        change: does it, and returns them.
        holds_apps: what is changed is of the applications' own pods, some of which must restart.
    """
    deployment = trial.deployment
    with deployment.streams(STREAMS) as streams:
        trial.baseline()
        before = container_snapshot(trial.cluster, deployment.namespaces)
        begin, end = change()
        trial.window(WindowKind.FAULT, begin, end, "first effect until it was over")
        trial.hold(_QUIET_SECONDS)
        after, until = container_snapshot(trial.cluster, deployment.namespaces), time.time_ns()
    restarted = application_restarts(trial.placement, before, after)
    here = {key for key in applications(trial.placement, before) if (key[0], WHOLE_POD) in trial.excused}
    names = ", ".join(sorted({f"{before[key].namespace}/{before[key].container}" for key in restarted})) or "none"
    trial.show(
        decided(
            RESTARTS,
            restarted == here and bool(here) == holds_apps,
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
                f"requests lost by {flow}", f"{lost} requests did not end well during the change", lost, "requests"
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
    return begin, end


def reconfigure(mesh: MeshHandle) -> tuple[int, int]:
    """Give the proxies another configuration and the old one again; return the begin and the end, ns."""
    begin = time.time_ns()
    with mesh.reconfigured():
        pass
    return begin, time.time_ns()


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
