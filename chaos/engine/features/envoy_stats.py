"""Reads the proxies' own counters: their Prometheus pages, through the status port that no proxy captures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from chaos.kube.client import Cluster
from chaos.model.placement import Placement, Proxy
from chaos.names import PORT_STATUS

_OWN: Final = frozenset({"xds", "admin"})  # clusters that carry no application's traffic
GOLDEN: Final = "envoy_sharedfate_requests"


def series(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yield (name, labels, value) of each line with labels of a Prometheus page."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels:
                yield sample.name, sample.labels, sample.value


def carried(text: str) -> int:
    """Return the bytes that a proxy has sent on for applications."""
    return int(
        sum(
            value
            for name, labels, value in series(text)
            if name == "envoy_cluster_upstream_cx_tx_bytes_total" and labels.get("envoy_cluster_name") not in _OWN
        )
    )


def golden(text: str) -> Counter[tuple[str, str, str]]:
    """Count requests by (source, destination, status code), at the proxy that counts for its destination."""
    found: Counter[tuple[str, str, str]] = Counter()
    for name, labels, value in series(text):
        if name.removesuffix("_total") == GOLDEN:  # the parser gives every counter this ending
            found[labels.get("source", ""), labels.get("destination", ""), labels.get("code", "")] += int(value)
    return found


def pages(cluster: Cluster, placement: Placement) -> dict[Proxy, str]:
    """Fetch each proxy's page."""
    return {
        proxy: cluster.pod_http(proxy.namespace, proxy.pod, PORT_STATUS, "/stats/prometheus").decode(errors="replace")
        for proxy in placement.proxies
    }
