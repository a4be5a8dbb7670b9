"""Which endpoints a node serves a Service with, as data: no kernel needed."""

from __future__ import annotations

from typing import Any

from chaos.embedded.network.services import ServicePort, plan_host_ports, plan_services, render_services


def service(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.50", "ports": [{"name": "http", "port": 80}], **spec},
    }


def endpoint(address: str, node: str = "node-1", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "nodeName": node, "conditions": conditions}


def piece(*endpoints: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
        **fields,
    }


def only(planned: tuple[ServicePort, ...]) -> ServicePort:
    assert len(planned) == 1
    return planned[0]


def test_an_endpoint_without_conditions_is_ready() -> None:
    assert only(plan_services([service()], [piece(endpoint("10.244.1.2"))], "node-1")).backends == (
        ("10.244.1.2", 8080),
    )


def test_an_endpoint_that_is_not_ready_gets_nothing_while_another_is() -> None:
    slices = [
        piece(endpoint("10.244.1.2", ready=True), endpoint("10.244.1.3", ready=False, serving=True, terminating=True))
    ]
    assert only(plan_services([service()], slices, "node-1")).backends == (("10.244.1.2", 8080),)


def test_endpoints_that_serve_while_they_end_are_the_last_resort() -> None:
    slices = [
        piece(
            endpoint("10.244.1.2", ready=False, serving=False),
            endpoint("10.244.1.3", ready=False, serving=True, terminating=True),
        )
    ]
    assert only(plan_services([service()], slices, "node-1")).backends == (("10.244.1.3", 8080),)


def test_headless_and_external_services_have_no_rules() -> None:
    services = [
        service(clusterIP="None"),
        service(type="ExternalName", externalName="example.org"),
        service(clusterIP=None),
    ]
    assert plan_services(services, [piece(endpoint("10.244.1.2"))], "node-1") == ()


def test_a_slice_of_another_service_namespace_or_port_name_does_not_count() -> None:
    elsewhere = piece(endpoint("10.244.1.2"))
    elsewhere["metadata"]["namespace"] = "other"
    misnamed = piece(endpoint("10.244.1.3"), ports=[{"name": "grpc", "port": 9090}])
    assert only(plan_services([service()], [elsewhere, misnamed], "node-1")).backends == ()


def test_local_internal_traffic_policy_keeps_to_the_node() -> None:
    slices = [piece(endpoint("10.244.1.2", "node-1"), endpoint("10.244.2.2", "node-2"))]
    assert only(plan_services([service(internalTrafficPolicy="Local")], slices, "node-2")).backends == (
        ("10.244.2.2", 8080),
    )


def test_local_external_traffic_policy_concerns_the_node_port_only() -> None:
    slices = [piece(endpoint("10.244.1.2", "node-1"), endpoint("10.244.2.2", "node-2"))]
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    port = only(plan_services([service(externalTrafficPolicy="Local", ports=ports)], slices, "node-2"))
    assert (len(port.backends), port.node_backends, port.masquerade) == (2, (("10.244.2.2", 8080),), False)


def test_the_script_replaces_the_whole_table_in_one_transaction() -> None:
    script = render_services(
        plan_services([service()], [piece(endpoint("10.244.1.2"), endpoint("10.244.1.3"))], "node-1")
    )
    assert script.splitlines()[:2] == ["add table ip sharedfate-services", "delete table ip sharedfate-services"]
    assert "numgen random mod 2 map { 0 : 10.244.1.2 . 8080, 1 : 10.244.1.3 . 8080 }" in script


def test_of_two_that_claim_the_same_node_port_one_is_served() -> None:
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    pod = {
        "metadata": {"name": "p"},
        "status": {"podIP": "10.244.1.9"},
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "main", "ports": [{"containerPort": 80, "hostPort": 30080}]}],
        },
    }
    planned = plan_services([service(ports=ports)], [piece(endpoint("10.244.1.2"))], "node-1")
    script = render_services(planned + plan_host_ports([pod], "node-1"))
    assert script.count("tcp . 30080 :") == 1


def test_session_affinity_chooses_by_the_clients_address() -> None:
    script = render_services(
        plan_services(
            [service(sessionAffinity="ClientIP")], [piece(endpoint("10.244.1.2"), endpoint("10.244.1.3"))], "node-1"
        )
    )
    assert "jhash ip saddr mod 2" in script
    assert "numgen" not in script
