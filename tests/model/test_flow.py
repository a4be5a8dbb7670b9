"""The words of a run: a flow and its name, a fault's phase and its word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.errors import Misuse
from chaos.model.faulting import FaultPhase
from chaos.model.flow import Flow

KEYS = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,10}[a-z0-9])?/[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
LABELS = st.sampled_from(["", "tcp", "aggressor-requests", "slow (readers)"])
FLOWS = st.builds(Flow, KEYS, KEYS, st.booleans(), LABELS)


@given(FLOWS)
def test_a_flow_is_read_back_from_its_name_and_from_its_row(flow: Flow) -> None:
    assert Flow.parse(str(flow)) == flow
    assert Flow.from_dict(flow.as_dict()) == flow


@pytest.mark.parametrize(
    "name", ["", "a/b", "a/b->c/d", "a/b -> ", " -> c/d", "a/b -> c/d [", "a/b -> c/d []", "x -> y z"]
)
def test_what_is_no_name_of_a_flow_is_refused(name: str) -> None:
    with pytest.raises(Misuse, match="not a flow"):
        Flow.parse(name)


@pytest.mark.parametrize("row", [{}, {"client": "a/b"}, [], "a/b -> c/d"])
def test_a_row_without_two_ends_is_refused(row: object) -> None:
    with pytest.raises(Misuse, match="not a flow"):
        Flow.from_dict(row)  # type: ignore[arg-type]


def test_each_phase_is_read_back_from_its_word() -> None:
    assert [FaultPhase.from_word(phase.word) for phase in FaultPhase] == list(FaultPhase)


@pytest.mark.parametrize(
    ("word", "phase"), [("evidence", FaultPhase.INJECTED), ("restored", FaultPhase.RECOVERED), ("healed", None)]
)
def test_words_of_earlier_releases_are_known_and_others_are_not(word: str, phase: FaultPhase | None) -> None:
    assert FaultPhase.from_word(word) is phase
