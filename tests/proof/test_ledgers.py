"""The proof that verdicts by samples and by ledgers are equal, and that it would see one that is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from chaos.history.by_flow import FlowSamples
from chaos.history.model import EventKind, Outcome
from chaos.history.store import HistoryWriter
from chaos.verdict import Expectation, Thresholds
from proof import ledgers
from proof.synthetic import HarmDone, Noise, Plan, flows, view


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one trial, as a runner writes it."""
    first, second = flows(2)
    made = view(
        np.random.default_rng(1), Plan(fault=6.0), Noise(bursts=0.1), {first: HarmDone(0.5), second: HarmDone()}
    )
    expectation = Expectation({first: 0.5, second: 0.0})
    header = {"expectation": expectation.as_dict(), "thresholds": Thresholds(bootstrap=20).as_dict()}
    with HistoryWriter(tmp_path / "trials/node/proxy-paused", header) as writer:
        for window in made.windows:
            data = {"kind": str(window.kind), "begin": window.begin, "end": window.end}
            writer.event(EventKind.WINDOW, data, at=window.end)
        evidence = made.evidence
        for phase, at in (("injected", evidence.injected), ("recovered", evidence.restored)):
            writer.event(EventKind.FAULT, {"phase": phase, "at": at, "fault": "pause"}, at=at)
        for flow, samples in made.flows.items():
            samples["flow"], samples["client"] = writer.flow(flow), writer.pod(f"{flow.client}-1")
            samples["server"] = writer.pod(f"{flow.server}-1")
            writer.append(samples)
    return tmp_path


def test_judgements_by_samples_and_by_ledgers_are_compared_to_the_last_digit(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ledgers.main([str(run)]) == 0
    told = capsys.readouterr().out
    assert ": equal" in told
    assert told.endswith("1 of 1 judgements are equal to the last digit\n")


def test_one_request_that_ends_otherwise_by_its_ledger_is_seen(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ledgers.by_ledgers

    def wrong(found: FlowSamples, pods: Sequence[str]) -> tuple[FlowSamples, int]:
        entered, in_full = honest(found, pods)
        parts = [entered[flow] for flow in entered]
        baseline = parts[0][100:101]
        baseline["outcome"] = Outcome.FAILED
        return FlowSamples(tuple(entered), np.concatenate(parts)), in_full

    monkeypatch.setattr(ledgers, "by_ledgers", wrong)
    assert ledgers.main([str(run)]) == 1
    assert "NOT EQUAL" in capsys.readouterr().out


def test_nothing_to_compare_is_no_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ledgers.main([str(tmp_path)]) == 1
    assert "0 of 0" in capsys.readouterr().out
