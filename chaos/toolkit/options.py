"""The arguments of the control: checked whole, before anything is started."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chaos.engine.settings import parse_settings
from chaos.errors import Misuse
from chaos.model.modes import mode_named
from chaos.toolkit.session import ControlOptions

DEFAULTS: Final[Mapping[str, Any]] = {
    "mode": "sidecar",  # proxy mode
    "cluster": "embedded",  # or context:NAME
    "out": "sharedfate-out",  # directory of histories, reports and journals
    "name": "",  # of the experiment's directory; "": made from its title
    "nodes": 2,
    "seed": 1,
    "budget": 1200,  # millicores
    "guard": True,  # abort when a bystander outside the predicted set is hurt
    "namespaces": "",  # of a cluster that is not ours: those that may be touched, comma separated
    "allow_production": False,  # of a cluster that is not ours
    "deploy": True,  # False: no cluster, the journal alone is judged
}


def check_arguments(arguments: Mapping[str, Any]) -> list[str]:
    """What is wrong with them, a sentence each; `${name}` is not known yet, and passes."""
    problems = []
    for name, value in arguments.items():
        if name not in DEFAULTS:
            near = difflib.get_close_matches(name, DEFAULTS, 1)
            problems.append(
                f"{name}: no such argument of the control{f', did you mean {near[0]}' if near else ''}: "
                f"it takes {', '.join(DEFAULTS)}"
            )
        elif not (isinstance(value, str) and "${" in value):
            wanted = type(DEFAULTS[name])
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                problems.append(f"{name}: {value!r} is a {type(value).__name__}, want {wanted.__name__}")
            elif name == "mode":
                try:
                    mode_named(value)
                except Misuse as error:
                    problems.append(f"mode: {error}")
    return problems


def options_from(arguments: Mapping[str, Any], *, title: str) -> ControlOptions:
    """What the arguments, substituted, ask for; raises one Misuse with every problem."""
    if problems := check_arguments(arguments):
        raise Misuse("; ".join(problems))
    chosen = {**DEFAULTS, **arguments}
    if unknown := [f"{name}: {value}" for name, value in chosen.items() if isinstance(value, str) and "${" in value]:
        raise Misuse(f"not in the configuration: {', '.join(unknown)}")
    name = chosen["name"] or slug(title)
    if not re.fullmatch(r"[a-z0-9][-a-z0-9.]*", name):
        raise Misuse(f"name: {name!r}: want lower case letters, digits, dots and dashes")
    mode = str(chosen["mode"])
    out = Path(chosen["out"]) / f"{name}-{mode}"
    settings = parse_settings(
        cluster=chosen["cluster"],
        modes=mode,
        scenarios="",
        nodes=chosen["nodes"],
        out=str(out),
        budget=chosen["budget"],
        seed=chosen["seed"],
        keep=False,
        inconclusive="fail",
        baseline=None,
        namespaces=chosen["namespaces"],
        allow_production=chosen["allow_production"],
    )
    return ControlOptions(settings, mode, name, chosen["guard"])


def slug(title: str) -> str:
    """A title as the name of a directory."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60].strip("-") or "experiment"
