"""Makes actions from faults: one that injects, with the fault's fields as arguments, and one that undoes.

So a fault is described once. Its `activity` says what its actions are called; arguments, their types, their defaults
and their docstrings are the fault's own. Somebody else's faults (`chaos.faults.catalogue`) have theirs in the same way.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from chaos.errors import Misuse
from chaos.faults.activity import Activity, ActsAt, activity_of
from chaos.faults.catalogue import fault_class, fault_from, known_faults
from chaos.faults.model import Fault
from chaos.model.faulting import FaultShape
from chaos.names import CONTROL_PLANE, SYSTEM_NAMESPACE, summary_of
from chaos.toolkit.driver import describe
from chaos.toolkit.readings import Names, Reading
from chaos.toolkit.session import Session, current, recover
from chaos.verdict import Harm

Action = Callable[..., Any]
_WHERE: Final[Mapping[ActsAt, Mapping[str, tuple[Any, str]]]] = {  # argument -> its default, what it is
    ActsAt.PROXY: {
        "tenant": ("tenant-a", "whose path."),
        "layer": ("any", "`l4`, `l7`, or `any`."),
        "side": ("client", "`client` for the first such proxy on the path, `server` for the last."),
    },
    ActsAt.WORKLOAD: {
        "workload": ("", "`Deployment/NAME`, `DaemonSet/NAME` or `StatefulSet/NAME`."),
        "namespace": (SYSTEM_NAMESPACE, "where it is."),
    },
    ActsAt.NODE: {"node": ("first", "its name, or `first` or `second` for those of the reference tenants.")},
    ActsAt.PLANE: {},
}
_PAIRS: Final = ("on and off at most so often (3 or 6), until the judge has decided; 0: on, until it is undone.", 6)


def actions_at(*places: ActsAt, besides: Iterable[str] = ()) -> dict[str, Action]:
    """Return the actions of every known fault that acts there, and their undos, by name.

    Raises Misuse for a name that comes twice, or is one of those `besides` which these stand.
    """
    taken = set(besides)
    found: dict[str, Action] = {}
    for name in known_faults():
        kind = fault_class(name)
        activity = activity_of(kind)
        if activity.place not in places:
            continue
        for action in actions_of(kind, activity):
            if action.__name__ in taken:
                raise Misuse(f"fault {name!r}: an action {action.__name__} already exists: declare another `activity`")
            taken.add(action.__name__)
            found[action.__name__] = action
    return found


def actions_of(kind: type[Fault], activity: Activity) -> Iterable[Action]:
    """Yield the action that injects a fault and, unless it is a pulse, the one that undoes it."""
    yield _injection(kind, activity)
    if activity.undo:
        yield _undo(kind, activity)


def settings_for(kind: type[Fault]) -> dict[str, tuple[Any, Any]]:
    """Return the fault's fields that an experiment may set: type and default, as `chaos discover` knows them.

    A field `seconds` that is 0 unless it is set is the fault's own deadline: the action's `deadline` says that.
    """
    hints = get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.name != "seconds" or default != 0:
            found[field.name] = (
                plain_type(hints[field.name]),
                list(default) if isinstance(default, tuple) else default,
            )
    return found


def plain_type(hint: Any) -> Any:
    """Return a field's type as JSON has it: `chaos discover` calls every other one an object."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return plain_type(next(one for one in get_args(hint) if one is not type(None)))
    if origin is Literal:
        return type(get_args(hint)[0])
    if (origin or hint) in (bool, int, float, str):
        return hint
    return Names if (origin or hint) in (tuple, list, frozenset, set) else Reading


def _injection(kind: type[Fault], activity: Activity) -> Action:
    place, settings = _place(activity), settings_for(kind)
    where = dict(_WHERE[place])
    if place is ActsAt.WORKLOAD:
        where["workload"] = (activity.workload, where["workload"][1])
    switched = kind.shape is FaultShape.GRADUAL and place is ActsAt.PROXY
    taken: dict[str, tuple[Any, Any]] = {name: (str, default) for name, (default, _) in where.items()} | settings
    taken |= {"pairs": (int, _PAIRS[1])} if switched else {}
    taken["deadline"] = (float, activity.deadline)

    def inject(*given: Any, **named: Any) -> Reading:
        bound = inject.__signature__.bind(*given, **named)  # type: ignore[attr-defined]
        bound.apply_defaults()
        chosen = bound.arguments
        fault = fault_from(kind.name, {name: chosen[name] for name in settings})
        return _break(current(), fault, activity, chosen)

    until = f" In force until `{activity.undo}`, at most `deadline` seconds." if activity.undo else ""
    spared = " Those behind it are reported and not judged; the others must not be hurt." if activity.spares else ""
    lines = [
        *(f"    {name}: {what}" for name, (_, what) in where.items()),
        *_described(kind, settings),
        *([f"    pairs: {_PAIRS[0]}"] if switched else []),
        "    deadline: seconds after which the fault undoes itself.",
    ]
    doc = f"{summary_of(kind.__doc__)}{until}{spared}\n\nArgs:\n" + "\n".join(lines)
    return _dressed(inject, activity.action, place, doc, taken, Reading)


def _break(session: Session, fault: Fault, activity: Activity, chosen: Mapping[str, Any]) -> Reading:
    """Break what the arguments choose, and expect what the activity declares."""
    driver, deadline = session.driver, chosen["deadline"]
    match activity.place:
        case ActsAt.NODE:
            return describe(driver.break_node(fault, chosen["node"], deadline=deadline))
        case ActsAt.PLANE:
            return describe(
                driver.break_workload(fault, f"Deployment/{CONTROL_PLANE}", SYSTEM_NAMESPACE, deadline=deadline)
            )
        case ActsAt.WORKLOAD:
            return describe(driver.break_workload(fault, chosen["workload"], chosen["namespace"], deadline=deadline))
    proxy = session.proxy_of(chosen["tenant"], chosen["layer"], chosen["side"])
    if activity.spares:
        return describe(driver.break_exempt(fault, proxy, deadline=deadline))
    if pairs := chosen.get("pairs", 0):
        done = driver.switch(fault, proxy, deadline=deadline, pairs=pairs)
        return {"fault": fault.name, "target": str(proxy), "pairs": done}
    harm = Harm.ERRORS if activity.fails else Harm.EITHER
    return describe(driver.break_proxy(fault, proxy, deadline=deadline, harm=harm))


def _undo(kind: type[Fault], activity: Activity) -> Action:
    def undo() -> int:
        return recover(kind.name)

    doc = f"Undo every `{kind.name}` that is in force; how many. None is no error: a rollback may always name it."
    return _dressed(undo, activity.undo, _place(activity), doc, {}, int)


def _place(activity: Activity) -> ActsAt:
    assert activity.place is not None
    return activity.place


def _described(kind: type[Fault], settings: Iterable[str]) -> list[str]:
    """Return the lines of the fault's own docstrings that describe these settings."""
    text = "\n".join(inspect.cleandoc(one.__doc__) for one in reversed(kind.__mro__) if one.__doc__)
    known: dict[str, list[str]] = {}
    name = ""
    for line in text.partition("Args:")[2].splitlines():
        before, colon, _ = line.partition(": ")
        if line.startswith("    ") and not line.startswith("     ") and colon:
            name = before.strip()
        if name and line.startswith("    "):
            known.setdefault(name, []).append(line)
    return [line for one in settings for line in known.get(one, ())]


def _dressed(
    function: Any, name: str, place: ActsAt, doc: str, taken: Mapping[str, tuple[Any, Any]], gives: Any
) -> Action:
    """Give the function the name and the argument types that `chaos discover` and experiments see.

    The annotations are real ones, not postponed (it shows those as "object"), and the parameters positional (it drops
    keyword-only ones).
    """
    function.__name__ = function.__qualname__ = name
    function.__module__ = MODULES[place]
    function.__doc__ = doc
    function.__signature__ = inspect.Signature(
        [
            inspect.Parameter(one, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)
            for one, (kind, default) in taken.items()
        ],
        return_annotation=gives,
    )
    made: Action = function
    return made


MODULES: Final[Mapping[ActsAt, str]] = {  # where an experiment finds the actions of a place
    ActsAt.PROXY: "chaos.toolkit.actions",
    ActsAt.WORKLOAD: "chaos.toolkit.workloads",
    ActsAt.PLANE: "chaos.toolkit.workloads",
    ActsAt.NODE: "chaos.toolkit.nodes",
}
