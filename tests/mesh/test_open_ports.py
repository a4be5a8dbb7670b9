"""Every port of a run's own pods, tried from a pod outside of the mesh and from a tenant's: what answers is health and
metrics alone, whatever is asked, and however.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster.providers import open_cluster
from chaos.kube.client import Cluster, Object
from chaos.mesh import manifests
from chaos.mesh.install import Mesh
from chaos.model.modes import MODES
from chaos.names import IMAGE, PORT_AGENT, PORT_CONTROL, PORT_STATUS, PORT_WATCHDOG, PORT_XDS_STATUS

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

PROGRAM = Path(__file__).with_name("ports_in_pod.py").read_text()
# What anybody may be answered, by port. The application's own are a tenant's affair.
OPEN = {
    PORT_CONTROL: ("/healthz", "/sentinel"),
    PORT_XDS_STATUS: ("/healthz", "/readyz"),
    PORT_AGENT: ("/healthz",),
    PORT_STATUS: ("/ready", "/stats/prometheus"),
    PORT_WATCHDOG: ("/healthz",),
}
SECRET = ("config_dump", "epoch", "misbehav", "server_info", "certs", '"flows"')  # that no answer holds
SOURCES = ("outside", "tenant")


@dataclass(frozen=True, slots=True)
class Reached:
    """A mode's pods, and what each answered to a source."""

    cluster: Cluster
    mode: str

    def source(self, name: str) -> tuple[str, str, str]:
        if name == "outside":
            return "outside", "o", "o"
        (client,) = self.cluster.list("Pod", "tenant-a", labels="app=client")
        return "tenant-a", client["metadata"]["name"], "client"

    def addresses(self) -> dict[str, str]:
        """Of one pod of each sort, another tenant's where there is one, and of a node, with a name for each."""
        sorts: dict[str, tuple[str, str]] = {}
        for pod in self.cluster.list("Pod"):
            meta = pod["metadata"]
            if meta["namespace"] != "outside" and pod["status"].get("podIP"):
                name = f"{meta['namespace']}/{meta['name']}"
                sorts[meta.get("labels", {}).get("app", name)] = (pod["status"]["podIP"], name)
        node = self.cluster.list("Node")[0]
        return dict([*sorts.values(), (node["status"]["addresses"][0]["address"], node["metadata"]["name"])])

    def ask(self, source: str, what: str, argument: Any) -> Any:
        namespace, name, container = self.source(source)
        command = ["python", "-c", PROGRAM, what, json.dumps(argument)]
        done = self.cluster.exec(namespace, name, command, container=container, seconds=400)
        return json.loads(done.stdout)


@pytest.fixture(scope="module", params=MODES)
def reached(request: pytest.FixtureRequest) -> Iterator[Reached]:
    with open_cluster("embedded", name=f"ports-{request.param}", nodes=2) as cluster:
        first, second = sorted(node["metadata"]["name"] for node in cluster.list("Node"))
        mesh = Mesh(cluster, request.param, run="ports")
        places: dict[str, Any] = {"client_nodes": [first], "server_nodes": [second], "servers": 1}
        mesh.start([one for tenant in "ab" for one in manifests.tenant(tenant, **places)])
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "outside"}})
        mesh.wait_ready([cluster.create(_sleeper())], seconds=60)
        yield Reached(cluster, request.param)


def _sleeper() -> Object:
    container = {"name": "o", "image": IMAGE, "command": ["sleep", "9999"]}
    meta = {"name": "o", "namespace": "outside"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


@pytest.mark.parametrize("source", SOURCES)
def test_every_port_that_answers_is_health_or_metrics(reached: Reached, source: str) -> None:
    addresses = reached.addresses()
    doors = []
    for address in addresses:
        found = reached.ask(source, "scan", address)
        assert found["tried"] == 65_535
        doors += [(address, port) for port in found["answered"]]
    assert any(port == PORT_CONTROL for _, port in doors), "the scan must see what is open"
    wrong: list[tuple[Any, ...]] = []
    for address, port, method, path, status, text in reached.ask(source, "ask", doors):
        if port in OPEN:
            allowed = path.partition("?")[0] in OPEN[port] or port == PORT_WATCHDOG  # it has one page
            wrong += [(addresses[address], port, method, path, status)] if status == 200 and not allowed else []
        if any(word in text for word in SECRET):
            wrong.append((addresses[address], port, method, path, text[:200]))
    wrong += [(addresses[a], port, "answers") for a, port in doors if port not in OPEN and port >= PORT_CONTROL]
    assert wrong == []
