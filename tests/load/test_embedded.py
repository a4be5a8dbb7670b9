"""Loader, collector and recorder in the embedded cluster: everything as in a trial, but for mesh and fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chaos.cluster.providers import open_cluster
from chaos.engine.recorder import Recorder
from chaos.history.model import EventKind, Outcome
from chaos.history.store import History, HistoryWriter
from chaos.kube.client import Cluster
from chaos.load.client import LoaderClient
from chaos.load.collector import Collector, Loader
from chaos.mesh import manifests
from chaos.model.flow import Flow

pytestmark = pytest.mark.privileged


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with open_cluster("embedded", nodes=2, name="load-test") as cluster:
        yield cluster


def deployed(cluster: Cluster) -> dict[str, dict]:
    """The pods of tenant a by role, all Ready."""
    first, second = sorted(node["metadata"]["name"] for node in cluster.list("Node"))
    for obj in manifests.tenant("a", client_nodes=[first], server_nodes=[second], servers=1):
        cluster.create(obj)

    def ready() -> dict[str, dict]:
        pods = {pod["metadata"]["labels"]["app"]: pod for pod in cluster.list("Pod", "tenant-a")}
        conditions = [
            one for pod in pods.values() for one in pod["status"].get("conditions", []) if one["type"] == "Ready"
        ]
        return pods if len(conditions) == 2 and all(one["status"] == "True" for one in conditions) else {}

    return cluster.wait("tenant a ready", ready, seconds=30)


def enough(writer: HistoryWriter) -> bool:
    seen = np.bincount(writer.tail(1_000_000)["flow"], minlength=4)
    return len(seen) == 4 and int(seen.min()) >= 40


def test_load_of_every_protocol_reaches_the_history_whole(cluster: Cluster, tmp_path: Path):
    pods = deployed(cluster)
    loader = Loader("tenant-a", pods["client"]["metadata"]["name"])
    base = {"server": "tenant-a/server", "rate": 40, "timeout": 5}
    with (
        HistoryWriter(tmp_path / "trial", {}) as writer,
        Recorder(cluster, ["tenant-a"]) as recorder,
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
