"""Measures CPU and memory of proxies and applications under steady load, with intervals over the readings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

from scipy.special import stdtrit

from chaos.engine.trial import Trial
from chaos.errors import ApiError, NotReady
from chaos.external.description import AT_BUDGET
from chaos.model.placement import Proxy
from chaos.verdict.check import Check, decided, measured, undecided

SECONDS: Final = 10.0  # of steady load
EVERY: Final = 1.0
_READY: Final = 30.0  # seconds until every proxy has a reading
SAME: Final = 0.05  # of a budget, that its shares together may differ by rounding


def measure(trial: Trial) -> list[Check]:
    """Measure for SECONDS, and return the figures as checks."""
    placement, deployment = trial.placement, trial.deployment
    everyone = {(p.namespace, p.pod, p.container) for p in placement.proxies}
    proxies = {(p.namespace, p.pod, p.container) for p in placement.proxies if p.layers}  # without the placebo
    tenants = {tenant.namespace for tenant in deployment.tenants}
    try:
        rows = _watch(trial, everyone)
    except (ApiError, NotReady) as error:
        return [undecided("the proxies' CPU and memory", f"they cannot be read: {error}")]
    cores = [total(row, proxies, "cores") for row in rows]
    mib = statistics.fmean(total(row, proxies, "bytes") for row in rows) / 2**20
    apps = statistics.fmean(total(row, {key for key in row if key[0] in tenants} - everyone, "cores") for row in rows)
    used, (low, high), pods = statistics.fmean(cores), interval(cores), len(placement.pods)
    thousand = 1000 * used / (deployment.settings.rate * len(deployment.flows))
    budget, limits = (
        deployment.settings.budget / 1000,
        sum(p.cpu_millicores for p in placement.proxies if p.layers) / 1000,
    )
    ours = not trial.mesh.mode.brought_by  # an installed mesh's proxies live within what they were given there
    within = decided(
        "the proxies' CPU limits together are the budget",
        not proxies or abs(limits - budget) <= SAME * budget,
        f"{len(proxies)} proxies share {limits:.2f} of {budget:.2f} cores",
        limits,
        "cores",
    )
    return [
        within if ours else compare_budget([p for p in placement.proxies if p.layers], budget),
        decided(
            "CPU of all proxies",
            not proxies or 0 < used <= (1.1 * budget if ours else used),
            f"{used:.3f} cores ({low:.3f} to {high:.3f})",
            used,
            "cores",
        ),
        decided("memory of all proxies", not proxies or mib > 0, f"{mib:.0f} MiB", mib, "MiB"),
        measured("memory of proxies per pod", f"{mib / pods:.1f} MiB for each of {pods} pods", mib / pods, "MiB"),
        measured("CPU of proxies per 1,000 requests", f"{thousand:.2f} core-seconds", thousand, "core-seconds"),
        decided("CPU of the applications", apps > 0, f"{apps:.3f} cores", apps, "cores"),
    ]


def compare_budget(proxies: Sequence[Proxy], budget: float) -> Check:
    """Tell what an installed mesh's proxies may use, beside the budget of the reference modes: figures of two meshes
    are of one kind only where both are held to it. Pure.

    Args:
        budget: of the reference modes' proxies together, cores.
    """
    free = [str(proxy) for proxy in proxies if not proxy.cpu_millicores]
    limits = sum(proxy.cpu_millicores for proxy in proxies) / 1000
    if free:
        said = (
            f"{', '.join(free)} has no CPU limit, and none could be taken back: hold it to its share by the mesh's own "
            f"values, or take the mode whose name ends in {AT_BUDGET}, and the figures compare with modes that have "
            f"{budget:.2f} cores in all"
        )
    else:
        equal = abs(limits - budget) <= SAME * budget
        said = f"{len(proxies)} proxies may use {limits:.2f} cores, the reference modes {budget:.2f}" + (
            ": the same" if equal else ": not the same, so CPU does not compare under load"
        )
    return measured("the proxies' CPU limits beside the budget", said, limits, "cores")


Key = tuple[str, str, str]  # namespace, pod, container
Row = Mapping[Key, Mapping[str, float]]


def total(row: Row, keys: Iterable[Key], what: str) -> float:
    """Sum over those of the containers that the row has."""
    return sum(row[key][what] for key in keys if key in row)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean (Student, 1908); of one value, from 0 to twice the value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return 0.0, 2 * mean
    half = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / len(values) ** 0.5
    return mean - half, mean + half


def _watch(trial: Trial, wanted: Set[Key]) -> list[Row]:
    """Return one row a second: each container's cores and bytes. Waits until there is a reading of all that are wanted;
    raises NotReady when there is none.
    """
    trial.cluster.wait("a reading of each proxy's CPU", lambda: wanted <= _row(trial).keys(), seconds=_READY)
    rows: list[Row] = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        trial.hold(EVERY)
        rows.append(_row(trial))
    return rows


def _row(trial: Trial) -> Row:
    return {
        (facts["namespace"], facts["pod"], name): used
        for facts in trial.deployment.read_usage()
        for name, used in facts["containers"].items()
    }
