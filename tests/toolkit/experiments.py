"""Small experiments on no system at all, to run through the real library."""

from __future__ import annotations

from typing import Any

Experiment = dict[str, Any]

CONTROL = {
    "name": "sharedfate",
    "provider": {"type": "python", "module": "chaos.toolkit.control", "arguments": {"deploy": False}},
}


def step(func: str, kind: str = "action", **arguments: Any) -> Experiment:
    return {
        "type": kind,
        "name": func.replace("_", " "),
        "provider": {"type": "python", "module": "tests.toolkit.steps", "func": func, "arguments": arguments},
    }


def probe(func: str, tolerance: Any = True, **arguments: Any) -> Experiment:
    return {**step(func, "probe", **arguments), "tolerance": tolerance}


def tolerance(func: str, **arguments: Any) -> Experiment:
    return {
        "type": "probe",
        "name": func,
        "provider": {"type": "python", "module": "chaos.toolkit.tolerances", "func": func, "arguments": arguments},
    }


def experiment(
    method: list[Experiment] | None = None,
    *,
    probes: list[Experiment] | None = None,
    rollbacks: list[Experiment] | None = None,
    strategy: str = "default",
    controls: list[Experiment] | None = None,
    control: bool = False,
) -> Experiment:
    found: Experiment = {
        "version": "1.0.0",
        "title": "a small experiment",
        "description": "on nothing",
        "method": [step("act")] if method is None else method,
        "rollbacks": rollbacks or [],
        "controls": [*([CONTROL] if control else []), *(controls or [])],
        "runtime": {"hypothesis": {"strategy": strategy}, "rollbacks": {"strategy": "always"}},
    }
    if probes is not None:
        found["steady-state-hypothesis"] = {"title": "all is well", "probes": probes}
    return found
