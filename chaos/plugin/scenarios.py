"""Scenarios as pytest items: one for each mode, `proxy-killed[node]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from chaos.errors import EnvironmentUnfit

if TYPE_CHECKING:
    from chaos.engine.run import Run
    from chaos.engine.scenario import Scenario


class Attempt:
    """What pytest calls: one scenario in one mode."""

    def __init__(self, scenario: Scenario, mode: str) -> None:
        self.scenario, self.mode = scenario, mode
        self.tried = False
        self.__name__ = scenario.name
        self.__doc__ = scenario.run.__doc__
        self.__module__ = scenario.run.__module__
        self.__code__ = scenario.run.__code__  # where a report says that the item is

    def __call__(self, chaos_run: Run) -> None:
        __tracebackhide__ = True
        chaos_run.attempt(self.mode, self.scenario)
        self.tried = True


class ScenarioItem(pytest.Function):
    """One scenario in one mode; it passes by its trial alone."""

    def runtest(self) -> None:
        """Raise EnvironmentUnfit where what pytest called in the attempt's place returned without a trial."""
        attempt: Attempt = self.obj
        attempt.tried = False
        super().runtest()
        if not attempt.tried:
            raise EnvironmentUnfit(f"{self.name} was not tried: a plugin or an option of pytest took its place")


def items_of(scenario: Scenario, collector: pytest.Collector, modes: Sequence[str]) -> list[pytest.Item]:
    """The items of a scenario, in the order of the modes."""
    return [
        ScenarioItem.from_parent(collector, name=f"{scenario.name}[{mode}]", callobj=Attempt(scenario, mode))
        for mode in modes
    ]
