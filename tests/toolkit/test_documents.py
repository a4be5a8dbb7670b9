"""Journals of ours as documents: chaostoolkit-reporting renders them with all that they say."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from chaos.toolkit.runner import run_loaded
from chaos.verdict import Verdict
from tests.toolkit.experiments import experiment, probe, step, tolerance


@pytest.mark.slow
@pytest.mark.parametrize("form", ["html5", "markdown"])
def test_a_journal_of_ours_is_rendered(form: str, tmp_path: Path) -> None:
    hurt = probe("reading", tolerance("at_most", limit=0.02), value=0.5, low=0.4, high=0.6)
    written = experiment(
        [step("act"), step("fail")], probes=[hurt], strategy="after-method-only", rollbacks=[step("act")], control=True
    )
    outcome = run_loaded({**written, "title": "One proxy that hangs hurts nobody"}, out=tmp_path)
    assert outcome.gate_verdict.verdict is Verdict.FAIL
    page = tmp_path / f"page.{form}"
    command = [
        str(Path(sys.executable).with_name("chaos")),
        "--no-version-check",
        "report",
        f"--export-format={form}",
        str(outcome.path),
        str(page),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert page.is_file(), f"{done.stderr}{done.stdout}: want pip install -e '.[proof]', and the system's libcairo2"
    text = unescape(re.sub(r"<[^>]*>", "", page.read_text()))
    for said in ("One proxy that hangs hurts nobody", "reading", "it broke", "tests.toolkit.steps"):
        assert said in text, said
