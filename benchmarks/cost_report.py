"""The page of `benchmarks/cost.py`: tables, fits and crossing points from its figures. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from benchmarks.fits import Array, Estimate, Law, estimate

Figures = Mapping[str, Any]
BURSTS: Final = (2, 5, 20)
SIZED: Final = (3, 10, 30)
RATE: Final = 100.0  # requests a second of a tenant that is sized for
FILLED: Final = 0.8  # of its CPU limit, which a proxy that is sized well uses at its busiest
MOST: Final = 1000  # tenants up to which a crossing is looked for
PODS: Final = 3  # of a tenant: a client and two servers
Laws = Mapping[str, Law]  # of a mode's layers


def render(figures: Figures) -> str:
    """Return the page."""
    lines = [
        "# What each mode costs, side by side",
        "",
        "Again: `python -m benchmarks.cost latency growth configurations --write`; each piece takes less than ten "
        "minutes. The same Envoy and the same budget of CPU everywhere (1,200 millicores for all proxies of a mode), "
        "on the embedded cluster of two nodes. Intervals are 95 %, by resampling of the readings (1,000 times).",
        "",
    ]
    for piece, page in (("latency", _latency), ("growth", _growth), ("configurations", _configurations)):
        if piece in figures:
            lines += page(figures[piece]["modes"], figures[piece]["machine"])
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def _latency(modes: Figures, machine: str) -> list[str]:
    shares = list(next(iter(modes.values()))["filled"])

    def added(with_mesh: Figures, without: Figures) -> str:
        if "p50" not in with_mesh or "p50" not in without:
            return "none answered"
        told = f", {with_mesh['lost']:.1%} lost" if with_mesh["lost"] >= 0.001 else ""
        return f"{with_mesh['p50'] - without['p50']:+.2f}, {with_mesh['p99'] - without['p99']:+.2f}{told}"

    rows = [
        [
            f"`{mode}`",
            f"{one['capacity']:,.0f}",
            *(added(one["filled"][share], one["without"][share]) for share in shares),
            added(one["new_connections"], one["without_new"]),
            f"{1 / one['filled'][shares[1]]['core_ms'] * 1e3:,.0f}",
        ]
        for mode, one in modes.items()
    ]
    head = [
        "mode",
        "capacity, requests/s",
        *(f"at {float(share):.0%}: p50, p99 added, ms" for share in shares),
        "each request on a new connection, at 10 %",
        "requests/s per core of proxies",
    ]
    return [
        "## Latency as the proxies fill",
        "",
        f"{machine}. One tenant's requests at a share of what its path carried last in a ramp (median of two, to "
        "15 %), beside no mesh at the same rates; 5 s each. Capacities differ because the budget is divided among "
        "more or fewer proxies: one sidecar has 133 millicores, a node's proxy 600.",
        "",
        *_table(head, rows),
    ]


# ---- growth


def memory_law(rows: Sequence[Figures], layer: str) -> Law:
    """Fit MiB of one proxy of that layer = a + b x tenants: its configuration grows with them."""
    found = [(row["tenants"], one["mib"]) for row in rows for one in row["proxies"] if one["layer"] == layer]
    return Law.of([(1.0, tenants) for tenants, _ in found], [mib for _, mib in found])


def cpu_law(rows: Sequence[Figures], layer: str) -> Law:
    """Fit cores of a layer's proxies = a x proxies + b x requests/s."""
    found = []
    for row in rows:
        proxies = sum(one["layer"] == layer for one in row["proxies"])
        found += [((proxies, 0.0), cores[layer]) for cores in row["idle"]]
        found += [((proxies, one["rate"]), one["cores"][layer]) for one in row["busy"]]
    return Law.of([of for of, _ in found], [cores for _, cores in found])


def total(laws: Laws, of: Callable[[str, Array], float]) -> Estimate:
    """Sum a figure of each layer's coefficients, with its interval."""
    samples = zip(*(law.samples for law in laws.values()), strict=True)
    return estimate(
        sum(of(layer, law.best) for layer, law in laws.items()),
        [sum(of(layer, one) for layer, one in zip(laws, drawn, strict=True)) for drawn in samples],
    )


def number_of(mode: str, layer: str, tenants: float) -> float:
    """How many proxies of a layer the mode has for so many tenants of `PODS` pods, on two nodes."""
    if mode == "sidecar":
        return PODS * tenants
    return tenants if layer == "l7" else 2.0


def _growth(modes: Figures, machine: str) -> list[str]:
    lines = [
        "## As tenants grow",
        "",
        f"{machine}. Of three tenants each has a client and two servers, each further one a server; idle, and then "
        "at 5 requests/s each. Memory is proportional (PSS): pages of Envoy's binary count once. `a node`: the fuller.",
        "",
    ]
    rows = []
    for mode, grown in modes.items():
        for one in grown:
            total = sum(proxy["mib"] for proxy in one["proxies"])
            nodes = {proxy["node"] for proxy in one["proxies"]}
            node = max(sum(p["mib"] for p in one["proxies"] if p["node"] == name) for name in nodes)
            rate = float(np.mean([busy["rate"] for busy in one["busy"]]))
            rows.append(
                [
                    f"`{mode}`",
                    f"{one['tenants']}",
                    f"{one['pods']}",
                    f"{len(one['proxies'])}",
                    f"{total:,.0f}",
                    f"{total / one['pods']:.1f}",
                    f"{node:,.0f}",
                    f"{1e3 * float(np.mean([sum(cores.values()) for cores in one['idle']])):.1f}",
                    f"{1e3 * float(np.mean([sum(b['cores'].values()) for b in one['busy']])):.0f} at {rate:,.0f}/s",
                ]
            )
    head = [
        "mode",
        "tenants",
        "pods",
        "proxies",
        "MiB of all proxies",
        "a pod",
        "a node",
        "idle, millicores",
        "busy, millicores",
    ]
    lines += _table(head, rows)
    layers = {mode: sorted({p["layer"] for one in grown for p in one["proxies"]}) for mode, grown in modes.items()}
    cpu = {mode: {layer: cpu_law(modes[mode], layer) for layer in names} for mode, names in layers.items()}
    memory = {mode: {layer: memory_law(modes[mode], layer) for layer in names} for mode, names in layers.items()}
    lines += _fits(cpu, memory)
    if "sidecar" in modes:
        lines += _crossings(cpu, memory) + _sizing(cpu)
    return lines


def _fits(cpu: Mapping[str, Laws], memory: Mapping[str, Laws]) -> list[str]:
    def figure(law: Law, place: int, scale: float, digits: int) -> str:
        return law.figure(lambda one: scale * float(one[place])).text(digits)

    rows = [
        [
            f"`{mode}`, {layer}",
            figure(law, 0, 1e3, 2),
            figure(law, 1, 1e6, 0),
            figure(memory[mode][layer], 0, 1.0, 1),
            figure(memory[mode][layer], 1, 1.0, 3),
        ]
        for mode, laws in cpu.items()
        for layer, law in laws.items()
    ]
    head = ["proxies", "an idle one, millicores", "a request, core-µs", "one's memory, MiB", "and for each tenant, MiB"]
    return [
        "The fit: cores = idle x proxies + request x requests/s; MiB of a proxy = its own + a part for each tenant "
        "whose Services its configuration holds (least squares, none below 0).",
        "",
        *_table(head, rows),
    ]


def _crossings(cpu: Mapping[str, Laws], memory: Mapping[str, Laws]) -> list[str]:
    lines = [
        "### Where sharing gets cheaper than sidecars",
        "",
        f"On two nodes, tenants of {PODS} pods. By the fit; what lies beyond {SIZED[-1]} tenants was not measured.",
        "",
    ]
    for mode in (one for one in cpu if one != "sidecar"):
        lines.append(f"- `{mode}`, memory: {_memory_crossing(mode, memory)}")
        lines.append(f"- `{mode}`, CPU of ten tenants: {_cpu_crossing(mode, cpu, tenants=10)}")
    return [*lines, ""]


def mib_of(mode: str, tenants: float) -> Callable[[str, Array], float]:
    """The memory of a layer's proxies for so many tenants, of the layer and its coefficients."""
    return lambda layer, one: number_of(mode, layer, tenants) * float(one[0] + one[1] * tenants)


def _memory_crossing(mode: str, memory: Mapping[str, Laws]) -> str:
    """From how many tenants on a mode's proxies hold less memory than sidecars."""

    def drawn(number: int, kind: str) -> list[tuple[str, Array]]:
        """One resample of each layer's coefficients; those that fit best where `number` is below 0."""
        return [(layer, law.best if number < 0 else law.samples[number]) for layer, law in memory[kind].items()]

    def saved(number: int, tenants: int) -> float:
        held = [sum(mib_of(kind, tenants)(*one) for one in drawn(number, kind)) for kind in ("sidecar", mode)]
        return held[0] - held[1]

    def first(number: int) -> float:
        return next((float(n) for n in range(1, MOST) if saved(number, n) > 0), float("inf"))

    size = len(next(iter(memory[mode].values())).samples)
    found = estimate(first(-1), [first(number) for number in range(size)])
    said = f"at no number of tenants up to {MOST}" if np.isinf(found.value) else f"cheaper from {found.text(0)} on"
    return f"{said}; less at 10 tenants by {saved(-1, 10):,.0f} MiB, at 100 by {saved(-1, 100):,.0f} MiB"


def _cpu_crossing(mode: str, cpu: Mapping[str, Laws], *, tenants: int) -> str:
    """From how many requests a second on a mode's proxies use more CPU than sidecars."""
    signed = {**{("sidecar", layer): law for layer, law in cpu["sidecar"].items()}}
    signed |= {(mode, layer): law for layer, law in cpu[mode].items()}

    def less(coefficients: Sequence[Array], place: int) -> float:
        """What the mode uses less than sidecars do: of all idle proxies (0), of a request (1)."""
        parts = zip(signed, coefficients, strict=True)
        return sum(
            (1 if kind == "sidecar" else -1) * float(one[place]) * (number_of(kind, layer, tenants) if not place else 1)
            for (kind, layer), one in parts
        )

    def dearer(coefficients: Sequence[Array]) -> float:
        idle, request = less(coefficients, 0), less(coefficients, 1)
        return max(0.0, idle / -request) if request < 0 else float("inf")

    best = [law.best for law in signed.values()]
    draws = list(zip(*(law.samples for law in signed.values()), strict=True))
    found = estimate(dearer(best), [dearer(one) for one in draws])
    idle = estimate(1e3 * less(best, 0), [1e3 * less(one, 0) for one in draws])
    request = estimate(1e6 * less(best, 1), [1e6 * less(one, 1) for one in draws])
    said = (
        "cheaper at every rate" if np.isinf(found.value) else f"dearer above {found.text(0)} requests/s of all tenants"
    )
    return f"{said}; less while idle by {idle.text(1)} millicores, less a request by {request.text(0)} core-µs"


def _sizing(cpu: Mapping[str, Laws]) -> list[str]:
    rows = [
        [
            f"{tenants}",
            f"{burst}",
            *(
                total(
                    laws,
                    lambda layer, one, mode=mode, n=tenants, k=burst: (  # type: ignore[misc]
                        float(one[1]) * RATE * (n * k if mode == "sidecar" or layer == "l7" else n - 1 + k) / FILLED
                    ),
                ).text(2)
                for mode, laws in cpu.items()
            ),
        ]
        for tenants in SIZED
        for burst in BURSTS
    ]
    head = ["tenants", "burst of one, times", *(f"`{mode}`, cores" for mode in cpu)]
    return [
        "### Sizing for bursts",
        "",
        f"Cores that the proxies together must be given so that none is filled beyond {FILLED:.0%} when any one tenant "
        f"bursts from {RATE:.0f} requests/s by that factor, by the fit. A sidecar, and a tenant's own waypoint, must "
        "bear its own tenant's burst, whoever bursts; a shared proxy all tenants and one burst.",
        "",
        *_table(head, rows),
    ]


def _configurations(modes: Figures, machine: str) -> list[str]:
    rows = [
        [
            f"`{mode}`",
            name,
            f"{one['capacity']:,.0f}",
            f"{one.get('p50', float('nan')):.2f}, {one.get('p99', float('nan')):.2f}",
            f"{1e3 * one['core_ms']:,.0f}",
            f"{one['mib']:,.0f}",
        ]
        for mode, kinds in modes.items()
        for name, one in kinds.items()
    ]
    head = ["mode", "configuration", "capacity, requests/s", "p50, p99 at half of it, ms", "a request, core-µs", "MiB"]
    return [
        "## What runs in the proxy",
        "",
        f"{machine}. The same proxies: `light` without policy and access log; `usual` as in trials; `heavy` with "
        "retries, outlier detection, a timeout, a policy by method and path, and a line of log for each request. "
        "CPU of all proxies on the path together.",
        "",
        *_table(head, rows),
    ]
