"""Proxies get a new version, or another configuration, and the control plane a new version. Where the proxies live in
the application's pods, a new version restarts the application with them; nothing else does.
"""

from __future__ import annotations

from functools import partial

from chaos.engine import upgrade
from chaos.engine.plane import listed_parts
from chaos.engine.scenario import NotApplicable, scenario, without_proxies, without_waypoints
from chaos.engine.targets import workload
from chaos.engine.trial import Trial
from chaos.external.installed import InstalledMesh
from chaos.faults.recreate import Recreate
from chaos.faults.restart import Restart
from chaos.faults.upgrade import Upgrade
from chaos.model.modes import Layer, ProxyMode, Scope


def without_rollable_waypoints(mode: ProxyMode) -> str:
    """Return why no workload rolls the mode's waypoints out."""
    if why := without_waypoints(mode):
        return why
    return "a waypoint that belongs to a pod is rolled out with it: app-rolled-out" if mode.l7 is Scope.POD else ""


@scenario("proxy-upgraded", faults=(Restart, Upgrade))
def proxy_upgraded(trial: Trial) -> None:
    """A rolling restart of proxies (with a version that is asked for: their change to it, and back) restarts the
    applications that hold them, and no other; its price is counted.
    """
    upgrade.watch(trial, Restart(), version=trial.deployment.settings.proxy_version)


@scenario(
    "proxy-recreated",
    faults=(Recreate,),
    reference_mesh_only="it would delete a workload of yours: proxy-upgraded restarts it",
)
def proxy_recreated(trial: Trial) -> None:
    """Proxies that are deleted and created anew restart the applications that hold them, and no other; its price is
    counted.
    """
    upgrade.watch(trial, Recreate())


@scenario(
    "waypoint-upgraded",
    faults=(Restart, Upgrade),
    skip_reason=without_rollable_waypoints,
    reference_mesh_only="which workload your waypoint is of is not ours to know: proxy-upgraded rolls a proxy out",
)
def waypoint_upgraded(trial: Trial) -> None:
    """A rolling restart of a waypoint restarts no application; its price is counted."""
    upgrade.watch(trial, Restart(), version=trial.deployment.settings.proxy_version, layer=Layer.L7)


# The new control plane of the reference mesh knows nothing of the keys handed out before.
@scenario(
    "control-plane-upgraded",
    faults=(Restart,),
    skip_reason=without_proxies,
    redeploys_after=True,
    reference_apps_only="the control plane of your own applications' mesh is its owners' to roll out",
)
def control_plane_upgraded(trial: Trial) -> None:
    """A rolling restart of the control plane, part by part, restarts no application; what it costs running traffic is
    counted.
    """
    parts = [workload(trial.cluster, part.workload, "Deployment") for part in listed_parts(trial)]
    upgrade.watch_workloads(trial, Restart(), parts, f"rolling restart of {', '.join(map(str, parts))}")


@scenario(
    "proxy-reconfigured",
    skip_reason=without_proxies,
    reference_apps_only="how the mesh of your own applications is configured is its owners' affair",
)
def proxy_reconfigured(trial: Trial) -> None:
    """A new configuration of every proxy restarts no application; what it costs running traffic is counted."""
    if isinstance(trial.mesh, InstalledMesh) and trial.mesh.rule.reconfiguration is None:
        raise NotApplicable(f"the description of {trial.mesh.mode.name} says no way to configure its proxies anew")
    upgrade.watch_change(trial, partial(upgrade.reconfigure, trial.mesh))
