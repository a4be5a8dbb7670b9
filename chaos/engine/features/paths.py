"""Checks that traffic passes exactly the proxies that the model says: by each one's byte count, before and after.

A sidecar that is secretly shared, or a hop that traffic bypasses, is seen here: somebody carried what the model says
that another one carries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from chaos.engine.features.context import CheckContext
from chaos.engine.features.envoy_stats import carried, pages
from chaos.model.fate import share_behind
from chaos.model.placement import Pair, Placement, Pod, Proxy
from chaos.verdict.check import Check, decided, undecided

REQUESTS: Final = 40
BODY: Final = 20_000


def expected_requests(placement: Placement, client: Pod, answered: Mapping[str, int]) -> dict[Proxy, float]:
    """Return how many of the requests that each server answered passed each proxy. Pure."""
    servers = {pod.name: pod for pod in placement.pods if pod.namespace == client.namespace}
    return {
        proxy: sum(
            count * share_behind(placement, Pair(client, servers[name]), proxy) for name, count in answered.items()
        )
        for proxy in placement.proxies
    }


def judge_paths(expected: Mapping[Proxy, float], sent: Mapping[Proxy, int], *, body: int) -> Check:
    """Judge whether each proxy carried what it should have, and the others nothing. Pure."""
    name = "traffic passes just the proxies that the model says"
    total = max(expected.values(), default=0.0)
    idle = [
        f"{proxy} carried {sent[proxy]} bytes of {count:.0f} requests"
        for proxy, count in expected.items()
        if sent[proxy] < 0.9 * count * body
    ]
    secret = [
        f"{proxy}, which is on no path, carried {sent[proxy]} bytes"
        for proxy, count in expected.items()
        if not count and sent[proxy] > 0.1 * REQUESTS * body
    ]
    problems = idle + secret
    on_path = sum(count > 0 for count in expected.values())
    return decided(
        name,
        not problems,
        "; ".join(problems) or f"{on_path} proxies carried them and {len(expected) - on_path} did not",
        total,
        "requests through the busiest",
    )


def check_paths(context: CheckContext) -> list[Check]:
    """Send large requests from one client, on new connections, and read every proxy's count."""
    before = pages(context.cluster, context.placement)
    replies = context.call(context.client, requests=REQUESTS, method="POST", path="/echo", body="x" * BODY)
    after = pages(context.cluster, context.placement)
    answered = Counter(reply.pod for reply in replies if reply.status == 200)
    if sum(answered.values()) < REQUESTS * 0.9:
        return [
            undecided(
                "traffic passes just the proxies that the model says",
                f"only {sum(answered.values())} of {REQUESTS} answered",
            )
        ]
    sent = {proxy: carried(after[proxy]) - carried(before[proxy]) for proxy in context.placement.proxies}
    return [judge_paths(expected_requests(context.placement, context.client, answered), sent, body=BODY)]
