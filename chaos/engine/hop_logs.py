"""Explains a flow that does not become healthy by the logs of the proxies that its requests pass.

A mesh's description lists which lines of its proxies' logs mean what (`log-signs`); nothing else of a log is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import urllib3

from chaos.errors import SharedfateError
from chaos.kube.client import Cluster
from chaos.kube.kubeconfig import one_line
from chaos.mesh.handle import LogSign
from chaos.model.fate import path
from chaos.model.placement import Pair, Placement, Proxy

LINES: Final = 2000  # the last of each log, which are read
MOST: Final = 6  # proxies whose logs are read, and signs that are shown
SHOWN: Final = 120  # characters of a sign


@dataclass(frozen=True, slots=True)
class HopLogs:
    """The logs of a path's proxies since a flow was given its load. `unread`: why others were not read."""

    logs: Mapping[Proxy, str]
    unread: Sequence[str] = ()


def read_hop_logs(cluster: Cluster, placement: Placement, pairs: Sequence[Pair], *, seconds: float) -> HopLogs:
    """Read the last `seconds` of the logs of every proxy on the pairs' paths."""
    proxies = dict.fromkeys(proxy for pair in pairs for hop in path(placement, pair) for proxy in hop)
    logs, unread = {}, []
    for proxy in list(proxies)[:MOST]:
        try:
            logs[proxy] = cluster.logs(
                proxy.namespace, proxy.pod, container=proxy.container, tail=LINES, since=max(1, round(seconds))
            )
        except (SharedfateError, urllib3.exceptions.HTTPError) as error:
            unread.append(f"{proxy}: {one_line(error)}")
    return HopLogs(logs, unread)


def explain_by_logs(found: HopLogs, signs: Sequence[LogSign]) -> str:
    """Describe what the proxies' logs say, the commonest sign first; "" without signs to look for. Pure."""
    if not signs:
        return ""
    seen: Counter[tuple[Proxy, str, str]] = Counter()
    for proxy, log in found.logs.items():
        for line in log.splitlines():
            for sign in signs:
                if (said := sign.says.search(line)) is not None:
                    seen[proxy, said[0].strip()[:SHOWN], sign.means] += 1
                    break
    unread = f"; not read: {'; '.join(found.unread)}" if found.unread else ""
    if not seen:
        names = ", ".join(map(str, found.logs)) or "no proxy"
        return f"the logs of {names} have no known sign of the cause{unread}"
    return "by the proxies' logs: " + (
        "; ".join(
            f"{proxy} says {count} times {said!r}: {means}" for (proxy, said, means), count in seen.most_common(MOST)
        )
        + unread
    )
