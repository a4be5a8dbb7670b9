"""docs/api.md: every public name, by the module that defines it. `python -m proof.api` writes it."""

from __future__ import annotations

import inspect
from collections import defaultdict
from pathlib import Path
from typing import Final

import chaos
from chaos.names import summary_of

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "api.md"
_HEAD: Final = """# Public names

Written by `python -m proof.api` from `chaos.__all__`; do not edit. This is all that users import, as
`from sharedfate import Kill, scenario` or from `chaos`, which is the same. Other modules may change without notice.
Arguments, units and errors are in the docstrings: `python -m pydoc chaos.faults.kill`.
"""


def kind(found: object) -> str:
    """What a name is, in a word."""
    if inspect.isclass(found):
        return "error" if issubclass(found, BaseException) else "class"
    return "function" if inspect.isroutine(found) else "value"


def page() -> str:
    """The page's text."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module, names in chaos._HOMES.items():
        for name in names.split():
            found = getattr(chaos, name)
            said = summary_of(inspect.getdoc(found)).replace("|", "\\|") if kind(found) != "value" else ""
            homes[module].append(f"| `{name}` | {kind(found)} | {said} |\n")
    parts = [f"\n## `{module}`\n\n| name | | |\n|---|---|---|\n{''.join(rows)}" for module, rows in homes.items()]
    return _HEAD + "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
