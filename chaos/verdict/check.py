"""A claim about the running mesh: shown or not, with the figure that was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chaos.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Check:
    """One claim about the running mesh. `sentence` says what was seen, in words that hold whichever way it went."""

    name: str
    verdict: Verdict
    sentence: str
    value: float = 0.0
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.name}: {self.sentence}"


def decided(name: str, holds: bool, sentence: str, value: float = 0.0, unit: str = "") -> Check:
    """Return a decided check: the claim holds, or it does not."""
    return Check(name, Verdict.PASS if holds else Verdict.FAIL, sentence, value, unit)


def measured(name: str, sentence: str, value: float, unit: str) -> Check:
    """Return a figure without a claim: nothing was predicted of it, so it cannot fail."""
    return Check(name, Verdict.PASS, sentence, value, unit)


def undecided(name: str, sentence: str) -> Check:
    """Return an undecided check: no observation could decide it."""
    return Check(name, Verdict.INCONCLUSIVE, sentence)


def merged(checks: Iterable[Check]) -> Verdict:
    """Return the worst verdict of all checks; none decides nothing."""
    verdicts = {check.verdict for check in checks}
    return next(
        (one for one in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS) if one in verdicts), Verdict.INCONCLUSIVE
    )
