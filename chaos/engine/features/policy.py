"""Checks that the wrong identity is refused: on connections (L4) by its name, on requests (L7) also by method and path.

A changed policy holds for new connections at once, and for those that stand when they have drained: the checks wait
until it is seen, and then look at more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from chaos.engine.features.context import CheckContext
from chaos.engine.features.programs.caller import CallReply
from chaos.errors import NotReady
from chaos.mesh.snapshot import Rule
from chaos.names import PORT_TCP, spiffe_id
from chaos.verdict.check import Check, decided

DRAINED: Final = 10.0  # seconds until a policy must be seen to hold for all


def check_policy(context: CheckContext) -> list[Check]:
    """Allow the client alone, and on requests only GET below /allowed; then call as it and as another tenant."""
    own = spiffe_id(context.client.namespace, context.client.service_account)

    def other_tenant() -> set[int]:
        return statuses(context.call(context.other_tenant, path="/allowed/x", requests=2 * len(context.servers)))

    def streams(client: bool) -> list[CallReply]:
        return context.call(
            context.client if client else context.other_tenant, port=PORT_TCP, protocol="tcp", body="x", requests=4
        )

    open_before = other_tenant() == statuses(streams(False)) == {200}
    with context.allowed(Rule((own,), ("GET",), ("/allowed*",))):
        await_seen(
            context,
            lambda: (
                other_tenant() == {403} and statuses(context.call(context.client, path="/other", requests=4)) == {403}
            ),
        )
        requests = {
            "the client's GET /allowed/x": statuses(context.call(context.client, path="/allowed/x", requests=8)),
            "the client's GET /other": statuses(context.call(context.client, path="/other", requests=8)),
            "the client's POST /allowed": statuses(
                context.call(context.client, path="/allowed", method="POST", body="x", requests=8)
            ),
            "another tenant's GET /allowed/x": other_tenant(),
        }
        by_request = statuses(streams(True))
    with context.allowed(Rule((own,))):
        await_seen(context, lambda: statuses(streams(False)) == {0})
        mine, others = statuses(streams(True)), statuses(streams(False))
    await_seen(context, lambda: other_tenant() == {200})
    before = "" if open_before else "; before, not all was open"
    return [
        decided(
            "wrong identity, method or path is refused at L7",
            open_before and list(requests.values()) == [{200}, {403}, {403}, {403}],
            "; ".join(f"{name}: {shown(found)}" for name, found in requests.items()) + before,
        ),
        decided(
            "wrong identity is refused at L4",
            open_before and (mine, others, by_request) == ({200}, {0}, {0}),
            f"the client's streams: {shown(mine)}; a stranger's: {shown(others)}; with a rule that needs requests "
            "the "
            f"client's: {shown(by_request)}{before}",
        ),
    ]


def statuses(replies: list[CallReply]) -> set[int]:
    return {reply.status for reply in replies}


def shown(statuses: set[int]) -> str:
    return " ".join("refused" if status == 0 else str(status) for status in sorted(statuses))


def await_seen(context: CheckContext, holds: Callable[[], bool], *, seconds: float = DRAINED) -> None:
    """Wait until the condition holds, up to a bound; the measurement afterwards shows whether it does."""
    try:
        context.cluster.wait("what was asked for holds", holds, seconds=seconds)
    except NotReady:
        return
