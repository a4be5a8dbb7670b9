"""Whom the checks choose, and what a debug pod is: pure."""

from __future__ import annotations

import pytest

from chaos.engine.features.context import choose
from chaos.engine.features.paths import expected_requests
from chaos.engine.features.plaintext import calls_to
from chaos.engine.features.pod_removal import plan_leaver
from chaos.errors import ExperimentFailure
from chaos.faults.helper_pod import manifest
from chaos.kube.objects import RESTRICTED
from chaos.model.modes import MODES, Layer, Scope
from chaos.model.placement import Placement, Pod, Proxy, Role
from chaos.names import PORT_INBOUND, SYSTEM_NAMESPACE


def pods(tenant: str, client: str, *servers: str) -> list[Pod]:
    found = [Pod(f"tenant-{tenant}", "client", f"{tenant}-c", client, tenant, Role.CLIENT, "client", "client")]
    return found + [
        Pod(f"tenant-{tenant}", f"server-{n}", f"{tenant}-s{n}", node, tenant, Role.SERVER, "server", "server")
        for n, node in enumerate(servers)
    ]


REFERENCE = [*pods("a", "n1", "n1", "n1"), *pods("b", "n2", "n1", "n2"), *pods("c", "n2", "n2", "n2")]


def placement(*found: Pod, proxies: tuple[Proxy, ...] = ()) -> Placement:
    return Placement(MODES["node"], tuple(found), proxies, ())


def test_the_client_calls_over_two_nodes_and_the_stranger_lives_beside_it() -> None:
    client, servers, other_tenant = choose(placement(*REFERENCE))
    assert (client.tenant, {server.node for server in servers}) == ("b", {"n1", "n2"})
    assert (other_tenant.tenant, other_tenant.node) == ("c", client.node)


@pytest.mark.parametrize("found", [[], pods("a", "n1", "n1", "n2"), [*pods("a", "n1", "n1"), *pods("b", "n1", "n1")]])
def test_tenants_that_are_too_few_are_refused(found: list[Pod]) -> None:
    with pytest.raises(ExperimentFailure, match="two tenants"):
        choose(placement(*found))


def test_what_each_proxy_should_carry_follows_from_who_answered() -> None:
    nodes = tuple(
        Proxy(SYSTEM_NAMESPACE, f"np-{n}", "proxy", f"np-{n}", n, frozenset(Layer), Scope.NODE, n, "node-proxy")
        for n in ("n1", "n2")
    )
    client = next(pod for pod in REFERENCE if pod.uid == "b-c")
    expected = expected_requests(placement(*REFERENCE, proxies=nodes), client, {"server-0": 10, "server-1": 30})
    assert [expected[node] for node in nodes] == [10, 40]  # server-0 lies on n1; all begin on n2


def test_an_outsider_tries_the_proxys_ports_where_there_is_one() -> None:
    assert PORT_INBOUND in {call.port for call in calls_to("10.0.0.1", meshed=True)}
    assert PORT_INBOUND not in {call.port for call in calls_to("10.0.0.1", meshed=False)}


def test_a_helper_pod_ends_by_itself_and_is_not_in_the_mesh() -> None:
    pod = manifest("s", ["true"], node="n1", run="r", seconds=600)
    assert pod["metadata"]["namespace"] == SYSTEM_NAMESPACE
    assert pod["spec"]["activeDeadlineSeconds"] > 0
    assert not pod["spec"].get("hostNetwork")


def test_the_pod_that_leaves_lives_beside_the_client_under_its_identity() -> None:
    client = REFERENCE[0]
    spec = plan_leaver(client)["spec"]
    assert spec["serviceAccountName"] == client.service_account
    assert client.node in str(spec["affinity"])
    assert all(one["securityContext"] == RESTRICTED for one in spec["containers"])  # as the tenants' namespaces ask
