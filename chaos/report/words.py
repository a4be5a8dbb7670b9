"""How numbers, flows and effects are spelt in every form of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.history.result import TrialResult
from chaos.model.flow import Flow

DASH = "–"


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect on one flow, in percentage points: the change from baseline to fault and its interval."""

    flow: str
    kind: str  # errors | slow
    change: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.kind} {self.change:+.1f} points ({self.low:+.1f} to {self.high:+.1f})"


def short_flows(flows: Iterable[str]) -> dict[str, str]:
    """A short name for each flow: its tenant's namespace where that tells it from the others, else the whole."""
    known = list(dict.fromkeys(flows))
    tenants = [_tenant(flow) for flow in known]
    return {
        flow: tenant if tenant and tenants.count(tenant) == 1 else flow
        for flow, tenant in zip(known, tenants, strict=True)
    }


def _tenant(flow: str) -> str:
    found = Flow.parse(flow)
    namespace = found.client.partition("/")[0]
    return namespace if namespace == found.server.partition("/")[0] and not found.label else ""


def flows_of(trial: TrialResult) -> list[str]:
    """Every flow that a trial names; exempt ones are named by the judgement alone."""
    named = {flow for side in (trial.predicted, trial.observed) for flows in side.values() for flow in flows}
    return sorted(named | {str(flow["flow"]) for flow in trial.judgement.get("flows", ())})


def name_flows(flows: Sequence[str], short: Mapping[str, str]) -> str:
    return ", ".join(short.get(flow, flow) for flow in flows) or "nobody"


def predicted_text(trial: TrialResult, short: Mapping[str, str]) -> str:
    """Who was to be hurt; a dash when a trial of claims predicted nothing of any flow."""
    return name_flows(trial.predicted["hurt"], short) if any(trial.predicted.values()) else DASH


def observed_text(trial: TrialResult, short: Mapping[str, str]) -> str:
    """Who was seen to be hurt; *not known* when no flow could be judged, for silence is no acquittal."""
    hurt, unsure = trial.observed["hurt"], trial.observed["inconclusive"]
    if not any(trial.observed.values()):
        return "not known" if flows_of(trial) else DASH
    parts = [
        name_flows(hurt, short),
        f"cannot tell: {name_flows(unsure, short)}" if unsure else "",
        unpredicted_text(trial, short),
    ]
    return "; ".join(part for part in parts if part)


def unpredicted_text(trial: TrialResult, short: Mapping[str, str]) -> str:
    """What was seen of the flows of which nothing was predicted; of a flow that sent nothing meanwhile, nothing was
    seen.
    """
    seen = [
        f"{short.get(str(flow['flow']), flow['flow'])} ({flow['finding']})"
        for flow in trial.judgement.get("flows", ())
        if flow.get("expected_share") is None and any((flow.get(kind) or {}).get("n") for kind in ("errors", "slow"))
    ]
    return f"not predicted: {', '.join(seen)}" if seen else ""


def effects(trial: TrialResult) -> list[Effect]:
    """The judged effects of a trial, flow by flow; exempt flows are left out."""
    found = []
    for flow in trial.judgement.get("flows", ()):
        if flow.get("expected_share") is None:
            continue
        for kind in ("errors", "slow"):
            effect: Mapping[str, Any] = flow.get(kind) or {}
            values = [effect.get(name) for name in ("change", "low", "high")]
            if all(isinstance(value, (int, float)) for value in values):
                change, low, high = (100.0 * float(value or 0.0) for value in values)
                found.append(Effect(str(flow["flow"]), kind, change, low, high))
    return found


def headline(trial: TrialResult) -> Effect | None:
    """The effect that tells a trial best: the surest harm of a hurt flow, or, when none was hurt, the highest bound."""
    all_of_them = effects(trial)
    hurt = [effect for effect in all_of_them if effect.flow in trial.observed["hurt"]]
    if hurt:
        return max(hurt, key=lambda effect: effect.low)
    return max(all_of_them, key=lambda effect: effect.high, default=None)


def bystander(trial: TrialResult) -> Effect | None:
    """The worst that may have happened to a flow that was not to be hurt."""
    spared = [effect for effect in effects(trial) if effect.flow in trial.predicted["unhurt"]]
    return max(spared, key=lambda effect: effect.high, default=None)


def effect_text(trial: TrialResult) -> str:
    """The headline in words; of trials without flows the first of their measures."""
    effect = headline(trial)
    if effect is not None:
        return f"{short_flows(flows_of(trial)).get(effect.flow, effect.flow)}: {effect}"
    for name, measure in sorted(trial.measures.items()):
        return f"{name}: {measure_text(measure)}"
    return DASH


def measure_text(measure: Mapping[str, Any]) -> str:
    """`12.3 requests (10 to 14)`."""
    value, low, high = measure.get("value"), measure.get("low"), measure.get("high")
    if value is None:
        return DASH
    unit, scale = str(measure.get("unit", "")), 1.0
    if unit == "share":
        unit, scale = "%", 100.0
    text = f"{number(scale * value)} {unit}".rstrip()
    if low is None or high is None or low == high:
        return text
    return f"{text} ({number(scale * low)} to {number(scale * high)})"


def number(value: float) -> str:
    """Three figures, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
