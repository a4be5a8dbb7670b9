"""What onlookers say of a control plane and of an API server: the proxies' own pages, and an account's own answers.

A control plane that is asked to misbehave says so itself, and an API server counts what it did: neither is a second
word. The proxies tell whether they are connected, when their certificates end and whether a push has come; whoever
asks with an account's token is told what that account is told. Asked by `chaos.engine.witness`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import urllib3

from chaos.engine.features.envoy_stats import series
from chaos.errors import ApiError, NotReady
from chaos.faults.container import serving_endpoint
from chaos.kube.client import Cluster
from chaos.kube.objects import containers, is_live
from chaos.names import LABEL_MESH, LABEL_RUN, MESH_CONFIG, PORT_STATUS, SYSTEM_NAMESPACE

PROMPT_SECONDS: Final = 5.0  # within which a push of a sound control plane comes
ANSWER_SECONDS: Final = 1.0  # that a witness waits for an API server that may be silent
MOST_ASKED: Final = 40  # requests, of which one in ten meets trouble with a chance of 98 %
_ENDS: Final = "_expiration_unix_time_seconds"
_AUTHORITIES: Final = ("ROOTCA", "unnamed_ca_cert")


def proxy_pages(cluster: Cluster) -> dict[str, str]:
    """Pod UID -> what Envoy counts itself, of every proxy that shows it."""
    found: dict[str, str] = {}
    for pod in cluster.list("Pod", labels=LABEL_RUN):
        meta = pod["metadata"]
        probes = [serving_endpoint(pod, one["name"]) for one in containers(pod)] if is_live(pod) else []
        if any(probe.partition("/")[0] == str(PORT_STATUS) for probe in probes):
            with suppress(ApiError, urllib3.exceptions.HTTPError):  # one that just starts or ends says nothing
                text = cluster.pod_http(meta["namespace"], meta["name"], PORT_STATUS, "/stats/prometheus", timeout=3.0)
                found[meta["uid"]] = text.decode(errors="replace")
    return found


def connected(pages: Iterable[str]) -> int:
    """How many proxies are connected to their control plane. Pure."""
    return sum(any(value for value in _values(page, "envoy_control_plane_connected_state")) for page in pages)


def certificate_ends(pages: Iterable[str]) -> list[float]:
    """When each certificate that a proxy shows to others ends, s since the epoch; authorities' are left out. Pure."""
    return [
        value
        for page in pages
        for name, labels, value in series(page)
        if name.endswith(_ENDS) and not labels.get("envoy_tls_certificate", "").startswith(_AUTHORITIES)
    ]


def pushes(pages: Iterable[str]) -> int:
    """How many changes of their clusters the proxies have taken over. Pure."""
    return int(sum(sum(_values(page, "envoy_cluster_manager_cds_update_success")) for page in pages))


def failed_connects(pages: Iterable[str]) -> int:
    """How many connections of theirs to others came to nothing, and how many requests that waited for one, by the
    proxies' own counts. Pure.
    """
    names = {"envoy_cluster_upstream_cx_connect_fail", "envoy_cluster_upstream_rq_pending_failure_eject"}
    return int(sum(value for page in pages for name, _, value in series(page) if name.removesuffix("_total") in names))


def misanswered(page: str) -> int:
    """How many requests a proxy has answered in their servers' place, or held up, by its own counts. Pure."""
    names = {"envoy_http_fault_aborts_injected", "envoy_http_fault_delays_injected"}
    return int(sum(value for name, _, value in series(page) if name.removesuffix("_total") in names))


def _values(page: str, name: str) -> list[float]:
    """Of a series without labels of its own; the parser may give a counter the ending `_total`."""
    lines = (line for line in page.splitlines() if line.startswith(name))
    return [float(line.rsplit(" ", 1)[1]) for line in lines]


def what_proxies_say(cluster: Cluster) -> dict[str, Any]:
    """How many proxies there are, how many are connected, of how many certificates how many are good, and how many of
    their connections to others have failed so far.
    """
    pages = proxy_pages(cluster).values()
    ends, now = certificate_ends(pages), time.time()
    return {
        "proxies": len(pages),
        "connected": connected(pages),
        "certificates": len(ends),
        "good_certificates": sum(end > now for end in ends),
        "failed_connects": failed_connects(pages),
    }


def push_seconds(cluster: Cluster, name: str, *, within: float) -> float | None:
    """Seconds until any proxy has taken over a new Service; None when none has within that time.

    The Service stands for nothing, and is deleted again.
    """
    before, began = pushes(proxy_pages(cluster).values()), time.monotonic()
    with _passing_service(cluster, name):
        try:
            cluster.wait("a push", lambda: pushes(proxy_pages(cluster).values()) > before, seconds=within, every=0.2)
        except NotReady:
            return None
        return time.monotonic() - began


@contextmanager
def _passing_service(cluster: Cluster, name: str) -> Iterator[None]:
    meshed = cluster.list("Namespace", labels=f"{LABEL_MESH}=enabled")
    namespace = min(one["metadata"]["name"] for one in meshed)
    run = cluster.get("ConfigMap", MESH_CONFIG, SYSTEM_NAMESPACE)["metadata"]["labels"][LABEL_RUN]
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_RUN: run}},
            "spec": {"ports": [{"port": 9}]},
        }
    )
    try:
        yield
    finally:
        cluster.delete("Service", name, namespace)


def meets_trouble(cluster: Cluster, user: str, asked: Mapping[str, Any]) -> int | None:
    """How many requests, by a service account's own token, it took until one met the trouble; None when none did.

    Args:
        user: `system:serviceaccount:NAMESPACE:NAME`.
        asked: the trouble: `code`, `delay`, `silent`.
    """
    *_, namespace, name = user.split(":")
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    token = cluster.request(
        "POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    )["status"]["token"]
    # No certificate of ours: it would be believed before the token.
    pool = urllib3.PoolManager(ca_certs=cluster.configuration.ssl_ca_cert)
    delay = float(asked.get("delay") or 0.0)
    for number in range(1, MOST_ASKED + 1):
        began = time.monotonic()
        try:
            status = pool.request(
                "GET",
                f"{cluster.host}/api/v1/namespaces/{namespace}/pods?limit=1",
                headers={"Authorization": f"Bearer {token}"},
                timeout=urllib3.Timeout(total=max(ANSWER_SECONDS, 2 * delay)),
                retries=False,
            ).status
        except urllib3.exceptions.HTTPError:
            status = 0
        took = time.monotonic() - began
        if is_trouble(asked, status=status, seconds=took):
            return number
    return None


def is_trouble(asked: Mapping[str, Any], *, status: int, seconds: float) -> bool:
    """Whether an answer is what was asked for. Pure.

    Args:
        status: 0: no answer came.
        seconds: until then.
    """
    if asked.get("silent"):
        return status == 0
    late = seconds >= float(asked.get("delay") or 0.0)
    return late and status == asked["code"] if asked.get("code") else late and bool(asked.get("delay"))
