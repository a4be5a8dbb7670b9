"""The life of a fault: plan, receipt, inject, evidence, hold, recover, evidence, receipt closed.

`with injected(cluster, fault, target, …) as receipts:` is the one door; pytest, Chaos Toolkit and the command line use
it. `inject_all` is the same for several different faults at once.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Final

from chaos.errors import (
    ExperimentFailure,
    GuardTripped,
    NoTargets,
    NotFound,
    SharedfateError,
    Stopped,
    TargetVanished,
    UndoneEarly,
)
from chaos.faults import helper_pod, notes, receipts
from chaos.faults.catalogue import fault_from
from chaos.faults.clashes import refuse_clashes, refuse_held
from chaos.faults.guards import Guard, first_tripped
from chaos.faults.model import Fault, Receipt, Target, refuse_wrong_target, settings_of
from chaos.faults.stop_signal import StopSignal
from chaos.interrupts import held_back
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase

Listener = Callable[[FaultPhase, Receipt], None]  # told of each phase
Planned = tuple[Fault, Target]
_UNDONE_AT_ONCE: Final = 8
_LOOK: Final = 0.5  # seconds between looks at guards and at the stop signal


def begin(
    cluster: Cluster, fault: Fault, target: Target, *, run: str, seconds: float, on_phase: Listener = lambda *_: None
) -> Receipt:
    """Inject one fault into one target, and return its receipt. Undo it when injecting fails half-way.

    `seconds`: the deadline, after which whoever sees the receipt undoes it. Raises Misuse, with the holder's name, when
    another process holds a fault that clashes.
    """
    refuse_wrong_target(fault, target)
    receipt = Receipt(
        id=f"{int(time.time() * 1000):x}-{uuid.uuid4().hex[:6]}",
        run=run,
        fault=fault.name,
        settings=settings_of(fault),
        target=target,
        deadline=time.time_ns() + int(seconds * 1e9),
        facts=fault.plan(cluster, target),
        by=f"process {os.getpid()} on {socket.gethostname()}",
    )
    version = receipts.store(cluster, receipt)
    try:
        refuse_held(cluster, [(fault, target)], own=receipt, version=version)
        # What another held while we planned may have been undone before we looked: it is no original of ours.
        if (facts := fault.plan(cluster, target)) != receipt.facts:
            receipt = receipts.update(cluster, receipt, facts=facts)
    except BaseException:
        with held_back():
            receipts.close(cluster, receipt)  # nothing was changed
        raise
    on_phase(receipt.phase, receipt)
    try:
        evidence = fault.inject(cluster, receipt)
        receipt = receipts.update(
            cluster, receipt, phase=FaultPhase.INJECTED, injected_at=evidence.at, evidence=dict(evidence.seen)
        )
        on_phase(receipt.phase, receipt)
    except BaseException as error:
        # What was done half-way is not known: the undo is idempotent, and the receipt stays when it fails.
        try:
            with held_back():
                end(cluster, receipt, on_phase=on_phase, maybe_uninjected=True)
        except Exception as undo:  # the cause is what the caller must see; the undo is the watchdog's now
            error.add_note(f"its undo failed too, and is left to the watchdog: {undo}")
        if isinstance(error, NotFound) and "/configmaps/" in str(error):
            raise UndoneEarly(
                f"{fault.name} on {target}: it took longer to inject than its deadline of {seconds:g} s"
            ) from error
        raise
    return receipt


def end(
    cluster: Cluster, receipt: Receipt, *, on_phase: Listener = lambda *_: None, maybe_uninjected: bool = False
) -> Receipt:
    """Undo a fault from its receipt alone, and close the receipt. Safe to repeat; the receipt stays when the undo
    fails.

    Raises TargetVanished when the target went while the fault was held (the receipt is closed: nothing is left to
    undo), and UndoneEarly when somebody else closed the receipt before us. `maybe_uninjected`: the fault may
    have had no effect yet; then neither is an error.
    """
    early = UndoneEarly(
        f"{receipt.fault} on {receipt.target}: somebody else had undone it: its deadline passed, or it was stopped"
    )
    if not receipts.is_open(cluster, receipt):
        if notes.is_noted(cluster, receipt):
            receipts.store(cluster, receipt)  # it was lost: what it broke was not
        elif not maybe_uninjected:
            raise early
    fault = fault_from(receipt.fault, receipt.settings)
    try:
        evidence = fault.recover(cluster, receipt)
        receipt = receipts.update(
            cluster,
            receipt,
            phase=FaultPhase.RECOVERED,
            recovered_at=evidence.at or time.time_ns(),
            evidence={**receipt.evidence, "recovery": dict(evidence.seen)},
        )
    except TargetVanished:
        helper_pod.sweep(cluster, receipt)
        receipts.close(cluster, receipt)
        on_phase(FaultPhase.VANISHED, receipt)
        if maybe_uninjected:
            return receipt
        raise
    except SharedfateError as error:
        if receipts.is_open(cluster, receipt):
            raise
        if maybe_uninjected:
            return receipt
        raise early from error
    on_phase(receipt.phase, receipt)
    helper_pod.sweep(cluster, receipt)
    receipts.close(cluster, receipt)
    return receipt


@contextmanager
def injected(
    cluster: Cluster,
    fault: Fault,
    *targets: Target,
    run: str,
    seconds: float = 60.0,
    on_phase: Listener = lambda *_: None,
    guards: Sequence[Guard] = (),
    stop: StopSignal | None = None,
) -> Iterator[tuple[Receipt, ...]]:
    """Inject a fault into each target; undo all on leaving, however the block ends.

    Raises NoTargets for an empty selection, and one ExceptionGroup with every undo that failed.
    """
    if not targets:
        raise NoTargets(f"fault {fault.name}: no target was selected, so nothing would be tested")
    with inject_all(
        cluster,
        [(fault, target) for target in targets],
        run=run,
        seconds=seconds,
        on_phase=on_phase,
        guards=guards,
        stop=stop,
    ) as found:
        yield found


@contextmanager
def inject_all(
    cluster: Cluster,
    planned: Sequence[Planned],
    *,
    run: str,
    seconds: float = 60.0,
    on_phase: Listener = lambda *_: None,
    guards: Sequence[Guard] = (),
    stop: StopSignal | None = None,
) -> Iterator[tuple[Receipt, ...]]:
    """Inject several faults, in order; undo all, in reverse, on leaving, however the block ends.

    Clashes are refused before anything is changed. While the block runs, the guards and the stop signal are read;
    when one trips, everything is undone at once, and leaving the block raises GuardTripped or Stopped.
    """
    if not planned:
        raise NoTargets("no fault has a target, so nothing would be tested")
    for fault, target in planned:
        refuse_wrong_target(fault, target)
    refuse_clashes(planned)
    refuse_held(cluster, planned)
    stop = stop or StopSignal(cluster)
    if why := stop.requested():
        raise Stopped(f"stopped by an operator before anything was injected: {why}")
    begun: list[Receipt] = []
    watch = _Watch(cluster, begun, guards=guards, stop=stop, on_phase=on_phase)
    try:
        for fault, target in planned:
            begun.append(begin(cluster, fault, target, run=run, seconds=seconds, on_phase=on_phase))
        watch.start()
        yield tuple(begun)
    finally:
        watch.finish()
        with held_back():
            watch.end_all()
    if watch.why is not None:
        raise watch.why
    if text := stop.requested():  # between two looks: who was told to stop is not green
        raise Stopped(f"{', '.join(f'{one.fault} on {one.target}' for one in begun)}: stopped by an operator: {text}")


class _Watch:
    """Reads guards and the stop signal in a thread, and ends the held faults once: there or on leaving the block."""

    def __init__(
        self, cluster: Cluster, begun: list[Receipt], *, guards: Sequence[Guard], stop: StopSignal, on_phase: Listener
    ) -> None:
        self._cluster, self._begun, self._guards, self._stop, self._on_phase = (cluster, begun, guards, stop, on_phase)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="fault-watch", daemon=True)
        self._failure: Exception | None = None
        self._ended = False
        self.why: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Stop looking; wait for an undo that is under way."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def end_all(self) -> None:
        """Undo what the thread has not; raise what failed in either."""
        if not self._ended:
            self._ended = True
            end_all(self._cluster, reversed(self._begun), on_phase=self._on_phase)
        if self._failure is not None:
            raise self._failure

    def _look(self) -> None:
        while not self._over.wait(_LOOK):
            names = ", ".join(f"{one.fault} on {one.target}" for one in self._begun)
            if text := first_tripped(self._guards):
                self.why = GuardTripped(f"{names}: ended at once, because {text}")
            elif text := self._stop.requested():
                self.why = Stopped(f"{names}: stopped by an operator: {text}")
            if self.why is None:
                continue
            self._ended = True
            try:
                end_all(self._cluster, reversed(self._begun), on_phase=self._on_phase, early=True)
            except Exception as error:  # raised again where the block is left
                self._failure = error
            return


def end_all(
    cluster: Cluster, begun: Iterable[Receipt], *, on_phase: Listener = lambda *_: None, early: bool = False
) -> None:
    """Undo all; a failure of one, of any kind, does not stop the others. `early`: an undo by somebody else is no
    error.
    """
    failures: list[Exception] = []
    for receipt in begun:
        try:
            end(cluster, receipt, on_phase=on_phase)
        except UndoneEarly as error:
            if not early:
                failures.append(error)
        except Exception as error:  # a broken connection must not leave the next fault standing
            failures.append(error)
    if len(failures) == 1 and isinstance(failures[0], (TargetVanished, UndoneEarly)):
        raise failures[0]
    if failures:
        raise ExceptionGroup(
            f"{len(failures)} faults did not end as they should; `sharedfate stop` undoes what is left", failures
        )


def held_receipts(cluster: Cluster, *, run: str | None = None) -> list[Receipt | receipts.UnreadableReceipt]:
    """Return everything that a run (None: any run) holds in the cluster, newest first: open receipts, and notes on
    objects whose receipt was lost.
    """
    stored = [one for one, _ in receipts.look(cluster, run)]
    known = {one.id for one in stored}
    lost = [
        one
        for one in notes.all_noted(cluster)
        if one.id not in known and (run is None or not isinstance(one, Receipt) or one.run == run)
    ]
    return sorted([*stored, *lost], key=lambda one: one.id, reverse=True)


def undo_overdue(
    cluster: Cluster,
    *,
    now: int,
    run: str | None = None,
    everything: bool = False,
    done: Callable[[Receipt], None] = lambda _: None,
) -> list[Receipt]:
    """Undo open receipts whose deadline has passed (or all), and notes on objects without a receipt: for a new runner,
    `clean` and `stop`. Calls `done` with each.

    Several at once: faults that are held together do not touch one another, and one whose undo takes its time, or never
    comes to an end, must not keep the others standing. Raises ExceptionGroup when any could not be undone or read,
    after trying each.
    """
    held = held_receipts(cluster, run=run)
    failures: list[Exception] = [ExperimentFailure(str(one)) for one in held if not isinstance(one, Receipt)]
    overdue = [one for one in held if isinstance(one, Receipt) and (everything or one.deadline < now)]
    undone: list[Receipt] = []
    with ThreadPoolExecutor(_UNDONE_AT_ONCE, thread_name_prefix="undo") as pool:
        ends = {pool.submit(end, cluster, receipt, maybe_uninjected=True): receipt for receipt in overdue}
        for one in as_completed(ends):
            receipt, error = ends[one], one.exception()
            if error is None:
                undone.append(receipt)
                done(receipt)
            elif isinstance(error, SharedfateError):
                failures.append(error)
            else:  # each is tried, whatever happens to another
                what = f"{receipt.fault} on {receipt.target} ({receipt.holder})"
                failure = ExperimentFailure(f"{what} was not undone: {type(error).__name__}: {error}")
                failure.__cause__ = error
                failures.append(failure)
    undone.sort(key=lambda one: one.id, reverse=True)
    if failures:
        raise ExceptionGroup(
            f"{len(undone)} faults were undone, and {len(failures)} receipts could not be read or undone", failures
        )
    return undone
