"""What a trial of claims comes to: one that breaks nothing, and shows of each feature whether it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from chaos.engine.features.check import Check, merged
from chaos.verdict import Verdict


def reason_of(checks: Sequence[Check]) -> str:
    """One sentence: what was not shown, or how much was."""
    wrong = [check for check in checks if check.verdict is not Verdict.PASS]
    if not wrong:
        return f"{len(checks)} features were shown to work"
    return "; ".join(f"{check.name}: {check.sentence}" for check in wrong)


def judgement_of(checks: Sequence[Check]) -> dict[str, Any]:
    """For the result's `judgement`: the verdict, and every check in full."""
    return {"verdict": str(merged(checks)), "reason": reason_of(checks), "flows": [],
            "checks": [{**asdict(check), "verdict": str(check.verdict)} for check in checks],
            "notes": [str(check) for check in checks]}


def measures_of(checks: Sequence[Check]) -> dict[str, Mapping[str, Any]]:
    """The figures that checks measured, by the check's name."""
    return {check.name: {"value": check.value, "low": None, "high": None, "unit": check.unit} for check in checks if check.unit}


def judged_again(judgement: Mapping[str, Any]) -> tuple[str, str]:
    """(verdict, reason) of the checks that a saved judgement holds."""
    checks = [Check(**{**check, "verdict": Verdict(check["verdict"])}) for check in judgement["checks"]]
    return str(merged(checks)), reason_of(checks)
