"""Which nodes take our pods: a table of odd nodes, each with the words that leave it out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chaos.embedded.controllers.placement import node_affinity_fits
from chaos.errors import EnvironmentUnfit
from chaos.kube.nodes import choose_nodes, is_our_image, keeps_away, refuse_ipv6_alone
from chaos.mesh import manifests
from chaos.names import IMAGE

Object = dict[str, Any]


def node(name: str = "n", **labels: str) -> Object:
    return {
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
            | labels,
        },
        "spec": {"podCIDR": "10.244.0.0/24"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": name}],
        },
    }


def odd(**changes: Any) -> Object:
    """A node whose parts are replaced: `spec=`, `status=`, `metadata=` are merged in."""
    made = copy.deepcopy(node())
    for part, fields in changes.items():
        made[part].update(fields)
    return made


LABELS = node()["metadata"]["labels"]
ODD = {
    "control plane": (
        odd(spec={"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}),
        "taint node-role.kubernetes.io/control-plane:NoSchedule",
    ),
    "taint with a value": (
        odd(spec={"taints": [{"key": "gpu", "value": "yes", "effect": "NoExecute"}]}),
        "taint gpu=yes:NoExecute",
    ),
    "a taint that only asks": (odd(spec={"taints": [{"key": "x", "effect": "PreferNoSchedule"}]}), ""),
    "cordoned": (odd(spec={"unschedulable": True}), "it is cordoned"),
    "not ready": (
        odd(status={"conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}]}),
        "it is not Ready (KubeletNotReady)",
    ),
    "unheard of": (
        odd(status={"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}),
        "it is not Ready (NodeStatusUnknown)",
    ),
    "just made": (odd(status={"conditions": []}), "it is not Ready (no condition)"),
    "being deleted": (odd(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), "it is being deleted"),
    "Windows": (odd(metadata={"labels": LABELS | {"kubernetes.io/os": "windows"}}), "its operating system is windows"),
    "Windows by its kubelet": (
        odd(metadata={"labels": {}}, status={"nodeInfo": {"operatingSystem": "windows"}}),
        "its operating system is windows",
    ),
    "IPv6 alone": (
        odd(status={"addresses": [{"type": "InternalIP", "address": "fd00::1"}]}),
        "its address fd00::1 is IPv6, and only IPv4 (or dual stack with IPv4 first) is supported",
    ),
    "pods on IPv6": (
        odd(spec={"podCIDR": "fd00:10:244::/64"}),
        "its pod range fd00:10:244::/64 is IPv6, and only IPv4 (or dual stack with IPv4 first) is supported",
    ),
    "dual stack": (
        odd(
            status={
                "addresses": [
                    {"type": "InternalIP", "address": "10.0.0.1"},
                    {"type": "InternalIP", "address": "fd00::1"},
                ]
            }
        ),
        "",
    ),
    "ordinary": (odd(), ""),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_node_is_left_out_with_its_reason(name: str) -> None:
    made, why = ODD[name]
    assert keeps_away(made) == why


@pytest.mark.parametrize("name", ["IPv6 alone", "pods on IPv6"])
def test_a_cluster_of_ipv6_alone_is_refused_in_one_sentence_and_any_node_on_ipv4_will_do(name: str) -> None:
    made, why = ODD[name]
    with pytest.raises(EnvironmentUnfit) as caught:
        refuse_ipv6_alone("theirs", [made])
    assert str(caught.value) == f"theirs: node {made['metadata']['name']}: {why}"
    refuse_ipv6_alone("theirs", [made, {**odd(), "metadata": {"name": "other"}}])
    refuse_ipv6_alone("theirs", [ODD["dual stack"][0]])
    refuse_ipv6_alone("theirs", [])


def test_the_first_two_by_name_of_those_that_take_pods_are_taken() -> None:
    tainted = {**ODD["control plane"][0], "metadata": {**node("a-control-plane")["metadata"]}}
    choice = choose_nodes([node("worker2"), tainted, node("worker")])
    assert choice.names == ("worker", "worker2")
    assert choice.why_not == ""
    assert choice.left_out == {"a-control-plane": "taint node-role.kubernetes.io/control-plane:NoSchedule"}


def test_fewer_than_two_are_refused_in_one_sentence_with_each_nodes_reason() -> None:
    cordoned = node("b")
    cordoned["spec"]["unschedulable"] = True
    assert choose_nodes([cordoned, node("a"), node("c", **{"kubernetes.io/os": "windows"})]).why_not == (
        "1 node takes our pods: sharing needs at least 2 (b: it is cordoned; c: its operating system is windows)"
    )
    assert choose_nodes([]).why_not == "0 nodes take our pods: sharing needs at least 2"


def test_all_nodes_are_of_one_architecture() -> None:
    arm = {"kubernetes.io/arch": "arm64"}
    choice = choose_nodes([node("a", **arm), node("b"), node("c")])
    assert (choice.names, choice.architecture) == (("b", "c"), "amd64")
    assert choice.left_out == {"a": "its architecture is arm64, and our image is taken for amd64"}
    assert choose_nodes([node("a", **arm), node("b", **arm), node("c")]).names == ("a", "b")


def test_the_architecture_whose_nodes_have_our_image_is_taken() -> None:
    nodes = [
        node(name, **{"kubernetes.io/arch": arch})
        for name, arch in zip("abcd", ["arm64", "arm64", "amd64", "amd64"], strict=True)
    ]
    nodes[0]["status"]["images"] = [{"names": [f"docker.io/{IMAGE}"]}]
    assert choose_nodes(nodes).architecture == "arm64"
    del nodes[0]["status"]["images"]
    nodes[3]["status"]["images"] = [{"names": [IMAGE]}]
    assert choose_nodes(nodes).architecture == "amd64"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"a": "short-a", "b": "short-b"}, ("a", "b")),  # as some clouds have it: not the node's name
        ({"a": "same", "b": "same", "c": "c"}, ("a", "c")),
        ({"a": "", "b": "b", "c": "c"}, ("b", "c")),
    ],
)
def test_the_hostname_label_spreads_replicas_and_names_no_node(labels: dict[str, str], names: tuple[str, ...]) -> None:
    choice = choose_nodes([node(name, **{"kubernetes.io/hostname": value}) for name, value in labels.items()])
    assert choice.names == names


def test_tenants_are_pinned_by_the_nodes_names() -> None:
    deployments = [obj for obj in manifests.reference("n1", "n2") if obj["kind"] == "Deployment"]
    deployments += manifests.job("j", tenant="a", nodes=["n1"])
    renamed = [node(name, **{"kubernetes.io/hostname": f"ip-{name}"}) for name in ("n1", "n2", "n3")]
    for obj in deployments:
        template = obj["spec"]["template"]
        able = [one["metadata"]["name"] for one in renamed if node_affinity_fits(template, one)]
        assert able
        assert "n3" not in able
        for term in template["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ]:
            assert [len(field["values"]) for field in term["matchFields"]] == [1]  # Kubernetes allows one


def test_what_may_lie_anywhere_avoids_what_was_left_out() -> None:
    nodes = [node("a", **{"kubernetes.io/arch": "arm64"}), node("b"), node("c"), node("d"), node("e")]
    nodes[3]["status"]["conditions"] = []
    choice = choose_nodes(nodes)
    template = {"metadata": {}, "spec": {"affinity": choice.affinity(), "containers": []}}
    later = node("f")  # joins after the choice
    assert [one["metadata"]["name"] for one in [*nodes, later] if node_affinity_fits(template, one)] == [
        "b",
        "c",
        "e",
        "f",
    ]


def test_our_image_is_known_by_the_names_that_runtimes_give_it() -> None:
    assert is_our_image(IMAGE)
    assert is_our_image(f"docker.io/{IMAGE}")
    assert not is_our_image(f"docker.io/{IMAGE}-dev")
