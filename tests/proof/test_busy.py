"""What busy processes cost trials is counted as it was."""

from __future__ import annotations

from pathlib import Path

from proof.busy import beside, page
from proof.matrix import Made, Trial


def trial(verdict: str = "pass", *, twice: bool = False, amiss: tuple[str, ...] = ()) -> Trial:
    return Trial("proxy-killed[node]", verdict, 20.0, 15.0, amiss, twice)


def test_a_runs_directory_says_what_was_beside_it() -> None:
    assert beside(Path("/out/busy4-12")) == 4
    assert beside(Path("/out/busy0-1")) == 0


def test_trials_that_cannot_tell_are_wrong_or_are_made_twice_are_told_apart() -> None:
    quiet = Made("busy0", 40.0, (trial(), trial()))
    first = Made("busy4", 90.0, (trial("inconclusive", twice=True), trial(twice=True), trial(), trial()))
    second = Made("busy4", 60.0, (trial("fail"), trial(amiss=("c",)), trial(), trial()))
    text = page({4: [first, second], 0: [quiet]}, machine="here")
    assert "| 0 | 1 | 2 | 0 | 0 (0%) | 0 (0%) | 40 | 1.33 |" in text
    assert "| 4 | 2 | 8 | 2 | 1 (12%) | 2 (25%) | 75 | 1.25 |" in text
    assert text.index("| 0 | 1 |") < text.index("| 4 | 2 |")
