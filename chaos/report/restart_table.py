"""The table of what makes an application restart, and what it loses: a row for each change to a mesh that was tried, a
column for each mode.

Pure: from trials. Restarts are the second witness's, not the scenario's word: a trial compares every container before
and after, and fails when one restarted that the model did not expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.history.result import VERDICTS, TrialResult
from chaos.report.formatting import number

# What was done, by the scenario that does it. `restarts`: the check that counts the applications that were replaced.
CHANGES: Final = {
    "proxy-upgraded": "the proxies are rolled out",
    "proxy-recreated": "the proxies are deleted and created anew",
    "proxy-reconfigured": "the proxies' configuration changes",
    "certificates-rotated": "every certificate is renewed",
    "root-rotated": "another root of all certificates follows",
    "control-plane-upgraded": "the control plane is rolled out",
    "control-plane-down": "the control plane is gone",
    "proxy-killed": "a proxy dies",
    "waypoint-killed": "a waypoint dies",
    "waypoint-upgraded": "a waypoint is rolled out",
    "waypoint-added": "a waypoint is put before a tenant",
    "waypoint-moved": "a waypoint moves to another node",
    "waypoint-removed": "a tenant's waypoint is taken away",
    "enrolment-on": "a tenant joins the mesh",
    "enrolment-off": "a tenant leaves the mesh",
    "app-rolled-out": "a tenant rolls its own server out",
}
RESTARTS: Final = "applications restart exactly where the proxy is a part of their pod"
UNEXPECTED: Final = "containers restarted that should not have"
_LOST: Final = "requests lost by "
_CUT: Final = "long streams cut of "


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One change, and a cell for each mode."""

    change: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestartTable:
    """The whole table; without lines when no such change was tried."""

    modes: tuple[str, ...]
    lines: tuple[ChangeLine, ...]
    untried: tuple[str, ...]  # scenarios


def restart_table(trials: Sequence[TrialResult]) -> RestartTable:
    """Return the table of a run. A trial that was taken twice shows its last."""
    found = {(trial.scenario, trial.mode): trial for trial in trials if trial.scenario in CHANGES}
    modes = tuple(dict.fromkeys(trial.mode for trial in trials if trial.scenario in CHANGES))
    tried = [scenario for scenario in CHANGES if any((scenario, mode) in found for mode in modes)]
    lines = tuple(
        ChangeLine(
            CHANGES[scenario],
            tuple(cell_of(found[scenario, mode]) if (scenario, mode) in found else "not tried" for mode in modes),
        )
        for scenario in tried
    )
    return RestartTable(modes, lines, tuple(scenario for scenario in CHANGES if scenario not in tried))


def cell_of(trial: TrialResult) -> str:
    """Describe what a change restarted and cost in one mode."""
    if UNEXPECTED in trial.reason:
        return f"restarts that nobody expected: {trial.reason.partition(': ')[2]}"
    checks = {str(check["name"]): check for check in trial.judgement.get("checks") or ()}
    restarts = checks.get(RESTARTS)
    restarted = float(restarts["value"] or 0) if restarts else 0.0
    verb = "restarts" if restarted == 1 else "restart"
    parts = [f"{_counted(restarted, 'application')} {verb}" if restarted else "no restart"]
    lost = _sum(trial, _LOST)
    if lost is None:
        lost = _lost_by_flows(trial)
    if lost is not None:
        parts.append(f"{_counted(lost, 'request')} lost" if lost else "no request lost")
    if cut := _sum(trial, _CUT):
        parts.append(f"{_counted(cut, 'long stream')} cut")
    if trial.verdict != "pass":
        parts.append(VERDICTS[trial.verdict])
    return ", ".join(parts)


def _sum(trial: TrialResult, prefix: str) -> float | None:
    values = [
        float(measure["value"])
        for name, measure in trial.measures.items()
        if name.startswith(prefix) and measure.get("value") is not None
    ]
    return sum(values) if values else None


def _counted(value: float, what: str) -> str:
    return f"{number(value)} {what}{'' if value == 1 else 's'}"


def _lost_by_flows(trial: TrialResult) -> float | None:
    """Return the requests that the judged flows lost; None where nothing was judged so."""
    flows = [flow for flow in trial.judgement.get("flows") or () if "requests_lost" in flow]
    if not flows:
        return None
    return sum(float((flow["requests_lost"] or {}).get("value") or 0.0) for flow in flows)
