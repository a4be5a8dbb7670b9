"""Activities and controls of the experiments under test: they do what real ones do wrong."""

import os
import signal
import time
from pathlib import Path

from chaos.engine.targets import container_of
from chaos.errors import NoEffect, RecoveryFailed
from chaos.faults.pause import Pause
from chaos.faults.selection import Pick, pick
from chaos.toolkit.session import current


def act() -> str:
    return "done"


def steady(value: bool = True) -> bool:
    return value


def fail() -> None:
    raise RuntimeError("it broke")


def fail_to_recover() -> None:
    raise RecoveryFailed("still broken")


def select_nothing() -> None:
    pick([], Pick.ONE, what="proxies of tenant-x")


def have_no_effect() -> None:
    raise NoEffect("nothing was seen to change")


def take_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def flicker(counter: str, failing: int) -> bool:
    """True but for one call, the one of that number."""
    path = Path(counter)
    calls = int(path.read_text() or 0) + 1 if path.exists() else 1
    path.write_text(str(calls))
    return calls != failing


def wait(seconds: float = 2.5) -> None:
    time.sleep(seconds)


def reading(value: float, low: float, high: float) -> dict:  # type: ignore[type-arg]
    return {"value": value, "low": low, "high": high, "unit": "share"}


def pause_secretly(tenant: str) -> None:
    """Break what the experiment does not say: a bystander is hurt whom the sharing model spares."""
    session = current()
    session.driver.inject(
        Pause(seconds=60), container_of(session.trial.cluster, session.proxy_of(tenant, "any")), deadline=60
    )
