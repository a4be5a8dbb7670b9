"""Says what a run found, in plain sentences: what broke, who was hurt in each mode, for how long, and whether the model
predicted it.

Pure: trials in, sentences out. They stand first on the page, in `report.md` and in the terminal.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.history.result import VERDICTS, TrialResult
from chaos.report.formatting import contradiction_text, flows_of, measure_text, name_flows, number, short_flows

# What the shipped scenarios do to a mesh; a scenario of somebody else's is told by its name.
_HAPPENED: Final = {
    "proxy-killed": "one proxy was killed",
    "waypoint-killed": "one waypoint was killed",
    "proxy-paused": "one proxy hung",
    "proxy-crash-loop": "one proxy kept crashing",
    "proxy-out-of-memory": "one proxy ran out of memory",
    "proxy-partitioned": "one proxy was cut off from the network",
    "proxy-throttled": "the CPU of one proxy was cut",
    "proxy-upgraded": "the proxies were upgraded",
    "proxy-recreated": "the proxies were deleted and created anew",
    "proxy-reconfigured": "the proxies got another configuration",
    "certificates-rotated": "every certificate was renewed",
    "root-rotated": "another root of all certificates followed",
    "waypoint-upgraded": "a waypoint was rolled out",
    "waypoint-added": "a waypoint was put before a tenant",
    "waypoint-moved": "a waypoint moved to another node",
    "waypoint-removed": "a tenant's waypoint was taken away",
    "enrolment-on": "a tenant joined the mesh",
    "enrolment-off": "a tenant left the mesh",
    "control-plane-upgraded": "the control plane was rolled out",
    "noisy-neighbour": "one tenant sent far too many requests",
    "noisy-handshakes": "one tenant opened far too many connections",
    "noisy-bodies": "one tenant sent far too large bodies",
    "noisy-slow-readers": "one tenant read its answers far too slowly",
    "noisy-connections": "one tenant filled its proxy of connections with new ones",
    "noisy-bytes": "one tenant filled its proxy of connections with bytes",
    "noisy-tunnel": "one pod read its answers far too slowly",
    "app-rolled-out": "one tenant rolled out its own application",
    "control-plane-down": "the control plane was gone",
    "client-shut-down": "a client called while it shut down",
    "client-shut-down-proxy-killed": "the proxy of a client was killed while it shut down",
    "server-shut-down": "a server left while it was called",
    "job-completes": "a Job ran",
    "job-proxy-killed": "the proxy of a running Job was killed",
    "job-policies": "Jobs of many policies lost their proxy, or their pod",
    "cron-job": "a run of a CronJob lost its proxy",
    "job-starts-before-proxy": "a Job started while its proxy was slow to come",
    "saturation": "the load rose until something gave out",
}


@dataclass(frozen=True, slots=True)
class ModeFinding:
    """One mode's outcome in a scenario. `said` follows the mode's name in a sentence."""

    trial: TrialResult
    said: str


@dataclass(frozen=True, slots=True)
class ScenarioFinding:
    """A scenario's outcome: `When one proxy was killed:`, a clause for each mode, and whether it was predicted."""

    scenario: str
    when: str
    modes: tuple[ModeFinding, ...]
    foretold: str

    def __str__(self) -> str:
        clauses = "; ".join(f"{mode.trial.mode}: {mode.said}" for mode in self.modes)
        return f"{self.when}: {clauses}. {self.foretold}"


@dataclass(frozen=True, slots=True)
class Otherwise:
    """A trial that contradicts the prediction, or cannot be decided, with the reason in a sentence."""

    trial: TrialResult
    contradiction: str
    reason: str


def findings(trials: Sequence[TrialResult]) -> list[ScenarioFinding]:
    """Return a finding for each scenario, in the order of the trials' names."""
    found = []
    for scenario in sorted({trial.scenario for trial in trials}):
        some = [trial for trial in trials if trial.scenario == scenario]
        modes = tuple(ModeFinding(trial, outcome(trial)) for trial in some)
        found.append(ScenarioFinding(scenario, f"When {happened(scenario)}", modes, foretold(some)))
    return found


def happened(scenario: str) -> str:
    """Return what a scenario does, as a clause in the past."""
    return _HAPPENED.get(scenario, f"{scenario} was tried")


def headline(trials: Sequence[TrialResult], unfinished: Sequence[str] = ()) -> str:
    """The run in one sentence: the finding itself when there is one scenario, else how often the model was right."""
    if not trials:
        return "No trial came to a result: nothing was tested."
    found = findings(trials)
    if len(found) == 1:
        left = len(unfinished)
        return f"{found[0]} {left} trial{'s' * (left > 1)} came to no result." if left else str(found[0])
    right, wrong, unsure = (
        sum(trial.verdict == verdict for trial in trials) for verdict in ("pass", "fail", "inconclusive")
    )
    hurt = _most_hurt(trials)
    parts = [f"{hurt[0].upper()}{hurt[1:]}. " if hurt else ""]
    begun = len(trials) + len(unfinished)
    parts.append(
        f"All {right} trials came out as the sharing model predicts"
        if right == begun
        else f"{right} of {begun} trials came out as the sharing model predicts"
    )
    parts += [f", {wrong} did not" if wrong else "", f", {unsure} cannot be told" if unsure else ""]
    parts.append(f", {len(unfinished)} came to no result" if unfinished else "")
    return "".join(parts) + "."


def _most_hurt(trials: Sequence[TrialResult]) -> str:
    """Count the tenants that one proxy's death took down, mode by mode; "" when that was not tried."""
    killed = [trial for trial in trials if trial.scenario == "proxy-killed" and _judged(trial)]
    if not killed:
        return ""
    clauses = []
    for trial in killed:
        hurt, unsure, count = len(trial.observed["hurt"]), len(trial.observed["inconclusive"]), len(_judged(trial))
        of = f" {_who(trial, count)} in mode" if trial is killed[0] else " in"
        open_ = f" ({unsure} cannot be told)" if unsure else ""
        clauses.append(f"{hurt} of {count}{of} {trial.mode}{open_}")
    return f"the death of one proxy hurt {', '.join(clauses)}"


def otherwise(trials: Iterable[TrialResult]) -> list[Otherwise]:
    """Return the trials to look at first: those that contradict the prediction, then the undecided ones."""
    found = [trial for trial in trials if trial.verdict != "pass"]
    found.sort(key=lambda trial: trial.verdict != "fail")
    return [
        Otherwise(
            trial,
            contradiction_text(trial, short_flows(flows_of(trial))),
            trial.reason.removeprefix(f"{VERDICTS['inconclusive']}: "),
        )
        for trial in found
    ]


def foretold(trials: Sequence[TrialResult]) -> str:
    """Return `As the sharing model predicts (2 of 2 modes).`"""
    right = sum(trial.verdict == "pass" for trial in trials)
    wrong = [trial.mode for trial in trials if trial.verdict == "fail"]
    unsure = [trial.mode for trial in trials if trial.verdict == "inconclusive"]
    of = f"{right} of {len(trials)} mode{'s' if len(trials) != 1 else ''}"
    if right == len(trials) and any(trial.observed["hurt"] for trial in trials):
        return f"Nobody else noticed, as the sharing model predicts ({of})."
    parts = [f"As the sharing model predicts in {of}"] if right else []
    parts += [f"not as it predicts in {', '.join(wrong)}"] if wrong else []
    parts += [f"cannot tell in {', '.join(unsure)}"] if unsure else []
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def outcome(trial: TrialResult) -> str:
    """Say who was hurt in a trial, for how long, and how many requests it cost; for checks, what was shown."""
    judged = _judged(trial)
    if not judged:
        return _claims(trial)
    short = short_flows(flows_of(trial))
    hurt, unsure = trial.observed["hurt"], trial.observed["inconclusive"]
    if not hurt:
        text = "nobody was seen to be hurt" if unsure else "nobody was hurt"
    else:
        details = _details(trial, hurt, short)
        verb = "was" if len(hurt) == 1 else "were"
        text = f"{len(hurt)} of {len(judged)} {_who(trial, len(judged))} {verb} hurt ({'; '.join(details)})"
    if unsure:
        text += f", of {name_flows(unsure, short)} it cannot be told"
    if contradiction := contradiction_text(trial, short):
        text += f" – {contradiction}"
    return text


def _details(trial: TrialResult, hurt: Sequence[str], short: Mapping[str, str]) -> list[str]:
    """Describe each hurt flow; for a repeated fault, its mean over the repeats."""
    flows = [_flow(trial, name) for name in hurt]
    each, total = (
        trial.measures.get("requests lost"),
        sum((flow.get("requests_lost") or {}).get("value") or 0.0 for flow in flows),
    )
    if each is not None and each.get("value") and total > 1.5 * each["value"]:
        said = harm({"requests_lost": each, "outage": trial.measures.get("outage")})
        if len(hurt) > 1:
            said = said.replace("was ", "were ")
        return [f"{name_flows(hurt, short)} {said} each time"]
    return [f"{name_flows([name], short)} {harm(flow)}".rstrip() for name, flow in zip(hurt, flows, strict=True)]


def harm(flow: Mapping[str, Any]) -> str:
    """Describe a flow's harm: lost requests and the outage, or how much slower it was."""
    parts = []
    lost, out = flow.get("requests_lost"), flow.get("outage")
    if lost and (lost.get("value") or 0) >= 0.5:
        parts.append(f"lost {_value(lost)}")
    if out and out.get("value") is not None:
        parts.append(f"was out for {_value(out)}")
    shift = quantile_shift(flow, 0.99)
    if shift is not None and (flow.get("slow") or {}).get("finding") == "hurt" and shift[1] > shift[0] and not out:
        parts.append(f"was slowed, p99 {milliseconds(shift[0])} → {milliseconds(shift[1])}")
    return " and ".join(parts)


def quantile_shift(flow: Mapping[str, Any], quantile: float) -> tuple[float, float] | None:
    """Return (before, during) of a latency quantile, s."""
    for shift in flow.get("shifts") or ():
        if abs(shift["quantile"] - quantile) < 1e-6 and None not in (shift.get("baseline"), shift.get("fault")):
            return float(shift["baseline"]), float(shift["fault"])
    return None


def baseline_latency(trials: Sequence[TrialResult]) -> tuple[float, float] | None:
    """Return (p50, p99) of calls in the baseline, s: the median over flows and trials."""
    flows = [flow for trial in trials for flow in trial.judgement.get("flows", ())]
    p50 = [shift[0] for flow in flows if (shift := quantile_shift(flow, 0.5)) is not None]
    p99 = [shift[0] for flow in flows if (shift := quantile_shift(flow, 0.99)) is not None]
    return (statistics.median(p50), statistics.median(p99)) if p50 and p99 else None


def milliseconds(seconds: float) -> str:
    """Round a latency to two figures."""
    value = 1000 * seconds
    return f"{value:.0f} ms" if value >= 10 else f"{number(round(value, 1))} ms"


def _value(measure: Mapping[str, Any]) -> str:
    return measure_text(measure).partition(" (")[0]


def _judged(trial: TrialResult) -> list[str]:
    return [flow for flows in trial.observed.values() for flow in flows]


def _flow(trial: TrialResult, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next((flow for flow in trial.judgement.get("flows", ()) if flow.get("flow") == name), {})
    return found


def _who(trial: TrialResult, count: int) -> str:
    """Name a trial's flows: by their tenants where that identifies each."""
    names = short_flows(flows_of(trial)).values()
    word = "flow" if any(" -> " in name for name in names) else "tenant"
    return f"{word}s" if count != 1 else word


def _claims(trial: TrialResult) -> str:
    if trial.verdict == "inconclusive":
        return "cannot tell"
    if not trial.judgement.get("checks"):
        return trial.reason
    names = {str(check["name"]): check for check in trial.judgement["checks"]}
    for name, said in (("the Job never ends", "the Job hangs"), ("the Job completes", "the Job ends")):
        if name in names:
            return said if names[name]["verdict"] == "pass" else f"not shown that {name}"
    wrong = [name for name, check in names.items() if check["verdict"] != "pass"]
    return f"not shown: {', '.join(wrong)}" if wrong else f"{len(names)} of {len(names)} claims hold"
