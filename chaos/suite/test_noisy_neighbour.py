"""One tenant overloads its own path. Who else slows down is who shares a proxy with it."""

from __future__ import annotations

import time

from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.overload import Overload
from chaos.history.model import Flow, WindowKind
from chaos.verdict import FaultKind, Harm


@scenario("noisy-neighbour")
def noisy_neighbour(trial: Trial) -> None:
    """A tenant that overloads its path hurts those who share its proxy, and no other."""
    noisy = trial.deployment.tenants[0]
    proxies = trial.deployment.proxies_of_client(noisy)
    own = Flow(noisy.client, noisy.server)
    trial.expect_fate_of(*proxies, fault_kind=FaultKind.GRADUAL, harm=Harm.EITHER, exempt=[own])
    target = trial.client_container(noisy)
    trial.baseline()
    fault = Overload(server=noisy.server, seconds=20.0)
    hold = trial.thresholds.settle + 2.0
    for pairs in trial.thresholds.pairs:
        while trial.pairs_done < pairs:
            trial.deployment.pause(noisy)  # the aggressor stands in its place
            with trial.fault(fault, target, seconds=fault.seconds) as (receipt,):
                begin = time.time_ns()  # the path has given out: the ramp before belongs to neither window
                trial.hold(hold)
                end = time.time_ns()
            trial.window(WindowKind.FAULT, begin, end, f"overload held: {receipt.evidence.get('why')}")
            trial.heal(noisy)
            quiet = time.time_ns()
            trial.hold(hold)
            trial.window(WindowKind.RECOVERY, quiet, time.time_ns(), "overload ended")
            trial.pairs_done += 1
        if trial.look().done:
            return
