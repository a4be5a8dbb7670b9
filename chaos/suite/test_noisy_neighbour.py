"""One tenant overloads its own path. Who else slows down is who shares a proxy with it.

A scenario for each way to overload: many requests; a new connection, and so a TLS handshake, for each; large bodies;
readers so slow that their answers wait in its proxies.
"""

from __future__ import annotations

from typing import Any

from chaos.engine.designs import overload
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.overload import Overload
from chaos.history.words import Cause
from chaos.model.flow import Flow
from chaos.verdict.check import decided

BODIES = (
    64  # of 256 KiB at a time: 16 MiB, which the smallest proxy bears on top of what other overloads left in its heap
)
# Requests a second: 20 answers of 1 MiB wait at once, each to be given up after 2 s, beside a tunnel of 8 MiB
SLOW_READERS = 10.0


def noise(trial: Trial, profile: str, **options: Any) -> None:
    """The first tenant overloads its path in the way that the profile says, with options of Overload."""
    noisy = trial.deployment.tenants[0]
    overload(trial, Overload(**noisy.call_options(), seconds=20.0, profile=profile, **options), noisy)


@scenario("noisy-neighbour", faults=(Overload,))
def noisy_neighbour(trial: Trial) -> None:
    """A tenant that overloads its path with requests hurts those who share its proxy, and no other."""
    noise(trial, "requests")


@scenario("noisy-handshakes", faults=(Overload,))
def noisy_handshakes(trial: Trial) -> None:
    """A tenant that opens a connection for each request hurts those who share its proxy, and no other."""
    noise(trial, "handshakes")


@scenario(
    "noisy-bodies",
    faults=(Overload,),
    reference_apps_only="whether an application of yours takes large bodies is unknown: noisy-neighbour asks plainly",
)
def noisy_bodies(trial: Trial) -> None:
    """A tenant that sends large bodies hurts those who share its proxy, and no other."""
    noise(trial, "bodies", in_flight=BODIES)


@scenario(
    "noisy-slow-readers",
    faults=(Overload,),
    reference_apps_only="what makes an application of yours answer at length is unknown: noisy-neighbour asks plainly",
)
def noisy_slow_readers(trial: Trial) -> None:
    """A tenant that reads large answers slowly, so that they wait in its proxies, hurts nobody whose tunnels are
    others.
    """
    noise(trial, "slow-readers", start_rate=SLOW_READERS, max_rate=SLOW_READERS)
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
