"""Breaks and mends in a trial: which faults are in force, whom they must hurt by the sharing model, and when they are
undone.

The designs are the engine's (`chaos.engine.designs`); here a fault may be left in force from one activity to a later
one, and several may follow each other in one trial.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.engine import designs
from chaos.engine.designs import Held, InForce, put_in_force
from chaos.engine.targets import container_of, flows_at, flows_behind, flows_of_pods, proxies_of_client
from chaos.engine.topology import TenantLoad
from chaos.engine.trial import Trial
from chaos.errors import Misuse, NoTargets
from chaos.faults.model import Fault, Receipt, Target
from chaos.faults.overload import Overload
from chaos.faults.selection import Selector, select
from chaos.faults.workload import pods_of
from chaos.history.model import EventKind
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow
from chaos.model.placement import Proxy
from chaos.verdict import Harm

# Seconds after a fault's deadline: until then its undo is this runner's, then the helper's own and the watchdog's.
GRACE: Final = 5.0


@dataclass(slots=True)
class HeldFault:
    """A fault that acts until its action, its deadline or the session's end recovers it."""

    force: InForce
    noisy: TenantLoad | None = None  # whose overload it is
    timer: threading.Timer | None = None

    @property
    def name(self) -> str:
        return self.force.fault.name


class FaultDriver:
    """Drives the faults of one trial. Every method may be called from any thread."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.overdue: list[str] = []  # undos by deadline that failed
        self.first_effect = 0  # ns; 0: nothing was broken yet
        self.spoiled = False  # whole workloads or nodes were broken: a later experiment would see what that did
        self._lock = threading.RLock()
        self._held: list[HeldFault] = []
        self._broken: list[Proxy] = []
        self._exempt: set[Flow] = set()  # nothing is expected of them: an earlier fault may have affected them

    def break_proxy(self, fault: Fault, proxy: Proxy, *, deadline: float, harm: Harm = Harm.EITHER) -> list[Receipt]:
        """Inject into one proxy and expect harm to exactly its fate group. A pulse is over when this returns."""
        self._expect([proxy], fault.shape, harm)
        return self.inject(fault, container_of(self.trial.cluster, proxy), deadline=deadline)

    def break_exempt(self, fault: Fault, proxy: Proxy, *, deadline: float) -> list[Receipt]:
        """Inject into one proxy whose fate group is exempt: it is reported, and only the other flows are judged."""
        self._exempt_flows(fault, flows_behind(self.trial.deployment.placement(), [proxy]))
        return self.inject(fault, container_of(self.trial.cluster, proxy), deadline=deadline)

    def break_workload(self, fault: Fault, workload: str, namespace: str, *, deadline: float) -> list[Receipt]:
        """Inject into a workload. Flows through its pods are exempt, the others must not be hurt; its pods may
        restart.
        """
        targets = select(self.trial.cluster, fault.targets, Selector(workload=workload, namespace=namespace))
        placement = self.trial.deployment.placement()
        uids = {pod["metadata"]["uid"] for target in targets for pod in pods_of(self.trial.cluster, target)}
        self._exempt_flows(fault, flows_of_pods(placement, uids))
        self.spoiled = True
        return self.inject(fault, *targets, deadline=deadline)

    def break_node(self, fault: Fault, node: str, *, deadline: float) -> list[Receipt]:
        """Inject into a node. Flows with a pod or a proxy on it are exempt, the others must not be hurt."""
        tenants, placement = self.trial.deployment.tenants, self.trial.deployment.placement()
        ends = {"first": tenants[0].client, "second": tenants[-1].client}
        chosen = next(iter(placement.nodes_of(ends[node])), "") if node in ends else node
        if not chosen:
            raise NoTargets(f"{node} node: {ends[node]}, which chooses it, has no pod now: name the node itself")
        targets = select(self.trial.cluster, frozenset({"node"}), Selector(node=chosen))
        self._exempt_flows(fault, flows_at(placement, chosen))
        self.spoiled = True
        return self.inject(fault, *targets, deadline=deadline)

    def _exempt_flows(self, fault: Fault, flows: frozenset[Flow]) -> None:
        """Exempt these flows, and expect no harm to any other. A fault that does not end by itself is held until it is
        undone.
        """
        self._exempt |= flows
        shape = fault.shape
        self._expect([], FaultShape.HELD if shape is FaultShape.GRADUAL else shape, Harm.EITHER)

    def inject(
        self, fault: Fault, *targets: Target, deadline: float, noisy: TenantLoad | None = None, described: str = ""
    ) -> list[Receipt]:
        """Inject; a held fault is in force until `recover` or its deadline. State the expectation before.

        Args:
            noisy: the tenant whose own flow pauses meanwhile, and starts again slowly.
            described: how the result names the target.
        """
        force = put_in_force(self.trial, fault, *targets, seconds=deadline + GRACE, noisy=noisy, described=described)
        self.first_effect = self.first_effect or force.begin
        held = HeldFault(force, noisy)
        with self._lock:
            self._held.append(held)
        if fault.shape is FaultShape.PULSE:
            self.recover(fault.name, observe=False)
        else:
            held.timer = threading.Timer(deadline, self._expire, args=(held, deadline))
            held.timer.daemon = True
            held.timer.start()
        return list(force.injection.receipts)

    def overload(self, noisy: TenantLoad, fault: Overload, *, deadline: float) -> list[Receipt]:
        """One tenant overloads its own path until `recover` or the deadline; its own flow is reported and not
        judged.
        """
        path = proxies_of_client(self.trial.deployment.placement(), noisy.client, whole=True)
        self._exempt.add(Flow(noisy.client, noisy.server))
        # Until its undo: then it is known which of them it saturated.
        self.trial.expect_fate_of(*self._broken, *path, shape=FaultShape.HELD, exempt=sorted(self._exempt))
        return self.inject(
            designs.bounded(fault, path),
            self.trial.deployment.loader_target(noisy),
            deadline=deadline,
            noisy=noisy,
            described=f"{noisy.client} overloads {noisy.server}",
        )

    def recover(self, fault: str = "", *, observe: bool = True) -> int:
        """Undo the faults of that name (or all), newest first; return how many. Nothing in force is no error: an undo
        is idempotent.

        Args:
            observe: watch afterwards until every flow is back.
        """
        with self._lock:
            chosen = [held for held in reversed(self._held) if fault in ("", held.name)]
            failures: list[Exception] = []
            for held in chosen:
                try:
                    self._undo(held)
                except Exception as error:  # one undo that fails does not stop the others; all are raised below
                    failures.append(error)
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {len(chosen)} faults were not undone: {failures[0]}", failures)
        if chosen and observe:
            self.await_recovery()
        return len(chosen)

    def await_recovery(self) -> None:
        """Watch until every flow is back; returns at once while a fault is in force, before the first, and after an
        on/off design, whose last window has shown it.
        """
        expected = self.trial.expectation
        if expected is None or self._held or not self.trial.recovery_origin():
            return
        if expected.fault_shape is not FaultShape.GRADUAL:
            designs.await_recovery(self.trial)

    def _undo(self, held: HeldFault) -> None:
        self._held.remove(held)
        if held.timer is not None:
            held.timer.cancel()
        end = time.time_ns()
        held.force.undo()
        if held.noisy is not None:
            self._expect_saturated(held.noisy, Held.of(held.force.injection, held.force.begin, end))

    def _expect_saturated(self, noisy: TenantLoad, held: Held) -> None:
        path = proxies_of_client(self.trial.placement, noisy.client, whole=True)
        found = designs.expect_saturated(
            self.trial, noisy, path, [held], shape=FaultShape.HELD, broken=self._broken, exempt=self._exempt
        )
        self._broken += [proxy for proxy in found if proxy not in self._broken]

    def _expire(self, held: HeldFault, deadline: float) -> None:
        with self._lock:
            if held not in self._held:
                return
            try:
                self._undo(held)
                self._note(f"{held.name}: undone by its deadline of {deadline:g} s")
            except Exception as error:
                self.overdue.append(f"{held.name}: not undone by its deadline of {deadline:g} s: {error}")

    def switch(self, fault: Fault, proxy: Proxy, *, deadline: float, pairs: int) -> int:
        """Switch a fault on one proxy on and off until the judge has decided, at most `pairs` times; return the pairs
        done.
        """
        self._refuse_pairs(pairs)
        self._expect([proxy], fault.shape, Harm.EITHER)
        target = container_of(self.trial.cluster, proxy)
        self.first_effect = self.first_effect or time.time_ns()
        designs.switchback(self.trial, fault, target, seconds=deadline, pairs=pairs, baseline=False)
        return self.trial.pairs_done

    def switch_overload(self, noisy: TenantLoad, fault: Overload, *, deadline: float, pairs: int) -> int:
        """Let one tenant overload its own path, on and off, as `designs.overload` does; return the pairs done."""
        self._refuse_pairs(pairs)
        self.first_effect = self.first_effect or time.time_ns()
        designs.overload(
            self.trial,
            fault,
            noisy,
            seconds=deadline,
            pairs=pairs,
            broken=self._broken,
            exempt=self._exempt,
            baseline=False,
        )
        return self.trial.pairs_done

    def _refuse_pairs(self, pairs: int) -> None:
        if pairs not in (steps := self.trial.thresholds.pairs):
            raise Misuse(f"pairs is {pairs}: the judge looks after {' or '.join(map(str, steps))}")

    def _expect(self, proxies: Sequence[Proxy], shape: FaultShape, harm: Harm) -> None:
        """Expect harm to exactly the flows behind these proxies, and behind all that were broken before."""
        self._broken += [proxy for proxy in proxies if proxy not in self._broken]
        self.trial.expect_fate_of(*self._broken, shape=shape, harm=harm, exempt=sorted(self._exempt))

    def _note(self, text: str) -> None:
        self.trial.note(EventKind.NOTE, {"chaos toolkit": text})


def describe(receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Describe a fault for the journal."""
    first = receipts[0]
    return {
        "fault": first.fault,
        "targets": [str(receipt.target) for receipt in receipts],
        "injected_at": first.injected_at,
        "evidence": dict(first.evidence),
    }
