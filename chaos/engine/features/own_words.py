"""Compares what an installed mesh's proxies say of themselves with the model: the identities they hold, their counts.

Their words are all that can be read there: no key of theirs is ours to look for. Proxies whose page is not reached are
named, and without any the answer is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaos.engine.features.context import CheckContext
from chaos.external.installed import InstalledMesh
from chaos.external.reading import read_counts, read_views
from chaos.external.views import SeenProxy
from chaos.mesh.handle import MeshHandle
from chaos.model.fate import identities_held, share_behind
from chaos.model.placement import Pair, Placement, Proxy
from chaos.verdict.check import Check, decided, undecided

REQUESTS = 40  # on a connection each, so that proxies of connections count them too
LEAST = 0.5  # of its part: balancing spreads so few unevenly
HELD = "identities in the proxies' dumps are those that the model says"
COUNTED = "the proxies on the path count the requests, by their own statistics"
UNSHOWN = 3  # proxies that were not read and are not named one by one


def check_dumped(mesh: MeshHandle) -> list[Check]:
    """Compare the identities that the proxies' dumps name with the model's."""
    assert isinstance(mesh, InstalledMesh)
    placement = mesh.placement()
    seen, unread = read_views(mesh.cluster, mesh.description, placement)
    return [judge_held(placement, seen, unread)]


def judge_held(placement: Placement, seen: list[SeenProxy], unread: list[str]) -> Check:
    """Judge the identities that dumps name, of the tenants' namespaces: a node's proxy serves others too. Pure."""
    ours = {pod.namespace for pod in placement.pods}
    told = {one.proxy: one.view.identities for one in seen if one.view.identities is not None}
    if not told:
        why = "; ".join(unread[:UNSHOWN]) or "no page of this mesh's proxies names the identities that they hold"
        return undecided(HELD, why)
    wrong, most = [], 0
    for proxy, names in told.items():
        held = {name for name in names if name[0] in ours}
        expected = {name for name in identities_held(placement, proxy) if name[0] in ours}
        most = max(most, len(names))
        wrong += [
            f"{proxy} {word} {', '.join(sorted(map('/'.join, which)))}"
            for word, which in (("lacks", expected - held), ("also holds", held - expected))
            if which
        ]
    left = len(placement.proxies) - len(told)
    said = f"{len(told)} proxies were asked, the most that one holds is {most}" + (
        f"; {left} were not read" if left else ""
    )
    return decided(HELD, not wrong, "; ".join(wrong) or said, most, "identities, the most of one proxy")


def check_own_words(context: CheckContext) -> list[Check]:
    """Compare identities, and call while the statistics of every proxy are read before and after."""
    mesh = context.mesh
    assert isinstance(mesh, InstalledMesh)
    before = read_counts(mesh.cluster, mesh.description, context.placement)
    replies = context.call(context.client, requests=REQUESTS)
    after = read_counts(mesh.cluster, mesh.description, context.placement)
    answered = sum(reply.status == 200 for reply in replies)
    rose = {proxy: after[proxy] - count for proxy, count in before.items() if proxy in after}
    pairs = [Pair(context.client, server) for server in context.servers]
    return [*check_dumped(mesh), judge_counts(context.placement, pairs, rose, answered, mesh=mesh.description.name)]


def judge_counts(
    placement: Placement, pairs: Sequence[Pair], rose: Mapping[Proxy, float], answered: int, *, mesh: str
) -> Check:
    """Judge whether each proxy on the pairs' path counted its part of the requests. Pure."""
    due = {proxy: answered * sum(share_behind(placement, pair, proxy) for pair in pairs) / len(pairs) for proxy in rose}
    on_path = {proxy: count for proxy, count in due.items() if count}
    if not on_path:
        return undecided(COUNTED, f"no statistics of {mesh}'s proxies on that path could be read")
    told = {proxy: f"{proxy} counted {rose[proxy]:g} of about {count:g}" for proxy, count in on_path.items()}
    idle = [told[proxy] for proxy, count in on_path.items() if rose[proxy] < LEAST * count]
    said = ", ".join(told.values())
    return decided(COUNTED, not idle, "; ".join(idle) or said, min(rose[proxy] for proxy in on_path), "requests")
