"""Checks one activity of an experiment file against the function that it names: kind, arguments, types, values,
tolerance.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from chaoslib import substitute
from chaoslib.exceptions import ChaosException
from chaoslib.hypothesis import ensure_hypothesis_tolerance_is_valid

from chaos.model.modes import Layer
from chaos.toolkit import discovery, tolerances
from chaos.toolkit.probes import QUANTILES
from chaos.toolkit.targets import SIDES

Problem = tuple[str, str]  # path within the activity, what is wrong and what would be right

KINDS: Final = {
    module: "probe" if kind == "tolerance" else kind for module, kind in discovery.KINDS.items() if kind != "control"
}
CHOICES: Final[Mapping[str, tuple[Any, ...]]] = {  # of our own functions' parameters, by their names
    "layer": ("any", *(str(layer) for layer in Layer)),
    "side": SIDES,
    "profile": ("requests", "handshakes", "bodies", "slow-readers"),
    "doubt": tolerances.DOUBTS,
    "quantile": QUANTILES,
    "resource": ("cpu", "memory"),
    "expected": ("pass", "fail", "inconclusive"),
}
RIGHT: Final = (
    "want {type: probe, name: …, provider: {type: python, module: chaos.toolkit.tolerances, "
    "func: nobody | only | at_most | at_least | between | within | verdict_is, arguments: {doubt: …}}}"
)


def detect_problems(step: Any, configuration: Mapping[str, Any], names: Iterable[Any]) -> Iterator[Problem]:
    """Return all that is wrong with an activity of a method, a hypothesis or the rollbacks."""
    if not isinstance(step, dict):
        yield "", f"is a {type(step).__name__}: want a mapping with type, name and provider"
        return
    if "ref" in step:
        known = {str(name) for name in names if name}
        if step["ref"] not in known:
            yield ".ref", f"no activity is named {step['ref']!r}: there are {', '.join(sorted(known))}"
        return
    if step.get("type") not in ("action", "probe"):
        yield ".type", f"is {step.get('type')!r}: want action or probe"
    if not step.get("name"):
        yield ".name", "is missing"
    provider = step.get("provider")
    if not isinstance(provider, dict):
        yield ".provider", "is missing: {type: python, module: chaos.toolkit.actions, func: …, arguments: {…}}"
        return
    if provider.get("type") not in ("python", "process", "http"):
        yield ".provider.type", f"is {provider.get('type')!r}: want python, process or http"
    if provider.get("type") == "python":
        yield from _call(step, provider, configuration)


def _call(step: Mapping[str, Any], provider: Mapping[str, Any], configuration: Mapping[str, Any]) -> Iterator[Problem]:
    module, func = str(provider.get("module")), str(provider.get("func"))
    if not importable(module):
        yield ".provider.module", f"{module!r} cannot be imported: is its package installed?"
        return
    functions = exported(module)
    if func not in functions:
        near = difflib.get_close_matches(func, functions, 1)
        listed = f": it has {', '.join(sorted(functions))}" if module in KINDS else ""
        yield ".provider.func", f"{module} has no {func!r}{f', did you mean {near[0]}' if near else ''}{listed}"
        return
    if (kind := KINDS.get(module)) and step.get("type") in ("action", "probe") and step["type"] != kind:
        yield ".type", f"is {step['type']!r}, and {func} is one of the {kind}s"
    arguments = provider.get("arguments", {})
    if not isinstance(arguments, dict):
        yield ".provider.arguments", f"is a {type(arguments).__name__}: want a mapping of names to values"
        return
    for name, what in _arguments(functions[func], arguments, configuration, ours=module in KINDS):
        yield f".provider.arguments.{name}", what


def _arguments(
    function: Any, arguments: Mapping[str, Any], configuration: Mapping[str, Any], *, ours: bool
) -> Iterator[Problem]:
    parameters = inspect.signature(function).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    injected = {"configuration", "secrets"}
    for name, parameter in parameters.items():
        if (
            parameter.default is parameter.empty
            and name not in arguments
            and name not in injected
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ):
            yield name, f"is missing: {function.__name__} needs it ({_type_name(parameter.annotation)})"
    for name, given in arguments.items():
        if name not in parameters:
            if not open_ended:
                near = difflib.get_close_matches(name, parameters, 1)
                yield (
                    name,
                    (
                        f"is no argument of {function.__name__}{f', did you mean {near[0]}' if near else ''}: "
                        f"it takes {', '.join(parameters) or 'none'}"
                    ),
                )
            continue
        value = substituted(given, configuration)
        if isinstance(value, str) and value.startswith("${"):
            yield name, f"{value} is not in `configuration`"
            continue
        wanted = parameters[name].annotation
        if not fits(value, wanted):
            yield name, f"is {value!r}, a {type(value).__name__}: want {_type_name(wanted)}"
        elif ours and name in CHOICES and value not in CHOICES[name]:
            near = difflib.get_close_matches(str(value), list(map(str, CHOICES[name])), 1)
            yield (
                name,
                f"is {value!r}{f', did you mean {near[0]}' if near else ''}: want {', '.join(map(str, CHOICES[name]))}",
            )


def detect_tolerance_problems(probe: Mapping[str, Any], configuration: Mapping[str, Any]) -> Iterator[Problem]:
    """Return all that is wrong with the tolerance of a hypothesis' probe."""
    if "tolerance" not in probe:
        yield "", f"is missing: {RIGHT if is_ours(probe) else 'want a value, a list, or a mapping with a type'}"
        return
    tolerance = probe["tolerance"]
    if is_ours(probe) and not isinstance(tolerance, dict):
        yield "", f"is {tolerance!r}, and our probes give readings, which compare with no plain value: {RIGHT}"
        return
    if isinstance(tolerance, dict) and tolerance.get("type") == "probe":
        yield from detect_problems(tolerance, configuration, ())
        provider = tolerance.get("provider")
        if isinstance(provider, dict) and "arguments" not in provider:
            yield (
                ".provider.arguments",
                "is missing: Chaos Toolkit puts the probe's value in it, and fails without: `arguments: {}`",
            )
        if isinstance(provider, dict) and tolerances.is_ours(provider) and not is_ours(probe):
            yield ".provider.func", f"{provider['func']} weighs readings, and the probe is none of chaos.toolkit.probes"
        return
    try:
        ensure_hypothesis_tolerance_is_valid(tolerance)
    except ChaosException as error:
        yield "", f"{error}{f': {RIGHT}' if is_ours(probe) else ''}"
        return
    if (
        isinstance(tolerance, dict)
        and is_ours(probe)
        and tolerance.get("type") == "regex"
        and "target" not in tolerance
    ):
        yield "", f"a regex searches a text, and the probe gives a reading: name its field in `target`, or {RIGHT}"


def is_ours(step: Any) -> bool:
    """Whether an activity calls one of our actions or probes."""
    provider = step.get("provider") if isinstance(step, dict) else None
    return isinstance(provider, dict) and provider.get("module") in set(KINDS) - {tolerances.__name__}


def importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def exported(module: str) -> dict[str, Any]:
    """Return the functions that a module offers: those of its `__all__`, when it has one and is ours."""
    found = importlib.import_module(module)
    functions = dict(inspect.getmembers(found, inspect.isroutine))
    return {name: functions[name] for name in found.__all__} if module in KINDS else functions


def substituted(value: Any, configuration: Mapping[str, Any]) -> Any:
    """Replace each `${name}` by the configuration's value."""
    return substitute(value, configuration, None)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value from a file fits a parameter; an unknown annotation accepts everything."""
    origin = getattr(annotation, "__origin__", annotation)
    match origin:
        case _ if origin is bool:
            return isinstance(value, bool)
        case _ if origin is int:
            return isinstance(value, int) and not isinstance(value, bool)
        case _ if origin is float:
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case _ if origin in (str, list, dict):
            return isinstance(value, origin)
        case _:
            return True


def _type_name(annotation: Any) -> str:
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a mapping",
    }
    return names.get(annotation, str(getattr(annotation, "__name__", annotation)))
