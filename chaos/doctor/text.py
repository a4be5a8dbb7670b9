"""The doctor's report for people: what is there, what is missing, and what can run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chaos.doctor.facts import Facts
from chaos.doctor.findings import Possibility, blockers, machine, warnings


def report(facts: Facts, found: Sequence[Possibility]) -> str:
    """The whole report."""
    lines = [
        f"cluster {facts.name}: Kubernetes {facts.version[0]}.{facts.version[1]}, {len(facts.nodes)} nodes that take "
        "our pods"
    ]
    lines += [f"  {node.name}: {node.version}, {node.runtime}, Linux {node.kernel}" for node in facts.nodes]
    lines += [f"  {name}: left out: {why}" for name, why in sorted(facts.choice.left_out.items())]
    policies = {True: "enforced", False: "not enforced", None: "not tried"}[facts.policies]
    lines += [
        f"  network plugin: {', '.join(facts.network) or 'not recognised'}; NetworkPolicies: {policies}",
        f"  pods/resize: {_yes(facts.resize)}; metrics.k8s.io: {_yes(facts.metrics)}",
        *_pods(facts),
        f"  permissions refused: {', '.join(map(str, facts.refused)) or 'none'}",
        "this machine",
        *(f"  {line}" for line in machine(facts)),
    ]
    lines += _section("in the way of everything", blockers(facts))
    lines += _section("to be known", warnings(facts))
    can = [one.subject for one in found if one.can]
    lines += _section(f"can run ({len(can)})", _wrapped(can))
    if not can and len(blockers(facts)) == 1:
        return "\n".join([*lines, "cannot run", "  everything"])
    return "\n".join([*lines, *_section("cannot run", _grouped(one for one in found if not one.can))])


def _pods(facts: Facts) -> list[str]:
    """What became of each kind of pod: as tried, else by a dry run."""
    if facts.tried is None:
        return [f"  a {kind} pod, dry run: {why or 'admitted'}" for kind, why in facts.pod_security.items()]
    tried = facts.tried
    if tried.namespaces:
        return [f"  namespaces of our own: {tried.namespaces}"]
    lines = [f"  {kind}: {why or 'run'}" for kind, why in sorted(tried.kinds.items())]
    ways = {"samples": tried.control, "from pod to pod": tried.network, "exec": tried.exec}
    told = (f"  {what}: {'not tried' if why is None else why or 'well'}" for what, why in ways.items())
    return [f"  tried in {tried.seconds:.0f} s", *lines, *told]


def _yes(value: bool) -> str:
    return "served" if value else "not served"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    body = [f"  {line}" for line in lines]
    return [title, *body] if body else []


def _wrapped(words: Sequence[str], width: int = 110) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 2 <= width:
            lines[-1] += f", {word}"
        else:
            lines.append(word)
    return lines


def _grouped(found: Iterable[Possibility]) -> list[str]:
    """Group by reason, then list what it blocks: one missing thing may block fifty."""
    by_why: dict[str, list[str]] = {}
    for one in found:
        by_why.setdefault(one.why, []).append(one.subject)
    return [
        line for why, subjects in by_why.items() for line in (why, *(f"  {part}" for part in _wrapped(subjects, 106)))
    ]
