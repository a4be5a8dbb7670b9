"""A server leaves while it is called: what is lost until its endpoints, the proxies and their control plane know."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from chaos.engine.leaving import Known, LeavingServer, LeavingServers, predict_loss
from chaos.engine.scenario import scenario
from chaos.engine.targets import workload
from chaos.engine.trial import Trial
from chaos.faults.control_plane import ControlPlane
from chaos.names import CONTROL_PLANE, SYSTEM_NAMESPACE

DELAY: Final = 2.0  # seconds by which each push of the control plane comes late: who wins no race is told apart
PRE_STOP: Final = 4.0  # seconds that the hook sleeps: longer than anybody needs to know
WATCHED: Final = PRE_STOP + 4.0  # and the server's end, and calls beyond it


@scenario(
    "server-shut-down",
    faults=(ControlPlane,),
    reference_apps_only="it deploys servers of the reference apps, and a target file declares none",
)
def server_shut_down(trial: Trial) -> None:
    """A server that goes on while it leaves loses no request, but where its proxy is told to end at once; one that
    stops at once loses those of callers that do not know yet.
    """
    mode = trial.mesh.mode
    servers = (LeavingServer("leaves-at-once"), LeavingServer("leaves-late", pre_stop=PRE_STOP))
    delay = (
        DELAY if mode.hops and not mode.brought_by else 0.0
    )  # an installed mesh's control plane is as quick as it is
    known = Known.of(mode, delay=delay)
    with ExitStack() as stack:
        leaving = stack.enter_context(LeavingServers(trial, *servers))
        if delay:
            target = workload(trial.cluster, f"{SYSTEM_NAMESPACE}/{CONTROL_PLANE}", "Deployment")
            stack.enter_context(trial.fault(ControlPlane(answer="slow", delay=delay), target))
        seen = leaving.leave(seconds=WATCHED)
    for one in servers:
        predicted = predict_loss(mode, pre_stop=one.pre_stop, known=known)
        for check in seen[one.name].judge(predicted, name=one.name, known=known):
            trial.show(check)
