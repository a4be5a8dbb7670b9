"""Turns history + expectation into a verdict. Pure: no clock, no I/O, no unseeded randomness; same history, same
answer.

`judge` is the one door; `view_from` cuts a `HistoryView` from samples and events, live or saved.
How it decides and how often it errs: docs/verdict.md.
"""

from __future__ import annotations

from chaos.verdict.judging import judge
from chaos.verdict.model import (
    Effect,
    EffectKind,
    Expectation,
    FaultEvidence,
    Finding,
    FlowVerdict,
    Harm,
    HistoryView,
    Judgement,
    Measure,
    QuantileShift,
    Thresholds,
    Verdict,
    merge,
    thresholds_from,
)
from chaos.verdict.view import view_from, view_of

__all__ = [
    "Effect",
    "EffectKind",
    "Expectation",
    "FaultEvidence",
    "Finding",
    "FlowVerdict",
    "Harm",
    "HistoryView",
    "Judgement",
    "Measure",
    "QuantileShift",
    "Thresholds",
    "Verdict",
    "judge",
    "merge",
    "thresholds_from",
    "view_from",
    "view_of",
]
