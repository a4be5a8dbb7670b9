"""Breaks and mends in a trial: what is in force, whom it must hurt by the sharing model, and when it undoes itself.

Windows are cut by evidence, as the engine's own scenarios cut them; here a fault may be left in force from one activity
to a later one, which they cannot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from chaos.engine.drowned import filled
from chaos.engine.topology import Tenant
from chaos.engine.trial import RECOVERY_SECONDS, SWITCH_SECONDS, Trial
from chaos.errors import Misuse
from chaos.faults.model import Fault, Receipt, Target
from chaos.faults.selection import Selector, select
from chaos.history.model import EventKind
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.model.placement import Proxy
from chaos.toolkit.targets import flows_at, flows_behind
from chaos.verdict import Harm

GRACE: Final = (
    5.0  # s after a fault's deadline: until then its undo is this runner's; then the helper's own, and the watchdog's
)


@dataclass(slots=True)
class Held:
    """A fault that acts until it is recovered: by its action, by its deadline or by the session's end."""

    fault: Fault
    begin: int
    stack: ExitStack
    timer: threading.Timer | None = None


class Breaker:
    """Of one trial. Every method may be called from any thread."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.overdue: list[str] = []  # undos by deadline that failed
        self.first_effect = 0  # ns; 0: nothing was broken yet
        self.spoiled = False  # whole workloads or nodes were broken: a later experiment would see what that did
        self._lock = threading.RLock()
        self._held: list[Held] = []
        self._broken: list[Proxy] = []
        self._spared: set[Flow] = (
            set()
        )  # of which nothing is expected, for what a fault of earlier did to them is in the history

    def break_proxy(self, fault: Fault, proxy: Proxy, *, deadline: float, harm: Harm = Harm.EITHER) -> list[Receipt]:
        """Inject into one proxy and expect harm to just its fate group. A pulse is over when this returns."""
        self.expect([proxy], fault.shape, harm)
        return self.inject(fault, self.trial.container(proxy), deadline=deadline)

    def break_spared(self, fault: Fault, proxy: Proxy, *, deadline: float) -> list[Receipt]:
        """Inject into one proxy whose fate group may or may not be hurt: it is reported, and only the others are
        judged.
        """
        self._spare(fault, flows_behind(self.trial.deployment.placement(), [proxy]))
        return self.inject(fault, self.trial.container(proxy), deadline=deadline)

    def break_workload(self, fault: Fault, workload: str, namespace: str, *, deadline: float) -> list[Receipt]:
        """Inject into a workload. Flows through its pods are reported, the others must not be hurt; its pods may
        restart.
        """
        targets = select(self.trial.cluster, fault.targets, Selector(workload=workload, namespace=namespace))
        name = workload.partition("/")[2]
        placement = self.trial.deployment.placement()
        inside = [p for p in placement.proxies if p.namespace == namespace and p.pod.startswith(f"{name}-")]
        own = {Flow(*call) for call in placement.calls if f"{namespace}/{name}" in call}
        self._spare(fault, own | flows_behind(placement, inside))
        self.spoiled = True
        self.trial.may_restart.update(
            pod["metadata"]["uid"]
            for pod in self.trial.cluster.list("Pod", namespace)
            if pod["metadata"]["name"].startswith(f"{name}-")
        )
        self.trial.target = ", ".join(map(str, targets))
        return self.inject(fault, *targets, deadline=deadline)

    def break_node(self, fault: Fault, node: str, *, deadline: float) -> list[Receipt]:
        """Inject into a node. Flows with a pod or a proxy on it are reported, the others must not be hurt."""
        tenants = self.trial.deployment.tenants
        chosen = {"first": tenants[0].client_nodes[0], "second": tenants[-1].client_nodes[0]}.get(node, node)
        targets = select(self.trial.cluster, frozenset({"node"}), Selector(node=chosen))
        placement = self.trial.deployment.placement()
        self._spare(fault, flows_at(placement, chosen))
        self.spoiled = True
        self.trial.may_restart.update(pod.uid for pod in placement.pods if pod.node == chosen)
        self.trial.may_restart.update(proxy.uid for proxy in placement.proxies if proxy.node == chosen)
        self.trial.target = ", ".join(map(str, targets))
        return self.inject(fault, *targets, deadline=deadline)

    def _spare(self, fault: Fault, flows: set[Flow]) -> None:
        """Expect nothing of these flows, and no harm to any other. What is not over by itself is held until it is
        undone.
        """
        self._spared |= flows
        kind = FaultShape.PULSE if fault.shape is FaultShape.PULSE else FaultShape.HELD
        self.trial.expect_fate_of(*self._broken, fault_shape=kind, harm=Harm.EITHER, exempt=sorted(self._spared))

    def inject(self, fault: Fault, *targets: Target, deadline: float, noisy: Tenant | None = None) -> list[Receipt]:
        """Inject; a held fault is in force until `recover` or its deadline. The expectation must be stated before.

        Args:
            noisy: the tenant whose own flow pauses meanwhile, and starts again slowly.
        """
        with ExitStack() as stack:
            if noisy:
                stack.callback(self.trial.heal, noisy)
                self.trial.deployment.pause(noisy)
            receipts = list(stack.enter_context(self.trial.fault(fault, *targets, seconds=deadline + GRACE)))
            begin = min(receipt.injected_at for receipt in receipts)
            self.first_effect = self.first_effect or begin
            self.trial.window(WindowKind.FAULT, begin, None, "first effect")
            held = Held(fault, begin, stack.pop_all())
        with self._lock:
            self._held.append(held)
        if fault.shape is FaultShape.PULSE:
            self.recover(fault.name, observe=0.0)
        else:
            held.timer = threading.Timer(deadline, self._expire, args=(held, deadline))
            held.timer.daemon = True
            held.timer.start()
        return receipts

    def recover(self, fault: str = "", *, observe: float = RECOVERY_SECONDS) -> int:
        """Undo the faults of that name (or all), newest first; how many. Nothing in force is no error: an undo is
        idempotent.

        Args:
            observe: seconds of load to watch afterwards, so that recovery is seen.
        """
        with self._lock:
            chosen = [held for held in reversed(self._held) if fault in ("", held.fault.name)]
            failures: list[Exception] = []
            for held in chosen:
                try:
                    self._undo(held)
                except Exception as error:  # one undo that fails does not stop the others; all are raised below
                    failures.append(error)
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {len(chosen)} faults were not undone: {failures[0]}", failures)
        if chosen and observe:
            self.trial.hold(observe)
        return len(chosen)

    def _undo(self, held: Held) -> None:
        self._held.remove(held)
        if held.timer is not None:
            held.timer.cancel()
        end = time.time_ns()
        held.stack.close()
        if held.fault.shape is FaultShape.PULSE:  # over by itself: its window ends when the successor was seen to serve
            end = self.trial.mended_at
        self.trial.window(WindowKind.FAULT, held.begin, end, "first effect until it was over")
        self.trial.window(WindowKind.RECOVERY, time.time_ns(), None, "undone, and seen so")

    def _expire(self, held: Held, deadline: float) -> None:
        with self._lock:
            if held not in self._held:
                return
            try:
                self._undo(held)
                self._note(f"{held.fault.name}: undone by its deadline of {deadline:g} s")
            except Exception as error:
                self.overdue.append(f"{held.fault.name}: not undone by its deadline of {deadline:g} s: {error}")

    def switch(
        self,
        fault: Fault,
        target: Target,
        proxies: Sequence[Proxy],
        *,
        deadline: float,
        pairs: int,
        noisy: Tenant | None = None,
    ) -> int:
        """On and off until the judge has decided, at most so many times: what bites by degrees needs it, for drift
        cancels.

        Args:
            noisy: the tenant whose aggressor stands in the place of its own flow, which is reported and not judged.
                Which of the proxies on its path it filled is seen in their CPU: the weakest gives out first, and
                shields the others.

        Returns the pairs done.
        """
        if pairs not in (steps := self.trial.thresholds.pairs):
            raise Misuse(f"pairs is {pairs}: the judge looks after {' or '.join(map(str, steps))}")
        own, before, held = [Flow(noisy.client, noisy.server)] if noisy else [], list(self._broken), []
        self.expect(proxies, FaultShape.GRADUAL, Harm.EITHER, own)
        for number in range(1, pairs + 1):
            held.append(self._switch_once(fault, target, deadline, noisy))
            self.trial.pairs_done = number
            if noisy:
                seen = filled(proxies, self.trial.events(), held)
                unsaid = self.trial.flows_behind(*seen.strained) - self.trial.flows_behind(*seen.drowned) - {*own}
                self._broken = [*before]
                self.expect(seen.drowned, FaultShape.GRADUAL, Harm.EITHER, [*own, *sorted(unsaid)])
            if number in steps and self.trial.look().done:
                break
        return self.trial.pairs_done

    def _switch_once(self, fault: Fault, target: Target, deadline: float, noisy: Tenant | None) -> Window:
        hold = self.trial.thresholds.settle + SWITCH_SECONDS
        if noisy:
            self.trial.deployment.pause(noisy)
        try:
            with self.trial.fault(fault, target, seconds=deadline):
                begin = time.time_ns()
                self.first_effect = self.first_effect or begin
                self.trial.hold(hold)
                end = time.time_ns()
            self.trial.window(WindowKind.FAULT, begin, end, f"{fault.name} held")
        finally:
            if noisy:
                self.trial.heal(noisy)
        self.trial.heal_what_fails()
        quiet = time.time_ns()
        self.trial.hold(hold)
        self.trial.window(WindowKind.RECOVERY, quiet, time.time_ns(), f"{fault.name} ended")
        return Window(WindowKind.FAULT, begin, end)

    def expect(self, proxies: Sequence[Proxy], shape: FaultShape, harm: Harm, exempt: Sequence[Flow] = ()) -> None:
        """Expect harm to just the flows behind these proxies, and behind all that were broken before."""
        self._broken += [proxy for proxy in proxies if proxy not in self._broken]
        self.trial.expect_fate_of(*self._broken, fault_shape=shape, harm=harm, exempt=sorted(self._spared | {*exempt}))

    def _note(self, text: str) -> None:
        self.trial.note(EventKind.NOTE, {"chaos toolkit": text})


def told(receipts: list[Receipt]) -> dict[str, Any]:
    """What an action says of its fault, for the journal."""
    first = receipts[0]
    return {
        "fault": first.fault,
        "targets": [str(receipt.target) for receipt in receipts],
        "injected_at": first.injected_at,
        "evidence": dict(first.evidence),
    }
