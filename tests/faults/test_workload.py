"""Workloads made again, and when they are rolled out."""

from __future__ import annotations

from chaos.faults.workload import bare, rolled_out


def test_a_workload_is_created_again_without_what_the_server_wrote() -> None:
    made = {
        "kind": "Deployment",
        "metadata": {
            "name": "x",
            "namespace": "n",
            "uid": "1",
            "resourceVersion": "2",
            "labels": {"a": "b"},
            "annotations": {"deployment.kubernetes.io/revision": "3", "own": "4"},
        },
        "spec": {"replicas": 1},
        "status": {"replicas": 1},
    }
    assert bare(made) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"replicas": 1},
        "metadata": {"name": "x", "namespace": "n", "labels": {"a": "b"}, "annotations": {"own": "4"}},
    }


def test_a_workload_is_rolled_out_when_its_newest_pods_are_all_ready() -> None:
    whole = {
        "kind": "Deployment",
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2},
    }
    assert rolled_out(whole)
    for part, value in (("observedGeneration", 1), ("replicas", 3), ("readyReplicas", 1), ("updatedReplicas", 1)):
        assert not rolled_out({**whole, "status": {**whole["status"], part: value}})  # type: ignore[dict-item]
