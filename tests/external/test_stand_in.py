"""A mode of an installed mesh, end to end: `--modes istio-ambient` on a cluster with a stand-in in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.kube.client import Cluster
from chaos.names import SYSTEM_NAMESPACE
from tests.external.stand_in import (
    CLASSIC,
    CONFIGURED,
    ISTIO,
    ISTIO_CLASSIC,
    LINKERD,
    NAME,
    WAYPOINTS,
    StandIn,
    installed,
)
from tests.stranger.clusters import command, embedded

pytestmark = pytest.mark.privileged

A, B, C = (f"tenant-{name}/client -> tenant-{name}/server" for name in "abc")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with embedded() as client:
        yield client


def run(cluster: Cluster, out: Path, *options: str) -> tuple[int, str, dict[str, dict[str, Any]]]:
    done = command("run", "--cluster", f"embedded:{cluster.name}", "--out", str(out), *options, seconds=280)
    report = out / "report.json"
    trials = json.loads(report.read_text())["trials"] if report.is_file() else []
    return done.returncode, done.stdout + done.stderr, {trial["scenario"]: trial for trial in trials}


def test_a_mesh_that_is_not_installed_is_refused_with_its_own_command(cluster: Cluster, tmp_path: Path) -> None:
    code, said, _ = run(cluster, tmp_path / "out", "--modes", "linkerd", "--scenarios", "proxy-killed")
    assert code == 4, said
    assert "linkerd is not installed in" in said
    assert "standard-install.yaml && linkerd install --crds | kubectl apply -f -" in said
    assert cluster.find("Namespace", SYSTEM_NAMESPACE) is None


@pytest.mark.slow
def test_istio_ambient_is_run_on_a_stand_in_and_hurts_whom_the_model_says(cluster: Cluster, tmp_path: Path) -> None:
    with installed(cluster):
        code, said, trials = run(
            cluster,
            tmp_path / "out",
            "--modes",
            "istio-ambient",
            "--scenarios",
            "proxy-killed,waypoint-killed,job-completes",
        )
        assert "istio-ambient: deploying the reference tenants into istio, as it is installed" in said, said[-3000:]
        assert "no call passes a proxy of layer 7" in said
        killed = trials["proxy-killed"]
        assert killed["mode"] == "istio-ambient"
        # b's clients have connections to either server: ztunnel balances those, so of b nothing is predicted.
        assert killed["predicted"] == {"hurt": [A], "unhurt": [C]}
        assert killed["verdict"] in ("pass", "inconclusive"), killed
        assert A in killed["observed"]["hurt"], said[-3000:]
        assert trials["job-completes"]["verdict"] == "pass", trials["job-completes"]
        assert cluster.find("Namespace", "tenant-a") is None
        assert cluster.find("Namespace", SYSTEM_NAMESPACE) is None
        assert code in (0, 1), said[-2000:]


@pytest.mark.slow
def test_the_same_shape_is_one_table_with_the_reference_mode_and_both_columns_of_the_budget(
    cluster: Cluster, tmp_path: Path
) -> None:
    modes = ("node", "istio-ambient", "istio-ambient-at-budget")
    with installed(cluster):
        done = command(
            "run",
            *("--cluster", f"embedded:{cluster.name}", "--out", str(tmp_path / "out")),
            *("--modes", ",".join(modes), "--scenarios", "footprint"),
            seconds=280,
        )
        limits = [
            one["resources"].get("limits", {})
            for pod in cluster.list("Pod", f"{NAME}-system", labels="app=ztunnel")
            for one in pod["spec"]["containers"]
            if one["name"] == "istio-proxy"
        ]
    said = done.stdout + done.stderr
    trials = {trial["mode"]: trial for trial in json.loads((tmp_path / "out" / "report.json").read_text())["trials"]}
    assert set(trials) == set(modes), said[-4000:]
    assert {trial["verdict"] for trial in trials.values()} == {"pass"}, said[-4000:]
    beside = "the proxies' CPU limits beside the budget"
    assert trials["istio-ambient"]["measures"][beside]["value"] == 0
    assert trials["istio-ambient-at-budget"]["measures"][beside]["value"] == pytest.approx(1.2, rel=0.05)
    used = [trials[mode]["measures"]["CPU of proxies per 1,000 requests"]["value"] for mode in modes]
    assert all(value > 0 for value in used)
    table = (tmp_path / "out" / "report.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|") and "600m each" in line]
    assert {mode for mode in modes if any(mode in line for line in rows)} >= {"node", "istio-ambient-at-budget"}, table
    assert len(limits) == 2
    assert not any("cpu" in one for one in limits)  # as it was installed


@pytest.mark.slow
def test_last_calls_are_answered_and_a_stand_in_that_balances_otherwise_than_ambient_is_found_out(
    cluster: Cluster, tmp_path: Path
) -> None:
    with installed(cluster):
        scenarios = "client-shut-down,features"
        code, said, trials = run(cluster, tmp_path / "out", "--modes", "istio-ambient", "--scenarios", scenarios)
    assert trials["client-shut-down"]["verdict"] == "pass", said[-4000:]
    # Its proxies read requests, and ztunnel does not: what they do with one connection gives it away.
    assert trials["features"]["verdict"] == "fail", said[-4000:]
    assert "fail: requests of one kept connection stay with one server" in said
    assert "pass: TLS on the wire, two nodes" in said
    assert "inconclusive: the proxies on the path count the requests" in said  # they have no page of ztunnel's
    assert code == 1


@pytest.mark.slow  # minutes each
@pytest.mark.parametrize(
    ("mode", "stand_in", "scenarios"),
    [
        ("linkerd", LINKERD, "proxy-killed,client-shut-down,job-completes,control-plane-down"),
        ("linkerd-classic", CLASSIC, "client-shut-down,job-completes"),
        ("istio-sidecar", ISTIO, "proxy-killed,job-completes"),
        ("istio-sidecar", CONFIGURED, "proxy-reconfigured,control-plane-upgraded"),
        ("istio-sidecar-classic", ISTIO_CLASSIC, "job-completes"),
        ("istio-ambient-waypoint", WAYPOINTS, "waypoint-killed,job-completes"),
        ("istio-ambient-service-waypoint", WAYPOINTS, "waypoint-killed"),
    ],
)
def test_what_a_webhook_injects_or_a_gateway_brings_is_judged_as_the_reference_mode_of_the_same_shape(
    cluster: Cluster, tmp_path: Path, mode: str, stand_in: StandIn, scenarios: str
) -> None:
    with installed(cluster, stand_in):
        code, said, trials = run(cluster, tmp_path / "out", "--modes", mode, "--scenarios", scenarios)
    assert set(trials) == set(scenarios.split(",")), said[-4000:]
    verdicts = {name: trial["verdict"] for name, trial in trials.items()}
    for killed in ("proxy-killed", "waypoint-killed"):
        assert verdicts.pop(killed, "pass") in ("pass", "inconclusive"), said[-4000:]
    assert set(verdicts.values()) <= {"pass"}, said[-4000:]
    if "waypoint-killed" in trials:
        assert trials["waypoint-killed"]["target"].startswith("tenant-a/waypoint-")
        assert trials["waypoint-killed"]["predicted"] == {"hurt": [A], "unhurt": [B, C]}
        assert A in trials["waypoint-killed"]["observed"]["hurt"], said[-3000:]
    if "proxy-killed" in trials:
        assert trials["proxy-killed"]["predicted"]["hurt"] == [A]
        assert A in trials["proxy-killed"]["observed"]["hurt"], said[-3000:]
        assert not {B, C} & set(trials["proxy-killed"]["observed"]["hurt"])
    if "control-plane-down" in trials:
        assert "a new pod waits for the control plane" in said
    assert code in (0, 1)
