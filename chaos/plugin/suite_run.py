"""`sharedfate run`: pytest on the shipped suite, which a signal ends at any moment.

Run as a file (`python -P chaos/plugin/suite_run.py ARGUMENTS`). What it needs of ours it loads by its path: what is
imported by its name before pytest is not pytest's to rewrite any more.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


def _own(path: str) -> ModuleType:
    """Load a module of ours that imports none of ours."""
    spec = spec_from_file_location(Path(path).stem, Path(__file__).parents[1] / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    interrupts, outputs = _own("interrupts.py"), _own("outputs.py")
    interrupts.end_at_once()  # importing takes as long as the machine is busy
    outputs.keep()
    import pytest

    own_words = _own("plugin/own_words.py")
    plugins = [own_words.OwnWords(), own_words.Ending(interrupts.block)]
    sys.exit(outputs.settle(int(pytest.main(sys.argv[1:], plugins=plugins))))


if __name__ == "__main__":
    main()
