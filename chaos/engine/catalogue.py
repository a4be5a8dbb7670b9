"""Loads the shipped scenarios, so that their names can be checked and listed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from chaos.engine.scenario import SCENARIOS


def scenario_names(package: str = "chaos.suite") -> Sequence[str]:
    """The names of all scenarios that the package defines."""
    suite = importlib.import_module(package)
    for module in pkgutil.iter_modules(suite.__path__):
        if module.name.startswith("test_"):
            importlib.import_module(f"{package}.{module.name}")
    return sorted(SCENARIOS)
