"""Last calls: an application that still calls while it shuts down, beside a proxy that got the same signal."""

from __future__ import annotations

from typing import Final

from chaos.engine.closing import ClosingClient
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.verdict.check import decided, measured

LAST: Final = 3.0  # seconds of calls after SIGTERM, and after what a proxy drains


@scenario(
    "client-shut-down", reference_apps_only="it deploys a client of the reference apps, and a target file declares none"
)
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
