"""The arguments of the control, checked whole before anything is started."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from chaos.engine.settings import parse_settings
from chaos.errors import Misuse
from chaos.fields import Fields
from chaos.mesh.modes import mode_named
from chaos.toolkit.session import ControlOptions


@dataclass(frozen=True, slots=True)
class Arguments:
    """The control's arguments, with their defaults.

    Attributes:
        mode: proxy mode.
        cluster: embedded, or context:NAME.
        out: directory of histories, reports and journals.
        name: of the experiment's directory; "" makes it from the title.
        budget: millicores.
        guard: abort when a bystander outside the predicted set is hurt.
        namespaces: those that may be touched in a cluster that is not ours, comma separated.
        allow_production: of a cluster that is not ours.
        deploy: False: no cluster, only the journal is judged.
    """

    mode: str = "sidecar"
    cluster: str = "embedded"
    out: str = "sharedfate-out"
    name: str = ""
    nodes: int = 2
    seed: int = 1
    budget: int = 1200
    guard: bool = True
    namespaces: str = ""
    allow_production: bool = False
    deploy: bool = True


_KNOWN: Final = tuple(one.name for one in fields(Arguments))


def check_arguments(arguments: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the arguments, a sentence each; a `${name}` that is not substituted yet passes."""
    problems: list[str] = []
    given = {name: value for name, value in arguments.items() if name not in _KNOWN or not _is_variable(value)}
    found = Fields(given, "", problems, known=_KNOWN).of(Arguments)
    if isinstance(found.get("mode"), str):
        try:
            mode_named(found["mode"])
        except Misuse as error:
            problems.append(f"mode: {error}")
    return problems


def options_from(arguments: Mapping[str, Any], *, title: str) -> ControlOptions:
    """Return the options that the substituted arguments ask for; raises one Misuse with every problem."""
    if problems := check_arguments(arguments):
        raise Misuse("; ".join(problems))
    if unknown := [f"{name}: {value}" for name, value in arguments.items() if _is_variable(value)]:
        raise Misuse(f"not in the configuration: {', '.join(unknown)}")
    chosen = Arguments(**arguments)
    name = chosen.name or slug(title)
    if not re.fullmatch(r"[a-z0-9][-a-z0-9.]*", name):
        raise Misuse(f"name: {name!r}: want lower case letters, digits, dots and dashes")
    mode = chosen.mode
    out = Path(chosen.out) / f"{name}-{mode}"
    settings = parse_settings(
        cluster=chosen.cluster,
        modes=mode,
        scenarios="",
        nodes=chosen.nodes,
        out=str(out),
        budget=chosen.budget,
        seed=chosen.seed,
        keep=False,
        inconclusive="fail",
        baseline=None,
        namespaces=chosen.namespaces,
        allow_production=chosen.allow_production,
    )
    return ControlOptions(settings, mode, name, chosen.guard)


def _is_variable(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def slug(title: str) -> str:
    """Return a title as the name of a directory."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60].strip("-") or "experiment"
