"""Loads experiment files, and checks them for everything that would go wrong, before anything is started.

Chaos Toolkit's own validation stops at the first problem, knows no types, no values and no paths, and lets pass what
makes a run green for a wrong reason: a misspelt rollback strategy that plays none, a tolerance that can never be
compared with what the probe gives. Here every problem is named: file, path within the file, and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import yaml
from chaoslib.configuration import load_configuration
from chaoslib.exceptions import ChaosException
from chaoslib.experiment import ensure_experiment_is_valid

from chaos.documents import read_json, read_yaml, shown, understood
from chaos.errors import Misuse
from chaos.toolkit import activities
from chaos.toolkit.options import check_arguments, options_from

Experiment = dict[str, Any]
Problem = tuple[str, str]  # path within the file, what is wrong and what would be right

CONTROL: Final = "chaos.toolkit.control"
HYPOTHESIS: Final = ("default", "before-method-only", "after-method-only", "during-method-only", "continuously", "skip")
ROLLBACKS: Final = ("default", "always", "never", "deviated")
CONTRIBUTIONS: Final = ("high", "medium", "low", "none")
SUFFIXES: Final = (".yaml", ".yml", ".json")


def load(path: Path) -> Experiment:
    """Return the file's content; raises Misuse that names file and line."""
    if path.suffix not in SUFFIXES:
        raise Misuse(f"{path}: an experiment file ends with {', '.join(SUFFIXES)}")
    found = read_json(path, hook=_once) if path.suffix == ".json" else read_yaml(path, loader=_OnceLoader)
    if not isinstance(found, dict):
        raise Misuse(f"{path}: holds a {type(found).__name__}, and an experiment is a mapping")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate fields, of which JSON silently takes the last: the first would never run."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"{next(name for name in names if names.count(name) > 1)!r} appears twice: only the last would count"
        )
    return found


class _OnceLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuse duplicate fields in YAML."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} appears twice: only the last would count", key.start_mark
                )
            seen.add(str(key.value))
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def load_checked(path: Path, variables: Mapping[str, Any] | None = None) -> Experiment:
    """Load, and raise one Misuse with every problem, a line each."""
    experiment = load(path)
    with understood(shown(path)):
        if problems := list(detect_problems(experiment, variables or {})):
            raise Misuse("\n".join(f"{path}: {where}: {what}" for where, what in problems))
        try:
            ensure_experiment_is_valid(deepcopy(experiment))
        except ChaosException as error:
            raise Misuse(f"{path}: {error}") from error
    return experiment


def detect_problems(experiment: Experiment, variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Return all that is wrong with an experiment. `variables` override its configuration, as `--var` does."""
    for name in ("title", "description"):
        if not isinstance(experiment.get(name), str) or not experiment[name]:
            yield name, "is missing: a sentence"
    for shaped, kind in (
        ("method", list),
        ("rollbacks", list),
        ("controls", list),
        ("tags", list),
        ("configuration", dict),
        ("contributions", dict),
        ("runtime", dict),
        ("steady-state-hypothesis", dict),
    ):
        if shaped in experiment and not isinstance(experiment[shaped], kind):
            yield shaped, f"is a {type(experiment[shaped]).__name__}: want a {'list' if kind is list else 'mapping'}"
            return
    if not experiment.get("method"):
        yield "method", "is empty: an experiment that does nothing proves nothing"
    yield from _contributions(experiment.get("contributions") or {})
    yield from _runtime(experiment.get("runtime") or {})
    configuration: Mapping[str, Any] = {}
    try:
        configuration = load_configuration(deepcopy(experiment.get("configuration") or {}), dict(variables))
    except (ChaosException, ValueError, KeyError, AttributeError, TypeError) as error:
        yield "configuration", f"{error}: give it a default, or set it"
    for name in sorted(set(variables) - set(experiment.get("configuration") or {})):
        yield (
            "configuration",
            f"has no {name!r}, which was to be set: it has "
            f"{', '.join(experiment.get('configuration') or {}) or 'none'}",
        )
    yield from _controls(experiment, configuration)
    names = {step.get("name") for _, step in _activities(experiment) if isinstance(step, dict)}
    for where, step in _activities(experiment):
        for path, what in activities.detect_problems(step, configuration, names):
            yield f"{where}{path}", what
    for number, probe in enumerate((experiment.get("steady-state-hypothesis") or {}).get("probes") or []):
        if isinstance(probe, dict):
            for path, what in activities.detect_tolerance_problems(probe, configuration):
                yield f"steady-state-hypothesis.probes[{number}].tolerance{path}", what
    if not has_control(experiment) and (waiting := list(_waiting(experiment))):
        yield (
            waiting[0],
            f"doubt: wait passes what is not proved, and only the control {CONTROL} finds it again: add it to "
            "`controls`",
        )


def _activities(experiment: Experiment) -> list[tuple[str, Any]]:
    hypothesis = experiment.get("steady-state-hypothesis") or {}
    return [
        *((f"steady-state-hypothesis.probes[{n}]", step) for n, step in enumerate(hypothesis.get("probes") or [])),
        *((f"method[{n}]", step) for n, step in enumerate(experiment.get("method") or [])),
        *((f"rollbacks[{n}]", step) for n, step in enumerate(experiment.get("rollbacks") or [])),
    ]


def _contributions(contributions: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in contributions.items():
        if value not in CONTRIBUTIONS:
            yield f"contributions.{name}", f"is {value!r}: want {', '.join(CONTRIBUTIONS)}"


def _runtime(runtime: Mapping[str, Any]) -> Iterator[Problem]:
    for part, known in (("hypothesis", HYPOTHESIS), ("rollbacks", ROLLBACKS)):
        strategy = (runtime.get(part) or {}).get("strategy", "default")
        if strategy not in known:
            near = difflib.get_close_matches(str(strategy), known, 1)
            yield (
                f"runtime.{part}.strategy",
                f"is {strategy!r}{f', did you mean {near[0]}' if near else ''}: want {', '.join(known)}",
            )
    for part in sorted(set(runtime) - {"hypothesis", "rollbacks"}):
        yield f"runtime.{part}", "is unknown: runtime holds hypothesis and rollbacks"


def _controls(experiment: Experiment, configuration: Mapping[str, Any]) -> Iterator[Problem]:
    ours = False
    for number, control in enumerate(experiment.get("controls") or []):
        where = f"controls[{number}]"
        provider = control.get("provider") if isinstance(control, dict) else None
        if not isinstance(provider, dict) or not control.get("name"):
            yield where, "want a name and a provider {type: python, module: …}"
            continue
        if provider.get("type") == "python" and not activities.importable(str(provider.get("module"))):
            yield (
                f"{where}.provider.module",
                f"{provider.get('module')!r} cannot be imported, and would be left out silently",
            )
        if provider.get("module") != CONTROL:
            continue
        ours = True
        if number:
            yield where, f"{CONTROL} must be the first of the controls: what an earlier one swallows would not be known"
        arguments = activities.substituted(provider.get("arguments") or {}, configuration)
        unresolved = {name: value for name, value in arguments.items() if isinstance(value, str) and "${" in value}
        for name, value in unresolved.items():
            yield f"{where}.provider.arguments.{name}", f"{value} is not in `configuration`"
        rest = {name: value for name, value in arguments.items() if name not in unresolved}
        problems = check_arguments(rest)
        if not problems:
            try:
                options_from(rest, title=str(experiment.get("title")))
            except Misuse as error:
                problems = str(error).split("; ")
        for problem in problems:
            yield f"{where}.provider.arguments", problem
    if not ours and any(activities.is_ours(step) for _, step in _activities(experiment)):
        yield "controls", f"our actions and probes need a deployed mode: add the control {CONTROL}, first"


def has_control(experiment: Experiment) -> bool:
    """Whether our control is among the experiment's."""
    return any(
        isinstance(c, dict) and (c.get("provider") or {}).get("module") == CONTROL
        for c in experiment.get("controls") or []
    )


def deploys(experiment: Experiment) -> bool:
    """Whether our control is there and deploys a mode."""
    return any(
        isinstance(c, dict)
        and (c.get("provider") or {}).get("module") == CONTROL
        and ((c["provider"].get("arguments") or {}).get("deploy", True))
        for c in experiment.get("controls") or []
    )


def mode_variable(experiment: Experiment) -> str:
    """Return the configuration variable that holds the mode; empty when the file fixes it."""
    for control in experiment.get("controls") or []:
        provider = control.get("provider") or {}
        if provider.get("module") == CONTROL:
            text = str((provider.get("arguments") or {}).get("mode", ""))
            if text.startswith("${") and text.endswith("}"):
                return text[2:-1]
    return ""


def _waiting(experiment: Experiment) -> Iterator[str]:
    for number, probe in enumerate((experiment.get("steady-state-hypothesis") or {}).get("probes") or []):
        tolerance = probe.get("tolerance") if isinstance(probe, dict) else None
        if (
            isinstance(tolerance, dict)
            and ((tolerance.get("provider") or {}).get("arguments") or {}).get("doubt") == "wait"
        ):
            yield f"steady-state-hypothesis.probes[{number}].tolerance.provider.arguments.doubt"
