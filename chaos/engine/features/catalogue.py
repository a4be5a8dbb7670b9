"""The checks of a mode, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chaos.engine.features.balancing import check_balancing
from chaos.engine.features.by_objects import check_by_objects
from chaos.engine.features.context import CheckContext
from chaos.engine.features.forged import check_forged
from chaos.engine.features.identities import check_identities, check_refusals
from chaos.engine.features.metrics import check_metrics
from chaos.engine.features.outliers import check_outliers
from chaos.engine.features.own_words import check_own_words
from chaos.engine.features.paths import check_paths
from chaos.engine.features.plaintext import check_plaintext
from chaos.engine.features.pod_removal import check_pod_removal
from chaos.engine.features.policy import check_policy
from chaos.engine.features.retries import check_retries, check_timeouts
from chaos.engine.features.tls_on_wire import check_tls_on_wire
from chaos.engine.features.tracing import check_tracing
from chaos.engine.features.tunnels import check_tunnels
from chaos.verdict.check import Check

_ALWAYS = (
    check_balancing,
    check_paths,
    check_tls_on_wire,
    check_plaintext,
    check_pod_removal,
)  # in mode `none` they are the control group
_MESHED = (
    check_tracing,
    check_policy,
    check_retries,
    check_timeouts,
    check_outliers,
    check_metrics,
    check_tunnels,
    check_identities,
    check_refusals,
    check_forged,
)


_INSTALLED = (check_balancing, check_tls_on_wire, check_own_words, check_by_objects)  # what can be asked of any mesh


def applicable(where: CheckContext) -> tuple[Callable[[CheckContext], list[Check]], ...]:
    """Return the checks that apply to the mode."""
    if where.mode.brought_by:
        return _INSTALLED
    return (*_ALWAYS, *_MESHED) if where.mode.hops else _ALWAYS


def check_features(where: CheckContext) -> Iterator[Check]:
    """Run every check of the mode, and yield one result after the other."""
    for check in applicable(where):
        yield from check(where)
