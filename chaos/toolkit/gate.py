"""Judges a whole journal. Chaos Toolkit's own exit code knows its status and one deviation; it is green when the method
never ran, when an action or a rollback raised, when a hypothesis failed and recovered, when a control died.

Pure: a journal and what the witness heard -> pass, fail or inconclusive, with a sentence for each reason. *Fail*: the
system did not hold what the experiment claims, or did not recover. *Inconclusive*: it was not found out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.errors import Misuse
from chaos.toolkit import tolerances
from chaos.verdict import Verdict, merge

Journal = Mapping[str, Any]
Finding = tuple[Verdict, str]

KEY: Final = "sharedfate"  # where a journal holds what we add to it
_BEFORE: Final = ("default", "before-method-only", "continuously", "continously")
_DURING: Final = ("during-method-only", "continuously", "continously")
_AFTER: Final = ("default", "after-method-only", "continuously", "continously")


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The gate's answer. Only *pass* is green."""

    verdict: Verdict
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASS

    def __str__(self) -> str:
        return f"{self.verdict}: {'; '.join(self.reasons)}"


def judge_journal(journal: Journal | None, heard: Sequence[str] = (), *, terminated: bool = False) -> GateVerdict:
    """Judge everything in the journal. None: there is no journal, because the run ended without one."""
    if journal is None:
        return GateVerdict(Verdict.INCONCLUSIVE, ("the run ended without a journal", *heard))
    found = [
        *detect_interruption(journal, terminated),
        *detect_dry_run(journal),
        *detect_gate(journal),
        *detect_method(journal),
        *detect_rollbacks(journal),
        *detect_during(journal),
        *detect_after(journal),
        *detect_doubts(journal),
        *detect_nothing_checked(journal),
        *detect_trial(journal),
        *((Verdict.INCONCLUSIVE, f"swallowed by the library: {sentence}") for sentence in heard),
    ]
    if not found:
        return GateVerdict(Verdict.PASS, (_pass_reason(journal),))
    verdict = merge([one for one, _ in found])
    # the worst first: they are what decided
    ordered = sorted(found, key=lambda one: one[0] is not verdict)
    return GateVerdict(verdict, tuple(dict.fromkeys(sentence for _, sentence in ordered)))


def _pass_reason(journal: Journal) -> str:
    states = journal["steady_states"]
    checks = len(states.get("during") or []) + sum(states.get(when) is not None for when in ("before", "after"))
    said = [f"{len(journal['run'])} activities succeeded"]
    said += [f"the hypothesis was met {checks} times"] if checks else []
    if trial := (journal.get(KEY) or {}).get("trial"):
        judged = any((trial.get("predicted") or {}).values())
        said.append(
            "just those were hurt whom the sharing model names" if judged else "what the scenario claims was shown"
        )
    return ", ".join(said)


def detect_interruption(journal: Journal, terminated: bool) -> Iterator[Finding]:
    status = journal.get("status")
    if terminated:
        went_on = "" if status == "interrupted" else ", and the experiment went on"
        yield Verdict.INCONCLUSIVE, f"SIGTERM came{went_on}"
    elif status != "completed" and not journal.get("deviated") and not _gate_failed(journal):
        yield Verdict.INCONCLUSIVE, f"the experiment ended with status {status}"


def detect_dry_run(journal: Journal) -> Iterator[Finding]:
    if dry := journal["experiment"].get("dry"):
        yield Verdict.INCONCLUSIVE, f"a dry run ({getattr(dry, 'value', dry)}): nothing was tried"


def detect_gate(journal: Journal) -> Iterator[Finding]:
    if _gate_failed(journal):
        why = _broken(journal["steady_states"]["before"])
        yield Verdict.INCONCLUSIVE, f"the hypothesis did not hold before the method, which never ran: {why}"
    elif _has_hypothesis(journal) and _strategy(journal) in _BEFORE and journal["steady_states"].get("before") is None:
        yield Verdict.INCONCLUSIVE, "the hypothesis was not checked before the method"


def detect_method(journal: Journal) -> Iterator[Finding]:
    if not journal.get("run") and not _gate_failed(journal):
        yield Verdict.INCONCLUSIVE, "no activity of the method ran: nothing was tested"
    for run in journal.get("run") or []:
        if run.get("status") != "succeeded":
            yield Verdict.INCONCLUSIVE, f"{_kind(run)} {_name(run)} {_fate(run)}"


def detect_rollbacks(journal: Journal) -> Iterator[Finding]:
    declared = journal["experiment"].get("rollbacks") or []
    played = journal.get("rollbacks") or []
    for run in played:
        if run.get("status") != "succeeded":
            yield Verdict.FAIL, f"rollback {_name(run)} {_fate(run)}"
    strategy = ((journal["experiment"].get("runtime") or {}).get("rollbacks") or {}).get("strategy", "default")
    if len(played) < len(declared) and strategy not in ("never", "deviated"):
        yield Verdict.INCONCLUSIVE, f"{len(declared) - len(played)} of {len(declared)} rollbacks were not played"


def detect_during(journal: Journal) -> Iterator[Finding]:
    states = journal["steady_states"].get("during") or []
    failed = [state for state in states if state is not None and not state.get("steady_state_met")]
    if failed:
        yield (
            Verdict.FAIL,
            f"the hypothesis failed {len(failed)} of {len(states)} times during the method: {_broken(failed[0])}",
        )
    if not states and _has_hypothesis(journal) and _strategy(journal) in _DURING and journal.get("run"):
        yield Verdict.INCONCLUSIVE, "the hypothesis was not checked during the method"


def detect_after(journal: Journal) -> Iterator[Finding]:
    state = journal["steady_states"].get("after")
    if journal.get("deviated") or (state is not None and not state.get("steady_state_met")):
        yield Verdict.FAIL, f"the hypothesis did not hold after the method: {_broken(state)}"
    elif state is None and _has_hypothesis(journal) and _strategy(journal) in _AFTER and not _gate_failed(journal):
        yield Verdict.INCONCLUSIVE, "the hypothesis was not checked after the method"


def detect_doubts(journal: Journal) -> Iterator[Finding]:
    """Return claims that passed for now (`doubt: wait`) and are still undecided at the last check."""
    last = _last_state(journal)
    for probe in (last or {}).get("probes") or []:
        tolerance = probe.get("activity", {}).get("tolerance")
        provider = tolerance.get("provider", {}) if isinstance(tolerance, Mapping) else {}
        if not tolerances.is_ours(provider) or probe.get("status") != "succeeded":
            continue
        try:
            verdict = tolerances.weigh(provider["func"], probe.get("output"), provider.get("arguments") or {})
        except (Misuse, ValueError, TypeError) as error:
            yield Verdict.INCONCLUSIVE, f"probe {_name(probe)} cannot be weighed: {error}"
            continue
        if verdict is Verdict.INCONCLUSIVE:
            yield verdict, f"probe {_name(probe)} cannot tell: {_reading(probe.get('output'))}"


def detect_nothing_checked(journal: Journal) -> Iterator[Finding]:
    if _last_state(journal) is None and not (journal.get(KEY) or {}).get("trial"):
        yield (
            Verdict.INCONCLUSIVE,
            "nothing was checked: there is no hypothesis, and nothing was broken that the sharing model judges",
        )


def detect_trial(journal: Journal) -> Iterator[Finding]:
    """Read what the control added: the judge's verdict on the trial, and errors while it closed."""
    ours = journal.get(KEY) or {}
    for problem in ours.get("problems") or []:
        yield Verdict.FAIL, problem
    trial = ours.get("trial")
    if trial and trial["verdict"] != Verdict.PASS:
        yield Verdict(trial["verdict"]), f"who was hurt beside whom the sharing model names: {trial['reason']}"
    if alarm := ours.get("alarm"):
        yield Verdict.FAIL, f"aborted by the guard: {alarm}"
    for problem in ours.get("doubts") or []:
        yield Verdict.INCONCLUSIVE, problem


def _gate_failed(journal: Journal) -> bool:
    before = journal["steady_states"].get("before")
    return before is not None and not before.get("steady_state_met") and not journal.get("run")


def _has_hypothesis(journal: Journal) -> bool:
    return bool((journal["experiment"].get("steady-state-hypothesis") or {}).get("probes"))


def _strategy(journal: Journal) -> str:
    """Return the rollback strategy in the experiment's file; a command's option is not in the journal."""
    runtime = journal["experiment"].get("runtime") or {}
    return str((runtime.get("hypothesis") or {}).get("strategy", "default"))


def _last_state(journal: Journal) -> Mapping[str, Any] | None:
    states = journal["steady_states"]
    during: Iterable[Mapping[str, Any]] = states.get("during") or []
    for state in (states.get("after"), *reversed(list(during)), states.get("before")):
        if state is not None:
            return dict(state)
    return None


def _name(run: Mapping[str, Any]) -> str:
    return repr(run.get("activity", {}).get("name", "?"))


def _kind(run: Mapping[str, Any]) -> str:
    return str(run.get("activity", {}).get("type", "activity"))


def _fate(run: Mapping[str, Any]) -> str:
    """Return why an activity did not succeed, in one line: the last of its traceback."""
    if "status" not in run:
        return "did not end"
    lines = [line for part in run.get("exception") or () for line in str(part).strip().splitlines() if line.strip()]
    return f"raised: {lines[-1].strip()}" if lines else str(run["status"])


def _broken(state: Mapping[str, Any] | None) -> str:
    probes = (state or {}).get("probes") or []
    if not probes:
        return "no probe says why"
    last = probes[-1]
    if last.get("status") != "succeeded":
        return f"probe {_name(last)} {_fate(last)}"
    return f"probe {_name(last)} gave {_reading(last.get('output'))}"


def _reading(output: Any) -> str:
    if not isinstance(output, Mapping) or "value" not in output:
        return repr(output)
    text = f"{output['value']!r}"
    if output.get("low") is not None:
        text += f" ({output['low']:.4g} to {output['high']:.4g} {output.get('unit', '')})"
    if output.get("open"):
        text += f", open: {', '.join(output['open'])}"
    return f"{text}: {output['why']}" if output.get("why") else text
