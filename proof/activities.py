"""docs/toolkit-activities.md: every activity of the Chaos Toolkit extension. `python -m proof.activities` writes it.

From `chaos.toolkit.discovery`, as `chaos discover` sees them, and from their docstrings.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any, Final

from chaos.faults.catalogue import FAULTS, fault_class
from chaos.names import summary_of
from chaos.toolkit.discovery import discover

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "toolkit-activities.md"
_HEAD: Final = """# Activities of the Chaos Toolkit extension

Written by `python -m proof.activities` from the code; do not edit. How they go together in an experiment is in
[chaos-toolkit.md](chaos-toolkit.md); units are in the docstrings: `python -m pydoc chaos.toolkit.actions`.
An argument with a default may be left out.
"""
_TITLES: Final = {"action": "Actions", "probe": "Probes", "tolerance": "Tolerances", "control": "Controls"}


def arguments_of(one: dict[str, Any]) -> str:
    """`tenant="tenant-a"`, `deadline=60.0`: its arguments as Python writes them."""
    texts = []
    for argument in one.get("arguments", ()):
        text = str(argument["name"])
        if "default" in argument:
            text += f"={argument['default']!r}"
        texts.append(f"`{text}`")
    return ", ".join(texts) or "–"


def page() -> str:
    """The page's text."""
    found: dict[str, list[str]] = {}
    for one in discover()["activities"]:
        function = getattr(importlib.import_module(one["mod"]), one["name"])
        said = summary_of(inspect.getdoc(function)).replace("|", "\\|")
        place = str(one["mod"]).removeprefix("chaos.toolkit.")
        found.setdefault(str(one["type"]), []).append(
            f"| `{one['name']}` | `{place}` | {arguments_of(one)} | {said} |\n"
        )
    parts = [
        f"\n## {_TITLES.get(kind, kind)}\n\n| name | module | arguments | |\n|---|---|---|---|\n{''.join(sorted(rows))}"
        for kind, rows in found.items()
    ]
    faults = [
        f"| `{name}` | {fault_class(name).shape} | {', '.join(sorted(fault_class(name).targets))} |\n"
        for name in FAULTS
    ]
    table = f"\n## The faults behind them\n\n| fault | shape | acts on |\n|---|---|---|\n{''.join(sorted(faults))}"
    return _HEAD + "".join(parts) + table


if __name__ == "__main__":
    PAGE.write_text(page())
