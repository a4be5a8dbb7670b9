"""Commands whose output nobody takes: no trace, the work goes on, and a full disk is one line and exit code 4."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.synthetic import make_run

WELL: tuple[tuple[str, ...], ...] = (  # commands that print and end with 0
    ("--help",),
    ("--version",),
    ("run", "--help"),
    ("cluster", "--help"),
    ("faults",),
    ("render", "--mode", "node"),
    ("job",),
    ("report", "RUN"),
    ("compare", "RUN", "RUN"),
    ("run", "--out", "OUT", "--", "--collect-only"),
    ("run", "--out", "OUT", "--", "--version"),
)
REFUSED: tuple[tuple[str, ...], ...] = (  # and with 4, without any of this
    ("--nonsense",),
    ("nonsense",),
    ("render", "--mode", "nonsense"),
    ("report", "NOWHERE"),
    ("compare", "NOWHERE", "RUN"),
    ("run", "--modes", "nonsense", "--out", "OUT"),
)
# To what standard output and error lead, in a shell's words, and what comes of a command that would end with 0.
OUTPUTS = {
    ">/dev/full": 4,
    ">&-": 0,
    "<&- >&-": 0,
    "2>/dev/full": 0,
    "2>&-": 0,
    ">&- 2>&-": 0,
    "<&- >&- 2>&-": 0,
    ">/dev/full 2>&1": 4,
    ">/dev/full 2>&-": 4,
    "| true": 0,
    "2>&1 | true": 0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outputs")
    make_run(path / "RUN", modes=("node",))
    subprocess.run([sys.executable, "-m", "chaos", "report", "RUN"], cwd=path, check=True, capture_output=True)
    return path


def ended(folder: Path, command: tuple[str, ...], output: str) -> tuple[int, str]:
    """Exit code and what came to standard error, of a command with such an output."""
    words = " ".join([sys.executable, "-m", "chaos", *command])
    piped = "|" in output
    script = f"{{ {words} {output.split('|')[0]}; echo $? >code; }} {'| { exec <&-; sleep 0.01; }' if piped else ''}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return int((folder / "code").read_text()), done.stderr


EACH = [WELL[0], ("render", "--mode", "node"), WELL[-2]]  # with every output; the others with a full disk
SHORT = (">/dev/full", "2>&1 | true")  # a run's own start is long


@pytest.mark.parametrize(
    ("command", "output"),
    [
        pytest.param(command, output, marks=[pytest.mark.slow] if command[0] == "run" and output not in SHORT else [])
        for command in WELL
        for output in OUTPUTS
        if command in EACH or output == ">/dev/full"
    ],
)
def test_a_command_whose_output_nobody_takes_ends_without_a_trace(
    folder: Path, command: tuple[str, ...], output: str
) -> None:
    code, said = ended(folder, command, output)
    assert code == OUTPUTS[output], said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    told = [line for line in said.splitlines() if line.startswith("sharedfate: standard output: ")]
    full = output == ">/dev/full"
    assert told == (["sharedfate: standard output: No space left on device"] if full else [])


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (command, output)
        for command in REFUSED
        for output in OUTPUTS
        if command == ("nonsense",) or output == ">/dev/full"
    ],
)
def test_what_is_refused_is_refused_whoever_listens(folder: Path, command: tuple[str, ...], output: str) -> None:
    code, said = ended(folder, command, output)
    assert code == 4, said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_no_file_takes_the_place_of_a_descriptor_that_was_closed() -> None:
    program = "from chaos import outputs; import os, sys; outputs.keep(); sys.exit(os.open('/dev/zero', os.O_RDONLY))"
    done = subprocess.run(["sh", "-c", f'exec {sys.executable} -c "{program}" <&- >&- 2>&-'], check=False, timeout=60)
    assert done.returncode > 2
