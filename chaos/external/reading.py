"""Reads the proxies' own pages, by the ways in the description, and compares them with the prediction."""

from __future__ import annotations

import contextlib
from typing import Final

import urllib3

from chaos.errors import ExperimentFailure, SharedfateError
from chaos.external.description import MeshDescription, ProxyRule, Read
from chaos.external.file import TargetSystem
from chaos.external.placement import read_site, resolve_target
from chaos.external.views import SeenProxy, contradictions, parse_view, sum_of
from chaos.kube.client import Cluster
from chaos.kube.kubeconfig import one_line
from chaos.kube.ways import Way
from chaos.model.placement import Placement, Proxy

MOST: Final = 16  # proxies that are read


def read_page(cluster: Cluster, proxy: Proxy, read: Read) -> str:
    """Read a page of a proxy. Raises an API or experiment error when it cannot be read."""
    if read.way is Way.EXEC:
        done = cluster.exec(proxy.namespace, proxy.pod, read.command, container=proxy.container, seconds=20)
        if done.code:
            raise ExperimentFailure(f"{' '.join(read.command)} ended with {done.code}: {done.stderr.strip()[:120]}")
        return done.stdout
    body = cluster.pod_http(proxy.namespace, proxy.pod, read.port, read.path, way=read.way, timeout=20)
    return body.decode(errors="replace")


def rule_of(mesh: MeshDescription, proxy: Proxy) -> ProxyRule | None:
    """Return the rule that found the proxy."""
    wanted = (proxy.container, proxy.scope, proxy.layers)
    return next((rule for rule in mesh.rules if (rule.container, rule.scope, rule.layers) == wanted), None)


def read_views(cluster: Cluster, mesh: MeshDescription, placement: Placement) -> tuple[list[SeenProxy], list[str]]:
    """Return (the proxies' views, why others were not read)."""
    seen: list[SeenProxy] = []
    unread: list[str] = []
    for proxy in placement.proxies[:MOST]:
        rule = rule_of(mesh, proxy)
        for read in rule.reads.values() if rule else ():
            if not read.format:
                continue
            try:
                seen.append(SeenProxy(proxy, parse_view(read_page(cluster, proxy, read), read.format)))
            except (SharedfateError, urllib3.exceptions.HTTPError) as error:
                unread.append(f"{proxy}: {one_line(error)}")
    return seen, unread


def read_counts(cluster: Cluster, mesh: MeshDescription, placement: Placement) -> dict[Proxy, float]:
    """Return for each proxy whose statistics can be read the sum of the counters that rise with what passes it."""
    found: dict[Proxy, float] = {}
    for proxy in placement.proxies[:MOST]:
        rule = rule_of(mesh, proxy)
        for read in rule.reads.values() if rule else ():
            if read.counts:
                with contextlib.suppress(SharedfateError, urllib3.exceptions.HTTPError):
                    found[proxy] = sum_of(read_page(cluster, proxy, read), read.counts)
    return found


def compare_views(
    cluster: Cluster, mesh: MeshDescription, target: TargetSystem, placement: Placement
) -> tuple[list[str], str]:
    """Return (contradictions between the mesh's own view and the prediction, how many proxies were read)."""
    seen, unread = read_views(cluster, mesh, placement)
    services = {
        call: f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        for call, reached in resolve_target(target, read_site(cluster, target)).items()
        if (service := reached.service) is not None and not reached.by_pod
    }
    looked = f"{len(seen)} pages of its proxies were read" + (f", not: {'; '.join(unread[:3])}" if unread else "")
    return contradictions(placement, services, seen), looked
