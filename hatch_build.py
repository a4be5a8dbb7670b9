"""Names the import package in the distribution's metadata, as setuptools does and hatchling does not.

`chaos discover sharedfate` looks for it there (`importlib.metadata.packages_distributions`). From an ordinary wheel it
can be inferred; from an editable one, which lists no module, Python 3.11 cannot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TopLevel(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        metadata = self.metadata
        source = Path(self.root) / "chaos" / "top_level.txt"
        target = f"{metadata.core.name.replace('-', '_')}-{metadata.version}.dist-info/top_level.txt"
        build_data["force_include_editable" if version == "editable" else "force_include"][str(source)] = target
