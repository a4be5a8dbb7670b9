"""`Chaos`: faults for tests and tools that hold a cluster. pytest's fixture `chaos` is one.

    with chaos.inject(Kill(), chaos.one(layer="l7", tenant="a")) as receipt:
        …

The same objects are behind the command line (`sharedfate inject`) and Chaos Toolkit's actions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from chaos.faults.dry_run import dry_run
from chaos.faults.guards import Guard
from chaos.faults.injection import Listener, Planned, inject_all, undo_overdue
from chaos.faults.model import Fault, Receipt, Target
from chaos.faults.selection import Pick, Selector, select
from chaos.faults.stop_signal import StopSignal, request_stop
from chaos.kube.client import Cluster

_CONTAINERS = frozenset({"container"})


class Chaos:
    """Faults in one cluster, under one run's label.

    Args:
        seed: of every random choice.
        seconds: the deadline of faults that say none.
        tell: told of each phase of each fault.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        run: str,
        seed: int = 0,
        seconds: float = 60.0,
        on_phase: Listener = lambda *_: None,
        stop: StopSignal | None = None,
    ) -> None:
        self.cluster, self.run, self.seed, self.seconds = cluster, run, seed, seconds
        self._on_phase = on_phase
        self._stop = stop

    @contextmanager
    def inject(
        self, fault: Fault, target: Target, *, seconds: float | None = None, guards: Sequence[Guard] = ()
    ) -> Iterator[Receipt]:
        """Inject one fault into one target; undo it when the block is left, however it ends.

        Raises TargetVanished, NoEffect, RecoveryFailed, Stopped, GuardTripped or UndoneEarly: each is its own story.
        """
        with self.inject_all([(fault, target)], seconds=seconds, guards=guards) as receipts:
            yield receipts[0]

    @contextmanager
    def inject_all(
        self, planned: Sequence[Planned], *, seconds: float | None = None, guards: Sequence[Guard] = ()
    ) -> Iterator[tuple[Receipt, ...]]:
        """Inject several faults at once, (fault, target) each; clashes are refused before anything is changed."""
        with inject_all(
            self.cluster,
            planned,
            run=self.run,
            seconds=self.seconds if seconds is None else seconds,
            on_phase=self._on_phase,
            guards=guards,
            stop=self._stop,
        ) as receipts:
            yield receipts

    def select(self, fault: Fault, **fields: Any) -> list[Target]:
        """Return targets of a kind that the fault takes, by the fields of Selector; never empty."""
        return select(self.cluster, fault.targets, Selector(**{"seed": self.seed, **fields}))

    def one(self, **fields: Any) -> Target:
        """Return one container, by the fields of Selector."""
        return select(self.cluster, _CONTAINERS, Selector(**{"seed": self.seed, "pick": Pick.ONE, **fields}))[0]

    def dry_run(self, planned: Sequence[Planned], *, seconds: float | None = None) -> list[str]:
        """Return what injecting and undoing would write, in lines; changes nothing."""
        return dry_run(
            self.cluster,
            planned,
            run=self.run,
            seconds=self.seconds if seconds is None else seconds,
            now=time.time_ns(),
        )

    def undo_all(self) -> list[Receipt]:
        """Undo everything that this run still holds."""
        return undo_overdue(self.cluster, now=time.time_ns(), run=self.run, everything=True)

    def stop(self, why: str) -> list[Receipt]:
        """Ask every runner of the cluster to stop, and undo all that any of them holds."""
        request_stop(self.cluster, why=why)
        return undo_overdue(self.cluster, now=time.time_ns(), everything=True)
