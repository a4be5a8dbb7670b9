"""The suite's own arithmetic, the default matrix, and what a run does with what an earlier one left."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chaos.engine.catalogue import scenario_names
from chaos.engine.footprint import interval, total
from chaos.engine.matrix import DEFAULT
from chaos.engine.run import keep_attempt, set_aside
from chaos.engine.saturation import Saturation, classify_saturation
from chaos.engine.scenario import SCENARIOS
from chaos.engine.settings import Settings, chosen, parse_settings
from chaos.engine.upgrade import application_restarts, streams_cut
from chaos.errors import Misuse
from chaos.history.model import SAMPLE, Event, EventKind, Flag, Outcome
from chaos.kube.objects import ContainerSeen
from chaos.model.flow import Window, WindowKind
from chaos.model.modes import MODES, Layer, Scope, mode_named
from chaos.model.placement import Placement, Pod, Proxy


def settings(**changes: object) -> Settings:
    values: dict[str, object] = {
        "cluster": "embedded",
        "modes": "",
        "scenarios": "",
        "nodes": 2,
        "out": "out",
        "budget": 900,
        "seed": 7,
        "keep": False,
        "inconclusive": "retry",
        "baseline": None,
    }
    return parse_settings(**{**values, **changes})  # type: ignore[arg-type]


def test_every_trial_of_the_default_matrix_exists_and_applies() -> None:
    names = scenario_names()
    for mode, scenarios in DEFAULT.items():
        for name in scenarios:
            assert name in names, name
            assert SCENARIOS[name].skip_reason(MODES[mode]) == "", (mode, name)
    assert DEFAULT.keys() == MODES.keys()
    assert 30 <= sum(map(len, DEFAULT.values())) <= 40


def test_every_scenario_declares_the_faults_that_its_module_names() -> None:
    scenario_names()
    for found in SCENARIOS.values():
        module = vars(sys.modules[found.run.__module__])
        assert all(module.get(fault.__name__) is fault for fault in found.faults), found.name
    unbroken = {name for name, found in SCENARIOS.items() if not found.faults}
    assert unbroken == {"features", "footprint", "identities-exposed", "job-completes"}


def test_every_scenario_says_what_it_claims() -> None:
    scenario_names()
    assert [name for name, found in SCENARIOS.items() if not found.claim.endswith(".")] == []


@pytest.mark.parametrize(
    ("asked", "mode", "scenario", "taken"),
    [
        ({}, "node", "proxy-paused", True),
        ({}, "none", "proxy-paused", False),  # not in the default matrix
        ({"scenarios": "all"}, "none", "proxy-paused", True),
        ({"modes": "none", "scenarios": "proxy-paused"}, "none", "proxy-paused", True),
        ({"modes": "none", "scenarios": "proxy-paused"}, "node", "proxy-paused", False),
        ({"modes": "all", "scenarios": "default"}, "ambient-pod", "features", False),
    ],
)
def test_a_run_takes_what_was_asked_for(asked: dict[str, str], mode: str, scenario: str, taken: bool) -> None:
    assert chosen(settings(**asked), mode, scenario) is taken


def test_an_earlier_run_is_set_aside_and_anything_else_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for text in ("first", "second", "third"):
        set_aside(out)
        out.mkdir()
        (out / "run.json").write_text(text)
        (out / "trials").mkdir()
    assert (tmp_path / "out.previous" / "run.json").read_text() == "second"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(Misuse, match="none of an earlier run"):
        settings(out=str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_run_that_was_refused_does_not_stand_in_the_way_of_the_next(tmp_path: Path) -> None:
    earlier, out = tmp_path / "out.previous", tmp_path / "out"
    earlier.mkdir()
    (earlier / "run.json").write_text("sound")
    command = [sys.executable, "-m", "chaos.cli", "run", "--cluster", "context:nobodys", "--out", str(out)]
    for _ in range(2):
        refused = subprocess.run(
            command, env={**os.environ, "KUBECONFIG": "/nonexistent"}, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 4
        assert "no kubeconfig at /nonexistent" in refused.stdout + refused.stderr
        assert {"junit.xml", "report.json", "run.json"} <= {path.name for path in out.iterdir()}
    assert (earlier / "run.json").read_text() == "sound"


def test_the_first_attempt_of_a_trial_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "proxy-killed"
    directory.mkdir()
    (directory / "events.jsonl").write_text("{}")
    keep_attempt(directory)
    assert [path.relative_to(directory).as_posix() for path in directory.rglob("*.jsonl")] == ["attempt-1/events.jsonl"]


def test_replaced_applications_are_told_from_replaced_proxies() -> None:
    def state(namespace: str, container: str, identifier: str) -> ContainerSeen:
        return ContainerSeen(
            namespace, "pod", "u", "n1", container, False, "running", "", None, None, 0, identifier, True, "", None
        )

    before = {
        ("u1", "server"): state("tenant-a", "server", "1"),
        ("u1", "proxy"): state("tenant-a", "proxy", "2"),
        ("u2", "client"): state("tenant-a", "client", "3"),
        ("u3", "proxy"): state("sharedfate-system", "proxy", "4"),
        ("u1", "capture"): replace(state("tenant-a", "capture", "5"), init=True),
    }
    after = {("u2", "client"): state("tenant-a", "client", "3")}
    pods = tuple(
        Pod("tenant-a", "pod", uid, "n1", "a", role, role, "default")
        for uid, role in (("u1", "server"), ("u2", "client"))
    )
    proxies = tuple(
        Proxy("tenant-a", "pod", "proxy", uid, "n1", frozenset(), Scope.POD, uid, "default") for uid in ("u1", "u3")
    )
    placement = Placement(mode_named("sidecar"), pods, proxies, ())
    assert application_restarts(placement, before, after) == {("u1", "server")}
    assert application_restarts(placement, before, before) == set()


def test_a_stream_counts_as_cut_when_a_new_connection_answers() -> None:
    samples = np.zeros(4, SAMPLE)
    samples["flags"] = [Flag.NEW_CONNECTION, 0, Flag.NEW_CONNECTION, Flag.NEW_CONNECTION | Flag.LATE]
    samples["outcome"] = [Outcome.OK, Outcome.OK, Outcome.FAILED, Outcome.OK]
    assert streams_cut(samples) == 2


def test_the_interval_of_a_mean_is_students() -> None:
    low, high = interval([1.0, 2.0, 3.0, 4.0])
    assert (round(low, 3), round(high, 3)) == (0.446, 4.554)  # 2.5 -+ 3.182 x 1.291 / 2 (scipy.stats.t.interval)
    assert interval([5.0]) == (0.0, 10.0)


def test_a_total_counts_the_containers_that_are_named_and_there() -> None:
    row = {("n", "p", "proxy"): {"cores": 0.5}, ("n", "p", "app"): {"cores": 2.0}}
    assert total(row, [("n", "p", "proxy"), ("n", "gone", "proxy")], "cores") == 0.5


def proxy(name: str, millicores: int = 100) -> Proxy:
    return Proxy(
        "sharedfate-system", name, "proxy", name, "node-1", frozenset(Layer), Scope.NODE, "node-1", "a", millicores
    )


def test_a_proxy_that_used_up_its_limit_is_saturated_and_one_that_nearly_did_is_near_saturation() -> None:
    def reading(pod: str, at: float, cores: float) -> Event:
        return Event(
            int(at * 1e9),
            EventKind.USAGE,
            {"namespace": "sharedfate-system", "pod": pod, "containers": {"proxy": {"cores": cores, "bytes": 1}}},
        )

    held = [Window(WindowKind.FAULT, int(10e9), int(13e9))]
    cores = {"full": 0.099, "busy": 0.08, "half": 0.05}
    events = [
        reading("full", 9.0, 0.02),
        *(reading(pod, at, used) for pod, used in cores.items() for at in (11.5, 12.5)),
        reading("full", 14.0, 0.01),
    ]
    assert classify_saturation([proxy("full"), proxy("busy"), proxy("half")], events, held) == Saturation(
        (proxy("full"),), (proxy("busy"),)
    )
    assert classify_saturation([proxy("half")], events, held) == Saturation(())
    assert classify_saturation([proxy("unseen")], events, held) == Saturation((), (), (proxy("unseen"),))
    assert classify_saturation([], events, held) == Saturation(())
