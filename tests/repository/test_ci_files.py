"""The CI files that ship ask for options, modes and scenarios that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from chaos.engine.catalogue import scenario_names
from chaos.model.modes import MODES

TOP = Path(__file__).resolve().parents[2]
FILES = ("action.yml", ".github/workflows/chaos.yml", "examples/github-workflow.yml", "examples/gitlab-ci.yml")


@pytest.mark.parametrize("name", FILES)
def test_every_option_mode_and_scenario_of_a_ci_file_exists(name: str, request: pytest.FixtureRequest) -> None:
    text = (TOP / name).read_text()
    assert yaml.safe_load(text)
    for option in re.findall(r"--(chaos-[a-z]+)", text):
        assert hasattr(request.config.option, option.replace("-", "_")), option
    for kind, known in (("modes", MODES), ("scenarios", scenario_names())):
        for values in re.findall(rf"{kind}[:=] ?\"?([a-z-]+,[a-z,-]+)", text):
            assert set(values.split(",")) <= set(known), values


def test_the_workflow_gives_the_action_inputs_that_it_has() -> None:
    inputs = yaml.safe_load((TOP / "action.yml").read_text())["inputs"].keys()
    steps = yaml.safe_load((TOP / ".github/workflows/chaos.yml").read_text())["jobs"]["proxy-modes"]["steps"]
    given = next(step["with"] for step in steps if step["uses"] == "./")
    assert given.keys() <= inputs
