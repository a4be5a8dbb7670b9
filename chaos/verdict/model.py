"""The vocabulary of a verdict: expectation, thresholds, history view, judgement.

Data only; `chaos.verdict.judging` holds the rules. The engine builds an `Expectation` from fate groups, a `HistoryView`
from a live or a saved history, and reports what `judge` returns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from chaos.errors import Misuse
from chaos.history.model import Samples
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict.proportions import Limits

NANO: Final = 1_000_000_000
_LONGEST: Final = 86_400.0  # seconds: no trial lasts longer than a day
_MOST_RESAMPLES: Final = 10_000


class Finding(StrEnum):
    """What is known about one flow, or about one effect on it."""

    HURT = "hurt"
    NOT_HURT = "not hurt"
    INCONCLUSIVE = "inconclusive"


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class EffectKind(StrEnum):
    """The two effects that are judged: shares of a flow's requests."""

    ERRORS = "errors"  # failed, or unknown
    SLOW = "slow"  # slower than the threshold of the baseline


class Harm(StrEnum):
    """The kind of harm that is expected."""

    ERRORS = "errors"
    SLOW = "slow"
    EITHER = "either"

    @property
    def kinds(self) -> tuple[EffectKind, ...]:
        return tuple(EffectKind) if self is Harm.EITHER else (EffectKind(self.value),)


def merge(verdicts: list[Verdict]) -> Verdict:
    """Return the worst verdict: fail, then inconclusive, then pass; of none: inconclusive, because nothing was
    checked.
    """
    for worst in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        if worst in verdicts:
            return worst
    return Verdict.PASS if verdicts else Verdict.INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the sharing model predicts.

    Attributes:
        shares: for each flow the share of its pairs behind the target, in [0, 1]; 0 means that it must not be hurt.
        exempt: flows that are reported and not judged (the aggressor's own).
        harm: what the harm of the flows that must be hurt looks like.
        fault_shape: how the fault acts in time.
        recovery: whether every judged flow must be seen back after the undo.
    """

    shares: Mapping[Flow, float]
    exempt: frozenset[Flow] = frozenset()
    harm: Harm = Harm.EITHER
    fault_shape: FaultShape = FaultShape.HELD
    recovery: bool = False

    def __post_init__(self) -> None:
        problems = [f"{flow}: share {x} is not in [0, 1]" for flow, x in self.shares.items() if not 0 <= x <= 1]
        problems += [f"{flow}: a sentinel passes no proxy and has no share" for flow in self.shares if flow.sentinel]
        if problems:
            raise Misuse("expectation: " + "; ".join(problems))

    @classmethod
    def nobody(
        cls, flows: Iterable[Flow], *, harm: Harm = Harm.EITHER, fault_shape: FaultShape = FaultShape.HELD
    ) -> Expectation:
        """No flow may be hurt: mode `none`, A/A trials."""
        return cls({flow: 0.0 for flow in flows if not flow.sentinel}, harm=harm, fault_shape=fault_shape)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types, flows by their names: what the header of a history holds."""
        return {
            "shares": {str(flow): share for flow, share in self.shares.items()},
            "exempt": sorted(map(str, self.exempt)),
            "harm": str(self.harm),
            "fault_kind": str(self.fault_shape),
            "recovery": self.recovery,
        }

    @classmethod
    def from_dict(cls, stated: Mapping[str, Any], flows: Iterable[Flow]) -> Expectation:
        """The inverse of `as_dict`, with the flows of the history; raises Misuse for what is not one, or a flow that
        the history does not have.
        """
        named = {str(flow): flow for flow in flows}
        try:
            if unknown := sorted({*stated["shares"], *stated["exempt"]} - named.keys()):
                raise Misuse(f"the history has no flow {', '.join(unknown)}: it has {', '.join(named)}")
            return cls(
                {named[name]: float(share) for name, share in stated["shares"].items()},
                exempt=frozenset(named[name] for name in stated["exempt"]),
                harm=Harm(stated["harm"]),
                fault_shape=FaultShape(stated["fault_kind"]),
                recovery=bool(stated.get("recovery", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Misuse(f"not an expectation: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Every number that a verdict depends on. The defaults are argued in docs/verdict.md; each can be set per
    test.

    Shares are in [0, 1] (a margin of 2 points is 0.02), times in seconds.
    """

    errors_margin: float = 0.02  # smallest rise of the share of failed or unknown requests that counts as harm
    slow_margin: float = 0.15  # smallest rise of the share of slow requests that counts as harm
    pulse_margin: float = 0.09  # within one pulse's short window: the rise of errors that *not hurt* must exclude
    pulses_margin: float = 0.055  # the same within three pulses or more: 180 requests, worth half, without a failure
    pulse_alpha: float = 0.01  # chance of missing such a rise
    alpha: float = 0.001  # chance of a wrong claim in a trial, over looks and flows together
    looks: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds after the fault's begin
    spending: tuple[float, ...] = (0, 0, 0.05, 0.05, 0.4, 0.25, 0.15, 0.1)  # share of alpha for *not hurt*, by look
    pairs: tuple[int, ...] = (3, 6)  # looks of a gradual fault: after so many on/off pairs
    window_requests: int = 20  # fewest requests of a flow in a window that is judged
    baseline_seconds: float = 5.0
    baseline_requests: int = 500
    design_effect: float = 2.0  # least design effect: no traffic is treated as better than half independent
    scales: tuple[float, ...] = (0.05, 0.25, 1.0, 2.5, 5.0)  # batch lengths that design effect is measured on
    slow_quantile: float = 0.95
    slow_factor_of_median: float = 1.5
    slow_extra: float = 0.005  # s; less is what a core that is shared with the load itself costs
    late_share: float = 0.10  # more late samples than this and slowness is not judged: the loader was slow
    sentinel_share: float = 0.5  # a sentinel that moves by more than this share of the margin tells machine trouble
    sentinel_factor: float = 3.0  # in machine trouble, a flow is hurt only beyond so many times the sentinel's own move
    share_slack: float = 0.2  # how far the affected share may miss the expected one; see `judging.contradicts`
    share_alpha: float = 0.05  # chance of either bound of the affected share being wrong
    back_seconds: float = 10.0  # after the undo, by which every flow must be back within its baseline
    stay_seconds: float = 3.0  # for which it must stay there: 600 requests at 200/s show a rise below 2 points
    undo_alpha: float = 0.0003  # chance in a trial of a wrong late harm, no recovery, or harm by the undo; beyond alpha
    recovery_alpha: float = 0.005  # chance of taking a flow for back that is not
    settle: float = 0.5  # skipped at the begin of each window of a switchback
    limits: Limits = Limits.EXACT  # of the single proportions that an interval is made of
    bootstrap: int = 200  # resamples of the quantile shifts; 0: none are reported

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {getattr(self, name)} must lie in (0, 1)"
            for name in (
                "errors_margin",
                "slow_margin",
                "pulse_margin",
                "pulses_margin",
                "pulse_alpha",
                "alpha",
                "undo_alpha",
                "recovery_alpha",
                "share_alpha",
                "slow_quantile",
                "late_share",
                "sentinel_share",
                "share_slack",
            )
            if not 0 < getattr(self, name) < 1
        ]
        rising: dict[str, tuple[float, ...]] = {"looks": self.looks, "pairs": self.pairs, "scales": self.scales}
        problems += [
            f"{name} = {steps} must rise, from above 0"
            for name, steps in rising.items()
            if not steps or any(after <= before for before, after in pairwise((0, *steps)))
        ]
        if len(self.spending) != len(self.looks):
            problems.append(f"spending has {len(self.spending)} shares for {len(self.looks)} looks: set both")
        elif min(self.spending) < 0 or not math.isclose(sum(self.spending), 1.0):
            problems.append(f"spending = {self.spending} must be shares that sum to 1")
        problems += [
            f"{name} = {getattr(self, name)} must be from 0 to {_LONGEST:g} seconds"
            for name in ("baseline_seconds", "back_seconds", "stay_seconds", "settle", "slow_extra")
            if not 0 <= getattr(self, name) <= _LONGEST
        ]
        if not max(*self.looks, *self.scales, *self.pairs) <= _LONGEST:
            problems.append(f"looks, scales and pairs must be at most {_LONGEST:g}")
        if not 0 <= self.bootstrap <= _MOST_RESAMPLES:
            problems.append(f"bootstrap = {self.bootstrap} must be from 0 to {_MOST_RESAMPLES}")
        if self.design_effect < 1:
            problems.append(f"design_effect = {self.design_effect} must be at least 1")
        if self.window_requests < 2 or self.baseline_requests < 2:
            problems.append("window_requests and baseline_requests must be at least 2")
        if problems:
            raise Misuse("thresholds: " + "; ".join(problems))

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types, in the spelling of saved histories; `thresholds_from` reads them back."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def margin(self, kind: EffectKind) -> float:
        return self.errors_margin if kind is EffectKind.ERRORS else self.slow_margin


# Saved histories and report.json keep the spelling of version 1.
_SAVED_AS: Final = {
    "design_effect": "inflation",
    "slow_threshold": "tau",
    "slow_quantile": "tau_quantile",
    "slow_factor_of_median": "tau_factor",
    "slow_extra": "tau_extra",
}


def thresholds_from(saved: Mapping[str, Any]) -> Thresholds:
    """The thresholds that a history's header holds as JSON; what it does not name has its default."""
    names = {saved_as: name for name, saved_as in _SAVED_AS.items()}
    values: dict[str, Any] = {
        names.get(name, name): tuple(value) if isinstance(value, list) else value for name, value in saved.items()
    }
    return Thresholds(**{**values, **({"limits": Limits(values["limits"])} if "limits" in values else {})})


@dataclass(frozen=True, slots=True)
class FaultEvidence:
    """What was seen of the fault itself, not of the traffic. Instants in ns, None when not seen."""

    effect_seen: bool = False  # the system showed that the fault acted (process gone, rule matched, counter rose)
    recovered: bool | None = None  # the undo was seen to work; None: not known yet
    injected: int | None = None
    restored: int | None = None  # serving again
    fault: str = ""  # its name
    doubt: str = ""  # why the fault was not seen to act by another word than its own; empty when it was


@dataclass(frozen=True, slots=True)
class HistoryView:
    """The part of a history that the judge sees.

    Attributes:
        flows: of each flow (sentinels too) its samples, sorted by `due`.
        windows: cut by evidence. A fault window that is still open ends at `until`.
        evidence: what was seen of the fault.
        until: now, or the end of the trial: samples that were done later are pending, as they were at that instant.
        pending: of each flow the `due` of requests without a sample yet (live views; saved histories need none).
        since: begin of steady load, from which design effect is measured; None: the first baseline window's begin.
    """

    flows: Mapping[Flow, Samples]
    windows: tuple[Window, ...]
    evidence: FaultEvidence
    until: int
    pending: Mapping[Flow, NDArray[np.int64]] = field(default_factory=dict)
    since: int | None = None

    def windows_of(self, kind: WindowKind) -> tuple[Window, ...]:
        return tuple(sorted((w for w in self.windows if w.kind is kind), key=lambda w: w.begin))


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect on one flow: the change of a share from baseline to fault, with its interval.

    `low` is a lower bound at the level of the hurt test, `high` an upper bound at that of the not-hurt test.
    """

    kind: EffectKind
    finding: Finding
    change: float
    low: float
    high: float
    baseline: float  # share in the baseline
    fault: float  # share in the fault window
    n_baseline: int
    n: int
    n_eff: float
    design_effect: float
    why: str = ""  # of a finding that is inconclusive: what is missing


@dataclass(frozen=True, slots=True)
class QuantileShift:
    """Change of a latency quantile from baseline to fault, in seconds. Reported, not judged."""

    quantile: float
    baseline: float
    fault: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measure:
    """A number for the report, with its interval.

    Attributes:
        values: of a fault that is over by itself, what each of its repeats gave. Of several, `value` is their mean and
            the interval (95 %) is that of their spread; of one, the interval is of that one alone.
        each: what one of them is called (`kill`); empty where nothing is repeated.
    """

    value: float
    low: float
    high: float
    unit: str
    values: tuple[float, ...] = ()
    each: str = ""


@dataclass(frozen=True, slots=True)
class FlowVerdict:
    """The judge's verdict on one flow."""

    flow: Flow
    expected_share: float | None  # None: exempt
    finding: Finding
    errors: Effect
    slow: Effect
    affected: tuple[float, float, float]  # share of requests failed or slow beyond the baseline: value, low, high
    slow_threshold: float  # s; a request is slow above it
    requests_lost: Measure | None
    decided_after: float | None  # s after the fault's begin (its look); None: not decided
    recovered_after: Measure | None  # s after the fault's end; None: not hurt, or not seen to recover
    recovery: tuple[tuple[float, float], ...] = ()  # shape: (s after the fault's end, affected share)
    shifts: tuple[QuantileShift, ...] = ()
    why: str = ""
    outage: Measure | None = None  # s, first lost to first good request; None: none lost, or not seen to answer again
    after_undo: str = ""  # `back`, `did not recover`, `hurt by the undo`, `not seen back`; empty: not asked


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judge's answer.

    `done` says that a further look could change nothing: the trial may end.
    """

    verdict: Verdict
    reason: str
    flows: tuple[FlowVerdict, ...]
    done: bool
    look: int  # index of the last look taken; -1: none
    seconds: float  # of fault window used
    measures: Mapping[str, Measure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    recovered: bool = True  # every judged flow was seen back after the undo, or that was not asked

    def observed(self, finding: Finding) -> list[str]:
        """Names of the judged flows with that finding, for `report.json`."""
        return [str(f.flow) for f in self.flows if f.finding is finding and f.expected_share is not None]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types; floats as they are, so that equal judgements give equal text."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Flow):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {_SAVED_AS.get(f.name, f.name): _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
