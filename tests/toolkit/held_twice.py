"""Activities of an experiment beside another process that breaks the same targets: it holds them first, or tries to."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
from typing import Any

from chaos.faults import receipts
from chaos.faults.model import Fault, Receipt, Target
from chaos.toolkit.session import current
from tests.faults.runner import command, spawn
from tests.faults.small_world import World

ANOTHER = "faults"  # the run of the other process
_holding: list[subprocess.Popen[str]] = []
_before: list[dict[str, Any]] = []


class _Planned(Exception):
    """Raised in place of an injection: what it would break."""

    def __init__(self, fault: Fault, targets: tuple[Target, ...]) -> None:
        super().__init__(fault.name)
        self.fault, self.targets = fault, targets


def _world() -> World:
    session = current()
    return World(session.trial.cluster, session.options.mode, run=session.run.id)


def _planned_by(action: str, module: str, arguments: dict[str, Any]) -> _Planned:
    """What an action would break here: its fault, and the targets that it chooses."""

    def plan(fault: Fault, *targets: Target, **_: Any) -> None:
        raise _Planned(fault, targets)

    driver: Any = current().driver
    driver.inject = plan
    try:
        getattr(importlib.import_module(module), action)(**arguments)
    except _Planned as planned:
        return planned
    finally:
        del driver.inject
    raise AssertionError(f"{action} breaks nothing")


def another_holds(action: str, of: str, arguments: dict[str, Any]) -> str:
    """Another process injects what the action would; its words, as whoever clashes with it must hear them."""
    world, planned = _world(), _planned_by(action, of, arguments)
    _before.append(world.picture())
    (target,) = planned.targets
    _holding.append(spawn(world, planned.fault, target, 120))
    said = _holding[-1].stdout
    assert said is not None
    assert said.readline() == "held\n"
    (held,) = [one for one in receipts.open_receipts(world.cluster) if one.run == ANOTHER]
    return held.holder


def it_lets_go() -> bool:
    """The other process is interrupted, and undoes; everything is as it was."""
    holder = _holding.pop()
    holder.send_signal(signal.SIGINT)
    holder.communicate(timeout=400)  # the kubelet may hold a container back for minutes
    world = _world()
    world.nothing_held()
    before = _before.pop()
    world.cluster.wait("everything as it was", lambda: world.picture() == before, seconds=60)
    return True


def another_is_refused() -> dict[str, str]:
    """Another process tries to inject what the experiment holds: what it is told, and the holder."""
    cluster = current().trial.cluster
    (held,) = receipts.open_receipts(cluster)
    assert isinstance(held, Receipt)
    told = command(cluster, held.fault, held.settings, held.target, 30)
    done = subprocess.run(told, capture_output=True, text=True, timeout=60, check=False)
    assert [one.id for one in receipts.open_receipts(cluster)] == [held.id]
    assert f"process {os.getpid()}" in held.holder
    return {"held": done.stdout, "said": done.stderr, "holder": held.holder}
