"""Checks that dropped requests are retried where a second try is harmless, never where it is not, and that timeouts
hold.

The servers drop the connection of a share of requests, after they have read and counted them. How often each request
reached a server is their count, which no proxy can embellish.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chaos.engine.features.context import CheckContext
from chaos.engine.features.programs.caller import CallReply
from chaos.verdict.check import Check, decided, undecided

REQUESTS: Final = 60
SHARE: Final = 0.3
LONG: Final = 5.0  # seconds: how long a request would take that must time out
TIMEOUT: Final = 0.8  # seconds
RETRIED: Final = "killed connections are retried where allowed"


def check_retries(context: CheckContext) -> list[Check]:
    """Send PUT (idempotent) and POST (not) while the servers drop connections."""
    with context.features(retries=True), context.misbehaviour(reset_share=SHARE, seed=7):
        before = count_requests(context)
        puts = context.call(context.client, requests=REQUESTS, method="PUT", path="/echo", body="x")
        posts = context.call(context.client, requests=REQUESTS, method="POST", path="/echo", body="x")
        after = count_requests(context)
    with context.misbehaviour(reset_share=SHARE, seed=7):
        without = context.call(context.client, requests=REQUESTS, method="PUT", path="/echo", body="x")
    tries = {method: after[method] - before[method] for method in after}
    failed = {
        name: sum(reply.status != 200 for reply in replies)
        for name, replies in (("PUT", puts), ("POST", posts), ("without", without))
    }
    if not failed["without"] or not failed["POST"]:
        return [undecided(RETRIED, "the servers dropped no connection")]
    return [
        judge_retries(tries["PUT"], failed["PUT"], failed["without"]),
        decided(
            "a request that is not idempotent is never retried",
            tries["POST"] == REQUESTS,
            f"{REQUESTS} POSTs reached the servers {tries['POST']} times, and {failed['POST']} failed",
            tries["POST"] - REQUESTS,
            "retries",
        ),
    ]


def judge_retries(tries: int, failed: int, without: int) -> Check:
    """Judge PUTs whose connections are dropped: how often they reached the servers, how many failed, and how many did
    so without retries. Pure.
    """
    if not without:
        return undecided(RETRIED, "the servers dropped no connection")
    return decided(
        RETRIED,
        tries > REQUESTS and failed < without / 2,
        f"{REQUESTS} PUTs reached the servers {tries} times and {failed} failed; without retries {without} of "
        f"{REQUESTS} failed",
        tries - REQUESTS,
        "retries",
    )


def count_requests(context: CheckContext) -> dict[str, int]:
    stats = [context.stats(server) for server in context.servers]
    return {method: sum(one.get(method, 0) for one in stats) for method in ("PUT", "POST")}


def check_timeouts(context: CheckContext) -> list[Check]:
    """Check that a request that takes longer than the timeout is answered 504 once it has expired, and that a shorter
    one is untouched.
    """
    with context.features(timeout_seconds=TIMEOUT):
        slow = context.call(context.client, path=f"/delay/{LONG * 1e3:.0f}", requests=2, timeout=2 * LONG)
        quick = context.call(context.client, path="/delay/20", requests=3)
    (without,) = context.call(context.client, path=f"/delay/{TIMEOUT * 2000:.0f}")
    return [judge_timeouts(slow, quick, without)]


def judge_timeouts(slow: Sequence[CallReply], quick: Sequence[CallReply], without: CallReply) -> Check:
    """Judge requests of `LONG` and of 20 ms under a timeout of `TIMEOUT`, and one of twice that without it. Pure."""
    waited = min(reply.ms for reply in slow)
    longest = max(reply.ms for reply in slow)
    good = (
        {reply.status for reply in slow} == {504}
        and waited >= TIMEOUT * 1e3 - 5
        and longest < LONG * 1e3
        and {reply.status for reply in quick} == {200}
        and without.status == 200
    )
    return decided(
        "timeouts hold",
        good,
        f"with a timeout of {TIMEOUT * 1e3:.0f} ms, requests of {LONG * 1e3:.0f} ms were answered "
        f"{sorted({reply.status for reply in slow})} after {waited:.0f} to {longest:.0f} ms, those of 20 ms "
        f"{sorted({reply.status for reply in quick})}; without one {without.status}",
        waited,
        "ms",
    )
