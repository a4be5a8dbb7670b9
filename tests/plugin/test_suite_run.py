"""What `sharedfate run` refuses it says in one line of its own: no usage of pytest's, no rootdir, no trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.plugin.options import option_names
from chaos.plugin.own_words import in_own_words

USAGE = "usage: python -m pytest [options] [file_or_dir] [file_or_dir] [...]\npython -m pytest: error: "
WHERE = "\n  inifile: /x/pyproject.toml\n  rootdir: /x\n"
KNOWN = ["--modes", "--out", "--maxfail", "-n", *option_names()]


@pytest.mark.parametrize(
    ("said", "own"),
    [
        (
            "unrecognized arguments: --mods none",
            "no such option: --mods: did you mean --modes? `sharedfate run --help`",
        ),
        ("unrecognized arguments: --chaos-sed=3", "no such option: --chaos-sed: did you mean --chaos-seed?"),
        ("unrecognized arguments: --maxfial 3 --other", "no such option: --maxfial: did you mean --maxfail?"),
        ("unrecognized arguments: --zzz", "no such option: --zzz: `sharedfate run --help` lists them"),
        ("argument --chaos-seed: invalid int value: 'x'", "--chaos-seed is 'x', and should be a whole number"),
        ("argument --chaos-every: invalid float value: ''", "--chaos-every is '', and should be a number"),
        ("argument -n/--numprocesses: invalid parse_numprocesses value: 'x'", "-n is 'x', and should be a number of"),
        ("argument --maxfail: expected one argument", "--maxfail wants a value"),
        ("argument --tb: invalid choice: 'odd' (choose from 'auto', 'no')", "--tb is 'odd': known are 'auto', 'no'"),
        ("something that is new", "something that is new"),
    ],
)
def test_what_pytest_refuses_is_said_in_own_words_with_the_nearest_option(said: str, own: str) -> None:
    line = in_own_words(f"{USAGE}{said}{WHERE}", known=KNOWN)
    assert line.startswith(own)
    for of_pytest in ("usage", "pytest", "rootdir", "inifile", "\n"):
        assert of_pytest not in line


@pytest.mark.live
@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("--bogus",), 4, "sharedfate: no such option: --bogus"),
        (("--modes", "bogus"), 4, "sharedfate: unknown proxy mode 'bogus'"),
        (("--scenarios", "bogus"), 4, "sharedfate: unknown scenario 'bogus'"),
        (("--cluster", "bogus"), 4, "sharedfate: unknown cluster 'bogus'"),
        (("--out", "/proc/x"), 4, "sharedfate: /proc/x: the run directory cannot be made"),
        (("--target", "nofile"), 4, "sharedfate: cluster embedded: "),
        (("stray",), 4, "sharedfate: no such file: stray"),
        (("--", "--chaos-seed", "x"), 4, "sharedfate: --chaos-seed is 'x'"),
        (("--", "--maxfail"), 4, "sharedfate: --maxfail wants a value"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_run_that_is_refused_says_one_line(tmp_path: Path, arguments: tuple[str, ...], code: int, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chaos.cli", "run", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith(line)
    assert not list(tmp_path.iterdir())  # nothing was begun
