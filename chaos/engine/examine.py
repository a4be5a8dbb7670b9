"""Examines a cluster before a run creates anything there: the doctor's questions, and the preflight."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from chaos.doctor.facts import Facts, read_facts
from chaos.doctor.findings import blockers
from chaos.doctor.preflight import await_gone, preflight
from chaos.doctor.tried import PodKind, kinds_of
from chaos.errors import EnvironmentUnfit
from chaos.kube.client import Cluster
from chaos.mesh.modes import known_modes


def examine(cluster: Cluster, modes: Iterable[str], *, run: str, said: Callable[[str], None]) -> Facts:
    """Return all that is known of the cluster; raises EnvironmentUnfit, in the doctor's words, when nothing can run
    there.
    """

    def refuse(facts: Facts) -> None:
        if found := blockers(facts):
            raise EnvironmentUnfit(f"{cluster.name}: {'; '.join(found)}")

    facts = read_facts(cluster)
    refuse(facts)
    said("preflight: pods of each kind that is needed, and the ways to them, are tried")
    kinds = {PodKind.HELPER}.union(*(kinds_of(known_modes()[mode]) for mode in modes if mode in known_modes()))
    facts = replace(facts, tried=preflight(cluster, facts.choice, kinds, run=run))
    try:
        refuse(facts)
    except EnvironmentUnfit:
        await_gone(cluster)  # a run that goes on need not wait
        raise
    if facts.tried is not None:
        for note in facts.tried.notes:
            said(note)
    return facts
