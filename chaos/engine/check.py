"""Judges saved runs again: the same history gives the same answer, years later and with no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chaos.engine.result import results_of
from chaos.engine.shown import judged_again
from chaos.errors import Misuse
from chaos.history.model import Flow
from chaos.history.store import History
from chaos.verdict import Expectation, FaultKind, Harm, judge, view_from


def check_run(run: Path) -> Iterator[tuple[str, str, str]]:
    """Of each trial: its name, the verdict that was reported, and today's with its sentence. Raises Misuse when empty."""
    results = results_of(run)
    if not results:
        raise Misuse(f"{run}: no trial with a result there (trials/MODE/SCENARIO/result.json)")
    for result in results:
        before = f"{result.judgement['verdict']}: {result.judgement['reason']}"
        if "checks" in result.judgement:
            yield f"{result.scenario}[{result.mode}]", before, ": ".join(judged_again(result.judgement))
            continue
        history = History.load(run / "trials" / result.mode / result.scenario)
        header = history.header
        stated = header["expectation"]
        by_name = {str(flow): flow for flow in history.flows}
        expectation = Expectation({_flow(by_name, name): share for name, share in stated["shares"].items()},
                                  exempt=frozenset(_flow(by_name, name) for name in stated["exempt"]),
                                  harm=Harm(stated["harm"]), fault_kind=FaultKind(stated["fault_kind"]))
        view = view_from(history.samples, history.events, flows=history.flows, since=header.get("since"))
        again = judge(view, expectation)
        yield f"{result.scenario}[{result.mode}]", before, f"{again.verdict}: {again.reason}"


def _flow(by_name: dict[str, Flow], name: str) -> Flow:
    try:
        return by_name[name]
    except KeyError:
        raise Misuse(f"the history has no flow {name!r}: it has {', '.join(by_name)}") from None
