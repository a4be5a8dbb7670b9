"""Every action is done once in a cluster, and undone: an action raises where it sees no effect, an undo counts what was
in force.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from chaos.toolkit.discovery import KINDS
from chaos.toolkit.gate import KEY
from tests.toolkit.test_discovery import ACTIONS
from tests.toolkit.test_experiments import act, run_written, written

Steps = list[tuple[str, dict[str, Any]]]

PROXIES: Steps = [
    ("pause_proxy", {}),
    ("resume_proxy", {}),
    ("kill_proxy", {}),
    ("fill_proxy_memory", {}),
    ("throttle_proxy", {"pairs": 0, "millicores": 50}),
    ("restore_proxy_cpu", {}),
    ("overload_path", {"pairs": 0}),
    ("stop_overload", {}),
    ("partition_proxy", {"side": "server"}),
    ("reunite_proxy", {}),
    ("degrade_proxy", {"delay_ms": 20.0}),
    ("mend_proxy_link", {}),
    ("drop_packets", {"ports": [9000]}),
    ("pass_packets", {}),
    ("break_connections", {"ports": [9000]}),
    ("keep_connections", {}),
    ("mute_proxy", {"ports": [9000]}),
    ("unmute_proxy", {}),
    ("fill_connections", {}),
    ("free_connections", {}),
    ("fill_files", {}),
    ("free_files", {}),
    ("misanswer_requests", {}),
    ("answer_requests", {}),
    ("spoil_dns", {"answer": "nxdomain"}),
    ("mend_dns", {}),
    ("start_job", {}),
    ("delete_proxy_pod", {"side": "server"}),
    ("crash_loop_proxy", {}),
    ("stop_crash_loop", {}),
    ("hold", {"seconds": 1.0}),
    ("play_scenario", {"name": "footprint"}),
    ("pause_proxy", {}),
    ("recover_all", {}),
]
WORKLOADS: Steps = [
    ("restart_workload", {}),
    ("recreate_workload", {}),
    ("upgrade_workload", {"env": {"SHAREDFATE_NEW": "1"}}),
    ("roll_back_workload", {}),
    ("add_server", {}),
    ("remove_servers", {}),
    ("disturb_control_plane", {}),
    ("soothe_control_plane", {}),
    ("disturb_api", {"code": 503}),
    ("soothe_api", {}),
    ("push_wrongly", {}),
    ("push_rightly", {}),
    ("expire_certificates", {}),
    ("renew_certificates", {}),
    ("scale_workload", {}),
    ("scale_back_workload", {}),
]
NODES: Steps = [
    ("hog_node", {}),
    ("release_node", {}),
    ("stop_kubelet", {"node": "second"}),
    ("start_kubelet", {}),
    ("cut_node", {"node": "second"}),
    ("reconnect_node", {}),
    ("drain_node", {"node": "second"}),
    ("uncordon_node", {}),
    ("stop_node", {"node": "second"}),
    ("start_node", {}),
]
DONE = {
    "chaos.toolkit.actions": ("sidecar", PROXIES),
    "chaos.toolkit.workloads": ("node", WORKLOADS),
    "chaos.toolkit.nodes": ("node", NODES),
}
UNDOS = {undo for _, undo in ACTIONS.values() if undo} | {"recover_all", "remove_servers"}


def test_every_action_is_done() -> None:
    assert set(DONE) == {module for module, kind in KINDS.items() if kind == "action"}
    for module, (_, steps) in DONE.items():
        assert {name for name, _ in steps} == set(importlib.import_module(module).__all__)


@pytest.mark.privileged
@pytest.mark.slow
@pytest.mark.parametrize("module", DONE)
def test_each_action_has_its_effect_and_each_undo_ends_it(module: str, tmp_path: Path) -> None:
    mode, steps = DONE[module]
    name = module.rpartition(".")[2]
    _, journal = run_written(
        written(name, mode, *(act(step, module, **arguments) for step, arguments in steps), guard=False),
        tmp_path,
        seconds=600,
    )
    played = {f"{number} {run['activity']['name']}": run for number, run in enumerate(journal["run"])}
    assert len(played) == len(steps)
    assert {key: run["exception"][-1] for key, run in played.items() if run["status"] != "succeeded"} == {}
    assert {
        key: run["output"] for key, run in played.items() if key.partition(" ")[2] in UNDOS and run["output"] != 1
    } == {}
    assert journal["rollbacks"][0]["output"] == 0  # nothing was left to undo
    judged = journal[KEY]["trial"] or {"verdict": "none: the loaders of a drained node are gone"}
    assert judged["verdict"] != "fail", judged["reason"]
