"""What a long taking down waits for, in a sentence: a table of what stands in its way."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster.providers import open_cluster
from chaos.engine import takedown
from chaos.engine.takedown import explain_waiting, reporting_takedown
from chaos.kube.applying import delete_all
from chaos.names import IMAGE, LABEL_RUN

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
Object = dict[str, Any]


def pod(name: str, *, left: int | None = 0, grace: int = 30, **metadata: Any) -> Object:
    going = {"deletionTimestamp": f"2026-01-01T00:00:{left or 0:02}Z", "deletionGracePeriodSeconds": grace}
    return {"metadata": {"name": name, "namespace": "shop", **(going if left is not None else {}), **metadata}}


def namespace(name: str, *conditions: Object, going: bool = True) -> Object:
    meta = {"name": name, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {})}
    return {"metadata": meta, "status": {"conditions": list(conditions)}}


@pytest.mark.parametrize(
    ("pods", "namespaces", "said"),
    [
        ([], [], ""),
        ([pod("web", left=None)], [namespace("shop", going=False)], ""),
        ([pod("web", left=18)], [], "shop/web (its processes go on after SIGTERM: killed in 18 s, its grace is 30 s)"),
        ([pod("web")], [], "shop/web (its node has not reported its end)"),
        ([pod("web", left=9, finalizers=["a/b"])], [], "shop/web (held by the finalizer a/b)"),
        (
            [pod("a", left=1), pod("b", left=9)],
            [],
            "shop/b (its processes go on after SIGTERM: killed in 9 s, its grac",
        ),
        ([pod(f"p{n}", left=n) for n in range(5)], [], " and 2 more"),
        ([], [namespace("b"), namespace("a")], "namespace a, b to be gone"),
        (
            [],
            [
                namespace(
                    "a", {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "x/y in 1 instance"}
                )
            ],
            "namespace a: x/y in 1 instance",
        ),
        (
            [],
            [namespace("a", {"type": "NamespaceContentRemaining", "status": "False", "message": "all is gone"})],
            "namespace a to be gone",
        ),
    ],
)
def test_what_is_waited_for_is_said(pods: list[Object], namespaces: list[Object], said: str) -> None:
    found = explain_waiting(pods, namespaces, now=NOW)
    assert said in found
    assert bool(said) == bool(found)


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.told = threading.Event()

    def step(self, text: str) -> None:
        raise AssertionError(text)

    def live(self, text: str) -> None:
        self.lines.append(text)
        self.told.set()


@pytest.mark.privileged
def test_a_pod_that_ignores_sigterm_is_named_while_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takedown, "PATIENCE", 0.5)
    labels, told = {LABEL_RUN: "r1"}, Told()
    stubborn = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stubborn", "namespace": "shop", "labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 6,
            "containers": [
                {"name": "c", "image": IMAGE, "command": ["sh", "-c", "trap '' TERM; sleep 600 & wait; wait"]}
            ],
        },
    }
    with open_cluster("embedded", keep=False) as cluster:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}})
        cluster.apply(stubborn)
        cluster.wait(
            "it runs", lambda: cluster.get("Pod", "stubborn", "shop")["status"].get("phase") == "Running", seconds=30
        )
        with reporting_takedown(cluster, "r1", told, "node: taking down"):
            delete_all(cluster, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}])
            assert told.told.wait(5)
    assert "node: taking down, " in told.lines[0]
    assert "waiting for shop/stubborn (its processes go on after SIGTERM: killed in " in told.lines[0]
