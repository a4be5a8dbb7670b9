"""Checks that golden metrics agree with the loaders' own counts, per source, and that no source is taken for another.

Two tenants' clients on one node call the same Service at the same time, each while the other's connections stand in the
proxies' pools: a proxy that shares those sends one tenant's requests under the other's identity.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from chaos.engine.features.context import CheckContext
from chaos.engine.features.envoy_stats import golden, pages
from chaos.load.client import LoaderClient
from chaos.model.placement import Pod
from chaos.names import spiffe_id
from chaos.verdict.check import Check, decided, undecided

RATE: Final = 100.0
SECONDS: Final = 2.0
TOGETHER: Final = 60  # requests of each of two tenants at the same time
PAUSE: Final = 0.04  # seconds between them: long enough for the two to overlap, too short for an idle connection to go
FLOW: Final = "check-metrics"


def by_source(context: CheckContext) -> Counter[str]:
    """Count answered requests (200) by source, over all proxies."""
    found: Counter[str] = Counter()
    for page in pages(context.cluster, context.placement).values():
        for (source, _, code), count in golden(page).items():
            if code == "200":
                found[source] += count
    return found


def identity(pod: Pod) -> str:
    return spiffe_id(pod.namespace, pod.service_account)


def judge_counts(name: str, expected: Mapping[str, int], counted: Mapping[str, int]) -> Check:
    """Judge whether both sides counted the same. Pure."""
    if not sum(expected.values()):
        return undecided(name, "no request was answered")
    shown = "; ".join(
        f"{who.rpartition('/ns/')[2]}: {counted.get(who, 0)} of {expected.get(who, 0)}"
        for who in sorted({*expected, *(w for w, n in counted.items() if n)})
    )
    wrong = sum(abs(counted.get(who, 0) - expected.get(who, 0)) for who in {*expected, *counted})
    return decided(name, wrong == 0, shown, wrong, "requests differ")


def check_metrics(context: CheckContext) -> list[Check]:
    """Run the loader's own flow for a while and compare both sides' counts; then run two clients together."""
    before = by_source(context)
    ok = _load(context)
    after = by_source(context)
    first = judge_counts("metrics agree with the loader's counts", {identity(context.client): ok}, after - before)
    both = (context.client, context.other_tenant)
    with ThreadPoolExecutor(len(both)) as pool:
        replies = list(pool.map(lambda pod: context.call(pod, requests=TOGETHER, keep=True, pause=PAUSE), both))
    sent = {
        identity(pod): sum(reply.status == 200 for reply in found) for pod, found in zip(both, replies, strict=True)
    }
    crossed = judge_counts("tenants' identities never cross", sent, by_source(context) - after)
    return [first, crossed]


def _load(context: CheckContext) -> int:
    """Let the client's loader send requests; return how many were answered."""
    pod = context.client
    flow = {
        "name": FLOW,
        "server": f"{pod.namespace}/server",
        "label": FLOW,
        "target": f"{context.host}:80",
        "rate": RATE,
        "timeout": 10.0,
    }

    loader = LoaderClient.of(context.cluster, pod.namespace, pod.name)
    begin = (loader.flow(FLOW) or {}).get("ok", 0)
    loader.set_flows([flow])
    time.sleep(SECONDS)  # the length of an observation
    loader.stop_flows()
    context.cluster.wait("the loader's requests have ended", lambda: loader.under_way() == 0, seconds=10)
    answered: int = (loader.flow(FLOW) or {}).get("ok", 0) - begin
    return answered
