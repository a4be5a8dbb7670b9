"""All faults by name, and how a stored receipt becomes a fault again."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, Final

from chaos.errors import Misuse
from chaos.faults.model import Fault

# name -> module:class; a fault is imported when it is used, because a helper pod or the watchdog needs one of them.
FAULTS: Final[Mapping[str, str]] = {
    "kill": "chaos.faults.kill:Kill",
    "crash-loop": "chaos.faults.crash_loop:CrashLoop",
    "pause": "chaos.faults.pause:Pause",
    "throttle": "chaos.faults.throttle:Throttle",
    "overload": "chaos.faults.overload:Overload",
    "out-of-memory": "chaos.faults.out_of_memory:OutOfMemory",
    "hog": "chaos.faults.hog:Hog",
    "restart": "chaos.faults.restart:Restart",
    "recreate": "chaos.faults.recreate:Recreate",
    "upgrade": "chaos.faults.upgrade:Upgrade",
    "scale": "chaos.faults.scale:Scale",
    "delete-pod": "chaos.faults.delete_pod:DeletePod",
    "partition": "chaos.faults.network.partition:Partition",
    "drop": "chaos.faults.network.drop:Drop",
    "reset": "chaos.faults.network.reset:Reset",
    "degrade": "chaos.faults.network.degrade:Degrade",
    "dns": "chaos.faults.network.dns:Dns",
    "control-plane": "chaos.faults.control_plane:ControlPlane",
    "expire-certificates": "chaos.faults.certificates:ExpireCertificates",
    "api-trouble": "chaos.faults.api_trouble:ApiTrouble",
    "drain": "chaos.faults.drain:Drain",
    "stop-node": "chaos.faults.stop_node:StopNode",
    "cut-node": "chaos.faults.cut_node:CutNode",
    "stop-kubelet": "chaos.faults.stop_kubelet:StopKubelet",
}


def fault_class(name: str) -> type[Fault]:
    """The class of that name; raises Misuse naming all that exist."""
    try:
        module, _, attribute = FAULTS[name].partition(":")
    except KeyError:
        raise Misuse(f"unknown fault {name!r}: known are {', '.join(sorted(FAULTS))}") from None
    found: type[Fault] = getattr(importlib.import_module(module), attribute)
    return found


def fault_from(name: str, settings: Mapping[str, Any]) -> Fault:
    """A fault from its name and settings; raises Misuse naming every setting that does not exist, or a wrong value."""
    kind = fault_class(name)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(settings.keys() - known):
        raise Misuse(f"fault {name} has no setting {', '.join(unknown)}: it has {', '.join(sorted(known)) or 'none'}")
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})
    except TypeError as error:  # a value of another kind, met by the fault's own checks
        raise Misuse(f"fault {name}: a setting has a wrong value: {error}") from error
