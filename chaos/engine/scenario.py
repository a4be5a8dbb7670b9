"""Defines a scenario, and the register that options, reports and the suite read.

A scenario is one function in chaos/suite, decorated: `@scenario("proxy-killed", faults=(Kill,))`. The plugin collects
it under that name, once for each mode, so that an item reads `proxy-killed[node]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.errors import Misuse
from chaos.faults.model import Fault
from chaos.model.modes import ProxyMode
from chaos.names import summary_of

if TYPE_CHECKING:
    from chaos.engine.trial import Trial

SkipReason = Callable[[ProxyMode], str]  # why the scenario does not apply to a mode; "" when it does


def _none(mode: ProxyMode) -> str:
    del mode
    return ""


def without_proxies(mode: ProxyMode) -> str:
    """Return why a scenario that needs proxies does not apply."""
    return "" if mode.hops else "there is no proxy without a mesh"


def without_waypoints(mode: ProxyMode) -> str:
    """Return why a scenario about waypoints does not apply."""
    if mode.l7 is None:
        return "no call passes a proxy of layer 7" if mode.hops else "there is no proxy without a mesh"
    if mode.l4 is None:
        return "its proxies of requests are the only ones: proxy-killed breaks one"
    return "" if mode.separate_layers else "both layers are in one proxy: proxy-killed breaks it"


def _place(function: Callable[..., None]) -> str:
    return f"{function.__code__.co_filename}: {function.__qualname__}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario's name, its function, and where it applies.

    Attributes:
        claim: one sentence: what it shows.
        faults: those that it injects; what they need of a cluster, it needs.
        skip_reason: why it does not apply to a mode.
        redeploys_after: what it did would be seen by a later trial: the deployment is made anew after it.
        reference_mesh_only: why it does not run on a mesh that is not ours; empty when it does.
        reference_apps_only: why it does not run on applications that are not ours; empty when it does.
    """

    name: str
    run: Callable[[Trial], None]
    claim: str
    faults: tuple[type[Fault], ...] = ()
    skip_reason: SkipReason = _none
    redeploys_after: bool = False
    reference_mesh_only: str = ""
    reference_apps_only: str = ""

    def why_not_in(self, mode: ProxyMode) -> str:
        """Return why it does not apply to a mode of the reference applications; "" when it does."""
        return (self.reference_mesh_only if mode.brought_by else "") or self.skip_reason(mode)

    @property
    def why_not_on_a_target(self) -> str:
        """Return why it does not run on the user's applications and mesh; "" when it does."""
        return self.reference_mesh_only or self.reference_apps_only

    @property
    def shipped(self) -> bool:
        """Whether it belongs to the suite; otherwise it comes from a user's file."""
        return self.run.__module__.startswith("chaos.suite.")


SCENARIOS: dict[str, Scenario] = {}


class NotApplicable(Exception):  # no error: the reason is shown, and the trial is skipped
    """A scenario does not apply to the mesh that was found."""


def scenario(
    name: str,
    *,
    faults: tuple[type[Fault], ...] = (),
    skip_reason: SkipReason = _none,
    redeploys_after: bool = False,
    reference_mesh_only: str = "",
    reference_apps_only: str = "",
) -> Callable[[Callable[[Trial], None]], Scenario]:
    """Register a scenario. Raises Misuse when another function has that name already."""

    def register(function: Callable[[Trial], None]) -> Scenario:
        there = SCENARIOS.get(name)
        if there is not None and _place(there.run) != _place(function):
            raise Misuse(f"scenario {name!r} already exists, in {_place(there.run)}: choose another name")
        found = SCENARIOS[name] = Scenario(
            name,
            function,
            summary_of(function.__doc__),
            faults,
            skip_reason,
            redeploys_after,
            reference_mesh_only,
            reference_apps_only,
        )
        return found

    return register
