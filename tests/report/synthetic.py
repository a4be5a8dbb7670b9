"""Run directories as the engine leaves them, from made-up requests and the real judge: a proxy dies in each mode."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from chaos.history.model import SAMPLE, Cause, EventKind, Outcome, Samples
from chaos.history.store import HistoryWriter
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, WindowKind
from chaos.verdict import Expectation, Harm, Thresholds, judge, view_from

NANO = 1_000_000_000
BEGIN = 1_780_000_000 * NANO
BASELINE, FAULT, RECOVERY = 6.0, 1.0, 5.0  # seconds
TENANTS = {
    "a": ("node-1", ("node-1", "node-1")),
    "b": ("node-2", ("node-1", "node-2")),
    "c": ("node-2", ("node-2", "node-2")),
}
FLOWS = {t: Flow(f"tenant-{t}/client", f"tenant-{t}/server") for t in TENANTS}
SENTINELS = {t: Flow(f"tenant-{t}/client", f"tenant-{t}/server", sentinel=True) for t in TENANTS}
TARGETS = {"sidecar": "tenant-a/client-0[proxy]", "node": "sharedfate-system/proxy-node-1[proxy]", "none": ""}
SHARES = {"none": {}, "sidecar": {"a": 1.0}, "node": {"a": 1.0, "b": 0.5}}


def pods() -> list[dict[str, str]]:
    found = []
    for tenant, (client_node, server_nodes) in TENANTS.items():
        places = [("client", client_node, 0), *(("server", node, number) for number, node in enumerate(server_nodes))]
        found += [
            {
                "namespace": f"tenant-{tenant}",
                "name": f"{role}-{number}",
                "uid": f"uid-{tenant}-{role}-{number}",
                "node": node,
                "tenant": tenant,
                "role": role,
                "workload": role,
                "service_account": role,
                "ip": "",
            }
            for role, node, number in places
        ]
    return found


def proxies(mode: str, budget: int = 900) -> list[dict[str, object]]:
    base = {"container": "proxy", "layers": ["l4", "l7"], "container_id": "x"}
    if mode == "sidecar":
        return [
            {
                **base,
                "namespace": p["namespace"],
                "pod": p["name"],
                "node": p["node"],
                "scope": "pod",
                "key": p["uid"],
                "cpu_millicores": budget // 9,
            }
            for p in pods()
        ]
    if mode == "node":
        return [
            {
                **base,
                "namespace": "sharedfate-system",
                "pod": f"proxy-{node}",
                "node": node,
                "scope": "node",
                "key": node,
                "cpu_millicores": budget // 2,
            }
            for node in ("node-1", "node-2")
        ]
    return []


def requests(flow: int, share: float, *, rate: float = 200.0, rng: np.random.Generator) -> Samples:
    """Open-loop requests of one flow; in the fault that share of them fails, or times out."""
    n = int((BASELINE + FAULT + RECOVERY) * rate)
    found = np.zeros(n, dtype=SAMPLE)
    due = BEGIN + (np.arange(n) / rate * NANO).astype(np.int64)
    latency = rng.lognormal(np.log(0.002), 0.4, n)
    inside = (due >= BEGIN + BASELINE * NANO) & (due < BEGIN + (BASELINE + FAULT) * NANO)
    hit = inside & (rng.random(n) < share)
    refused = hit & (rng.random(n) < 0.6)
    latency[hit & ~refused] = 1.0
    found["flow"], found["due"], found["sent"] = flow, due, due + 50_000
    found["done"] = due + (latency * NANO).astype(np.int64)
    found["status"] = 200
    found["outcome"][refused], found["cause"][refused] = Outcome.FAILED, Cause.REFUSED
    found["outcome"][hit & ~refused], found["cause"][hit & ~refused] = Outcome.UNKNOWN, Cause.TIMEOUT
    return found


def make_trial(
    run: Path,
    mode: str,
    *,
    scenario: str = "proxy-killed",
    hurt: dict[str, float] | None = None,
    seed: int = 7,
    budget: int = 900,
) -> Path:
    """A trial whose requests are hurt by `hurt` (default: as the model says), judged by the real judge."""
    directory = run / "trials" / mode / scenario
    rng = np.random.default_rng(seed)
    expected = {FLOWS[t]: SHARES[mode].get(t, 0.0) for t in TENANTS}
    hurt = SHARES[mode] if hurt is None else hurt
    begin, end = BEGIN + int(BASELINE * NANO), BEGIN + int((BASELINE + FAULT) * NANO)
    with HistoryWriter(directory, {"mode": mode, "scenario": scenario, "seed": seed}) as writer:
        writer.event(EventKind.TRIAL, {"mode": mode, "scenario": scenario, "seed": seed}, at=BEGIN)
        writer.event(EventKind.PLACEMENT, {"pods": pods(), "proxies": proxies(mode, budget)}, at=BEGIN)
        for tenant in TENANTS:
            writer.append(requests(writer.flow(FLOWS[tenant]), hurt.get(tenant, 0.0), rng=rng))
            writer.append(requests(writer.flow(SENTINELS[tenant]), 0.0, rate=50, rng=rng))
        writer.flush()
        target = TARGETS[mode]
        for phase, at in (("injected", begin), ("evidence", begin), ("recovered", end), ("restored", end)):
            writer.event(
                EventKind.FAULT, {"phase": phase, "at": at, "fault": "kill", "target": target, "seen": True}, at=at
            )
        for restarts, at in ((0, BEGIN), (1, begin + NANO // 2)):
            writer.event(
                EventKind.CONTAINER,
                {
                    "namespace": "sharedfate-system",
                    "pod": "proxy",
                    "uid": "uid-proxy",
                    "container": "proxy",
                    "state": "running",
                    "restarts": restarts,
                    "last_reason": "Error" if restarts else "",
                },
                at=at,
            )
        windows = (
            (WindowKind.BASELINE, BEGIN, begin),
            (WindowKind.FAULT, begin, end),
            (WindowKind.RECOVERY, end, None),
        )
        for kind, first, last in windows:
            writer.event(
                EventKind.WINDOW, {"kind": str(kind), "begin": first, "end": last, "why": "made up"}, at=last or end
            )
        samples, events = writer.snapshot()
        view = view_from(samples, events, flows=writer.flows)
        judgement = judge(view, Expectation(expected, harm=Harm.ERRORS, fault_shape=FaultShape.PULSE), Thresholds())
    plain = judgement.as_dict()
    of = {
        finding: [f["flow"] for f in plain["flows"] if f["finding"] == finding]
        for finding in ("hurt", "not hurt", "inconclusive")
    }
    result = {
        "mode": mode,
        "scenario": scenario,
        "target": target,
        "seed": seed,
        "seconds": 12.5,
        "predicted": {
            "hurt": [str(f) for f, s in expected.items() if s],
            "unhurt": [str(f) for f, s in expected.items() if not s],
        },
        "observed": {"hurt": of["hurt"], "unhurt": of["not hurt"], "inconclusive": of["inconclusive"]},
        "measures": {name: asdict(measure) for name, measure in judgement.measures.items()},
        "verdict": plain["verdict"],
        "reason": plain["reason"],
        "history": f"trials/{mode}/{scenario}",
        "judgement": plain,
    }
    (directory / "result.json").write_text(json.dumps(result))
    return directory


def make_run(run: Path, *, modes: tuple[str, ...] = ("none", "sidecar", "node"), kind: str = "embedded") -> Path:
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(
        json.dumps(
            {
                "version": 1,
                "run": "0badcafe",
                "started": "2026-01-02T03:04:05+00:00",
                "seed": 7,
                "budget_millicores": 900,
                "cluster": {"kind": kind, "version": "v1.33.0", "nodes": 2},
            }
        )
    )
    for mode in modes:
        make_trial(run, mode)
    return run
