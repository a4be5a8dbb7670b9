"""What people see of the plugin: options refused in one line with exit code 4, items with readable names."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--chaos-modes=sidecart", "unknown proxy mode 'sidecart': known are none, sidecar"),
        ("--chaos-scenarios=proxy-kiled", "unknown scenario 'proxy-kiled'"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_4(pytester: pytest.Pytester, option: str, says: str) -> None:
    result = pytester.runpytest_subprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{says}*"])


def test_an_unknown_cluster_is_refused_before_anything_is_collected(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--chaos-modes=none", "--chaos-cluster=minikub")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown cluster 'minikub'*"])


def test_items_are_named_scenario_and_mode(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(
        "--collect-only",
        "-q",
        "--chaos-modes=sidecar,node",
        "--chaos-scenarios=proxy-killed",
        "--pyargs",
        "chaos.suite",
    )
    result.stdout.fnmatch_lines(["*::proxy-killed[[]sidecar]", "*::proxy-killed[[]node]"])
    result.stdout.no_fnmatch_line("*noisy*")


def test_an_experiment_is_no_reason_to_be_shown_the_suite(pytester: pytest.Pytester) -> None:
    shown = Path(__file__).resolve().parents[2] / "experiments" / "proxy-paused.yaml"
    (pytester.path / "mine.yaml").write_text(shown.read_text())
    found = pytester.runpytest_subprocess("--chaos-modes=node", "--collect-only", "-q")
    found.stdout.fnmatch_lines(["*mine.yaml*"])
    found.stdout.no_fnmatch_line("*no chaos test here*")
    (pytester.path / "mine.yaml").unlink()
    pytester.makepyfile("def test_mine(): pass")
    bare = pytester.runpytest_subprocess("--chaos-modes=node", "--collect-only")
    bare.stdout.fnmatch_lines(["*no chaos test here; its own suite: sharedfate run*"])
