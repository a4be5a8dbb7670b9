"""The control plane is gone, and then a pod is added. Running traffic does not notice; the new pod waits where a mesh
is.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from chaos.engine.designs import HOLD_SECONDS, await_recovery, put_in_force
from chaos.engine.scenario import scenario, without_proxies
from chaos.engine.targets import workload
from chaos.engine.trial import Trial
from chaos.faults.scale import Scale
from chaos.names import CONTROL_PLANE, SYSTEM_NAMESPACE
from chaos.verdict.check import decided, measured

READY_SECONDS = 60.0  # longest wait for the added pod, once the control plane is back


# The new control plane knows nothing of the keys handed out before.
@scenario(
    "control-plane-down",
    faults=(Scale,),
    skip_reason=without_proxies,
    redeploys_after=True,
    reference_mesh_only="it stops our own control plane",
)
def control_plane_down(trial: Trial) -> None:
    """Without its control plane running traffic goes on, and a new pod waits instead of speaking plain text."""
    tenant = trial.deployment.tenants[0]
    trial.expect_fate_of(shape=Scale.shape)
    trial.baseline()
    control_plane = workload(trial.cluster, f"{SYSTEM_NAMESPACE}/{CONTROL_PLANE}", "Deployment")
    with ExitStack() as later:  # the added pod outlives the fault, and goes before the trial ends
        force = put_in_force(trial, Scale(), control_plane, seconds=180.0)
        try:
            added = later.enter_context(trial.deployment.one_more_server(tenant))
            trial.look_until_done(force.begin, least=HOLD_SECONDS)
            pod = trial.cluster.wait("the added pod has an address", added, seconds=30)
        finally:
            restored = force.undo()
        how, answered = "ready" if pod.ready else "not ready", pod.requests or 0
        trial.show(
            decided(
                "a new pod waits for the control plane",
                not pod.ready and not answered,
                f"the pod added meanwhile was {how}, and had answered {answered} requests",
                answered,
                "requests",
            )
        )
        trial.cluster.wait(
            "the added pod is ready", lambda: (one := added()) is not None and one.ready, seconds=READY_SECONDS
        )
        seconds = (time.time_ns() - restored) / 1e9
        trial.show(
            measured(
                "a new pod is ready once the control plane is back",
                f"it was ready {seconds:.1f} s afterwards",
                seconds,
                "s",
            )
        )
        await_recovery(trial)
