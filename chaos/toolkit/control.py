"""The control: listed first in an experiment's `controls`, it deploys a mode with its tenants under load and judges at
the end.

    controls:
      - name: sharedfate
        provider: {type: python, module: chaos.toolkit.control, arguments: {mode: "${mode}", cluster: "${cluster}"}}

Before the experiment: cluster, mode, tenants, load, baseline; a failure here interrupts it before anything is broken.
While it runs, the load goes on, each activity is noted in the history, and the guard aborts when a bystander is hurt
that the sharing model spares. Afterwards it undoes what is in force, attaches history, judgement and reports to the
journal, and sets the journal's status by the gate, so that stock `chaos run` exits with 1 for whatever is not proved.

Chaos Toolkit swallows what a control raises, unless it is InterruptExecution. So nothing here may fail silently: the
gate speaks last, from the library's final event, and the status is "aborted" until it has spoken.
"""

from typing import Any

from chaoslib.exceptions import InterruptExecution, InvalidActivity

from chaos.toolkit import handler
from chaos.toolkit.options import check_arguments
from chaos.toolkit.readings import NO_READING
from chaos.toolkit.readings import Reading as Mapping

__all__ = [
    "after_activity_control",
    "after_experiment_control",
    "after_method_control",
    "before_activity_control",
    "before_experiment_control",
    "before_method_control",
    "cleanup_control",
    "configure_control",
    "validate_control",
]


def configure_control(
    mode: str = "sidecar",
    cluster: str = "embedded",
    out: str = "sharedfate-out",
    name: str = "",
    nodes: int = 2,
    seed: int = 1,
    budget: int = 1200,
    guard: bool = True,
    namespaces: str = "",
    allow_production: bool = False,
    deploy: bool = True,
    experiment: Mapping = NO_READING,
    event_registry: Any = None,
    **others: Any,
) -> None:
    """Start to listen, before any other control does; deploy nothing yet.

    Args:
        mode: proxy mode.
        cluster: embedded, or context:NAME.
        out: directory of histories, reports and journals.
        name: of this experiment's directory in it; by default made from its title.
        nodes, seed, budget, namespaces, allow_production: as the options of `sharedfate run`.
        guard: abort when a bystander is hurt that the sharing model spares.
        deploy: False for an experiment of your own on a system of your own: no cluster, the journal alone is judged.
    """
    # They are read when they are substituted: before_experiment_control.
    del mode, cluster, out, name, nodes, seed, budget, guard, namespaces, allow_production, deploy, others
    kept = handler.new()
    event_registry.register(kept)
    first = (experiment.get("controls") or [{}])[0].get("provider", {})
    if first.get("module") != __name__:
        kept.problems.append(f"{__name__} is not the first of the controls: what an earlier one swallowed is not known")


def before_experiment_control(context: Mapping, **arguments: Any) -> None:
    """Deploy the mode and its tenants, start the load, take a baseline."""
    _handler().open(arguments, str(context.get("title", "")))


def before_method_control(context: Mapping, **arguments: Any) -> None:
    """Start to guard."""
    _handler().begin_method()


def after_method_control(context: Mapping, state: Any = None, **arguments: Any) -> None:
    """Stop guarding."""
    if kept := handler.current():
        kept.end_method()


def before_activity_control(context: Mapping, **arguments: Any) -> None:
    """Note the activity in the history."""
    kept = _handler()
    kept.raise_if_terminated()
    kept.note(f"{context.get('type')} {context.get('name')}: begin")


def after_activity_control(context: Mapping, state: Mapping = NO_READING, **arguments: Any) -> None:
    """Note how the activity ended."""
    kept = _handler()
    kept.note(f"{context.get('type')} {context.get('name')}: {(state or NO_READING).get('status', 'did not end')}")
    kept.raise_if_terminated()


def after_experiment_control(context: Mapping, state: Mapping = NO_READING, **arguments: Any) -> None:
    """Undo what is in force, judge, write the reports, take down."""
    if kept := handler.current():
        kept.close()


def cleanup_control() -> None:
    """Close as `after_experiment_control` does, for an experiment that did not come so far."""
    if kept := handler.current():
        kept.close()


def validate_control(control: Mapping) -> None:
    """Refuse arguments that are wrong whatever the configuration holds."""
    arguments = control.get("provider", {}).get("arguments") or {}
    if problems := check_arguments(arguments):
        raise InvalidActivity(f"control '{control.get('name')}': {'; '.join(problems)}")


def _handler() -> handler.ExperimentHandler:
    """Return the handler; raises InterruptExecution when the control was not configured, because nothing would be
    judged.
    """
    if (kept := handler.current()) is None:
        raise InterruptExecution("sharedfate: its control could not be configured: see the log at level DEBUG")
    return kept
