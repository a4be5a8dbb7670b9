"""`chaos discover --no-install sharedfate`: the whole table, each activity with its kind, its parameters and their
types.
"""

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
from chaos.toolkit import actions, nodes, workloads
from chaos.toolkit.discovery import KINDS

TABLE = Path(__file__).with_name("discovered.txt")
ACTIONS = {  # fault -> the action that injects it, and the one that undoes it (a pulse is over by itself)
    "kill": (actions.kill_proxy, None),
    "crash-loop": (actions.crash_loop_proxy, actions.stop_crash_loop),
    "pause": (actions.pause_proxy, actions.resume_proxy),
    "throttle": (actions.throttle_proxy, actions.restore_proxy_cpu),
    "overload": (actions.overload_path, actions.stop_overload),
    "out-of-memory": (actions.fill_proxy_memory, None),
    "hog": (nodes.hog_node, nodes.release_node),
    "restart": (workloads.restart_workload, None),
    "recreate": (workloads.recreate_workload, None),
    "upgrade": (workloads.upgrade_workload, workloads.roll_back_workload),
    "scale": (workloads.scale_workload, workloads.scale_back_workload),
    "delete-pod": (actions.delete_proxy_pod, None),
    "partition": (actions.partition_proxy, actions.reunite_proxy),
    "drop": (actions.drop_packets, actions.pass_packets),
    "reset": (actions.break_connections, actions.keep_connections),
    "degrade": (actions.degrade_proxy, actions.mend_proxy_link),
    "dns": (actions.spoil_dns, actions.mend_dns),
    "control-plane": (workloads.disturb_control_plane, workloads.soothe_control_plane),
    "expire-certificates": (workloads.expire_certificates, workloads.renew_certificates),
    "api-trouble": (workloads.disturb_api, workloads.soothe_api),
    "drain": (nodes.drain_node, nodes.uncordon_node),
    "stop-node": (nodes.stop_node, nodes.start_node),
    "cut-node": (nodes.cut_node, nodes.reconnect_node),
    "stop-kubelet": (nodes.stop_kubelet, nodes.start_kubelet),
}
# a fault's setting -> the action's parameter
OURS = {
    "seconds": "deadline",
    "server": "tenant",
    **dict.fromkeys(("address", "path", "status", "protocol", "method", "headers")),  # the tenant's own
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


def test_every_fault_has_an_action_with_its_settings_and_an_undo() -> None:
    assert set(ACTIONS) == set(FAULTS), (
        "a fault without an action: write one in chaos/toolkit/actions.py, and name it here"
    )
    for fault, (inject, undo) in ACTIONS.items():
        kind = fault_class(fault)
        assert (undo is None) == (kind.shape == "pulse")
        for function in filter(None, (inject, undo)):
            assert function.__name__ in sys.modules[function.__module__].__all__
        parameters = inspect.signature(inject).parameters  # type: ignore[arg-type]  # of builtins' function
        for setting in dataclasses.fields(kind):  # type: ignore[arg-type]
            expected = setting.name if setting.name in parameters else OURS[setting.name]
            assert expected is None or expected in parameters, f"{inject.__name__} lacks {setting.name}"


def test_the_top_package_imports_nothing_before_it_is_asked() -> None:
    code = "import sys, chaos; sys.exit(any(name.startswith(('chaos.', 'chaoslib')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
