"""What would be written into a node's rules is refused by the API when it is not an address, a network, a port or a
protocol.
"""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded.controllers.endpoints import eligible
from chaos.embedded.network.policies import canonical_networks, plan_policies
from chaos.embedded.network.services import plan_host_ports
from chaos.errors import ApiError
from chaos.kube.client import Cluster
from tests.embedded.api.conftest import pod


def policy(namespace: str, rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "n", "namespace": namespace},
        "spec": {"podSelector": {}, "ingress": [rule]},
    }


def block(cidr: str, *excepted: str) -> dict[str, Any]:
    return {"from": [{"ipBlock": {"cidr": cidr, "except": list(excepted)}}]}


@pytest.mark.live
@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (block("10.0.0.0/8 } return\n"), "from[0].ipBlock.cidr"),
        (block("10.0.0.1"), "from[0].ipBlock.cidr"),
        (block("fd00::%x } accept\n/32"), "from[0].ipBlock.cidr"),
        (block("10.0.0.0/255.0.0.0"), "from[0].ipBlock.cidr"),
        (block("10.0.0.0/0.255.255.255"), "from[0].ipBlock.cidr"),
        (block("10.0.0.0/ 8"), "from[0].ipBlock.cidr"),
        (block("fd00::/16", "fd00::1%x/64"), "from[0].ipBlock.except[0]"),
        (block("10.0.0.0/33"), "from[0].ipBlock.cidr"),
        (block("10.0.0.0/8", "11.0.0.0/16"), "from[0].ipBlock.except[0]"),
        (block("10.0.0.0/8", "10.0.0.0/8"), "from[0].ipBlock.except[0]"),
        ({"from": [{}]}, "from[0]"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}, "from[0]"),
        ({"ports": [{"port": 0}]}, "ports[0].port"),
        ({"ports": [{"port": "no name"}]}, "ports[0].port"),
        ({"ports": [{"protocol": "ICMP"}]}, "ports[0].protocol"),
        ({"ports": [{"port": 9, "endPort": 8}]}, "ports[0].endPort"),
        ({"ports": [{"port": "http", "endPort": 8}]}, "ports[0].endPort"),
    ],
)
def test_a_policy_rule_that_means_nothing_is_refused_by_its_field(
    cluster: Cluster, namespace: str, rule: Any, field: str
) -> None:
    with pytest.raises(ApiError) as error:
        cluster.create(policy(namespace, rule))
    assert error.value.code == 422
    assert f"spec.ingress[0].{field}" in [cause["field"] for cause in error.value.status["details"]["causes"]]


@pytest.mark.live
def test_a_policy_rule_that_means_something_is_taken(cluster: Cluster, namespace: str) -> None:
    rule = block("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24") | {
        "ports": [{"port": 80, "endPort": 90}, {"port": "http-alt"}]
    }
    assert cluster.create(policy(namespace, rule))["spec"]["ingress"] == [
        rule | {"ports": [port | {"protocol": "TCP"} for port in rule["ports"]]}
    ]


def test_networks_lose_their_overlaps_and_host_bits_before_they_become_a_set() -> None:
    assert canonical_networks(["10.1.2.3/24", "10.1.0.0/16", "fd00::/8", "10.2.0.0/16"]) == (
        "10.1.0.0/16",
        "10.2.0.0/16",
    )


@pytest.mark.live
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"endpoints": [{"addresses": ["10.0.0.1 } accept"]}]}, "endpoints[0].addresses[0]"),
        ({"endpoints": [{"addresses": ["fd00::1"]}]}, "endpoints[0].addresses"),
        ({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1%x } accept\n"]}]}, "endpoints[0].addresses[0]"),
        *(
            ({"addressType": "IPv6", "endpoints": [{"addresses": [f"::ffff:{one}"]}]}, "endpoints[0].addresses[0]")
            for one in ("127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0")
        ),
        ({"endpoints": [{"addresses": []}]}, "endpoints[0].addresses"),
        ({"addressType": "IPX"}, "addressType"),
        ({"ports": [{"port": 80, "protocol": "http"}]}, "ports[0].protocol"),
    ],
)
def test_an_endpoint_slice_that_leads_nowhere_is_refused_by_its_field(
    cluster: Cluster, namespace: str, change: Any, field: str
) -> None:
    good = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "e", "namespace": namespace},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"port": 80}],
    }
    with pytest.raises(ApiError) as error:
        cluster.create(good | change)
    assert error.value.code == 422
    assert field in [cause["field"] for cause in error.value.status["details"]["causes"]]


@pytest.mark.live
def test_a_pods_address_is_an_address(cluster: Cluster, namespace: str) -> None:
    cluster.create(pod("p", namespace))
    path = f"/api/v1/namespaces/{namespace}/pods/p/status"
    for wrong in (
        {"podIP": "1.2.3.4 : accept"},
        {"podIP": "fd00::1%1.2.3.4 : accept\n"},
        {"hostIP": "fe80::1%x.y\nnameserver 1.2.3.4"},
        {"podIPs": [{"ip": "x"}]},
        {"podIPs": [{"ip": "fd00::1%eth0"}]},
    ):
        with pytest.raises(ApiError, match="must be a valid IP address"):
            cluster.request("PATCH", path, {"status": wrong}, content_type="application/merge-patch+json")
    cluster.request("PATCH", path, {"status": {"podIP": "10.244.1.9"}}, content_type="application/merge-patch+json")


@pytest.mark.parametrize(
    "text", ["fd00::1", "::ffff:10.244.1.9", "fd00::1%1.2.3.4 : accept\n", "10.244.1.9%x", "10.244.1.09", "", None, 7]
)
def test_a_pod_whose_address_is_not_of_ipv4_is_in_none_of_a_nodes_rules(text: Any) -> None:
    ports = [{"containerPort": 80, "hostPort": 80}]
    spec = {"nodeName": "node-1", "containers": [{"name": "c", "ports": ports}]}
    meta = {"name": "p", "namespace": "n", "uid": "u"}
    odd: dict[str, Any] = {"metadata": meta, "spec": spec, "status": {"podIP": text, "phase": "Running"}}
    isolating = policy("n", {"from": [{"podSelector": {}}]})
    assert plan_host_ports([odd], "node-1") == ()
    assert plan_policies([isolating], [odd], [{"metadata": {"name": "n"}}], "node-1") == ()
    assert not eligible(odd)
    odd["status"] |= {"podIP": "10.244.1.9"}
    assert plan_host_ports([odd], "node-1")
    assert plan_policies([isolating], [odd], [{"metadata": {"name": "n"}}], "node-1")
    assert eligible(odd)
