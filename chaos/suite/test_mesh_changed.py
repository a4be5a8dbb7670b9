"""The mesh changes under running traffic, by what is no roll-out of proxies: new certificates, another root, waypoints
that are taken away, come or move, and tenants that leave the mesh and come back. None of it restarts an application;
what it costs running traffic is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from chaos.engine import upgrade
from chaos.engine.mesh_changes import held_by, move_waypoint, renewed, rotate_root, set_enrolled, set_waypoint
from chaos.engine.scenario import scenario, without_proxies, without_waypoints
from chaos.engine.targets import workload
from chaos.engine.trial import Trial
from chaos.faults.restart import Restart
from chaos.mesh.authority import stored_authority
from chaos.model.modes import ProxyMode, Scope
from chaos.names import CONTROL_PLANE, SYSTEM_NAMESPACE

NOT_OURS: Final = "how a mesh of yours is changed is not ours to know: proxy-upgraded rolls its proxies out"


def timed(change: Callable[[], None]) -> Callable[[], tuple[int, int]]:
    """Return the change, which then returns its begin and its end, ns."""

    def run() -> tuple[int, int]:
        begin = time.time_ns()
        change()
        return begin, time.time_ns()

    return run


def without_movable_waypoints(mode: ProxyMode) -> str:
    """Return why a waypoint cannot move to another node."""
    if why := without_waypoints(mode):
        return why
    movable = mode.l7 is Scope.NAMESPACE
    return "" if movable else "each waypoint belongs to its node, or to its pod, and moves with it alone"


def with_proxies_in_pods(mode: ProxyMode) -> str:
    """Return why no tenant can leave the mesh while its pods stay."""
    if mode.in_pod:
        return "a pod that holds its proxy enters and leaves the mesh by a roll-out: proxy-upgraded has its price"
    return without_proxies(mode)


@scenario("certificates-rotated", skip_reason=without_proxies, reference_mesh_only=NOT_OURS)
def certificates_rotated(trial: Trial) -> None:
    """A new certificate, and a new key, for every proxy and identity restarts no application."""
    mesh = trial.deployment.reference_mesh
    before = mesh.certificate_seconds

    def rotate() -> None:
        try:
            mesh.set_certificate_life(before / 2)
        finally:
            mesh.set_certificate_life(before)

    seen = mesh.control_plane()
    upgrade.watch_change(trial, timed(rotate))
    issuer = stored_authority(trial.cluster, run=mesh.run).fingerprint
    trial.show(renewed(held_by(mesh.placement()), seen, mesh.control_plane(), issuer))


@scenario(
    "root-rotated", faults=(Restart,), skip_reason=without_proxies, redeploys_after=True, reference_mesh_only=NOT_OURS
)
def root_rotated(trial: Trial) -> None:
    """Another root of all certificates, by way of a time in which both are trusted, restarts no application."""
    mesh = trial.deployment.reference_mesh
    plane = workload(trial.cluster, f"{SYSTEM_NAMESPACE}/{CONTROL_PLANE}", "Deployment")
    roots: list[str] = []

    def restart() -> None:
        with trial.fault(Restart(), plane, seconds=120.0):
            pass

    seen = mesh.control_plane()
    upgrade.watch_change(trial, timed(lambda: roots.append(rotate_root(trial, restart))))
    trial.show(renewed(held_by(mesh.placement()), seen, mesh.control_plane(), roots[-1]))


@scenario("waypoint-removed", skip_reason=without_waypoints, redeploys_after=True, reference_mesh_only=NOT_OURS)
def waypoint_removed(trial: Trial) -> None:
    """A tenant whose waypoint is taken away restarts no application."""
    upgrade.watch_change(trial, timed(partial(set_waypoint, trial, used=False)))


@scenario("waypoint-added", skip_reason=without_waypoints, redeploys_after=True, reference_mesh_only=NOT_OURS)
def waypoint_added(trial: Trial) -> None:
    """A waypoint before a tenant's servers, which had none, restarts no application."""
    set_waypoint(trial, used=False)
    upgrade.watch_change(trial, timed(partial(set_waypoint, trial, used=True)))


@scenario("waypoint-moved", skip_reason=without_movable_waypoints, redeploys_after=True, reference_mesh_only=NOT_OURS)
def waypoint_moved(trial: Trial) -> None:
    """A waypoint that moves to another node restarts no application."""
    upgrade.watch_change(trial, timed(partial(move_waypoint, trial)))


@scenario("enrolment-off", skip_reason=with_proxies_in_pods, redeploys_after=True, reference_mesh_only=NOT_OURS)
def enrolment_off(trial: Trial) -> None:
    """A tenant that leaves a mesh whose proxies stand outside of its pods restarts no application."""
    upgrade.watch_change(trial, timed(partial(set_enrolled, trial, enrolled=False)))


@scenario("enrolment-on", skip_reason=with_proxies_in_pods, redeploys_after=True, reference_mesh_only=NOT_OURS)
def enrolment_on(trial: Trial) -> None:
    """A tenant that joins a mesh whose proxies stand outside of its pods restarts no application."""
    set_enrolled(trial, enrolled=False)
    upgrade.watch_change(trial, timed(partial(set_enrolled, trial, enrolled=True)))
