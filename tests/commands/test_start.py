"""What the command imports before it knows what is asked of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

# Each takes as long to import as all commands together.
HEAVY: Final = {
    "aiohttp",
    "cryptography",
    "importlib.metadata",
    "jinja2",
    "jsonschema",
    "kubernetes",
    "numpy",
    "pyarrow",
    "pytest",
    "scipy",
    "ssl",
    "urllib3",
    "yaml",
}


def test_help_waits_for_no_library_but_clicks() -> None:
    code = "import sys, chaos.__main__, chaos.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "click" in loaded
    assert HEAVY & set(loaded) == set()
