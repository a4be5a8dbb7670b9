"""The control plane is gone, part by part, and then a pod is added. Running traffic does not notice; the new pod does
what the mesh is known to do.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress

from chaos.engine.deployment import AddedPod
from chaos.engine.designs import BETWEEN_SECONDS, HOLD_SECONDS, await_recovery, put_in_force
from chaos.engine.plane import listed_parts
from chaos.engine.scenario import scenario, without_proxies
from chaos.engine.targets import workload
from chaos.engine.trial import Trial
from chaos.errors import NotReady
from chaos.faults.scale import Scale
from chaos.mesh.handle import NewPod, PlanePart
from chaos.verdict.check import Check, decided, measured

READY_SECONDS = 60.0  # longest wait for the added pod, once the control plane is back
SHOWN_SECONDS = 20.0  # longest wait for the added pod to do what is expected of it
WORDS = {
    NewPod.WAITS: "waits for",
    NewPod.BARE: "is without a proxy while there is no",
    NewPod.REFUSED: "is refused without",
    NewPod.SERVES: "serves without",
}


# The new control plane knows nothing of the keys handed out before.
@scenario(
    "control-plane-down",
    faults=(Scale,),
    skip_reason=without_proxies,
    redeploys_after=True,
    reference_apps_only="it adds a pod to a server of the reference apps",
)
def control_plane_down(trial: Trial) -> None:
    """Without its control plane running traffic goes on, and a new pod does what the mesh is known to do: it waits, is
    refused, or is made without a proxy.
    """
    parts = listed_parts(trial)
    trial.expect_fate_of(shape=Scale.shape)
    trial.baseline()
    for number, part in enumerate(parts):
        if number:
            trial.end_recovery()
            trial.baseline_between(BETWEEN_SECONDS)
        go_without(trial, part, name="the control plane" if len(parts) == 1 else part.name)


def go_without(trial: Trial, part: PlanePart, *, name: str) -> None:
    """Stop one part, add a pod, bring the part back, and show what became of the pod."""
    tenant = trial.deployment.tenants[0]
    with ExitStack() as later:  # the added pod outlives the fault, and goes before the trial ends
        force = put_in_force(trial, Scale(), workload(trial.cluster, part.workload, "Deployment"), seconds=180.0)
        try:
            added = later.enter_context(trial.deployment.one_more_server(tenant))
            trial.look_until_done(force.begin, least=HOLD_SECONDS)
            with suppress(NotReady):  # then it did something else, which is shown
                trial.cluster.wait(
                    "the added pod", lambda: became(added()) is (part.without or NewPod.WAITS), seconds=SHOWN_SECONDS
                )
            pod = added()
        finally:
            restored = force.undo()
        trial.show(judge_new_pod(part, pod, name=name))
        trial.cluster.wait(
            "the added pod is ready", lambda: (one := added()) is not None and one.ready, seconds=READY_SECONDS
        )
        seconds = (time.time_ns() - restored) / 1e9
        trial.show(
            measured(
                f"a new pod is ready once {name} is back", f"it was ready {seconds:.1f} s afterwards", seconds, "s"
            )
        )
        await_recovery(trial)


def became(pod: AddedPod | None) -> NewPod:
    """What an added pod is seen to do."""
    if pod is None:
        return NewPod.REFUSED
    if not pod.ready:
        return NewPod.WAITS
    return NewPod.BARE if pod.bare else NewPod.SERVES


def judge_new_pod(part: PlanePart, pod: AddedPod | None, *, name: str) -> Check:
    """Judge what became of the pod by what the mesh is known to do; where that is not known, it is told. Pure."""
    seen, answered = became(pod), (pod.requests or 0) if pod else 0
    if pod is None:
        said = "no pod was made meanwhile"
    else:
        said = (
            f"the pod added meanwhile was {'ready' if pod.ready else 'not ready'}, and had answered {answered} requests"
        )
        said += f"; it is outside the mesh, so that it speaks plain text (no {pod.bare})" if seen is NewPod.BARE else ""
    if part.without is None:
        return measured(f"a new pod without {name}", f"{said}: it {WORDS[seen]} {name}", answered, "requests")
    fits = seen is part.without and not (seen is NewPod.WAITS and answered)
    return decided(f"a new pod {WORDS[part.without]} {name}", fits, said, answered, "requests")
