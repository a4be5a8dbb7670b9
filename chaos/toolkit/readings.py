"""Readings: what probes return, as JSON. One shape for all, so that any tolerance takes any suitable probe.

value      a number, a text, a list of names, or None when there is nothing to measure yet
low, high  the interval of a number
open       of a list of names: those of which it cannot be told (yet)
unit       of a number
verdict    pass, fail or inconclusive, where the probe itself has an opinion
why        one sentence
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from chaos.history.model import Outcome
from chaos.model.flow import Flow, WindowKind
from chaos.verdict import Finding, FlowVerdict, HistoryView, Judgement, Thresholds, Verdict
from chaos.verdict.proportions import Count, clopper_pearson

if TYPE_CHECKING:
    Reading = dict[str, Any]
    Names = list[str]
else:  # `chaos discover` knows the bare types as "mapping" and "list", and shows any other as "object"
    Reading, Names = dict, list

NO_READING: Final[Reading] = {}
NOBODY: Final[Names] = []
LEVEL: Final = 0.025  # one-sided: limits of 95 % intervals
STEADY_SECONDS: Final = 5.0  # of load that is read before anything is broken


def number(value: float | None, low: float | None, high: float | None, unit: str, why: str = "") -> Reading:
    return {"value": value, "low": low, "high": high, "unit": unit, "why": why}


def names(found: Iterable[str], doubtful: Iterable[str] = (), why: str = "") -> Reading:
    """Return a reading of a list of names; its own verdict is *pass* when it is certainly empty."""
    listed = sorted(set(found))
    undecided = sorted(set(doubtful) - set(listed))
    verdict = Verdict.FAIL if listed else Verdict.INCONCLUSIVE if undecided else Verdict.PASS
    return {"value": listed, "open": undecided, "verdict": str(verdict), "why": why}


def opinion(value: Any, verdict: Verdict, why: str) -> Reading:
    return {"value": value, "verdict": str(verdict), "why": why}


def tenant_of(flow: Flow) -> str:
    """Return a flow's tenant: the namespace of its client."""
    return flow.client.partition("/")[0]


def hurt_tenants(judgement: Judgement, besides: Sequence[str]) -> Reading:
    """Return the tenants with a flow that is hurt, and the undecided ones, without those in `besides`."""
    hurt = {tenant_of(f.flow) for f in judgement.flows if f.finding is Finding.HURT}
    undecided = {tenant_of(f.flow) for f in judgement.flows if f.finding is Finding.INCONCLUSIVE}
    return names(hurt - set(besides), undecided - set(besides), judgement.reason)


def error_counts(view: HistoryView, flow: Flow, begin: int) -> Count:
    """Return effective failures among effective requests due since `begin`: halved, as the judge's least design effect
    does.
    """
    samples = view.flows[flow]
    recent = samples[samples["due"] >= begin]
    errors = int(np.count_nonzero(recent["outcome"] != Outcome.OK))
    return Count(errors / 2, len(recent) / 2)


def unsteady_tenants(view: HistoryView, besides: Sequence[str], thresholds: Thresholds) -> Reading:
    """Return the tenants whose errors exceed the margin before anything is broken."""
    begin = view.until - int(STEADY_SECONDS * 1e9)
    hurt, undecided = set(), set()
    for flow in view.flows:
        tenant = tenant_of(flow)
        if flow.sentinel or tenant in besides:
            continue
        low, high = clopper_pearson(error_counts(view, flow, begin), LEVEL)
        if low > thresholds.errors_margin:
            hurt.add(tenant)
        elif high >= thresholds.errors_margin:
            undecided.add(tenant)
    return names(hurt, undecided, f"nothing was broken yet; errors of the last {STEADY_SECONDS:g} s")


def error_share(view: HistoryView, flow: Flow, broken: bool) -> Reading:
    """Return the share of failed or unknown requests since the fault began (or recently), with a 95 % interval."""
    windows = view.windows_of(WindowKind.FAULT) if broken else ()
    begin = windows[0].begin if windows else view.until - int(STEADY_SECONDS * 1e9)
    samples = view.flows[flow]
    if windows:
        inside = np.zeros(len(samples), dtype=bool)
        for window in windows:
            inside |= (samples["due"] >= window.begin) & (samples["due"] < window.end)
        chosen = samples[inside]
        count = Count(int(np.count_nonzero(chosen["outcome"] != Outcome.OK)) / 2, len(chosen) / 2)
    else:
        count = error_counts(view, flow, begin)
    if not count.n:
        return number(None, None, None, "share", "no request fell due in the window")
    low, high = clopper_pearson(count, LEVEL)
    return number(count.share, low, high, "share", f"{2 * count.events:g} of {2 * count.n:g} requests")


def latency_shift(verdict: FlowVerdict | None, quantile: float) -> Reading:
    """Return how much later a quantile of the flow's answers is than in the baseline, in seconds."""
    for shift in verdict.shifts if verdict else ():
        if shift.quantile == quantile:
            value = shift.fault - shift.baseline
            return number(value, min(shift.low, value), max(shift.high, value), "s", f"from {shift.baseline:.6f} s")
    return number(None, None, None, "s", "nothing was broken yet, or no request was answered meanwhile")


def blast_radius(judgement: Judgement) -> Reading:
    """Return the share of the judged flows that are hurt; the interval includes the undecided ones."""
    judged = [flow for flow in judgement.flows if flow.expected_share is not None]
    if not judged:
        return number(None, None, None, "share", judgement.reason)
    hurt = sum(flow.finding is Finding.HURT for flow in judged)
    undecided = sum(flow.finding is Finding.INCONCLUSIVE for flow in judged)
    total = len(judged)
    return number(
        hurt / total, hurt / total, (hurt + undecided) / total, "share", f"{hurt} of {total} flows, {undecided} open"
    )
