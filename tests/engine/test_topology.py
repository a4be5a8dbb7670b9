"""Where the reference tenants are placed."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.engine.topology import plan_tenants, servers_of
from chaos.errors import Misuse


def test_the_reference_tenants_need_two_nodes() -> None:
    with pytest.raises(Misuse, match="two nodes"):
        plan_tenants(["only"])


def test_the_third_tenant_shares_no_node_with_the_first() -> None:
    a, b, c = plan_tenants(["n1", "n2"])
    assert set(a.client_nodes + a.server_nodes).isdisjoint(c.client_nodes + c.server_nodes)
    assert set(b.server_nodes) == {"n1", "n2"}


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
