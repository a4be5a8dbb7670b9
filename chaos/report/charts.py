"""Draws the timelines as plain SVG: two small charts per flow, sized for a phone and put side by side on a wide
screen.

Colours are CSS classes of the page (light and dark); what a colour says is also said in words, in the chart's label and
in the legend. Coordinates are rounded to whole units: it halves the page and nobody sees it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from chaos.report.timeline import FlowSeries, Timeline

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT = 40, 352
RATE_TOP, RATE_BOTTOM = 20, 92
LATENCY_TOP, LATENCY_BOTTOM = 112, 192
_NICE = (1, 2, 2.5, 5, 10)


def chart(timeline: Timeline, series: FlowSeries, *, name: str) -> Markup:
    """Draw one flow: requests per second with errors by cause on top, latency bands of answered requests below."""
    draw = _Plot(timeline)
    top = ceiling(float(series.rate.max()))
    parts = [*draw.rate(series, top), *draw.latency(series), *draw.faults(), *draw.marks(), *draw.time_axis()]
    title = f"{name}: {series.said}"
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return Markup(head + "".join(parts) + "</svg>")  # every text in it went through escape()


def ceiling(value: float) -> float:
    """Return the next round number, for the end of an axis."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in _NICE if step * unit >= value * (1 - 1e-9))


def ticks(low: float, high: float, *, wanted: int = 5) -> list[float]:
    """Return round numbers within [low, high]."""
    step = ceiling((high - low) / wanted)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


class _Plot:
    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.low, self.high = timeline.span
        self.edges = [self.x(edge) for edge in timeline.edges]

    def x(self, at: float) -> int:
        share = (at - self.low) / (self.high - self.low)
        return round(LEFT + min(1.0, max(0.0, share)) * (RIGHT - LEFT))

    def faults(self) -> Iterable[str]:
        """Shade the fault windows over the areas, translucently."""
        for begin, end in self.timeline.faults:
            left, width = self.x(begin), max(2, self.x(end) - self.x(begin))
            yield (
                f'<rect class="fault" x="{left}" y="{RATE_TOP}" width="{width}" height="{LATENCY_BOTTOM - RATE_TOP}"/>'
            )

    def rate(self, series: FlowSeries, top: float) -> Iterable[str]:
        def y(value: float) -> int:
            return round(RATE_BOTTOM - value / top * (RATE_BOTTOM - RATE_TOP))

        yield _text(LEFT, RATE_TOP - 7, "requests/s")
        yield from _grid((0.0, top), y)
        floor = np.zeros_like(series.rate)
        for cause, share in sorted(series.causes.items(), key=lambda item: -float(item[1].sum())):
            head = floor + share * series.rate
            yield self._step_area(f"cause {_class_of(cause)}", floor, head, y)
            floor = head
        yield self._step_area("answered", floor, series.rate, y)

    def _step_area(
        self, name: str, low: NDArray[np.float64], high: NDArray[np.float64], y: Callable[[float], int]
    ) -> str:
        """Draw the area between two step lines, for the bins where it has a height; equal neighbours are one step."""
        path, number, bins = [], 0, len(low)
        tops, bottoms = [y(v) for v in high], [y(v) for v in low]
        while number < bins:
            if tops[number] >= bottoms[number] and high[number] - low[number] <= 0:
                number += 1
                continue
            first = number
            while number < bins and high[number] > low[number]:
                number += 1
            forth = [f"M{self.edges[first]} {bottoms[first]}"]
            forth += [f"V{tops[k]}H{self.edges[k + 1]}" for k in range(first, number)]
            back = [f"V{bottoms[k]}H{self.edges[k]}" for k in range(number - 1, first - 1, -1)]
            path.append("".join(_merge(forth)) + "".join(_merge(back)) + "Z")
        return f'<path class="{name}" d="{"".join(path)}"/>' if path else ""

    def latency(self, series: FlowSeries) -> Iterable[str]:
        known = series.latency[np.isfinite(series.latency)]
        yield _text(LEFT, LATENCY_TOP - 5, "latency, ms")
        if not len(known):
            yield _text((LEFT + RIGHT) // 2, (LATENCY_TOP + LATENCY_BOTTOM) // 2, "no request was answered", "middle")
            return
        low = math.floor(math.log10(max(0.01, float(known.min()))))
        high = max(low + 1, math.ceil(math.log10(max(0.02, float(known.max())))))

        def y(value: float) -> int:
            share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
            return round(LATENCY_BOTTOM - share * (LATENCY_BOTTOM - LATENCY_TOP))

        yield from _grid([10.0**power for power in range(low, high + 1)], y)
        middle = [(a + b) // 2 for a, b in zip(self.edges, self.edges[1:], strict=False)]
        for name, lower, upper in (("p99", 1, 2), ("p95", 0, 1)):
            path = ""
            for run in _runs(np.isfinite(series.latency[0])):
                forth = [f"{middle[k]} {y(float(series.latency[upper, k]))}" for k in run]
                back = [f"{middle[k]} {y(float(series.latency[lower, k]))}" for k in reversed(run)]
                path += "M" + "L".join([*forth, *back]) + "Z"
            yield f'<path class="{name}" d="{path}"/>'
        lines = (
            "M" + "L".join(f"{middle[k]} {y(float(series.latency[0, k]))}" for k in run)
            for run in _runs(np.isfinite(series.latency[0]))
        )
        yield f'<path class="p50" d="{"".join(lines)}"/>'

    def marks(self) -> Iterable[str]:
        """Draw a line where something restarted; the page says beside the charts what did."""
        places = sorted({self.x(mark.at) for mark in self.timeline.marks if mark.kind == "restart"})
        if places:
            lines = "".join(f"M{at} {RATE_TOP}V{LATENCY_BOTTOM}" for at in places)
            tips = "".join(f"M{at - 4} {LATENCY_BOTTOM + 7}h8L{at} {LATENCY_BOTTOM}Z" for at in places)
            yield f'<path class="restart" d="{lines}"/><path class="tip" d="{tips}"/>'

    def time_axis(self) -> Iterable[str]:
        values = ticks(self.low, self.high)
        lines = [f"M{LEFT} {bottom}H{RIGHT}" for bottom in (LATENCY_BOTTOM, RATE_BOTTOM)]
        lines += [f"M{self.x(value)} {LATENCY_BOTTOM}v4" for value in values]
        yield f'<path class="axis" d="{"".join(lines)}"/>'
        for value in values:
            yield _text(self.x(value), HEIGHT - 8, f"{value:g}" + (" s" if value == 0 else ""), "middle")


def _grid(values: Sequence[float], y: Callable[[float], int]) -> Iterable[str]:
    for value in values:
        yield _text(LEFT - 4, y(value) + 4, f"{value:g}", "end")
    lines = "".join(f"M{LEFT} {y(value)}H{RIGHT}" for value in values)
    yield f'<path class="grid" d="{lines}"/>'


def _merge(steps: list[str]) -> list[str]:
    """Drop a vertical step to the height that the path already has: `V80H9` after `V80H7` becomes `H9`."""
    found: list[str] = []
    height = ""
    for step in steps:
        if step.startswith("V"):
            new, _, rest = step[1:].partition("H")
            if new == height and found and "H" in found[-1]:
                found[-1] = found[-1].rpartition("H")[0] + "H" + rest
                continue
            height = new
        found.append(step)
    return found


def _runs(known: NDArray[np.bool_]) -> list[list[int]]:
    """Yield unbroken runs of bins."""
    places = np.flatnonzero(known)
    return [part.tolist() for part in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(part)]


def _class_of(cause: str) -> str:
    return "cause-" + cause.replace(" ", "-")


def _text(x: int, y: int, text: str, anchor: str = "") -> str:
    """`anchor`: a class of the page, "" (start), middle or end."""
    kind = f' class="{anchor}"' if anchor else ""
    return f'<text x="{x}" y="{y}"{kind}>{escape(text)}</text>'
