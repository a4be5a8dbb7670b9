"""A prediction in lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.prediction.predicting import Point, Prediction, Summary, percent

_MOST = 6  # flows, tenants in a line
UNKNOWN = "no call is known here, so whom a proxy hurts is not known either: name the calls in a target file (--target)"


def describe(found: Prediction) -> str:
    """Return the lines: what was looked at, the worst single points, what was asked for, other sharings."""
    return "\n".join(_lines(found))


def headline(found: Prediction) -> str:
    """What was looked at, in a sentence."""
    placement = found.world.placement
    tenants = {pod.tenant for pod in placement.pods}
    return (
        f"{found.world.source}, {found.world.mesh}: {counted(len(found.proxies), 'proxy', 'proxies')} for "
        f"{counted(len(placement.calls), 'flow')} of {counted(len(tenants), 'tenant')}, "
        f"{counted(len(placement.pods), 'pod')} on {counted(len(found.world.nodes), 'node')}"
    )


def sentence(point: Point, *, most: int = _MOST) -> str:
    """Whom it hurts, in a sentence."""
    if not point.total:
        return f"when {point.kind} {point.name} dies, nobody is hurt"
    flows = [str(flow) for flow in point.flows[:most]]
    more = len(point.flows) - len(flows)
    return f"when {point.kind} {point.name} dies, {percent(point.total)} of all traffic is hurt: {'; '.join(flows)}" + (
        f"; and {counted(more, 'more flow')}" if more else ""
    )


def counted(number: int, one: str, many: str = "") -> str:
    """Format a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _lines(found: Prediction) -> Iterator[str]:
    yield headline(found)
    yield from (f"  note: {caveat}" for caveat in found.world.caveats)
    if found.worst:
        yield "the worst single points among its proxies"
    elif found.world.placement.calls:
        yield "no proxy is a single point: nothing passes one"
    else:
        yield UNKNOWN
    for number, point in enumerate(found.worst, 1):
        yield f"{number:3}. {point.name} ({point.about})"
        yield f"     {_whom(point)}"
    for kind, points in (("nodes", found.nodes), ("zones", found.zones)):
        if worst := [point for point in points[:3] if point.total]:
            yield f"the worst {kind}: " + "; ".join(f"{one.name} {percent(one.total)}" for one in worst)
    for point in found.whens:
        yield sentence(point, most=1 << 30)
        if point.tenants:
            yield f"     {_tenants(point)}"
    if found.summaries:
        yield "under another sharing"
        yield from _table(found.summaries)
        for other, summary in zip(found.others, found.summaries[1:], strict=True):
            yield from (f"  {summary.sharing}: {sentence(point)}" for point in other.whens)


def _whom(point: Point) -> str:
    return f"{percent(point.total)} of all traffic, {counted(len(point.flows), 'flow')}; {_tenants(point)}"


def _tenants(point: Point) -> str:
    names = [f"{name} {percent(share)}" for name, share in list(point.tenants.items())[:_MOST]]
    more = len(point.tenants) - len(names)
    return "tenants: " + ", ".join(names) + (f" and {more:,} more" if more else "")


def _table(summaries: tuple[Summary, ...]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("", "proxies", "a proxy's death", "the worst", "the worst node", "the worst zone")]
    rows += [
        (
            one.sharing,
            f"{one.proxies:,}",
            percent(one.mean),
            *(percent(point.total) if point else "-" for point in (one.worst, one.worst_node, one.worst_zone)),
        )
        for one in summaries
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
