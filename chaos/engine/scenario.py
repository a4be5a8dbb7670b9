"""What a scenario is, and the register that options, reports and the suite read.

A scenario is one function in chaos/suite, decorated: `@scenario("proxy-killed")`. pytest collects it under that name,
so that an item reads `proxy-killed[node]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.model.modes import ProxyMode
from chaos.names import summary_of

if TYPE_CHECKING:
    from chaos.engine.run import Run
    from chaos.engine.trial import Trial

Applies = Callable[[ProxyMode], str]  # why the scenario does not apply to a mode; "" when it does


def _always(mode: ProxyMode) -> str:
    del mode
    return ""


def has_proxies(mode: ProxyMode) -> str:
    """Why a scenario that needs proxies does not apply."""
    return "" if mode.hops else "there is no proxy without a mesh"


def has_waypoints(mode: ProxyMode) -> str:
    """Why a scenario about waypoints does not apply."""
    return "" if mode.separate_layers else "both layers are in one proxy: proxy-killed breaks it"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario's name, its function, and where it applies."""

    name: str
    run: Callable[[Trial], None]
    claim: str  # one sentence: what it shows
    applies: Applies = field(default=_always)
    spoils: bool = False  # what it did would be seen by a later trial: the deployment is made anew after it
    ours_alone: str = ""  # why it does not run on a mesh that is not ours; "" when it does


SCENARIOS: dict[str, Scenario] = {}


class NotHere(Exception):  # no error: the reason is shown, and the trial is skipped
    """A scenario does not apply to the mesh that a target turned out to have."""


def scenario(
    name: str, *, applies: Applies = _always, spoils: bool = False, ours_alone: str = ""
) -> Callable[[Callable[[Trial], None]], object]:
    """Register a scenario, and make pytest collect it under its own name in the module that defines it."""

    def register(function: Callable[[Trial], None]) -> object:
        claim = summary_of(function.__doc__)
        found = Scenario(name, function, claim, applies, spoils, ours_alone)
        SCENARIOS[name] = found

        def item(chaos_run: Run, chaos_mode: str) -> None:
            __tracebackhide__ = True
            chaos_run.attempt(chaos_mode, found)

        item.__doc__ = function.__doc__
        item.__dict__["__test__"] = True
        item.__dict__["scenario"] = found
        function.__globals__[name] = item
        return item if name == function.__name__ else found

    return register
