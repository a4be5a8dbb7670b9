"""`chaos discover --no-install sharedfate`: the whole table, each activity with its kind, its parameters and their types."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos.faults.catalogue import FAULTS, fault_class
from chaos.toolkit import actions
from chaos.toolkit.discovery import KINDS

TABLE = Path(__file__).with_name("discovered.txt")
ACTIONS = {  # fault -> the action that injects it, and the one that undoes it (a pulse is over by itself)
    "kill": ("kill_proxy", None),
    "pause": ("pause_proxy", "resume_proxy"),
    "throttle": ("throttle_proxy", "restore_proxy_cpu"),
    "overload": ("overload_path", "stop_overload"),
    "delete-pod": ("delete_proxy_pod", None),
    "partition": ("partition_proxy", "reunite_proxy"),
    "degrade": ("degrade_proxy", "mend_proxy_link"),
}
# Faults that the extension does not offer yet: each name that leaves here gets a row above.
LATER = {"api-trouble", "control-plane", "crash-loop", "cut-node", "dns", "drain", "drop", "expire-certificates", "hog", "out-of-memory",
         "recreate", "reset", "restart", "scale", "stop-kubelet", "stop-node", "upgrade"}
OURS = {"seconds": "deadline", "server": "tenant", "address": None}  # a fault's setting -> the action's parameter


@pytest.fixture(scope="module")
def discovered(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    directory = tmp_path_factory.mktemp("discovery")
    command = [str(Path(sys.executable).with_name("chaos")), "--no-version-check", "discover", "--no-install", "sharedfate"]
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


def test_every_fault_has_an_action_with_its_settings_and_an_undo() -> None:
    assert not set(ACTIONS) & LATER
    assert set(ACTIONS) | LATER == set(FAULTS), "a fault without an action: write one in chaos/toolkit/actions.py, and name it here"
    for fault, (inject, recover) in ACTIONS.items():
        kind = fault_class(fault)
        assert (recover is None) == (kind.shape == "pulse")
        for name in (inject, recover):
            assert name is None or name in actions.__all__
        parameters = inspect.signature(getattr(actions, inject)).parameters
        for setting in dataclasses.fields(kind):  # type: ignore[arg-type]
            expected = setting.name if setting.name in parameters else OURS[setting.name]
            assert expected is None or expected in parameters, f"{inject} lacks {setting.name}"


def test_the_top_package_imports_nothing_before_it_is_asked() -> None:
    code = "import sys, chaos; sys.exit(any(name.startswith(('chaos.', 'chaoslib')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
