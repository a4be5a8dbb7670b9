"""The fits and the page of what modes cost, from readings whose truth is known."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from benchmarks.cost_report import cpu_law, memory_law, render
from benchmarks.fits import Law, estimate, linear

IDLE, REQUEST = 0.002, 0.000_8  # cores of an idle proxy, core-seconds of a request
OWN, PART = 12.0, 0.05  # MiB of a proxy, and of it for each tenant


def grown(rng: np.random.Generator, mode: str, *, request: float = REQUEST) -> list[dict[str, Any]]:
    """Readings of a mode whose proxies cost so much."""
    rows = []
    for tenants in (3, 10, 30):
        layers = {"sidecar": ["l4-l7"] * 3 * tenants, "node": ["l4-l7"] * 2}.get(mode, ["l4"] * 2 + ["l7"] * tenants)
        proxies = [
            {"layer": layer, "node": f"node-{number % 2 + 1}", "mib": OWN + PART * tenants + rng.normal(0, 0.2)}
            for number, layer in enumerate(layers)
        ]

        def cores(rate: float, layers: list[str] = layers) -> dict[str, float]:
            used = {}
            for layer in set(layers):
                used[layer] = IDLE * layers.count(layer) + request * rate + rng.normal(0, 0.0005)
            return used

        busy = [{"rate": 5.0 * tenants, "cores": cores(5.0 * tenants), "lost": 0.0} for _ in range(3)]
        idle = [cores(0.0) for _ in range(3)]
        rows.append({"tenants": tenants, "pods": 3 * tenants, "idle": idle, "busy": busy, "proxies": proxies})
    return rows


def test_a_fit_finds_what_an_idle_proxy_a_request_and_a_tenant_cost() -> None:
    rows = grown(np.random.default_rng(1), "sidecar")
    cpu, memory = cpu_law(rows, "l4-l7"), memory_law(rows, "l4-l7")
    for law, place, truth in ((cpu, 0, IDLE), (cpu, 1, REQUEST), (memory, 0, OWN), (memory, 1, PART)):
        found = law.figure(lambda one, place=place: float(one[place]))  # type: ignore[misc]
        assert found.low <= truth <= found.high
        assert found.value == pytest.approx(truth, rel=0.15)


def test_no_coefficient_is_below_nothing() -> None:
    found = linear(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([3.0, 2.0, 1.0]))
    assert found[1] == 0.0
    assert found[0] == pytest.approx(2.0)


def test_an_interval_has_no_end_where_resampling_often_found_nothing() -> None:
    found = estimate(40.0, [30.0] * 90 + [float("inf")] * 10)
    assert (found.low, found.high) == (30.0, float("inf"))
    assert found.text(0) == "40 (30 to no end)"
    assert estimate(float("inf"), [1.0]).text() == "none"


def test_intervals_grow_with_the_scatter() -> None:
    rng = np.random.default_rng(2)
    rows = [(1.0, float(n)) for n in range(40)]
    widths = []
    for scatter in (0.1, 1.0):
        law = Law.of(rows, [2.0 + 0.5 * n + rng.normal(0, scatter) for _, n in rows])
        found = law.figure(lambda one: float(one[1]))
        widths.append(found.high - found.low)
    assert widths[1] > 3 * widths[0]


def page(**request: float) -> str:
    rng = np.random.default_rng(3)
    modes = {mode: grown(rng, mode, request=cost) for mode, cost in request.items()}
    return render({"growth": {"machine": "a machine", "modes": modes}})


def test_the_page_says_where_sharing_gets_cheaper_and_where_not() -> None:
    found = page(sidecar=REQUEST, node=REQUEST / 2, ambient=REQUEST)
    assert re.search(r"`node`, memory: cheaper from 1 \(1 to 1\) on", found)
    assert "`node`, CPU of ten tenants: cheaper at every rate" in found
    # The layers of an ambient mode cost a request each, twice the sidecars'; idle it has 12 proxies of their 30.
    dearer = re.search(r"`ambient`, CPU of ten tenants: dearer above ([\d,]+) \(([\d,]+) to ([\d,]+)\)", found)
    assert dearer is not None
    at, low, high = (float(one.replace(",", "")) for one in dearer.groups())
    assert low <= 18 * IDLE / REQUEST <= high
    assert low <= at <= high


def test_a_shared_proxy_bears_all_tenants_and_one_burst_and_each_sidecar_its_own() -> None:
    sized = page(sidecar=REQUEST, node=REQUEST).partition("### Sizing")[2]
    rows = {tuple(line.split(" | ")[:2]): line.split(" | ")[2:] for line in sized.splitlines() if line.startswith("| ")}
    own, shared = (float(cell.strip("| ").split(" ")[0]) for cell in rows["| 10", "5"])
    assert own == pytest.approx(50 * 100 * REQUEST / 0.8, rel=0.15)
    assert shared == pytest.approx(14 * 100 * REQUEST / 0.8, rel=0.15)


def test_a_page_has_the_pieces_that_were_measured() -> None:
    seen = {"p50": 2.0, "p99": 5.0, "lost": 0.0, "rate": 100.0, "core_ms": 0.8, "capacity": 900.0, "mib": 40.0}
    without = {"p50": 0.5, "p99": 1.0, "lost": 0.0}
    filled = dict.fromkeys(("0.1", "0.5", "0.8"), seen)
    one = {
        "capacity": 900.0,
        "filled": {**filled, "0.8": {**seen, "lost": 0.25}},
        "new_connections": seen,
        "without": dict.fromkeys(filled, without),
        "without_new": without,
    }
    found = render(
        {
            "latency": {"machine": "m", "modes": {"node": one}},
            "configurations": {"machine": "m", "modes": {"node": {"heavy": seen}}},
        }
    )
    assert "| `node` | 900 | +1.50, +4.00 | +1.50, +4.00 | +1.50, +4.00, 25.0% lost | +1.50, +4.00 | 1,250 |" in found
    assert "| `node` | heavy | 900 | 2.00, 5.00 | 800 | 40 |" in found
    assert "As tenants grow" not in found
