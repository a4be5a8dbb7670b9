"""What counts as a regression, what a policy lets pass, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import Misuse
from chaos.report import write_reports
from chaos.report.compare import GatePolicy, TrialPattern, comparability, compare, exit_code, load_policy, load_report
from chaos.report.regressions import FLOORS
from tests.report.synthetic import make_run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = make_run(tmp_path_factory.mktemp("base"))
    write_reports(run, seconds=1)
    return load_report(run)


def changed(report: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The report with those fields of its last trial replaced."""
    new = copy.deepcopy(report)
    new["trials"][-1].update(fields)
    return new


def lost(value: float, low: float, high: float) -> dict[str, Any]:
    return {"requests lost": {"value": value, "low": low, "high": high, "unit": "requests"}}


def test_a_report_does_not_regress_against_itself(base: dict[str, Any]) -> None:
    assert compare(base, base) == []
    assert exit_code([]) == 0


def test_a_verdict_that_fails_now_is_a_regression(base: dict[str, Any]) -> None:
    found = compare(base, changed(base, verdict="fail"))
    assert [str(r) for r in found] == ["proxy-killed[node]: pass -> fail (regressed): it fails now"]
    assert exit_code(found) == 1


def test_a_difference_within_its_intervals_is_none(base: dict[str, Any]) -> None:
    before = changed(base, measures=lost(300, 200, 400))
    assert compare(before, changed(base, measures=lost(390, 290, 490))) == []


def test_a_difference_beyond_its_intervals_is_one_and_says_by_how_much(base: dict[str, Any]) -> None:
    before = changed(base, measures=lost(300, 290, 310))
    (found,) = compare(before, changed(base, measures=lost(700, 690, 710)))
    assert found.change.low > 360
    assert found.change.high < 440
    assert "by +" in str(found)
    assert compare(before, changed(base, measures=lost(700, 690, 710)), GatePolicy(tolerance=1.5)) == []
    assert compare(before, changed(base, measures=lost(700, 690, 710)), GatePolicy(floors={"requests": 300.0})) == []


def test_what_got_better_is_no_regression(base: dict[str, Any]) -> None:
    before = changed(base, verdict="fail", measures=lost(300, 290, 310))
    assert compare(before, changed(base, measures=lost(10, 9, 11))) == []


def test_a_trial_that_is_gone_is_one_unless_the_policy_lets_it_be(base: dict[str, Any]) -> None:
    new = {**base, "trials": base["trials"][:-1]}
    (found,) = compare(base, new)
    assert "does not have it" in str(found)
    assert compare(base, new, GatePolicy(may_be_missing=(TrialPattern(mode="node"),))) == []
    assert compare(new, base) == []


def test_a_verdict_that_became_inconclusive_is_one_unless_the_policy_lets_it_be(base: dict[str, Any]) -> None:
    new = changed(base, verdict="inconclusive")
    (found,) = compare(base, new)
    assert "no longer be told" in str(found)
    assert compare(base, new, GatePolicy(may_be_inconclusive=(TrialPattern("proxy-*"),))) == []
    assert compare(base, new, GatePolicy(may_be_inconclusive=(TrialPattern("proxy-*", "sidecar"),)))


@pytest.mark.parametrize(("before", "after"), [("inconclusive", "pass"), ("inconclusive", "inconclusive")])
def test_of_a_trial_that_cannot_be_told_no_measure_is_compared(base: dict[str, Any], before: str, after: str) -> None:
    first = changed(base, measures=lost(300, 290, 310), verdict=before)
    second = changed(base, measures=lost(900, 890, 910), verdict=after)
    assert compare(first, second) == []
    assert [one.change.measure for one in compare(changed(first, verdict="pass"), second)] in ([""], ["requests lost"])


def test_reports_of_different_clusters_are_told_apart(base: dict[str, Any]) -> None:
    assert comparability(base, base) == []
    other = {**base, "cluster": {**base["cluster"], "kind": "kind"}}
    assert comparability(base, other) == ["the cluster's kind differs: embedded and kind"]


def test_what_is_no_report_is_refused_by_name(tmp_path: Path, base: dict[str, Any]) -> None:
    with pytest.raises(Misuse, match="no such file"):
        load_report(tmp_path / "x.json")
    path = tmp_path / "report.json"
    path.write_text("{")
    with pytest.raises(Misuse, match="not JSON"):
        load_report(tmp_path)
    path.write_text(json.dumps({**base, "version": 2}))
    with pytest.raises(Misuse, match=r"report\.json: \$\.version"):
        load_report(path)


def test_a_policy_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("may_be_inconclusive: [{scenario: noisy-neighbour}]\ntolerance: 0.2\nfloors: {s: 2}\n")
    policy = load_policy(path)
    assert (policy.may_be_inconclusive, policy.tolerance) == ((TrialPattern("noisy-neighbour"),), 0.2)
    assert policy.floors == {**FLOORS, "s": 2.0}


def test_a_policy_with_mistakes_is_refused_with_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "may_be_inconclusiv: []\nmay_be_missing: [{scenaro: x}, 3]\n"
        "tolerance: -1\nalpha: 0\nfloors: {parsec: 1, s: -1}\n"
    )
    with pytest.raises(Misuse) as caught:
        load_policy(path)
    named = (
        "may_be_inconclusiv is not known",
        "may_be_missing[0]",
        "may_be_missing[1]",
        "tolerance is -1",
        "alpha is 0",
    )
    for part in (*named, "floors.parsec is not known", "floors.s is -1"):
        assert part in str(caught.value)
