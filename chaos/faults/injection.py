"""The life of a fault: plan, receipt, inject, evidence, hold, recover, evidence, receipt closed.

`with injected(cluster, fault, target, …) as receipt:` is the one door; pytest, Chaos Toolkit and the command line use it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from chaos.cluster.client import Cluster
from chaos.errors import ExperimentFailure, NoTargets, RecoveryFailed, SharedfateError
from chaos.faults import receipts
from chaos.faults.catalogue import fault_from
from chaos.faults.model import Fault, Phase, Receipt, Target, refuse_wrong_target, settings_of

Listener = Callable[[str, Receipt], None]  # told of each phase: receipt, injected, recovered


def begin(cluster: Cluster, fault: Fault, target: Target, *, run: str, seconds: float,
          tell: Listener = lambda *_: None) -> Receipt:
    """Inject one fault into one target, and return its receipt. Undone again when injecting fails half-way.

    `seconds`: the deadline, after which whoever sees the receipt undoes it.
    """
    refuse_wrong_target(fault, target)
    facts = fault.plan(cluster, target)
    receipt = Receipt(
        id=f"{int(time.time() * 1000):x}-{uuid.uuid4().hex[:6]}",
        run=run,
        fault=fault.name,
        settings=settings_of(fault),
        target=target,
        deadline=time.time_ns() + int(seconds * 1e9),
        facts=facts,
    )
    receipts.store(cluster, receipt)
    tell("receipt", receipt)
    try:
        evidence = fault.inject(cluster, receipt)
    except BaseException:
        # What was done half-way is not known: the undo is idempotent, and the receipt stays when it fails.
        end(cluster, receipt, tell=tell)
        raise
    receipt = receipts.update(cluster, receipt, phase=Phase.INJECTED, injected_at=evidence.at, evidence=dict(evidence.seen))
    tell("injected", receipt)
    return receipt


def end(cluster: Cluster, receipt: Receipt, *, tell: Listener = lambda *_: None) -> Receipt:
    """Undo a fault from its receipt alone, and close the receipt. Safe to repeat; the receipt stays when the undo fails."""
    fault = fault_from(receipt.fault, receipt.settings)
    evidence = fault.recover(cluster, receipt)
    receipt = receipts.update(cluster, receipt, phase=Phase.RECOVERED, recovered_at=evidence.at,
                              evidence={**receipt.evidence, "recovery": dict(evidence.seen)})
    tell("recovered", receipt)
    receipts.close(cluster, receipt)
    return receipt


@contextmanager
def injected(cluster: Cluster, fault: Fault, *targets: Target, run: str, seconds: float = 60.0,
             tell: Listener = lambda *_: None) -> Iterator[tuple[Receipt, ...]]:
    """Inject a fault into each target; undo all on leaving, however the block ends.

    Raises NoTargets for an empty selection, and one ExceptionGroup with every undo that failed.
    """
    if not targets:
        raise NoTargets(f"fault {fault.name}: no target was selected, so nothing would be tested")
    held: list[Receipt] = []
    try:
        for target in targets:
            held.append(begin(cluster, fault, target, run=run, seconds=seconds, tell=tell))
        yield tuple(held)
    finally:
        end_all(cluster, reversed(held), tell=tell)


def end_all(cluster: Cluster, held: Iterable[Receipt], *, tell: Listener = lambda *_: None) -> None:
    """Undo them all; one that fails does not stop the others."""
    failures: list[Exception] = []
    for receipt in held:
        try:
            end(cluster, receipt, tell=tell)
        except SharedfateError as error:
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} faults were not undone; `sharedfate clean` tries again", failures)


def undo_overdue(cluster: Cluster, *, now: int, run: str | None = None, everything: bool = False) -> list[Receipt]:
    """Undo open receipts whose deadline has passed (or all): the watchdog's, a new runner's and `clean`'s work.

    Raises ExceptionGroup when any could not be undone, after trying each.
    """
    found = [r for r in receipts.open_receipts(cluster, run) if everything or r.deadline < now]
    failures: list[Exception] = []
    for receipt in reversed(found):
        try:
            end(cluster, receipt)
        except RecoveryFailed as error:
            failures.append(error)
        except ExperimentFailure as error:
            # The target or the whole tenant may be gone: nothing is left to mend when its pod is.
            if cluster.find("Pod", receipt.target.name, receipt.target.namespace or None) is None:
                receipts.close(cluster, receipt)
            else:
                failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(found)} faults could not be undone", failures)
    return found
