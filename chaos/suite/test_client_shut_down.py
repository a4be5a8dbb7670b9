"""Last calls: an application that still calls while it shuts down, beside a proxy that got the same signal."""

from __future__ import annotations

from typing import Final

from chaos.engine.closing import ClosingClient, judge_after_kill, predict_after_kill
from chaos.engine.scenario import scenario
from chaos.engine.targets import container_of
from chaos.engine.trial import Trial
from chaos.errors import TargetVanished
from chaos.faults.kill import Kill
from chaos.model.modes import ProxyMode
from chaos.verdict.check import decided, measured

LAST: Final = 3.0  # seconds of calls after SIGTERM, and after what a proxy drains
LAST_OF_KILLED: Final = 9.0  # seconds: a helper starts, kills, and a shared proxy is back, before the client has ended
NO_CLIENT: Final = "it deploys a client of the reference apps, and a target file declares none"


def ends_at_once(mode: ProxyMode) -> str:
    """Why no proxy can be killed while its client ends."""
    return "its proxy ends with its client: client-shut-down shows that" if mode.ends_with_app else ""


@scenario("client-shut-down", reference_apps_only=NO_CLIENT)
def client_shut_down(trial: Trial) -> None:
    """The last calls of a client that shuts down are answered, but where its proxy is an ordinary container of its pod:
    there they must be seen to be lost.
    """
    mode = trial.mesh.mode
    lost = mode.ends_with_app  # and beyond the time for which such a proxy still takes new calls
    with ClosingClient(trial, last=LAST + mode.drains) as client:
        seen = client.shut_down()
    trial.show(
        decided(
            "the client's calls before SIGTERM are answered",
            seen.before_ok > 0 and not seen.before_failed,
            f"{seen.before_ok} of {seen.before_ok + seen.before_failed} calls before SIGTERM were answered",
            seen.before_failed,
            "requests",
        )
    )
    trial.show(
        decided(
            "the client's last calls are lost" if lost else "the client's last calls are answered",
            (seen.after_failed > 0) if lost else (seen.after_failed == 0 and seen.after_ok > 0),
            seen.last_calls(),
            seen.after_failed,
            "requests",
        )
    )
    trial.show(measured("last calls lost", seen.last_calls(), seen.after_failed, "requests"))


@scenario("client-shut-down-proxy-killed", faults=(Kill,), skip_reason=ends_at_once, reference_apps_only=NO_CLIENT)
def client_shut_down_proxy_killed(trial: Trial) -> None:
    """The last calls of a client whose proxy is killed meanwhile are lost to the end where the proxy is a container of
    its pod, which nobody restarts, and answered again where it is shared.
    """
    mode, killed = trial.mesh.mode, False
    with ClosingClient(trial, last=LAST_OF_KILLED) as client:
        proxy = client.proxy()
        target = container_of(trial.cluster, proxy)

        def kill() -> None:
            nonlocal killed
            try:
                with trial.fault(Kill(), target):
                    killed = True
            except TargetVanished:  # it had ended before; or it did not come back before its pod was gone
                return

        seen = client.shut_down(meanwhile=kill)
    predicted = predict_after_kill(mode)
    container = proxy.container if mode.in_pod else ""
    for check in judge_after_kill(seen, predicted, killed=killed, container=container):
        trial.show(check)
    trial.show(measured("last calls lost", seen.last_calls(), seen.after_failed, "requests"))
