"""Where the reference tenants are placed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.engine.topology import (
    MOST_TENANTS,
    REFERENCE,
    Places,
    Topology,
    parse_topology,
    plan_sentinel,
    plan_tenants,
    read_topology,
    servers_of,
)
from chaos.errors import Misuse
from chaos.model.spreading import Spread


def test_the_reference_tenants_need_two_nodes() -> None:
    with pytest.raises(Misuse, match="two nodes"):
        plan_tenants(["only"])


def test_the_third_tenant_shares_no_node_with_the_first() -> None:
    a, b, c = plan_tenants(["n1", "n2"])
    assert set(a.client_nodes + a.server_nodes).isdisjoint(c.client_nodes + c.server_nodes)
    assert set(b.server_nodes) == {"n1", "n2"}


EIGHT = [f"n{number}" for number in range(1, 9)]
ZONES = dict(zip(EIGHT, "aaabbbcc", strict=True))


def test_added_tenants_go_over_all_nodes_and_the_first_three_stay_the_reference_tenants() -> None:
    found = plan_tenants(EIGHT, Topology(tenants=60, servers=3, rate=20.0))
    assert [(one.name, one.client_nodes, one.server_nodes) for one in found[:3]] == [
        (one.name, one.client_nodes, one.server_nodes) for one in plan_tenants(EIGHT)
    ]
    assert len({one.namespace for one in found}) == 60
    clients = [one.client_nodes[0] for one in found[3:]]
    assert {clients.count(node) for node in EIGHT} <= {7, 8}
    assert all(len(set(one.server_nodes)) == one.servers == 3 for one in found[3:])
    assert {one.rate(120.0) for one in found} == {20.0}
    assert {one.rate(120.0) for one in plan_tenants(EIGHT)} == {120.0}


@pytest.mark.parametrize(
    ("spread", "nodes", "zones"), [(Spread.PACKED, 1, 1), (Spread.NODE, 3, None), (Spread.ZONE, 3, 3)]
)
def test_servers_of_added_tenants_stand_as_the_spread_says(spread: Spread, nodes: int, zones: int | None) -> None:
    for one in plan_tenants(EIGHT, Topology(tenants=20, servers=3, spread=spread), ZONES)[3:]:
        assert len(one.server_nodes) == nodes
        assert zones is None or len({ZONES[node] for node in one.server_nodes}) == zones


def test_more_servers_than_nodes_share_the_nodes() -> None:
    *_, last = plan_tenants(["n1", "n2"], Topology(tenants=4, servers=5))
    assert (last.server_nodes, last.servers) == (("n2", "n1"), 5)


@pytest.mark.parametrize("zones", [{}, dict.fromkeys(EIGHT, "a"), {**ZONES, "n3": ""}, {"n1": "a", "n2": "b"}])
def test_a_spread_over_zones_needs_two_of_them_and_a_label_on_every_node(zones: dict[str, str]) -> None:
    with pytest.raises(Misuse, match="needs nodes of two zones at least, by their label"):
        plan_tenants(EIGHT, Topology(tenants=4, spread=Spread.ZONE), zones)


def test_a_file_places_tenants_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "tenants:\n  - {name: shop, client: 1, servers: [1, 3, 3]}\n  - {name: bank, client: 2, servers: [2]}\n"
    )
    topology = read_topology(str(file))
    assert topology.places == (Places("shop", 1, (1, 3, 3)), Places("bank", 2, (2,)))
    shop, bank = plan_tenants(EIGHT, topology)
    assert (shop.client_nodes, shop.server_nodes, shop.servers) == (("n1",), ("n1", "n3"), 3)
    assert (bank.namespace, bank.server_nodes, bank.servers) == ("tenant-bank", ("n2",), 1)
    with pytest.raises(Misuse, match="names node 3, and 2 nodes take pods: n1, n2"):
        plan_tenants(["n1", "n2"], topology)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tenants=60", Topology(tenants=60)),
        ("tenants=60, servers=3 ,spread=zone,rate=20", Topology((), 60, 3, Spread.ZONE, 20.0)),
        ("rate=50", Topology(rate=50.0)),
    ],
)
def test_a_topology_is_said_in_a_line(text: str, expected: Topology) -> None:
    assert read_topology(text) == expected
    assert parse_topology({}, "t") == REFERENCE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tenants=2", f"tenants is 2, and should be 3 to {MOST_TENANTS}"),
        ("tenants=many", "tenants is 'many'"),
        ("tenants=-4", "tenants is '-4'"),
        ("tenants=3,tenants=4", "tenants said twice"),
        ("servers=0", "servers is 0, and should be 1 to 100"),
        ("spread=rack", "spread is 'rack': known are packed, node, zone"),
        ("rate=0.5", "rate is '0.5', and should be a number of at least 1, at most 2000"),
        ("rate=90000", "rate is 90000, and should be a number of at least 1, at most 2000"),
        ("tenant=4", "tenant is not known here, did you mean tenants"),
        ("/nowhere.yaml", "no such file"),
    ],
)
def test_a_topology_that_is_wrong_is_refused(text: str, why: str) -> None:
    with pytest.raises(Misuse) as error:
        read_topology(text)
    assert why in str(error.value)


PLACE = {"name": "a", "client": 1, "servers": [1]}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "is a list, and should be a mapping"),
        ({"version": 2}, "version is 2, and should be 1"),
        ({"tenants": []}, "tenants is missing or empty"),
        ({"tenants": [3]}, "tenants[0] is a int"),
        ({"tenants": [{**PLACE, "name": "A"}]}, "tenants[0].name is 'A', and should be a DNS label"),
        ({"tenants": [{**PLACE, "name": "a" * 41}]}, "and should be a DNS label"),
        ({"tenants": [{**PLACE, "servers": []}]}, "tenants[0].servers is missing or empty"),
        ({"tenants": [{**PLACE, "servers": [0]}]}, "hold 0, and should be numbers of nodes, from 1"),
        ({"tenants": [{**PLACE, "client": True}]}, "hold True"),
        ({"tenants": [{**PLACE, "client": "n1"}]}, "hold 'n1'"),
        ({"tenants": [PLACE, PLACE]}, "tenants have a more than once"),
        ({"tenants": [PLACE], "servers": 3}, "servers says how tenants are placed that are not listed"),
        ({"tenants": [{**PLACE, "clients": 2}]}, "tenants[0].clients is not known here"),
    ],
)
def test_a_topologys_file_that_is_wrong_is_refused_with_its_field(document: Any, why: str) -> None:
    with pytest.raises(Misuse, match=r"topology t\.yaml: ") as error:
        parse_topology(document, "t.yaml")
    assert why in str(error.value)


def pod(name: str, *owners: dict[str, Any]) -> dict[str, Any]:
    app = name.partition("-")[0]
    labels = {"app": app, "sharedfate.io/role": app, "sharedfate.io/tenant": "a", "pod-template-hash": "5d4f"}
    meta = {"name": name, "namespace": "tenant-a", "labels": labels, "ownerReferences": list(owners)}
    return {"metadata": meta, "status": {"podIP": "10.0.0.1"}}


def made_by(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "uid": f"u-{name}", "controller": True}


class TenantNamespace:
    """The Deployments of a tenant, and pods that carry their labels."""

    def __init__(self, *pods: dict[str, Any], deployed: bool = True) -> None:
        self.pods, self.deployed = pods, deployed

    def find(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        meta = {"name": name, "namespace": namespace, "uid": f"u-{name}"}
        spec = {"selector": {"matchLabels": {"app": name}}}
        return {"kind": kind, "metadata": meta, "spec": spec} if self.deployed else None

    def list(self, kind: str, namespace: str, *, labels: str) -> list[dict[str, Any]]:
        return [one for one in self.pods if labels == f"app={one['metadata']['labels']['app']}"]


@pytest.mark.parametrize(
    "owners",
    [
        [],
        [made_by("ReplicaSet", "mine-5d4f")],
        [made_by("StatefulSet", "client-5d4f")],
        [made_by("Job", "client")],
        [made_by("ReplicaSet", "client-5d4f") | {"controller": False}],
    ],
    ids=["nobody's", "another Deployment's", "a StatefulSet's", "a Job's", "owned, not controlled"],
)
def test_a_pod_that_a_tenant_labels_like_its_loader_or_its_server_is_neither(owners: list[dict[str, Any]]) -> None:
    tenant = plan_tenants(["n1", "n2"])[0]
    there = TenantNamespace(
        pod("client-5d4f-1", made_by("ReplicaSet", "client-5d4f")),
        pod("client-2", *owners),
        pod("server-5d4f-1", made_by("ReplicaSet", "server-5d4f")),
        pod("server-2", *owners),
    )
    assert tenant.loader(there)["metadata"]["name"] == "client-5d4f-1"  # type: ignore[arg-type]
    assert [one["metadata"]["name"] for one in servers_of(there, tenant)] == ["server-5d4f-1"]  # type: ignore[arg-type]


def test_a_tenant_that_is_gone_has_no_servers() -> None:
    assert servers_of(TenantNamespace(deployed=False), plan_tenants(["n1", "n2"])[0]) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(("rate", "expected"), [(10.0, 10.0), (50.0, 50.0), (120.0, 50.0)])
def test_a_sentinel_makes_no_more_requests_than_the_flow_beside_it(rate: float, expected: float) -> None:
    planned = plan_sentinel("tenant-a/server", "10.0.0.7:9990", "/sentinel", beside=rate)
    assert planned["rate"] == expected
