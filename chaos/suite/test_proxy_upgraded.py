"""Proxies get a new version, or another configuration, and the control plane a new version. Where the proxies live in
the application's pods, a new version restarts the application with them; nothing else does.
"""

from __future__ import annotations

import time
from dataclasses import replace

from chaos.engine import upgrade
from chaos.engine.scenario import scenario, without_proxies
from chaos.engine.targets import workload
from chaos.engine.trial import Trial
from chaos.faults.recreate import Recreate
from chaos.faults.restart import Restart
from chaos.faults.upgrade import Upgrade
from chaos.names import CONTROL_PLANE, SYSTEM_NAMESPACE


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


# The new control plane knows nothing of the keys handed out before.
@scenario(
    "control-plane-upgraded",
    faults=(Restart,),
    skip_reason=without_proxies,
    redeploys_after=True,
    reference_mesh_only="it rolls out our own control plane: control-plane-down stops the parts of yours",
)
def control_plane_upgraded(trial: Trial) -> None:
    """A rolling restart of the control plane restarts no application; what it costs running traffic is counted."""
    target = workload(trial.cluster, f"{SYSTEM_NAMESPACE}/{CONTROL_PLANE}", "Deployment")
    upgrade.watch_workload(trial, Restart(), target, f"rolling restart of {target}", holds_apps=False)


@scenario(
    "proxy-reconfigured",
    skip_reason=without_proxies,
    reference_mesh_only="how a mesh of yours is configured is not ours to change",
)
def proxy_reconfigured(trial: Trial) -> None:
    """A new configuration of every proxy restarts no application; what it costs running traffic is counted."""
    mesh = trial.deployment.reference_mesh
    before = mesh.features

    def change() -> tuple[int, int]:
        begin = time.time_ns()
        try:
            mesh.set_features(replace(before, timeout_seconds=15.0))
        finally:
            mesh.set_features(before)
        return begin, time.time_ns()

    upgrade.watch_change(trial, change)
