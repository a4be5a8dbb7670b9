"""The node agent, one step after another: pure planning, and real namespaces with a listener in Envoy's place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import ApiError
from chaos.mesh import capture
from chaos.mesh.agent import work
from chaos.mesh.agent.sandboxes import Sandbox, listening_ports
from chaos.mesh.agent.work import NodeAgent, plan_pods
from chaos.names import ANNOTATION_SANDBOX, CONDITION_CAPTURED, LABEL_MODE
from tests.mesh.controlplane.objects import proxy_pod
from tests.mesh.envoy.bench import Namespace, until
from tests.mesh.envoy.placements import uid

UID = uid(1)


def pod_object(
    mode: str = "node", *, namespace: str = "tenant-a", captured: bool = False, **spec: Any
) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True"}]
    if captured:
        conditions.append({"type": CONDITION_CAPTURED, "status": "True"})
    return {
        "metadata": {"uid": UID, "namespace": namespace, "name": "p", "labels": {LABEL_MODE: mode}},
        "spec": {"nodeName": "node-1", **spec},
        "status": {"phase": "Running", "conditions": conditions},
    }


def test_only_the_nodes_own_application_pods_of_the_mesh_are_served() -> None:
    served = pod_object()
    proxy = proxy_pod(layer="l7", namespace="tenant-a", scope="pod", key="x")
    proxy["metadata"]["labels"][LABEL_MODE] = "ambient-pod"
    done = pod_object()
    done["status"]["phase"] = "Succeeded"
    others = [
        pod_object("sidecar"),
        pod_object("none"),
        pod_object("unheard-of"),
        pod_object(hostNetwork=True),
        pod_object(nodeName="node-2"),
        proxy,
        done,
        pod_object(namespace="elsewhere"),
    ]
    serve, release = plan_pods([served, *others], {"tenant-a"}, "node-1")
    assert [(pod.namespace, pod.mode) for pod in serve] == [("tenant-a", "node")]
    assert release == []


def test_a_pod_whose_namespace_left_the_mesh_is_released() -> None:
    serve, release = plan_pods([pod_object(captured=True)], set(), "node-1")
    assert (len(serve), len(release)) == (0, 1)


@dataclass
class Api:
    """Remembers what is written; refuses while told to."""

    written: list[tuple[str, Any]] = field(default_factory=list)
    broken: bool = False

    def patch(
        self,
        kind: str,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        how: str = "merge",
        subresource: str | None = None,
    ) -> Any:
        if self.broken:
            raise ApiError("no", code=503)
        self.written.append((subresource or how, patch))


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = Namespace.new()
    yield made
    made.end()


@pytest.fixture
def agent(space: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeAgent:
    found = {UID: Sandbox(UID, space.process.pid, space.inode)}
    monkeypatch.setattr(work, "find_sandboxes", lambda proc: found if space.process.poll() is None else {})
    made = NodeAgent(Api(), "node-1", ["10.0.0.1"], tmp_path)
    made.take("Namespace", "ADDED", {"metadata": {"name": "tenant-a", "labels": {"sharedfate.io/mesh": "enabled"}}})
    return made


def api_of(agent: NodeAgent) -> Api:
    assert isinstance(agent.api, Api)
    return agent.api


def listen(space: Namespace, *ports: int) -> subprocess.Popen[bytes]:
    script = f"import socket, time\ns = [socket.create_server(('127.0.0.1', p)) for p in {ports!r}]\ntime.sleep(60)"
    process = subprocess.Popen(space.command(sys.executable, "-c", script))
    until(lambda: set(ports) <= listening_ports(space.process.pid))
    return process


def rules(space: Namespace) -> str:
    return space.run("nft", "list", "ruleset")


@pytest.mark.privileged
@pytest.mark.parametrize(("mode", "ports"), [("node", (15001, 15006)), ("ambient-node", (15001, 15008))])
def test_a_pod_is_captured_once_envoy_listens_and_not_before(
    agent: NodeAgent, space: Namespace, mode: str, ports: tuple[int, ...]
) -> None:
    agent.take("Pod", "ADDED", pod_object(mode))
    assert agent.step() < 0.1
    assert (agent.folder / f"{UID}-{space.inode}").readlink() == Path(space.path)
    assert api_of(agent).written == [
        ("merge", {"metadata": {"annotations": {ANNOTATION_SANDBOX: f"{UID}-{space.inode}"}}})
    ]
    assert "redirect" not in rules(space)
    envoy = listen(space, *ports)
    try:
        assert agent.step() == work.CALM
        assert "redirect to :15001" in rules(space)
        how, patch = api_of(agent).written[-1]
        assert how == "status"
        assert [(c["type"], c["status"]) for c in patch["status"]["conditions"]] == [(CONDITION_CAPTURED, "True")]
        count = len(api_of(agent).written)
        agent.step()
        assert len(api_of(agent).written) == count
    finally:
        envoy.kill()
        envoy.wait()


@pytest.mark.privileged
def test_a_restarted_agent_writes_nothing_and_keeps_the_rules(agent: NodeAgent, space: Namespace) -> None:
    plan = capture.plan_capture(inbound=capture.Inbound.REDIRECT, node=["10.0.0.1"], probed=[])
    capture.apply_rules(plan, netns=space.path)
    handle = space.run("nft", "-a", "list", "ruleset")
    known = pod_object(captured=True)
    known["metadata"]["annotations"] = {ANNOTATION_SANDBOX: f"{UID}-{space.inode}"}
    agent.take("Pod", "ADDED", known)
    agent.step()
    assert api_of(agent).written == []
    assert space.run("nft", "-a", "list", "ruleset") == handle


@pytest.mark.privileged
def test_a_namespace_that_leaves_the_mesh_is_released(agent: NodeAgent, space: Namespace) -> None:
    capture.apply_rules(
        capture.plan_capture(inbound=capture.Inbound.REDIRECT, node=["10.0.0.1"], probed=[]), netns=space.path
    )
    agent.take("Pod", "ADDED", pod_object(captured=True))
    agent.take("Namespace", "DELETED", {"metadata": {"name": "tenant-a", "labels": {}}})
    agent.step()
    assert rules(space).strip() == ""
    condition = api_of(agent).written[-1][1]["status"]["conditions"][0]
    assert (condition["status"], condition["reason"]) == ("True", "Released")  # it serves on, outside of the mesh
    count = len(api_of(agent).written)
    agent.step()
    assert len(api_of(agent).written) == count


@pytest.mark.privileged
def test_a_pod_that_goes_leaves_no_link(agent: NodeAgent, space: Namespace) -> None:
    agent.take("Pod", "ADDED", pod_object())
    agent.step()
    assert len(list(agent.folder.iterdir())) == 1
    agent.take("Pod", "DELETED", pod_object())
    agent.step()
    assert list(agent.folder.iterdir()) == []


@pytest.mark.privileged
def test_an_api_that_is_away_is_waited_for(agent: NodeAgent, space: Namespace) -> None:
    api_of(agent).broken = True
    agent.take("Pod", "ADDED", pod_object())
    agent.step()
    assert agent.problems[UID] == "no"
    api_of(agent).broken = False
    agent.step()
    assert api_of(agent).written


@pytest.mark.privileged
def test_a_pod_that_died_is_not_taken_for_another_process(agent: NodeAgent, space: Namespace) -> None:
    agent.take("Pod", "ADDED", pod_object())
    agent.step()
    space.end()
    agent.step()
    assert list(agent.folder.iterdir()) == []
    assert "no process" in agent.problems[UID]
