"""A run's options as tests ask for them."""

from __future__ import annotations

from chaos.engine.settings import Settings, parse_settings


def settings(**changes: object) -> Settings:
    """The parsed options of a run: few and fixed but for `changes`."""
    values: dict[str, object] = {
        "cluster": "embedded",
        "modes": "",
        "scenarios": "",
        "nodes": 2,
        "out": "out",
        "budget": 900,
        "seed": 7,
        "keep": False,
        "inconclusive": "retry",
        "baseline": None,
    }
    return parse_settings(**{**values, **changes})  # type: ignore[arg-type]
