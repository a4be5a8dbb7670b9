"""Loader, collector and recorder in the embedded cluster: everything as in a trial, but for mesh and fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chaos.cluster.providers import open_cluster
from chaos.engine.recorder import Recorder
from chaos.errors import ApiError
from chaos.history.model import EventKind, Outcome
from chaos.history.store import History, HistoryWriter
from chaos.kube.client import Cluster
from chaos.kube.control_key import opened_http, stored_key
from chaos.kube.objects import is_deleting
from chaos.kube.ways import Way
from chaos.load.client import LoaderClient
from chaos.load.collector import Collector, Loader
from chaos.mesh import manifests
from chaos.mesh.inject import told_digests
from chaos.model.flow import Flow
from chaos.names import SYSTEM_NAMESPACE

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_cluster("embedded", nodes=2, name="load-test") as cluster:
        yield cluster


def deployed(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """The pods of tenant a by role, all Ready."""
    first, second = sorted(node["metadata"]["name"] for node in cluster.list("Node"))
    tenant = manifests.tenant("a", client_nodes=[first], server_nodes=[second], servers=1)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}})
    for obj in told_digests(tenant, stored_key(cluster, run="load")):
        cluster.apply(obj)

    def ready() -> dict[str, dict[str, Any]]:
        found = [pod for pod in cluster.list("Pod", "tenant-a") if not is_deleting(pod)]
        pods = {pod["metadata"]["labels"]["app"]: pod for pod in found}
        conditions = [
            one for pod in pods.values() for one in pod["status"].get("conditions", []) if one["type"] == "Ready"
        ]
        return pods if len(conditions) == 2 and all(one["status"] == "True" for one in conditions) else {}

    found: dict[str, dict[str, Any]] = cluster.wait("tenant a ready", ready, seconds=30)
    return found


def enough(writer: HistoryWriter) -> bool:
    seen = np.bincount(writer.tail(1_000_000)["flow"], minlength=4)
    return len(seen) == 4 and int(seen.min()) >= 40


def test_load_of_every_protocol_reaches_the_history_whole(cluster: Cluster, tmp_path: Path) -> None:
    pods = deployed(cluster)
    loader = Loader("tenant-a", pods["client"]["metadata"]["name"])
    base = {"server": "tenant-a/server", "rate": 40, "timeout": 5}
    with (
        HistoryWriter(tmp_path / "trial", {}) as writer,
        Recorder(cluster, ["tenant-a"], run="load") as recorder,
        recorder.into(writer),
    ):
        with Collector(cluster, [loader], writer) as collector:
            LoaderClient.of(cluster, loader.namespace, loader.pod).set_flows(
                [
                    {**base, "name": "http", "target": "server:80"},
                    {**base, "name": "tcp", "target": "server:9000", "protocol": "tcp", "label": "tcp"},
                    {
                        **base,
                        "name": "grpc",
                        "target": "server.tenant-a.svc.cluster.local:80",
                        "protocol": "grpc",
                        "label": "grpc",
                    },
                    {
                        **base,
                        "name": "sentinel",
                        "target": f"{pods['server']['status']['podIP']}:9990",
                        "path": "/sentinel",
                        "sentinel": True,
                    },
                ]
            )
            cluster.wait("forty requests of each flow", lambda: enough(writer), seconds=30)
            collector.finish()
            assert not collector.failures
        assert not recorder.failures
    history = History.load(tmp_path / "trial")
    assert len(history.flows) == 4
    assert Flow("tenant-a/client", "tenant-a/server", sentinel=True) in history.flows
    assert np.all(history.samples["outcome"] == Outcome.OK)
    assert {history.pods[number] for number in history.samples["server"]} == {
        f"tenant-a/{pods['server']['metadata']['name']}"
    }
    kinds = {event.kind for event in history.events}
    assert {EventKind.CLOCK, EventKind.LOADER, EventKind.CONTAINER, EventKind.USAGE} <= kinds


@pytest.mark.parametrize("way", Way)
def test_samples_come_whole_and_with_the_same_bound_on_clocks_by_every_way(
    way: Way, cluster: Cluster, tmp_path: Path
) -> None:
    pods = deployed(cluster)
    cluster.way = way
    loader = Loader("tenant-a", pods["client"]["metadata"]["name"])
    client = LoaderClient.of(cluster, loader.namespace, loader.pod)
    flow = {"name": "http", "server": "tenant-a/server", "target": "server:80", "rate": 400, "timeout": 5}
    with HistoryWriter(tmp_path / "trial", {}) as writer, Collector(cluster, [loader], writer) as collector:
        client.set_flows([flow])
        cluster.wait("a thousand samples", lambda: len(writer.tail(1_000_000)) > 1000, seconds=30)
        collector.finish()  # raises LostSamples unless both ends count the same
        assert not collector.failures
    clocks = [event.data for event in History.load(tmp_path / "trial").events if event.kind is EventKind.CLOCK]
    best = min(clocks, key=lambda one: one["error"])
    assert abs(best["offset"]) <= best["error"] < 20e6  # ns; one kernel, one clock


@pytest.mark.parametrize("way", Way)
def test_what_does_not_answer_is_told_alike_by_every_way(way: Way, cluster: Cluster) -> None:
    pods = deployed(cluster)
    cluster.way = way
    name = pods["client"]["metadata"]["name"]
    for pod, port, path, code in ((name, 1, "/", 503), (name, 9990, "/nothing", 404), ("no-such", 9990, "/", 404)):
        with pytest.raises(ApiError) as caught:
            opened_http(cluster, "tenant-a", pod, port, path)
        assert caught.value.code == code, f"{pod}:{port}{path}: {caught.value}"
    state = json.loads(opened_http(cluster, "tenant-a", name, 9990, "/state"))
    cluster.delete("Pod", name, "tenant-a", grace=0)
    cluster.wait("it is gone", lambda: cluster.find("Pod", name, "tenant-a") is None, seconds=20)
    with pytest.raises(ApiError) as caught:  # a connection that was kept has ended with its pod
        opened_http(cluster, "tenant-a", name, 9990, "/state")
    assert caught.value.code == 404
    assert state["epoch"]


def test_a_relay_ends_with_whoever_asked_for_it(cluster: Cluster) -> None:
    pods = deployed(cluster)
    name = pods["client"]["metadata"]["name"]
    looked = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]
    cluster.way = Way.EXEC
    opened_http(cluster, "tenant-a", name, 9990, "/state")
    assert "chaos.inpod.relay" in cluster.exec("tenant-a", name, looked).stdout
    cluster.close()
    cluster.wait(
        "the relay has ended",
        lambda: "chaos.inpod.relay" not in cluster.exec("tenant-a", name, looked).stdout,
        seconds=10,
    )
