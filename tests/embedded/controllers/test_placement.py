"""Where pods may run and would best."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chaos.embedded.controllers.placement import NodeInfo, failure_message, filter_node, tolerates
from chaos.embedded.controllers.scheduler import choose
from chaos.embedded.quantity import parse_quantity, pod_requests
from tests.embedded.controllers.harness import node, pod


def infos(*nodes: dict[str, Any]) -> list[NodeInfo]:
    return [NodeInfo(one) for one in nodes]


def place(one: dict[str, Any], nodes: list[NodeInfo]) -> Any:
    return choose(one, nodes, lambda other: other["metadata"]["labels"] == one["metadata"]["labels"], random.Random(1))


def asking(name: str, cpu: str, **more: Any) -> dict[str, Any]:
    one = pod(name, **more)
    one["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return one


@pytest.mark.parametrize(
    ("text", "value"), [("100m", 0.1), ("1", 1), ("1Gi", 2**30), ("2e3", 2000), ("1.5", 1.5), ("10k", 10000)]
)
def test_quantities(text: str, value: float) -> None:
    assert float(parse_quantity(text)) == value


def test_the_greediest_init_container_counts_beside_the_sidecars_started_before_it() -> None:
    one = pod("p")
    one["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    one["spec"]["initContainers"] = [
        {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
        {"name": "i", "resources": {"requests": {"cpu": "400m"}}},
    ]
    assert pod_requests(one)["cpu"] == parse_quantity("450m")


def test_a_node_selector_is_obeyed() -> None:
    assert (
        place(pod("p", nodeSelector={"disk": "fast"}), infos(node("n1"), node("n2", labels={"disk": "fast"}))) == "n2"
    )


def test_nothing_fitting_gives_the_default_schedulers_sentence() -> None:
    reasons = place(pod("p", nodeSelector={"no": "such"}), infos(node("n1"), node("n2"), node("n3")))
    assert failure_message(reasons) == (
        "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, "
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )


def test_a_full_node_is_not_chosen_and_says_of_what() -> None:
    nodes = infos(node("n1", cpu="1"))
    nodes[0].pods.append(asking("a", "800m"))
    assert filter_node(asking("b", "300m"), nodes[0], nodes) == "Insufficient cpu"
    assert filter_node(asking("b", "200m"), nodes[0], nodes) is None


def test_taints_keep_pods_away_unless_tolerated() -> None:
    nodes = infos(node("n1", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]))
    assert filter_node(pod("p"), nodes[0], nodes) == "node(s) had untolerated taint {k: v}"
    assert filter_node(pod("p", tolerations=[{"key": "k", "operator": "Equal", "value": "v"}]), nodes[0], nodes) is None
    assert not tolerates([{"key": "k", "value": "w"}], {"key": "k", "value": "v", "effect": "NoSchedule"})


def test_replicas_spread_over_equal_nodes() -> None:
    nodes = infos(node("n1"), node("n2"), node("n3"))
    for number in range(6):
        one = pod(f"p{number}", labels={"app": "x"})
        found = place(one, nodes)
        next(info for info in nodes if info.name == found).pods.append(one)
    assert [len(info.pods) for info in nodes] == [2, 2, 2]


def test_anti_affinity_keeps_two_apart_in_both_directions() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    shy = pod(
        "a",
        labels={"app": "x"},
        affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
    )
    nodes = infos(node("n1"), node("n2"))
    nodes[0].pods.append(shy)
    assert place(pod("b", labels={"app": "x"}), nodes) == "n2"
    assert place({**shy, "metadata": {**shy["metadata"], "name": "c"}}, nodes) == "n2"


@pytest.mark.parametrize(
    ("wants", "says"),
    [
        ({}, "node(s) didn't satisfy existing pods anti-affinity rules"),
        ({"podAntiAffinity": "x"}, "node(s) didn't match pod anti-affinity rules"),
        ({"podAffinity": "nobody"}, "node(s) didn't match pod affinity rules"),
        ({"podAffinity": "nobody", "podAntiAffinity": "x"}, "node(s) didn't match pod affinity rules"),
        ({"podAffinity": "x", "podAntiAffinity": "x"}, "node(s) didn't match pod anti-affinity rules"),
    ],
)
def test_a_pending_pod_says_first_what_it_asks_for_and_last_what_others_do(wants: dict[str, str], says: str) -> None:
    def affinity(wanted: dict[str, str]) -> dict[str, Any]:
        return {
            kind: {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}
                ]
            }
            for kind, app in wanted.items()
        }

    nodes = infos(node("n1"))
    nodes[0].pods.append(pod("a", labels={"app": "x"}, affinity=affinity({"podAntiAffinity": "x"})))
    assert filter_node(pod("b", labels={"app": "x"}, affinity=affinity(wants)), nodes[0], nodes) == says


def test_affinity_to_oneself_may_start_anywhere_and_then_stays_together() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    friendly = pod(
        "a", labels={"app": "x"}, affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    )
    nodes = infos(node("n1"), node("n2"))
    assert place(friendly, nodes) in ("n1", "n2")
    nodes[1].pods.append(friendly)
    assert place(friendly, nodes) == "n2"


def test_a_hard_spread_constraint_bounds_the_skew() -> None:
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "x"}},
        }
    ]
    nodes = infos(node("n1", labels={"zone": "a"}), node("n2", labels={"zone": "b"}, cpu="64"))
    nodes[1].pods.append(pod("p0", labels={"app": "x"}))
    assert place(pod("p1", labels={"app": "x"}, topologySpreadConstraints=spread), nodes) == "n1"


def test_preferred_node_affinity_wins_between_free_nodes() -> None:
    preferred = [
        {
            "weight": 100,
            "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n3"]}]},
        }
    ]
    one = pod("p", affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})
    assert place(one, infos(node("n1"), node("n2"), node("n3"))) == "n3"


def test_host_ports_are_not_shared() -> None:
    one = pod("p")
    one["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
    nodes = infos(node("n1"), node("n2"))
    nodes[0].pods.append(one)
    assert place(one, nodes) == "n2"
