"""Formats numbers, flows and effects for every form of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.history.result import TrialResult
from chaos.model.flow import Flow

DASH = "–"
SIGNS: Final = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
_COUNTED: Final = (
    "requests",
    "pods",
    "containers",
    "connections",
    "identities",
    "servers",
    "successes",
)  # units that are whole
_MEASURES: Final = {  # names of report.json that say less than they should
    "time to detect": "the judge was sure after",
    "ready again": "its container was ready again after",
    "time to recover": "last harm after the fault was over",
    "worst bystander errors": "most errors of a bystander",
    "worst bystander slow": "most slowness of a bystander",
}


@dataclass(frozen=True, slots=True)
class FlowChange:
    """One effect on one flow, in percentage points: the change from baseline to fault and its interval."""

    flow: str
    kind: str  # errors | slow
    change: float
    low: float
    high: float

    def __str__(self) -> str:
        step = resolution(self.low, self.high, least=0.1, most=1.0)
        change, low, high = (spell(value, step, sign=True) for value in (self.change, self.low, self.high))
        return f"{self.kind} {change} points ({low} to {high})"

    @property
    def most(self) -> str:
        """The upper bound in words: `errors at most +1 points`."""
        step = resolution(self.low, self.high, least=0.1, most=1.0)
        return f"{self.kind} at most {spell(self.high, step, sign=True)} points"


def short_flows(flows: Iterable[str]) -> dict[str, str]:
    """Return a short name for each flow: its tenant's namespace where that is unique, else the whole."""
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
    """Return every flow that a trial names; only the judgement names exempt ones."""
    named = {flow for side in (trial.predicted, trial.observed) for flows in side.values() for flow in flows}
    return sorted(named | {str(flow["flow"]) for flow in trial.judgement.get("flows", ())})


def name_flows(flows: Sequence[str], short: Mapping[str, str]) -> str:
    return ", ".join(short.get(flow, flow) for flow in flows) or "nobody"


def predicted_text(trial: TrialResult, short: Mapping[str, str]) -> str:
    """Say who was to be hurt; a dash when a trial predicted nothing of any flow."""
    return name_flows(trial.predicted["hurt"], short) if any(trial.predicted.values()) else DASH


def observed_text(trial: TrialResult, short: Mapping[str, str]) -> str:
    """Say who was seen to be hurt; *not known* when no flow could be judged, because silence does not mean unhurt."""
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
    """Summarise the findings on exempt flows that had traffic."""
    seen = [
        f"{short.get(str(flow['flow']), flow['flow'])} ({flow['finding']})"
        for flow in trial.judgement.get("flows", ())
        if flow.get("expected_share") is None and any((flow.get(kind) or {}).get("n") for kind in ("errors", "slow"))
    ]
    return f"not predicted: {', '.join(seen)}" if seen else ""


def effects(trial: TrialResult) -> list[FlowChange]:
    """Return the judged effects of a trial, flow by flow, without exempt flows."""
    found = []
    for flow in trial.judgement.get("flows", ()):
        if flow.get("expected_share") is None:
            continue
        for kind in ("errors", "slow"):
            effect: Mapping[str, Any] = flow.get(kind) or {}
            values = [effect.get(name) for name in ("change", "low", "high")]
            if all(isinstance(value, (int, float)) for value in values):
                change, low, high = (100.0 * float(value or 0.0) for value in values)
                found.append(FlowChange(str(flow["flow"]), kind, change, low, high))
    return found


def headline(trial: TrialResult) -> FlowChange | None:
    """Return the effect that sums a trial up best: the surest harm of a hurt flow, or, when none was hurt, the highest
    bound.
    """
    all_of_them = effects(trial)
    hurt = [effect for effect in all_of_them if effect.flow in trial.observed["hurt"]]
    if hurt:
        return max(hurt, key=lambda effect: effect.low)
    return max(all_of_them, key=lambda effect: effect.high, default=None)


def bystander(trial: TrialResult) -> FlowChange | None:
    """Return the largest harm that is possible for a flow that was not to be hurt."""
    spared = [effect for effect in effects(trial) if effect.flow in trial.predicted["unhurt"]]
    return max(spared, key=lambda effect: effect.high, default=None)


def effect_text(trial: TrialResult) -> str:
    """Word the headline; for trials without flows, the first of their measures."""
    effect = headline(trial)
    if effect is not None:
        return f"{short_flows(flows_of(trial)).get(effect.flow, effect.flow)}: {effect}"
    for name, measure in sorted(trial.measures.items()):
        return f"{name}: {measure_text(measure)}"
    return DASH


def contradiction_text(trial: TrialResult, short: Mapping[str, str]) -> str:
    """Say who was hurt against the prediction, and who was not; "" for neither."""
    hurt = [flow for flow in trial.observed["hurt"] if flow in trial.predicted["unhurt"]]
    spared = [flow for flow in trial.observed["unhurt"] if flow in trial.predicted["hurt"]]
    parts = [
        f"unexpected: {name_flows(hurt, short)}" if hurt else "",
        f"expected and not hurt: {name_flows(spared, short)}" if spared else "",
    ]
    return "; ".join(part for part in parts if part)


def measure_name(name: str) -> str:
    """Return a measure's name in words."""
    return _MEASURES.get(name, name)


def measure_text(measure: Mapping[str, Any]) -> str:
    """`12 requests (10 to 14)`, `23 ms (23 to 28)`, `under 5 ms`: rounded to what its limits say is known; of what was
    repeated with what the limits are of: `of this kill`, `over 3 kills`.
    """
    return f"{_limits_text(measure)}{_repeats_text(measure)}"


def _repeats_text(measure: Mapping[str, Any]) -> str:
    number, each = len(measure.get("values") or ()), measure.get("each") or "pulse"
    if not number or measure.get("value") is None:
        return ""
    return f" of this {each}" if number == 1 else f" over {number} {each}s"


def _limits_text(measure: Mapping[str, Any]) -> str:
    value, low, high = measure.get("value"), measure.get("low"), measure.get("high")
    if value is None:
        return DASH
    unit, scale, least = str(measure.get("unit", "")), 1.0, 0.0
    if unit == "share":
        unit, scale, least = "%", 100.0, 0.1
    elif unit == "s":
        unit, scale, least = ("ms", 1000.0, 1.0) if max(abs(value), abs(high or 0.0)) < 0.1 else ("s", 1.0, 0.01)
    elif unit.startswith(_COUNTED):
        least = 1.0
    if low is None or high is None:
        return f"{spell(value, least) if least >= 1 else number(scale * value)} {unit}".rstrip()
    value, low, high = (scale * one for one in (value, low, high))
    counted = least == 1.0 and unit != "ms"
    step = least if counted else resolution(low, high, least=least, most=1.0 if unit == "%" else math.inf)
    if unit in ("s", "ms") and high > 0 and round(value / step) == 0:
        return f"under {spell(math.ceil(high / step - 1e-9) * step, step)} {unit}"
    texts = [spell(one, step) for one in (value, low, high)]
    if len(set(texts)) == 1:
        return f"{texts[0]} {unit}".rstrip()
    return f"{texts[0]} {unit}".rstrip() + f" ({texts[1]} to {texts[2]})"


def measure_line(name: str, measure: Mapping[str, Any]) -> str:
    """Format a measure with its name; omit a unit that the name contains."""
    unit = str(measure.get("unit", ""))
    text = measure_text(measure)
    return f"{measure_name(name)} {text.replace(f' {unit}', '', 1) if unit and name.startswith(unit) else text}"


def resolution(low: float, high: float, *, least: float = 0.0, most: float = math.inf) -> float:
    """Return the decimal step to which an interval determines a figure: that of its half width; 0: all digits."""
    half = abs(high - low) / 2
    return min(most, max(least, 10.0 ** math.floor(math.log10(half)) if half > 0 else 0.0))


def spell(value: float, step: float, *, sign: bool = False) -> str:
    """Round a number to a decimal step, with as many digits as the step."""
    if step <= 0:
        return number(value)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    rounded = round(round(value / step) * step, digits) + 0.0  # + 0.0: no minus before a zero
    return f"{rounded:{'+' if sign and rounded else ''},.{digits}f}"


def number(value: float) -> str:
    """Format to three figures, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
