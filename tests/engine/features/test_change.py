"""Change under traffic, in real meshes: an agent that dies, a pod that is not captured yet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chaos.engine.features.context import CheckContext
from chaos.engine.features.pod_removal import NAME, check_pod_removal, plan_leaver
from chaos.errors import NotReady
from chaos.load.client import control_port
from chaos.model.placement import Pod
from chaos.names import LABEL_LAYER, PORT_HTTP, SYSTEM_NAMESPACE
from chaos.verdict import Verdict

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.slow,
    pytest.mark.parametrize("where", ["node", "ambient-namespace"], indirect=True, scope="module"),
]

SIGNAL = """
import os, sys
from chaos.inpod.process_helper import processes
for pid in processes(sys.argv[1], sys.argv[2]):
    os.kill(pid, int(sys.argv[3]))
"""


def agents(where: CheckContext) -> list[dict[str, Any]]:
    found = where.cluster.list("Pod", SYSTEM_NAMESPACE, labels=f"{LABEL_LAYER}")
    return [pod for pod in found if any(c["name"] == "agent" for c in pod["spec"]["containers"])]


def agent_status(pod: dict[str, Any]) -> dict[str, Any]:
    return next(s for s in pod["status"]["containerStatuses"] if s["name"] == "agent")


def signal_agents(where: CheckContext, number: int) -> None:
    """Send a signal to every node's agent, from its node."""
    for pod in agents(where):
        done = where.cluster.exec(
            SYSTEM_NAMESPACE,
            where.debug_pods[pod["spec"]["nodeName"]],
            [
                "python",
                "-c",
                SIGNAL,
                pod["metadata"]["uid"],
                agent_status(pod)["containerID"].rpartition("//")[2],
                str(number),
            ],
        )
        assert done.code == 0, done.stderr


@contextmanager
def load(where: CheckContext) -> Iterator[dict[str, int]]:
    """The client's loader at 100 requests a second; afterwards, what became of them."""
    pod = where.client
    found: dict[str, Any] = {}

    def ask(path: str, body: Any = None) -> Any:
        exchange = control_port(where.cluster, pod.namespace, pod.name)
        return json.loads(exchange(path, None if body is None else json.dumps(body).encode()))

    name = f"change-{time.monotonic_ns()}"
    ask(
        "/flows",
        [
            {
                "name": name,
                "server": f"{pod.namespace}/server",
                "label": name,
                "target": f"{where.host}:80",
                "rate": 100,
                "timeout": 3.0,
            }
        ],
    )
    try:
        yield found
    finally:
        ask("/stop", {})
        where.cluster.wait("the requests have ended", lambda: ask("/stop")["under_way"] == 0, seconds=10)
        found.update(next(one for one in ask("/flows") if one["name"] == name))


def test_an_agent_that_is_killed_harms_no_traffic_and_goes_on_with_its_work(where: CheckContext) -> None:
    restarts = {pod["metadata"]["uid"]: agent_status(pod)["restartCount"] for pod in agents(where)}
    assert len(restarts) == 2
    with load(where) as counts:
        time.sleep(0.5)
        signal_agents(where, 9)
        where.cluster.wait(
            "both agents are back",
            lambda: all(
                agent_status(pod)["ready"] and agent_status(pod)["restartCount"] == restarts[pod["metadata"]["uid"]] + 1
                for pod in agents(where)
            ),
            seconds=40,
        )
        time.sleep(0.5)
    assert counts["ok"] > 100
    assert (counts["failed"], counts["unknown"]) == (0, 0)
    assert {check.verdict for check in check_pod_removal(where)} == {Verdict.PASS}


def test_a_pod_that_is_not_captured_yet_is_not_ready_and_speaks_to_no_meshed_one(where: CheckContext) -> None:
    server = where.servers[0]
    pod = where.mesh.inject([plan_leaver(where.client)])[-1]
    signal_agents(where, 19)
    try:
        where.cluster.create(pod)
        where.cluster.wait(
            "its container runs",
            lambda: (
                where.cluster.get("Pod", NAME, where.client.namespace)["status"]
                .get("containerStatuses", [{}])[0]
                .get("ready")
            ),
            seconds=30,
        )
        with pytest.raises(NotReady):
            where.reference_mesh.wait_ready([pod], seconds=2)
        found = where.cluster.get("Pod", NAME, where.client.namespace)
        late = Pod(where.client.namespace, NAME, found["metadata"]["uid"], where.client.node, "", "", NAME, "client")
        by_address = where.call(late, host=server.ip, port=PORT_HTTP, requests=2)
        by_name = where.call(late, requests=2)
        assert {reply.status for reply in (*by_address, *by_name)} == {0}
        signal_agents(where, 18)
        where.reference_mesh.wait_ready([pod], seconds=30)
        assert {reply.status for reply in where.call(late, requests=4)} == {200}
    finally:
        signal_agents(where, 18)
        where.cluster.delete("Pod", NAME, where.client.namespace)
        where.cluster.wait(
            "it is gone", lambda: where.cluster.find("Pod", NAME, where.client.namespace) is None, seconds=20
        )
