"""Words a verdict: one plain sentence, with flows and numbers. Used by `judging` alone."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow
from chaos.verdict.model import EffectKind, Finding, FlowVerdict, Harm, Thresholds, Verdict

_MOST_CLAUSES = 4


def points(share: float, *, sign: bool = False) -> str:
    """A share as percentage points: `12.3`, `+12.3`."""
    return f"{100 * share:{'+' if sign else ''}.1f}"


def reason(verdict: Verdict, clauses: Sequence[str]) -> str:
    shown = list(clauses[:_MOST_CLAUSES])
    if len(clauses) > len(shown):
        shown.append(f"and {len(clauses) - len(shown)} more")
    start = {Verdict.PASS: "as expected: ", Verdict.FAIL: "", Verdict.INCONCLUSIVE: "cannot tell: "}[verdict]
    return start + "; ".join(shown)


def first_look(fault_shape: FaultShape, thresholds: Thresholds) -> str:
    if fault_shape is FaultShape.GRADUAL:
        return f"the first one needs {thresholds.pairs[0]} on/off pairs"
    return f"the first one is {thresholds.looks[0]:g} s after the fault's begin"


def too_wide(kind: EffectKind, change: float, high: float, margin: float) -> str:
    name = "errors" if kind is EffectKind.ERRORS else "slow"
    seen, worst = points(change, sign=True), points(high, sign=True)
    return f"{name} {seen} points and perhaps {worst}, the margin is {points(margin)}"


def rise_shows(kind: EffectKind, change: float, explained: float) -> str:
    return f"{kind.value} {points(change, sign=True)} points, above the {points(explained)} % of the baseline"


def unseen_clusters(seconds: float, length: float) -> str:
    return (
        f"*not hurt* rests on {seconds:.3g} s: harm in clusters longer than {length:.2g} s may have fallen beside them"
    )


def unseen_in_pulses(pulses: int, margin: float, *, few: bool) -> str:
    name = "one pulse" if pulses == 1 else f"{pulses} pulses"
    said = f"{name}: a rise below {points(margin)} points within may go unseen"
    return f"{said}, and a burst of a flow's own looks like harm: repeat it" if few else said


def late_harm(flow: Flow, seconds: float) -> str:
    return (
        f"{flow} was hurt in the last {seconds:g} s of the fault alone: a burst of its own that lasts so long looks "
        "the same: repeat it"
    )


def slower_meanwhile(flow: Flow) -> str:
    return (
        f"{flow} was only slower, from the fault's begin to its undo: a change of its own speed that begins and ends "
        "with a fault looks the same: repeat it"
    )


def own_slowness(change: float) -> str:
    return (
        f"slow {points(change, sign=True)} points, but not from the fault's begin to its undo: "
        "it may be the flow's own change of speed"
    )


def machine_trouble(kind: EffectKind, change: float, sentinel: float) -> str:
    name = "errors" if kind is EffectKind.ERRORS else "slow"
    return (
        f"{name} {points(change, sign=True)} points, but the sentinel, which passes no proxy, moved by "
        f"{points(sentinel, sign=True)}: machine trouble"
    )


def sentinel_slow(rise: float) -> str:
    return f"the sentinel, which passes no proxy, was slow too ({points(rise, sign=True)} points)"


def loader_late(share: float) -> str:
    return (
        f"the loader itself was late for {share:.0%} of the requests: its machine is too busy (run fewer workers, let "
        "nothing run beside it, or give the nodes more CPU)"
    )


def ran_out_of_time(kind: EffectKind, change: float, attributable: float, trouble: str) -> str:
    return (
        f"{kind.value} {points(change, sign=True)} points, but only {points(attributable, sign=True)} without requests "
        "that ran out of time, "
        f"and {trouble}: machine trouble"
    )


def _worst(flow: FlowVerdict) -> str:
    """Return the effect that hurts the flow most, with its bound."""
    hurt = [effect for effect in (flow.errors, flow.slow) if effect.finding is Finding.HURT]
    effect = max(hurt, key=lambda found: found.low)
    return f"{effect.kind.value} {points(effect.change, sign=True)} points, at least {points(effect.low, sign=True)}"


def _bounds(flow: FlowVerdict) -> str:
    errors, slow = points(flow.errors.high, sign=True), points(flow.slow.high, sign=True)
    return f"errors at most {errors} points, slow at most {slow}"


def _pairs(flow: FlowVerdict) -> str:
    return f"{100 * (flow.expected_share or 0):.0f} % of its pairs"


def cannot_tell(flow: FlowVerdict) -> str:
    return f"{flow.flow}: {flow.why}"


def rightly_not_hurt(flow: FlowVerdict) -> str:
    return f"{flow.flow} was not hurt ({_bounds(flow)})"


def rightly_hurt(flow: FlowVerdict) -> str:
    return f"{flow.flow} was hurt ({_worst(flow)})"


def wrongly_hurt(flow: FlowVerdict) -> str:
    return f"{flow.flow} was hurt ({_worst(flow)}) though none of its pairs is behind the target"


def wrongly_not_hurt(flow: FlowVerdict) -> str:
    return f"{flow.flow} was not hurt ({_bounds(flow)}) though {_pairs(flow)} are behind the target"


def hurt_otherwise(flow: FlowVerdict, harm: Harm) -> str:
    return f"{flow.flow} was hurt ({_worst(flow)}), but not as expected: {harm.value}"


def wrong_amount(flow: FlowVerdict, least: float, most: float) -> str:
    value, low, high = flow.affected
    return (
        f"{flow.flow} was hurt, but {points(value)} % of its requests were affected "
        f"({points(low)} to {points(high)}) where {_pairs(flow)} are behind the target: "
        f"{points(least)} to {points(most)} % would be as expected"
    )


def not_back(flow: FlowVerdict, thresholds: Thresholds) -> str:
    return f"{flow.flow} did not recover: it was outside its baseline {thresholds.back_seconds:g} s after the undo"


def hurt_by_undo(flow: FlowVerdict) -> str:
    return f"{flow.flow} was hurt by the undo: it was not hurt by the fault"


def not_seen_back(flow: FlowVerdict, thresholds: Thresholds) -> str:
    return f"{flow.flow} was not seen back within its baseline for {thresholds.stay_seconds:g} s after the undo"
