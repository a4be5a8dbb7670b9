"""The outcome of a trial: combines the judge's verdict with its check results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from chaos.verdict import Verdict, merge
from chaos.verdict.check import Check, merged

_FEW: Final = 4  # claims that are told one by one when they hold


def reason_of(checks: Sequence[Check]) -> str:
    """Return one sentence: what was not shown, or how much was."""
    wrong = [check for check in checks if check.verdict is not Verdict.PASS]
    if not wrong:
        if len(checks) > _FEW:
            return f"{len(checks)} claims were shown to hold"
        return "; ".join(f"{check.name}: {check.sentence}" for check in checks)
    return "; ".join(f"{check.name}: {check.sentence}" for check in wrong)


def combined(judgement: Mapping[str, Any] | None, checks: Sequence[Check]) -> tuple[Verdict, str]:
    """Return (verdict, reason) of a trial with a judged fault, with checks, or with both: the worst of them, and its
    reason.
    """
    parts = [(Verdict(judgement["verdict"]), str(judgement["reason"]))] if judgement else []
    parts += [(merged(checks), reason_of(checks))] if checks else []
    verdict = merge([verdict for verdict, _ in parts])
    return verdict, "; ".join(reason for found, reason in parts if found is verdict) or "nothing was checked"


def judgement_of(judgement: Mapping[str, Any] | None, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the result's `judgement`: the judge's, if any, and every check in full."""
    whole = dict(judgement or {"flows": [], "notes": []})
    whole["verdict"], whole["reason"] = combined(judgement, checks)
    if checks:
        whole["judged"] = {"verdict": judgement["verdict"], "reason": judgement["reason"]} if judgement else None
        whole["checks"] = [{**asdict(check), "verdict": str(check.verdict)} for check in checks]
        whole["notes"] = [*whole["notes"], *map(str, checks)]
    return {**whole, "verdict": str(whole["verdict"])}


def measures_of(checks: Sequence[Check]) -> dict[str, Mapping[str, Any]]:
    """Return what checks measured, by the check's name."""
    return {
        check.name: {"value": check.value, "low": None, "high": None, "unit": check.unit}
        for check in checks
        if check.unit
    }


def checks_of(judgement: Mapping[str, Any]) -> list[Check]:
    """Return the checks in a saved judgement."""
    return [Check(**{**check, "verdict": Verdict(check["verdict"])}) for check in judgement.get("checks", [])]
