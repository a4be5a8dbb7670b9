"""Reads what a user means by another sharing: `MODE`, `replicas=N`, `spread=node|zone|packed`, with commas between."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from chaos.errors import Misuse
from chaos.model.modes import ProxyMode
from chaos.model.rescoping import Sharing
from chaos.model.spreading import Spread

MOST_REPLICAS = 1000


def parse_sharing(text: str, modes: Mapping[str, ProxyMode]) -> Sharing:
    """Return the sharing; raises one Misuse with every problem."""
    problems: list[str] = []
    mode: ProxyMode | None = None
    replicas: int | None = None
    spread: Spread | None = None
    seen: set[str] = set()
    for part in (one.strip() for one in text.split(",")):
        key, equals, value = (one.strip() for one in part.partition("="))
        kind = key if equals else "mode"
        if kind in seen:
            problems.append(f"{kind} is said twice")
        seen.add(kind)
        if not equals:
            mode = modes.get(part)
            if mode is None:
                near = difflib.get_close_matches(part, modes, n=1)
                problems.append(f"{part!r} is no mode" + (f", did you mean {near[0]}" if near else ""))
        elif key == "replicas":
            if value.isascii() and value.isdigit() and 1 <= int(value) <= MOST_REPLICAS:
                replicas = int(value)
            else:
                problems.append(f"replicas is {value!r}, and should be 1 to {MOST_REPLICAS}")
        elif key == "spread":
            if value in tuple(Spread):
                spread = Spread(value)
            else:
                problems.append(f"spread is {value!r}: known are {', '.join(Spread)}")
        else:
            problems.append(f"{key} is not known: want a mode, replicas=N or spread=S")
    if problems:
        raise Misuse(f"--scope {text}: {'; '.join(problems)}: known modes are {', '.join(modes)}")
    return Sharing(mode, replicas, spread)
