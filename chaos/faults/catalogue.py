"""Lists all faults by name, and makes a fault from a stored receipt.

Somebody's own come in two ways. A package names them in its entry points, group `sharedfate.faults`, as `fill-disk =
"theirs.fill_disk:FillDisk"`. Or they lie in the folder `faults` of an extension (`chaos.resources`), a file each:
`fill_disk.py` with the class `FillDisk` is the fault `fill-disk`.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

from chaos.errors import Misuse
from chaos.faults.activity import Activity
from chaos.faults.model import TARGET_KINDS, Fault, Witness
from chaos.faults.needs import Need
from chaos.model.faulting import FaultShape
from chaos.resources import extension_folders

# name -> module:class; a fault is imported when it is used, because a helper pod or the watchdog needs one of them.
FAULTS: Final[Mapping[str, str]] = {
    "kill": "chaos.faults.kill:Kill",
    "crash-loop": "chaos.faults.crash_loop:CrashLoop",
    "pause": "chaos.faults.pause:Pause",
    "full-files": "chaos.faults.full_files:FullFiles",
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
    "mute": "chaos.faults.network.mute:Mute",
    "full-connections": "chaos.faults.network.full_connections:FullConnections",
    "degrade": "chaos.faults.network.degrade:Degrade",
    "dns": "chaos.faults.network.dns:Dns",
    "misanswer": "chaos.faults.misanswer:Misanswer",
    "control-plane": "chaos.faults.control_plane:ControlPlane",
    "expire-certificates": "chaos.faults.certificates:ExpireCertificates",
    "wrong-push": "chaos.faults.wrong_push:WrongPush",
    "api-trouble": "chaos.faults.api_trouble:ApiTrouble",
    "drain": "chaos.faults.drain:Drain",
    "stop-node": "chaos.faults.stop_node:StopNode",
    "cut-node": "chaos.faults.cut_node:CutNode",
    "stop-kubelet": "chaos.faults.stop_kubelet:StopKubelet",
}


GROUP: Final = "sharedfate.faults"


@cache
def known_faults() -> Mapping[str, str]:
    """Return all faults, name -> module:class: the shipped ones and the user's. Raises Misuse for a name that is
    taken.
    """
    found = dict(FAULTS)
    for name, place in [*((one.name, one.value) for one in entry_points(group=GROUP)), *_in_folders()]:
        if found.setdefault(name, place) != place:
            raise Misuse(f"fault {name!r} of {place} already exists, as {found[name]}: choose another name")
    return found


def _in_folders() -> Iterator[tuple[str, str]]:
    for folder in extension_folders("faults"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        for file in sorted(folder.glob("[a-z]*.py")):
            words = file.stem.split("_")
            yield "-".join(words), f"{file.stem}:{''.join(word.capitalize() for word in words)}"


def fault_class(name: str) -> type[Fault]:
    """Return the class of that name; raises Misuse that lists the known ones."""
    try:
        module, _, attribute = (FAULTS if name in FAULTS else known_faults())[name].partition(":")
    except KeyError:
        raise Misuse(f"unknown fault {name!r}: known are {', '.join(sorted(known_faults()))}") from None
    if name in FAULTS:
        found: type[Fault] = getattr(importlib.import_module(module), attribute)
        return found
    return _of_somebody(name, module, attribute)


def _of_somebody(name: str, module: str, attribute: str) -> type[Fault]:
    """Raise Misuse that says what is wrong with a user's class."""
    subject = f"fault {name!r}: {module}:{attribute}"
    try:
        found: type[Fault] = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # whatever a module of somebody else's does while it is imported
        why = (
            error
            if isinstance(error, (ImportError, AttributeError, SyntaxError))
            else f"{type(error).__name__}: {error}"
        )
        raise Misuse(f"{subject} cannot be imported: {why}") from error
    lacking = [one for one in _CONTRACT if not hasattr(found, one)]
    if lacking or not hasattr(found, "__dataclass_fields__"):
        raise Misuse(f"{subject} lacks {', '.join(lacking) or '@dataclass'}")
    wrong = [f"{one} is no {what}" for one, (what, holds) in _CONTRACT.items() if not holds(getattr(found, one))]
    if not isinstance(vars(found).get("activity", Activity()), Activity):
        wrong.append("activity is no Activity")
    if wrong:
        raise Misuse(f"{subject}: {'; '.join(wrong)}")
    if found.name != name:
        raise Misuse(f"{subject} calls itself {found.name!r}")
    return found


def _set_of(words: Collection[str] | None = None) -> Callable[[Any], bool]:
    """Whether a value is a frozenset of texts, and of these alone."""
    return lambda value: (
        isinstance(value, frozenset) and all(isinstance(one, str) and (words is None or one in words) for one in value)
    )


# What a fault's class holds: what it must be, in words, and whether a value is that.
_CONTRACT: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "name": ("str", lambda value: isinstance(value, str)),
    "shape": ("FaultShape", lambda value: isinstance(value, FaultShape)),
    "targets": (f"frozenset of {', '.join(TARGET_KINDS)}", _set_of(TARGET_KINDS)),
    "aspects": ("frozenset of str", _set_of()),
    "witness": ("Witness", lambda value: isinstance(value, Witness)),
    "needs": ("tuple of Need", lambda value: isinstance(value, tuple) and all(isinstance(one, Need) for one in value)),
    **dict.fromkeys(("plan", "inject", "recover"), ("method", callable)),
}


def fault_from(name: str, settings: Mapping[str, Any]) -> Fault:
    """Make a fault from its name and settings; raises Misuse that names every unknown setting, or a wrong value."""
    kind = fault_class(name)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(settings.keys() - known):
        raise Misuse(f"fault {name} has no setting {', '.join(unknown)}: it has {', '.join(sorted(known)) or 'none'}")
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})
    except TypeError as error:  # a value of another kind, met by the fault's own checks
        raise Misuse(f"fault {name}: a setting has a wrong value: {error}") from error
