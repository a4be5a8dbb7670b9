"""`chaos discover --no-install sharedfate`: the whole table, each activity with its kind, its parameters and their
types.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from chaos.faults.activity import ActsAt, activity_of
from chaos.faults.catalogue import FAULTS, fault_class
from chaos.model.faulting import FaultShape
from chaos.toolkit.discovery import KINDS
from chaos.toolkit.of_faults import actions_of, plain_type, settings_for

TABLE = Path(__file__).with_name("discovered.txt")
ACTIONS = {  # fault -> the action that injects it, and the one that undoes it (a pulse is over by itself)
    name: (activity.action, activity.undo)
    for name, activity in ((name, activity_of(fault_class(name))) for name in FAULTS)
}


@pytest.fixture(scope="module")
def discovered(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    directory = tmp_path_factory.mktemp("discovery")
    command = [
        str(Path(sys.executable).with_name("chaos")),
        "--no-version-check",
        "discover",
        "--no-install",
        "sharedfate",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, check=False, timeout=60)
    found = directory / "discovery.json"
    assert found.is_file(), done.stderr
    activities: list[dict[str, Any]] = json.loads(found.read_text())["activities"]
    return activities


def line(activity: dict[str, Any]) -> str:
    arguments = ", ".join(f"{a['name']}: {a.get('type', '?')}" for a in activity["arguments"])
    return f"{activity['type']} {activity['mod']}.{activity['name']}({arguments}) -> {activity['return_type']}"


def test_the_whole_table_is_as_written_down(discovered: list[dict[str, Any]]) -> None:
    assert sorted(map(line, discovered)) == TABLE.read_text().splitlines()


def test_everything_exported_is_listed_with_its_kind_and_a_docstring(discovered: list[dict[str, Any]]) -> None:
    listed = {(a["mod"], a["name"]): a for a in discovered}
    for module, kind in KINDS.items():
        for name in importlib.import_module(module).__all__:
            assert listed[module, name]["type"] == kind
            assert listed[module, name]["doc"]


def test_no_parameter_is_dropped_and_no_type_unknown(discovered: list[dict[str, Any]]) -> None:
    for activity in discovered:
        if activity["type"] == "control":
            continue  # what the library hands to a hook is its own
        function = getattr(importlib.import_module(activity["mod"]), activity["name"])
        assert [a["name"] for a in activity["arguments"]] == list(inspect.signature(function).parameters)
        assert "object" not in [activity["return_type"], *(a["type"] for a in activity["arguments"])], activity["name"]


def test_every_fault_has_an_action_with_its_fields_and_an_undo(discovered: list[dict[str, Any]]) -> None:
    listed = {one["name"]: one for one in discovered}
    for fault, (inject, undo) in ACTIONS.items():
        kind, place = fault_class(fault), activity_of(fault_class(fault)).place
        assert (not undo) == (kind.shape == "pulse")
        assert not undo or (listed[undo]["return_type"], listed[undo]["arguments"]) == ("integer", [])
        arguments = {one["name"]: one["default"] for one in listed[inject]["arguments"]}
        assert "deadline" in arguments
        if place is not ActsAt.BY_HAND:
            assert {name: arguments[name] for name in settings_for(kind)} == {
                name: default for name, (_, default) in settings_for(kind).items()
            }


@pytest.mark.parametrize(
    ("hint", "plain"),
    [
        (bool, bool),
        (int, int),
        (int | None, int),
        (float | None, float),
        (Literal["in", "out"], str),
        (Literal[1, 2], int),
        (tuple[str, ...], list),
        (frozenset[str], list),
        (Mapping[str, str], dict),
    ],
)
def test_a_fields_type_is_one_that_discovery_names(hint: Any, plain: type) -> None:
    assert plain_type(hint) is plain


@dataclasses.dataclass(frozen=True, slots=True)
class FillDisk:
    """Fill a node's disk.

    Args:
        mib: how much is written.
        paths: where; none: the
            kubelet's directory.
    """

    name: ClassVar[str] = "fill-disk"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"node"})
    mib: int = 64
    paths: tuple[str, ...] = ()
    seconds: float = 0.0  # its own deadline


def test_a_fault_that_says_nothing_of_its_action_gets_one_from_its_name_and_its_fields() -> None:
    kind: Any = FillDisk
    inject, undo = actions_of(kind, activity_of(kind))
    assert (inject.__name__, undo.__name__) == ("fill_disk", "undo_fill_disk")
    assert str(inspect.signature(inject)) == (
        "(node: str = 'first', mib: int = 64, paths: list = [], deadline: float = 60.0) -> dict"
    )
    assert inspect.getdoc(inject) == (
        "Fill a node's disk. In force until `undo_fill_disk`, at most `deadline` seconds.\n\nArgs:\n"
        "    node: its name, or `first` or `second` for those of the reference tenants.\n"
        "    mib: how much is written.\n    paths: where; none: the\n        kubelet's directory.\n"
        "    deadline: seconds after which the fault undoes itself."
    )


FAULT_OF_SOMEBODY = """
from dataclasses import dataclass
from typing import ClassVar
from chaos.faults.activity import Activity
from chaos.faults.pause import Pause

@dataclass(frozen=True, slots=True)
class Freeze(Pause):
    "Stop a proxy as we do it."
    name: ClassVar[str] = "freeze"
    {activity}
    times: int = 2
"""


@pytest.mark.parametrize(
    ("activity", "said"),
    [
        ("", "['freeze', 'undo_freeze'] int"),  # what Pause declares is Pause's
        ("activity: ClassVar[Activity] = Activity('hold')", "an action hold already exists"),
        ("activity: ClassVar[Activity] = Activity('kill_proxy')", "an action kill_proxy already exists"),
    ],
)
def test_a_fault_of_somebodys_folder_has_its_actions_too(tmp_path: Path, activity: str, said: str) -> None:
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "freeze.py").write_text(FAULT_OF_SOMEBODY.format(activity=activity))
    code = (
        "from chaos.toolkit import actions as a; "
        "kind = a.freeze.__signature__.parameters['times'].annotation; "
        "print(sorted(name for name in a.__all__ if 'freeze' in name), kind.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "SHAREDFATE_EXTENSIONS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in done.stdout + done.stderr


def test_the_top_package_imports_nothing_before_it_is_asked() -> None:
    code = "import sys, chaos; sys.exit(any(name.startswith(('chaos.', 'chaoslib')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
