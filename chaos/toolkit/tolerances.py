"""Tolerances that know intervals and three-valued verdicts. Chaos Toolkit itself knows only yes and no.

Each takes a probe's reading (chaos.toolkit.probes) as `value`. A reading that refutes the claim is out of tolerance,
one that proves it is within. What lies between is doubt: `doubt: refuse` (the default) takes it as out of tolerance;
with
`doubt: wait`, right for a hypothesis that is checked continuously, it passes for now, and the gate of the control says
*inconclusive* when it is still there at the end. A doubt is never green.

The annotations are real ones, not postponed: `chaos discover` shows postponed ones as "object".
"""

from collections.abc import Mapping
from typing import Any

from chaos.errors import Misuse
from chaos.toolkit.readings import NO_READING, NOBODY, Names, Reading
from chaos.verdict import Verdict

__all__ = ["at_least", "at_most", "between", "nobody", "only", "verdict_is", "within"]

DOUBTS = ("refuse", "wait")


def nobody(value: Reading = NO_READING, doubt: str = "refuse") -> bool:
    """The reading is empty: no tenant hurt, no container restarted."""
    return _answer(weigh("nobody", value, {}), doubt)


def only(value: Reading = NO_READING, names: Names = NOBODY, doubt: str = "refuse") -> bool:
    """The reading holds none but `names`; it need not hold them all."""
    return _answer(weigh("only", value, {"names": names}), doubt)


def at_most(value: Reading = NO_READING, limit: float = 0.0, doubt: str = "refuse") -> bool:
    """The whole interval of the reading lies at or below `limit`."""
    return _answer(weigh("at_most", value, {"limit": limit}), doubt)


def at_least(value: Reading = NO_READING, limit: float = 0.0, doubt: str = "refuse") -> bool:
    """The whole interval of the reading lies at or above `limit`."""
    return _answer(weigh("at_least", value, {"limit": limit}), doubt)


def between(value: Reading = NO_READING, low: float = 0.0, high: float = 1.0, doubt: str = "refuse") -> bool:
    """The whole interval of the reading lies within [low, high]."""
    return _answer(weigh("between", value, {"low": low, "high": high}), doubt)


def within(value: Reading = NO_READING, target: float = 0.0, margin: float = 0.0, doubt: str = "refuse") -> bool:
    """The whole interval of the reading lies no farther than `margin` from `target`."""
    return _answer(weigh("within", value, {"target": target, "margin": margin}), doubt)


def verdict_is(value: Reading = NO_READING, expected: str = "pass", doubt: str = "refuse") -> bool:
    """The reading's own verdict is `expected`: pass, fail or inconclusive."""
    return _answer(weigh("verdict_is", value, {"expected": expected}), doubt)


def _answer(verdict: Verdict, doubt: str) -> bool:
    if doubt not in DOUBTS:
        raise Misuse(f"doubt is {doubt!r}: it is refuse or wait")
    return verdict is Verdict.PASS or (verdict is Verdict.INCONCLUSIVE and doubt == "wait")


def weigh(name: str, value: Any, arguments: Mapping[str, Any]) -> Verdict:
    """Return what the tolerance of that name says of a reading: pass, fail, or inconclusive where it cannot tell.

    Pure; the gate asks it again about the journal's readings. Raises Misuse for what is no reading.
    """
    if not isinstance(value, Mapping) or "value" not in value:
        raise Misuse(
            f"{name}: {value!r} is no reading: probes of chaos.toolkit.probes give one (value, low, high, open, "
            "verdict)"
        )
    match name:
        case "nobody":
            return _listed(value, ())
        case "only":
            return _listed(value, arguments.get("names") or ())
        case "at_most":
            return _inside(value, None, arguments.get("limit", 0.0))
        case "at_least":
            return _inside(value, arguments.get("limit", 0.0), None)
        case "between":
            return _inside(value, arguments.get("low", 0.0), arguments.get("high", 1.0))
        case "within":
            target, margin = arguments.get("target", 0.0), arguments.get("margin", 0.0)
            return _inside(value, target - margin, target + margin)
        case "verdict_is":
            expected, found = Verdict(arguments.get("expected", "pass")), Verdict(value.get("verdict", "inconclusive"))
            if found is expected:
                return Verdict.PASS
            return Verdict.INCONCLUSIVE if found is Verdict.INCONCLUSIVE else Verdict.FAIL
        case _:
            raise Misuse(f"unknown tolerance {name!r}: known are {', '.join(__all__)}")


def _listed(value: Mapping[str, Any], allowed: Any) -> Verdict:
    """Return the names that are certainly in a reading, and those that are undecided."""
    if not isinstance(value["value"], (list, tuple)):
        raise Misuse(f"{value['value']!r} is no list of names: take at_most, at_least, between or verdict_is")
    if set(value["value"]) - set(allowed):
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if set(value.get("open", ())) - set(allowed) else Verdict.PASS


def _inside(value: Mapping[str, Any], least: float | None, most: float | None) -> Verdict:
    """Judge whether an interval is inside, outside, or astride a limit. A number without an interval is a single
    point.
    """
    centre = value["value"]
    if isinstance(centre, (list, tuple, str)):
        raise Misuse(f"{centre!r} is no number: take nobody, only or verdict_is")
    if centre is None:
        return Verdict.INCONCLUSIVE
    low, high = value.get("low"), value.get("high")
    low, high = (centre if low is None else low), (centre if high is None else high)
    if (most is not None and low > most) or (least is not None and high < least):
        return Verdict.FAIL
    sure = (most is None or high <= most) and (least is None or low >= least)
    return Verdict.PASS if sure else Verdict.INCONCLUSIVE


def is_ours(provider: Mapping[str, Any]) -> bool:
    """Whether a tolerance probe's provider belongs to this module."""
    return provider.get("module") == __name__ and provider.get("func") in __all__
