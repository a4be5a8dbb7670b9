"""The control loops of the embedded cluster, one file each: kube-scheduler's and kube-controller-manager's.

`run_controllers` runs them all until cancelled; `cluster_process` calls it once the API server serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from chaos.embedded.api.asked import Gate
from chaos.embedded.clock import Clock, SystemClock
from chaos.embedded.controllers.base import Controller
from chaos.embedded.node_api import ContainerUsage
from chaos.embedded.store import Store

__all__ = ["all_controllers", "run_controllers"]

Usage = Callable[[], Iterable[ContainerUsage]]
log = logging.getLogger(__name__)


def all_controllers(store: Store, clock: Clock, root_ca: str, usage: Usage = tuple) -> list[Controller]:
    """Make a fresh set of all controllers."""
    from chaos.embedded.controllers.autoscaler import AutoscalerController
    from chaos.embedded.controllers.claims import ClaimProtection, EphemeralClaims, VolumeController, VolumeProtection
    from chaos.embedded.controllers.cleanup import EventExpiry, JobTtl
    from chaos.embedded.controllers.cronjob import CronJobController
    from chaos.embedded.controllers.daemonset import DaemonSetController
    from chaos.embedded.controllers.definitions import DefinitionController
    from chaos.embedded.controllers.deployment import DeploymentController
    from chaos.embedded.controllers.disruption import DisruptionController
    from chaos.embedded.controllers.endpoints import EndpointsController
    from chaos.embedded.controllers.garbage import GarbageCollector
    from chaos.embedded.controllers.job import JobController
    from chaos.embedded.controllers.mirroring import MirroringController
    from chaos.embedded.controllers.namespaces import NamespaceController, NamespaceDefaults
    from chaos.embedded.controllers.nodes import NodeLifecycle, PodCollector, TaintEviction
    from chaos.embedded.controllers.quotas import QuotaUsage
    from chaos.embedded.controllers.replicaset import ReplicaSetController
    from chaos.embedded.controllers.roles import AggregationController
    from chaos.embedded.controllers.scheduler import Scheduler
    from chaos.embedded.controllers.statefulset import StatefulSetController

    kinds = (
        NamespaceController,
        Scheduler,
        EndpointsController,
        MirroringController,
        DeploymentController,
        ReplicaSetController,
        DaemonSetController,
        StatefulSetController,
        JobController,
        CronJobController,
        GarbageCollector,
        DefinitionController,
        NodeLifecycle,
        TaintEviction,
        PodCollector,
        DisruptionController,
        QuotaUsage,
        AggregationController,
        VolumeController,
        ClaimProtection,
        VolumeProtection,
        EphemeralClaims,
        JobTtl,
        EventExpiry,
    )
    first = (NamespaceDefaults(store, clock, root_ca), AutoscalerController(store, clock, usage))
    return [*first, *(kind(store, clock) for kind in kinds)]


async def run_controllers(
    store: Store, clock: Clock | None = None, *, root_ca: str = "", gate: Gate | None = None, usage: Usage = tuple
) -> None:
    """Run all controllers until cancelled. `root_ca` (PEM) is the CA that pods trust the API server by; `gate` admits
    what they create; `usage` reads containers' present usage.
    """
    controllers = all_controllers(store, clock or SystemClock(), root_ca, usage)
    if gate is not None:
        for controller in controllers:
            controller.gate = gate
    tasks = [asyncio.create_task(_supervise(controller), name=controller.name) for controller in controllers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _supervise(controller: Controller) -> None:
    """Run one controller for ever: log a crash of its loop, and restart it after a growing delay."""
    delay = 0.1
    while True:
        try:
            await controller.run()
        except Exception:  # a crashed loop must not take the cluster with it
            log.exception("%s crashed; restarting in %.1f s", controller.name, delay)
            await asyncio.sleep(delay)
            delay = min(30.0, delay * 2)
