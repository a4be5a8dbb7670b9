"""EndpointSlices follow the pods of a Service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chaos.embedded.controllers.mirroring import is_mirrored, plan_mirror
from chaos.embedded.deletion import delete
from chaos.embedded.resources import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE
from tests.embedded.controllers.harness import NS, World, pod, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


def test_endpoints_follow_readiness_and_keep_a_terminating_pod_serving() -> None:
    async def check(w: World) -> None:
        w.store.create(
            SERVICE,
            {
                "metadata": {"name": "svc", "namespace": NS},
                "spec": {
                    "selector": {"app": "x"},
                    "clusterIP": "10.96.0.9",
                    "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
                },
            },
        )
        await w.until(lambda: w.store.list(ENDPOINT_SLICE, NS))
        assert w.store.list(ENDPOINT_SLICE, NS)[0]["endpoints"] == []
        w.store.create(POD, pod("p", labels={"app": "x"}))

        def conditions() -> list[dict[str, Any]]:
            return [e["conditions"] for e in w.store.list(ENDPOINT_SLICE, NS)[0]["endpoints"]]

        await w.until(lambda: conditions() == [{"ready": True, "serving": True, "terminating": False}])
        assert w.store.get(ENDPOINTS, NS, "svc")["subsets"][0]["addresses"][0]["ip"] == "10.244.0.1"
        w.nodes.say(w.pods()[0], "Running", ready=False)
        await w.until(lambda: conditions() == [{"ready": False, "serving": False, "terminating": False}])
        assert "addresses" not in w.store.get(ENDPOINTS, NS, "svc")["subsets"][0]
        w.nodes.say(w.pods()[0], "Running")
        w.nodes.behave = lambda p: "Stuck"
        delete(w.store, POD, NS, "p")
        await w.until(lambda: conditions() == [{"ready": False, "serving": True, "terminating": True}])
        w.store.remove(POD, NS, "p")
        await w.until(lambda: conditions() == [])

    run(check)


def endpoints_object(*subsets: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "s", **meta}, "subsets": list(subsets)}


@pytest.mark.parametrize(
    ("subsets", "planned"),
    [
        (
            [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}],
            [("IPv4", [("", 80, "TCP")], [("10.1.2.3", True)])],
        ),
        (
            [{"addresses": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}], "ports": [{"name": "a", "port": 1}]}],
            [("IPv4", [("a", 1, "TCP")], [("10.0.0.2", True)]), ("IPv6", [("a", 1, "TCP")], [("fd00::2", True)])],
        ),
        (
            [{"notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 53, "protocol": "UDP"}]}],
            [("IPv4", [("", 53, "UDP")], [("10.0.0.2", False)])],
        ),
        (
            [{"addresses": [{"ip": "10.0.0.2"}], "ports": [{"port": p}]} for p in (1, 2)],
            [("IPv4", [("", p, "TCP")], [("10.0.0.2", True)]) for p in (1, 2)],
        ),
        (
            [{"addresses": [{"ip": f"10.0.0.{n}"}], "ports": [{"port": 1}]} for n in (2, 3)],
            [("IPv4", [("", 1, "TCP")], [("10.0.0.2", True), ("10.0.0.3", True)])],
        ),
        ([{"addresses": [{"ip": "10.0.0.2"}]}], [("IPv4", [], [("10.0.0.2", True)])]),
        ([{"ports": [{"port": 80}]}], []),
        ([], []),
    ],
    ids=["one", "both families", "not ready", "two sets of ports", "two subsets of one", "no port", "empty", "none"],
)
def test_endpoints_of_ones_own_become_a_slice_by_ports_and_family(
    subsets: list[dict[str, Any]], planned: list[Any]
) -> None:
    found, beyond = plan_mirror(endpoints_object(*subsets))
    told = [
        (
            one.family,
            [(port["name"], port["port"], port["protocol"]) for port in one.ports],
            [(each["addresses"][0], each["conditions"]["ready"]) for each in one.endpoints],
        )
        for one in found
    ]
    assert (told, beyond) == (planned, 0)


def test_addresses_beyond_a_thousand_of_a_subset_are_counted_and_not_mirrored() -> None:
    many = [{"ip": f"10.0.{n // 250}.{n % 250}"} for n in range(1_003)]
    planned, beyond = plan_mirror(endpoints_object({"addresses": many, "ports": [{"port": 80}]}))
    assert (len(planned[0].endpoints), beyond) == (1_000, 3)


@pytest.mark.parametrize(
    ("labels", "annotations", "mirrored"),
    [
        ({}, {}, True),
        ({"endpointslice.kubernetes.io/skip-mirror": "true"}, {}, False),
        ({"endpointslice.kubernetes.io/skip-mirror": "false"}, {}, True),
        ({}, {"control-plane.alpha.kubernetes.io/leader": "{}"}, False),
    ],
)
def test_endpoints_can_say_that_they_are_no_services(
    labels: dict[str, str], annotations: dict[str, str], mirrored: bool
) -> None:
    assert is_mirrored(endpoints_object(labels=labels, annotations=annotations)) is mirrored


def test_a_mirror_follows_its_endpoints_and_ends_with_them_or_with_a_selector() -> None:
    async def check(w: World) -> None:
        service = {
            "metadata": {"name": "s", "namespace": NS},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]},
        }
        w.store.create(SERVICE, service)
        subset = {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}
        labels, annotations = {"team": "x"}, {"endpoints.kubernetes.io/last-change-trigger-time": "t", "note": "y"}
        own = w.store.create(ENDPOINTS, endpoints_object(subset, namespace=NS, labels=labels, annotations=annotations))

        def mirrors() -> list[Any]:
            return list(w.store.list(ENDPOINT_SLICE, NS))

        await w.until(mirrors)
        first = mirrors()[0]["metadata"]
        assert first["labels"] == {
            "team": "x",
            "kubernetes.io/service-name": "s",
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
        }
        assert (first["annotations"], first["ownerReferences"][0]["uid"]) == ({"note": "y"}, own["metadata"]["uid"])
        other = {"addresses": [{"ip": "10.1.2.4"}], "ports": [{"port": 81}]}
        w.store.mutate(ENDPOINTS, NS, "s", lambda obj: obj.update(subsets=[other]))
        await w.until(lambda: [one["ports"][0]["port"] for one in mirrors()] == [81])
        assert mirrors()[0]["metadata"]["name"] == first["name"]  # the name of what has no use goes to new ports
        w.store.mutate(SERVICE, NS, "s", lambda obj: obj["spec"].update(selector={"app": "x"}))
        managed = "endpointslice.kubernetes.io/managed-by"
        await w.until(
            lambda: [one["metadata"]["labels"][managed] for one in mirrors()] == ["endpointslice-controller.k8s.io"]
        )

    run(check)


def test_a_mirror_ends_with_its_endpoints() -> None:
    async def check(w: World) -> None:
        service = {"metadata": {"name": "s", "namespace": NS}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}
        w.store.create(SERVICE, service)
        subset = {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}
        w.store.create(ENDPOINTS, endpoints_object(subset, namespace=NS))
        await w.until(lambda: w.store.list(ENDPOINT_SLICE, NS))
        w.store.remove(ENDPOINTS, NS, "s")
        await w.until(lambda: not w.store.list(ENDPOINT_SLICE, NS))

    run(check)
