"""Checks that a server that only fails is ejected for a while, where the mode has another one."""

from __future__ import annotations

from typing import Final

from chaos.engine.features.context import CheckContext
from chaos.model.modes import Balancing
from chaos.verdict.check import Check, decided, undecided

REQUESTS: Final = 40
NAME: Final = "a server that only fails is left out"


def check_outliers(context: CheckContext) -> list[Check]:
    """Let one of the servers answer 500 to everything: without outlier detection it is called on, with it only a few
    times.
    """
    if context.mode.balancing is not Balancing.REQUEST:
        return []  # the waypoint of one pod has nowhere else to go
    bad = context.servers[:1]
    with context.misbehaviour(error_share=1.0, servers=bad):
        without = context.call(context.client, requests=REQUESTS, keep=True)
        with context.features(outlier_detection=True):
            replies = context.call(context.client, requests=REQUESTS, keep=True)
    failed = [reply.status != 200 for reply in replies]
    late, before = sum(failed[REQUESTS // 2 :]), sum(reply.status != 200 for reply in without)
    if not before or not any(failed):
        return [undecided(NAME, "the server that should fail did not")]
    return [
        decided(
            NAME,
            before >= REQUESTS / 3 and not late,
            f"without outlier detection {before} of {REQUESTS} requests failed; with it {sum(failed)}, the last as "
            "number "
            f"{REQUESTS - failed[::-1].index(True)}",
            sum(failed),
            "requests failed",
        )
    ]
