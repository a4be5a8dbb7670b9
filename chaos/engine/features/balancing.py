"""Checks what is balanced: the requests of one connection, or connections. Judged by a chi-squared test for equal
shares.

A mode that balances requests spreads those of one kept HTTP/1.1 connection and of one gRPC connection over all servers;
one that balances connections leaves them with one server, and spreads connections.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from chaos.engine.features.context import CheckContext
from chaos.engine.features.programs.caller import CallReply
from chaos.model.modes import Balancing
from chaos.verdict.check import Check, decided, undecided

REQUESTS: Final = 80
ALPHA: Final = 1e-5  # a spread that is even fails once in so many; one that is not is far beyond it


def chi_squared(counts: Sequence[int]) -> tuple[float, float]:
    """Return (statistic, p) of Pearson's test that all counts come from equal shares (Pearson 1900); p by the closed
    forms of the chi-squared distribution (Abramowitz and Stegun, 26.4.4 and 26.4.5). At least two counts, not all zero.
    """
    freedom = len(counts) - 1
    if freedom < 1 or not sum(counts):
        raise ValueError(f"nothing to test in {list(counts)}")
    expected = sum(counts) / len(counts)
    x = sum((count - expected) ** 2 for count in counts) / expected
    if freedom % 2 == 0:
        terms = [1.0]
        for k in range(1, freedom // 2):
            terms.append(terms[-1] * x / (2 * k))
        return x, math.exp(-x / 2) * sum(terms)
    total, term = 0.0, math.sqrt(x)
    for k in range(1, (freedom - 1) // 2 + 1):
        total += term
        term *= x / (2 * k + 1)
    return x, math.erfc(math.sqrt(x / 2)) + math.sqrt(2 / math.pi) * math.exp(-x / 2) * total


def spread(replies: Sequence[CallReply], servers: Sequence[str]) -> dict[str, int]:
    """Count the answers of each server, zero included."""
    seen = Counter(reply.pod for reply in replies if reply.status == 200)
    return {server: seen[server] for server in servers}


def judge_spread(name: str, counts: Mapping[str, int], *, asked: int, evenly: bool) -> Check:
    """Judge whether the answers came evenly from all servers, or all from one. Pure."""
    got = sum(counts.values())
    shown = ", ".join(f"{server} {count}" for server, count in sorted(counts.items()))
    if got < asked * 0.9:
        return undecided(name, f"only {got} of {asked} requests were answered ({shown})")
    if not evenly:
        return decided(
            name,
            max(counts.values()) == got,
            f"all by one server is expected: {shown}",
            max(counts.values()) / got,
            "share",
        )
    statistic, p = chi_squared(list(counts.values()))
    return decided(name, p > ALPHA, f"{shown}: chi-squared {statistic:.2f}, p = {p:.3g}", p, "p")


def check_balancing(context: CheckContext) -> list[Check]:
    """Check one HTTP/1.1 connection, one gRPC connection, and many connections."""
    servers = [server.name for server in context.servers]
    by_request = context.mode.balancing is Balancing.REQUEST
    what = "are spread over all servers" if by_request else "stay with one server"
    kept = context.call(context.client, requests=REQUESTS, keep=True)
    grpc = context.call(context.client, requests=REQUESTS, keep=True, protocol="grpc")
    many = context.call(context.client, requests=REQUESTS)
    return [
        judge_spread(
            f"requests of one kept connection {what}", spread(kept, servers), asked=REQUESTS, evenly=by_request
        ),
        judge_spread(f"calls of one gRPC connection {what}", spread(grpc, servers), asked=REQUESTS, evenly=by_request),
        judge_spread("connections are spread over all servers", spread(many, servers), asked=REQUESTS, evenly=True),
    ]
