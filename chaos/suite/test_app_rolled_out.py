"""A tenant rolls out its own server. What is lost on the way is the mesh's doing where mode `none` loses nothing."""

from __future__ import annotations

from chaos.engine.designs import break_and_watch
from chaos.engine.scenario import scenario
from chaos.engine.targets import workload
from chaos.engine.trial import Trial
from chaos.faults.restart import Restart
from chaos.model.flow import Flow


@scenario("app-rolled-out", faults=(Restart,))
def app_rolled_out(trial: Trial) -> None:
    """A tenant's own rolling update hurts no other tenant; what it loses itself is counted."""
    tenant = trial.deployment.tenants[0]
    own = Flow(tenant.client, tenant.server)
    trial.expect_fate_of(shape=Restart.shape, exempt=[own])
    break_and_watch(trial, Restart(), workload(trial.cluster, tenant.server))
