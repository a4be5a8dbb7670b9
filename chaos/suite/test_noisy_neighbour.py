"""One tenant overloads its own path. Who else slows down is who shares a proxy with it.

A scenario for each way to overload: many requests; a new connection, and so a TLS handshake, for each; large bodies;
readers so slow that their answers wait in its proxies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaos.engine.drowned import filled
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.overload import Overload
from chaos.history.model import EventKind
from chaos.history.words import Cause
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window
from chaos.verdict.check import decided

BODIES = (
    64  # of 256 KiB at a time: 16 MiB, which the smallest proxy bears on top of what other overloads left in its heap
)
# Requests a second: 20 answers of 1 MiB wait at once, each to be given up after 2 s, beside a tunnel of 16 MiB
SLOW_READERS = 10.0


def overload(trial: Trial, profile: str, **options: Any) -> None:
    """The first tenant overloads its path in the way that the profile says, with options of Overload. Whoever shares a
    proxy that it filled must be hurt: the weakest proxy of the path gives out first, and shields the others. Of those
    who share one that it nearly filled, and none that it did, nothing is predicted."""
    noisy = trial.deployment.tenants[0]
    path, own = trial.deployment.proxies_of_client(noisy, whole=True), Flow(noisy.client, noisy.server)

    def expect(held: Sequence[Window]) -> None:
        seen = filled(path, trial.events(), held)
        hurt = trial.flows_behind(*seen.drowned)
        unsaid = trial.flows_behind(*seen.strained) - hurt
        trial.expect_fate_of(*seen.drowned, fault_shape=FaultShape.GRADUAL, exempt=[own, *sorted(unsaid - {own})])
        trial.note(
            EventKind.NOTE,
            {"drowned": [str(proxy) for proxy in seen.drowned], "strained": [str(proxy) for proxy in seen.strained]},
        )

    trial.switchback(
        Overload(**trial.deployment.called(noisy), seconds=20.0, profile=profile, **options),
        trial.client_container(noisy),
        aggressor=noisy,
        before_look=expect,
    )


@scenario("noisy-neighbour")
def noisy_neighbour(trial: Trial) -> None:
    """A tenant that overloads its path with requests hurts those who share its proxy, and no other."""
    overload(trial, "requests")


@scenario("noisy-handshakes")
def noisy_handshakes(trial: Trial) -> None:
    """A tenant that opens a connection for each request hurts those who share its proxy, and no other."""
    overload(trial, "handshakes")


@scenario(
    "noisy-bodies",
    ours_alone="whether an application of yours takes large bodies is not known: noisy-neighbour asks plainly",
)
def noisy_bodies(trial: Trial) -> None:
    """A tenant that sends large bodies hurts those who share its proxy, and no other."""
    overload(trial, "bodies", in_flight=BODIES)


@scenario(
    "noisy-slow-readers",
    ours_alone="what makes an application of yours answer at length is not known: noisy-neighbour asks plainly",
)
def noisy_slow_readers(trial: Trial) -> None:
    """A tenant that reads large answers slowly, so that they wait in its proxies, hurts nobody whose tunnels are
    others.
    """
    overload(trial, "slow-readers", start_rate=SLOW_READERS, max_rate=SLOW_READERS)
    noisy = trial.deployment.tenants[0]
    samples = trial.samples_of(Flow(noisy.client, noisy.server, label="aggressor-slow-readers"))
    waited = int((samples["cause"] == Cause.TIMEOUT).sum())
    trial.show(
        decided(
            "answers wait for their slow readers",
            waited > len(samples) / 2,
            f"{waited} of {len(samples)} requests looked at were given up before their answer was read",
        )
    )
