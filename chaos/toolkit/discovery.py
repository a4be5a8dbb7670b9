"""Lists every action, probe, tolerance and control hook for `chaos discover --no-install sharedfate`."""

from __future__ import annotations

from typing import Any

from chaoslib.discovery.discover import discover_activities, initialize_discovery_result

from chaos.version import __version__

KINDS = {  # module -> the kind that its functions are listed as
    "chaos.toolkit.actions": "action",
    "chaos.toolkit.workloads": "action",
    "chaos.toolkit.nodes": "action",
    "chaos.toolkit.probes": "probe",
    "chaos.toolkit.tolerances": "tolerance",
    "chaos.toolkit.control": "control",
}


def discover() -> dict[str, Any]:
    """Return the discovery, as Chaos Toolkit defines it."""
    found: dict[str, Any] = initialize_discovery_result("sharedfate", __version__, "kubernetes")
    for module, kind in KINDS.items():
        found["activities"].extend(discover_activities(module, kind))
    return found
