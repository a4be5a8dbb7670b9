"""Checks what an installed mesh's own configuration objects ask for: policy, timeouts, retries.

Which objects those are is said by the mesh's description, per mode (`features`); they are applied in a tenant's
namespace and taken away again. When they hold is seen by their effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import Final

from chaos.engine.features.context import CheckContext
from chaos.engine.features.policy import await_seen, shown, statuses
from chaos.engine.features.programs.caller import CallReply
from chaos.engine.features.retries import LONG, REQUESTS, SHARE, TIMEOUT, count_requests, judge_retries, judge_timeouts
from chaos.external.description import Feature
from chaos.external.installed import InstalledMesh
from chaos.verdict.check import Check, decided, undecided

SPREAD: Final = 30.0  # seconds until every proxy has to have what its control plane was given
DENIED: Final = frozenset({0, 403})  # by a proxy of connections, of requests
CALLS: Final = 8


def check_by_objects(context: CheckContext) -> list[Check]:
    """Run a check of each feature for which the mode's description has objects."""
    mesh = context.mesh
    assert isinstance(mesh, InstalledMesh)
    found = []
    for feature in mesh.rule.features:
        if unknown := mesh.unknown_kinds(feature):
            found.append(undecided(f"the mesh's own {feature}", f"this cluster has no kind {', '.join(unknown)}"))
        else:
            found.append(_CHECKS[feature](context, mesh))
    return found


def _identity_policy(context: CheckContext, mesh: InstalledMesh) -> Check:
    """Allow the client's own account alone, and call as it and as another tenant."""
    before = _of_another(context)
    with mesh.asked_for(Feature.IDENTITY_POLICY, namespace=context.client.namespace, account=_account(context)):
        await_seen(context, lambda: _of_another(context) <= DENIED, seconds=SPREAD)
        mine, others = statuses(context.call(context.client, path="/allowed/x", requests=CALLS)), _of_another(context)
    await_seen(context, lambda: _of_another(context) == {200}, seconds=SPREAD)
    return judge_policy(
        "the wrong identity is refused, by the mesh's own policy",
        before,
        {"the client": mine},
        {"another tenant": others},
        after=_of_another(context),
    )


def _request_policy(context: CheckContext, mesh: InstalledMesh) -> Check:
    """Allow the client's GET below /allowed alone."""
    before = _of_another(context)

    def own(path: str, method: str = "GET") -> set[int]:
        body = "x" if method == "POST" else ""
        return statuses(context.call(context.client, path=path, method=method, body=body, requests=CALLS))

    with mesh.asked_for(Feature.REQUEST_POLICY, namespace=context.client.namespace, account=_account(context)):
        await_seen(context, lambda: _of_another(context) <= DENIED and own("/other") <= DENIED, seconds=SPREAD)
        allowed = {"the client's GET /allowed/x": own("/allowed/x")}
        denied = {
            "the client's GET /other": own("/other"),
            "its POST /allowed": own("/allowed", "POST"),
            "another tenant's GET /allowed/x": _of_another(context),
        }
    await_seen(context, lambda: _of_another(context) == {200}, seconds=SPREAD)
    return judge_policy(
        "the wrong identity, method or path is refused, by the mesh's own policy",
        before,
        allowed,
        denied,
        after=_of_another(context),
    )


def judge_policy(
    name: str, before: Set[int], allowed: Mapping[str, Set[int]], denied: Mapping[str, Set[int]], *, after: Set[int]
) -> Check:
    """Judge the statuses of calls under a policy (0: no answer), and of another tenant's before and after it. Pure."""
    good = (
        before == after == {200}
        and all(found == {200} for found in allowed.values())
        and all(found and found <= DENIED for found in denied.values())
    )
    said = "; ".join(f"{who}: {shown(set(found))}" for who, found in ({**allowed, **denied}).items())
    return decided(name, good, f"{said}; another tenant before: {shown(set(before))}, and after: {shown(set(after))}")


def _timeouts(context: CheckContext, mesh: InstalledMesh) -> Check:
    """Give requests less time than they need."""
    slow = partial(context.call, context.client, path=f"/delay/{LONG * 1e3:.0f}", timeout=2 * LONG)
    with mesh.asked_for(Feature.TIMEOUTS, namespace=context.client.namespace, timeout=f"{TIMEOUT * 1e3:.0f}ms"):
        await_seen(context, lambda: statuses(slow()) == {504}, seconds=SPREAD)
        late = slow(requests=2)
        quick = context.call(context.client, path="/delay/20", requests=3)
    beyond = partial(context.call, context.client, path=f"/delay/{TIMEOUT * 2000:.0f}")
    await_seen(context, lambda: statuses(beyond()) == {200}, seconds=SPREAD)
    return judge_timeouts(late, quick, beyond()[0])


def _retries(context: CheckContext, mesh: InstalledMesh) -> Check:
    """Send PUTs while the servers drop connections."""
    puts = partial(context.call, context.client, requests=REQUESTS, method="PUT", path="/echo", body="x")
    with context.misbehaviour(reset_share=SHARE, seed=7):
        without = _failed(puts())
        with mesh.asked_for(Feature.RETRIES, namespace=context.client.namespace):
            await_seen(context, lambda: _failed(puts()) < without / 2, seconds=SPREAD)
            before = count_requests(context)
            failed = _failed(puts())
            after = count_requests(context)
    return judge_retries(after["PUT"] - before["PUT"], failed, without)


def _failed(replies: list[CallReply]) -> int:
    return sum(reply.status != 200 for reply in replies)


def _of_another(context: CheckContext) -> set[int]:
    return statuses(context.call(context.other_tenant, path="/allowed/x", requests=CALLS))


def _account(context: CheckContext) -> str:
    return context.client.service_account


_CHECKS: Final[Mapping[Feature, Callable[[CheckContext, InstalledMesh], Check]]] = {
    Feature.IDENTITY_POLICY: _identity_policy,
    Feature.REQUEST_POLICY: _request_policy,
    Feature.TIMEOUTS: _timeouts,
    Feature.RETRIES: _retries,
}
