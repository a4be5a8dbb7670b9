"""The network of a whole embedded cluster, from inside its pods; and the host's own, which it must not touch."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from chaos.cluster.providers import open_cluster
from chaos.faults.model import Fault, Receipt, Target, settings_of
from chaos.faults.network.degrade import Degrade
from chaos.faults.network.partition import Partition
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase
from chaos.names import IMAGE, SYSTEM_NAMESPACE
from tests.embedded.network.conftest import host_network
from tests.embedded.network.test_network import differences

pytestmark = pytest.mark.privileged
SERVER = ["python", "-m", "http.server", "8080"]
ASK = """
import sys, time, urllib.request
began = time.monotonic()
try:
    status = urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).status
except OSError as error:
    status = type(error).__name__
print(status, time.monotonic() - began)
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, str]]:
    return {}


@pytest.fixture(scope="module")
def cluster(seen: dict[str, dict[str, str]]) -> Iterator[Cluster]:
    seen["before"] = host_network()
    with open_cluster("embedded", name="network-test") as cluster:
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}})
        for name, node in (("web-1", "node-1"), ("web-2", "node-2")):
            run_pod(cluster, name, node, SERVER, labels={"app": "web"})
        cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
            }
        )
        for name in ("web-1", "web-2"):
            cluster.wait(f"{name} ready", lambda name=name: ready(cluster, name), seconds=20)  # type: ignore[misc]
        yield cluster
    seen["after"] = host_network()
    assert differences(seen["before"], seen["after"]) == {}


def run_pod(
    cluster: Cluster, name: str, node: str, command: list[str], *, labels: dict[str, str] | None = None
) -> None:
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
            "spec": {
                "nodeName": node,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": IMAGE, "command": command}],
            },
        }
    )


def ready(cluster: Cluster, name: str) -> bool:
    conditions = cluster.get("Pod", name, "default").get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def ask(cluster: Cluster, url: str, *, timeout: float = 10) -> tuple[str, float]:
    """What a pod of node-2 gets for a request: status or error, and the seconds that it took."""
    status, seconds = cluster.exec("default", "web-2", ["python", "-c", ASK, url, str(timeout)]).stdout.split()
    return status, float(seconds)


def test_a_pod_finds_a_service_by_its_name(cluster: Cluster) -> None:
    assert ask(cluster, "http://web/")[0] == "200"
    assert ask(cluster, "http://web.default.svc.cluster.local/")[0] == "200"


def test_a_name_that_does_not_exist_fails_at_once(cluster: Cluster) -> None:
    status, seconds = ask(cluster, "http://nobody/")
    assert (status, seconds < 4) == ("URLError", True)  # a resolver that waits in vain does so for 5 s and more


def test_the_hosts_own_network_is_the_same_while_a_cluster_runs(
    cluster: Cluster, seen: dict[str, dict[str, str]]
) -> None:
    assert differences(seen["before"], host_network()) == {}


def receipt(cluster: Cluster, fault: Fault) -> Receipt:
    pod = cluster.get("Pod", "web-1", "default")
    target = Target(
        "container",
        "web-1",
        "default",
        pod["metadata"]["uid"],
        "main",
        pod["status"]["containerStatuses"][0]["containerID"],
        "node-1",
    )
    deadline = time.time_ns() + 60 * 10**9
    return Receipt(
        f"test-{fault.name}",
        "test",
        fault.name,
        settings_of(fault),
        target,
        deadline,
        FaultPhase.INJECTED,
        facts=fault.plan(cluster, target),
    )


def test_a_partitioned_container_is_unreachable_until_it_is_mended(cluster: Cluster) -> None:
    url = f"http://{cluster.get('Pod', 'web-1', 'default')['status']['podIP']}:8080/"
    fault = Partition()
    held = receipt(cluster, fault)
    assert ask(cluster, url)[0] == "200"
    assert fault.inject(cluster, held).seen["namespaces"]
    try:
        assert ask(cluster, url, timeout=1)[0] != "200"
    finally:
        undone = fault.recover(cluster, held)
    assert undone.seen["dropped"] > 0
    assert ask(cluster, url)[0] == "200"


def test_a_degraded_pod_answers_late_until_it_is_mended(cluster: Cluster) -> None:
    url = f"http://{cluster.get('Pod', 'web-1', 'default')['status']['podIP']}:8080/"
    fault = Degrade(delay_ms=150)
    held = receipt(cluster, fault)
    assert quickest(cluster, url) < 0.28
    fault.inject(cluster, held)
    try:
        assert quickest(cluster, url) > 0.28  # two round trips: connection and answer
    finally:
        fault.recover(cluster, held)
    assert quickest(cluster, url) < 0.28


def quickest(cluster: Cluster, url: str) -> float:
    """The best of a few: what the path costs, without what a busy machine adds."""
    return min(ask(cluster, url)[1] for _ in range(5))
