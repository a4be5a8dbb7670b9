"""Loads the shipped scenarios, so that their names can be checked and listed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from chaos.engine.scenario import SCENARIOS
from chaos.mesh.modes import known_modes


def scenario_names(package: str = "chaos.suite") -> Sequence[str]:
    """Return the names of all scenarios that the package defines."""
    suite = importlib.import_module(package)
    for module in pkgutil.iter_modules(suite.__path__):
        if module.name.startswith("test_"):
            importlib.import_module(f"{package}.{module.name}")
    return sorted(SCENARIOS)


def faults_of_scenarios() -> dict[str, dict[str, tuple[str, ...] | str]]:
    """Map scenario and mode to the faults injected there, or to the reason why the scenario does not apply."""
    return {
        name: {
            mode.name: SCENARIOS[name].skip_reason(mode)
            or tuple(sorted(fault.name for fault in SCENARIOS[name].faults))
            for mode in known_modes().values()
        }
        for name in scenario_names()
    }
