"""What NetworkPolicies do to a loader beside a client, by the rules of networking.k8s.io/v1: a table."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from chaos.external.file import Call
from chaos.external.policies import NetworkObjects, detect_cuts, plan_allowances
from chaos.names import LABEL_ROLE

Object = dict[str, Any]
CALL = Call("shop/sharedfate-frontend", "bank/backend", reach="backend.bank:80")
LOADER: Object = {
    "metadata": {"namespace": "shop", "name": "sharedfate-frontend", "labels": {LABEL_ROLE: "client"}},
    "status": {"podIP": "10.0.0.7"},
}
SERVER: Object = {
    "metadata": {"namespace": "bank", "name": "backend-1", "labels": {"app": "backend"}},
    "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]},
    "status": {"podIP": "10.0.1.9"},
}
SERVICE: Object = {
    "metadata": {"namespace": "bank", "name": "backend"},
    "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80, "targetPort": "web"}]},
}
NAMESPACES = {"shop": {"team": "shop"}, "bank": {"team": "bank"}}
IN = "NetworkPolicy {}: bank/backend takes nothing from shop/sharedfate-frontend"
OUT = "NetworkPolicy {}: shop/sharedfate-frontend may not send to bank/backend"
DNS = "NetworkPolicy {}: shop/sharedfate-frontend may not ask DNS for backend.bank"


def policy(name: str, spec: str) -> Object:
    namespace, _, short = name.partition("/")
    return {"metadata": {"namespace": namespace, "name": short}, "spec": yaml.safe_load(spec)}


DENY_IN = policy("bank/deny", "{podSelector: {}, policyTypes: [Ingress]}")
DENY_OUT = policy("shop/deny", "{podSelector: {}, policyTypes: [Egress]}")
ALLOW_DNS = policy(
    "shop/dns", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{protocol: UDP, port: 53}]}]}"
)
BY_ROLE = f"{{matchLabels: {{{LABEL_ROLE}: client}}}}"
PLAIN_DNS = [OUT.format("shop/deny, shop/dns")]


def inward(rule: str, selector: str = "{}") -> Object:
    return policy("bank/some", f"{{podSelector: {selector}, ingress: [{rule}]}}")


ROWS: dict[str, tuple[list[Object], list[str]]] = {
    "none": ([], []),
    "everything is shut at the server": ([DENY_IN], [IN.format("bank/deny")]),
    "everything is shut at the loader, names too": ([DENY_OUT], [OUT.format("shop/deny"), DNS.format("shop/deny")]),
    "DNS alone is open": ([DENY_OUT, ALLOW_DNS], PLAIN_DNS),
    "a policy of another pod is none of ours": ([inward("{}", "{matchLabels: {app: other}}")], []),
    "the client may, by its labels": (
        [DENY_IN, inward("{from: [{podSelector: {matchLabels: {app: frontend}}, namespaceSelector: {}}]}")],
        [IN.format("bank/deny, bank/some")],
    ),
    "pods of the same namespace may": ([inward("{from: [{podSelector: {}}]}")], [IN.format("bank/some")]),
    "pods of the client's namespace may": (
        [DENY_IN, inward("{from: [{namespaceSelector: {matchLabels: {team: shop}}}]}")],
        [],
    ),
    "pods of every namespace but the client's may": (
        [inward("{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [shop]}]}}]}")],
        [IN.format("bank/some")],
    ),
    "the loaders may, by their role": (
        [DENY_IN, inward(f"{{from: [{{namespaceSelector: {{}}, podSelector: {BY_ROLE}}}]}}")],
        [],
    ),
    "an address range may": ([inward("{from: [{ipBlock: {cidr: 10.0.0.0/24}}]}")], []),
    "an address range may, but for ours": (
        [inward("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/24]}}]}")],
        [IN.format("bank/some")],
    ),
    "the port behind the Service is open": ([inward("{ports: [{port: 8080}]}")], []),
    "the port is open by its name": ([inward("{ports: [{port: web}]}")], []),
    "a range of ports is open": ([inward("{ports: [{port: 8000, endPort: 9000}]}")], []),
    "another port is open": ([inward("{ports: [{port: 9090}]}")], [IN.format("bank/some")]),
    "another port is open, by its name": ([inward("{ports: [{port: metrics}]}")], [IN.format("bank/some")]),
    "a rule without peers and ports lets all in": ([DENY_IN, inward("{}")], []),
    "egress follows from the field where no type is named": (
        [policy("shop/some", "{podSelector: {}, egress: []}")],
        [OUT.format("shop/some"), DNS.format("shop/some")],
    ),
    "out to the server's namespace, and to DNS": (
        [
            DENY_OUT,
            ALLOW_DNS,
            policy(
                "shop/some", "{podSelector: {}, egress: [{to: [{namespaceSelector: {matchLabels: {team: bank}}}]}]}"
            ),
        ],
        [],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_policies_that_cut_a_loader_off_are_named(name: str) -> None:
    policies, said = ROWS[name]
    assert detect_cuts(CALL, LOADER, [SERVER], NetworkObjects(policies, NAMESPACES, [SERVICE])) == said


def test_the_two_lines_that_are_offered_open_what_was_shut() -> None:
    shut = [DENY_IN, DENY_OUT]
    allowances = [yaml.safe_load(line) for line in plan_allowances(CALL)]
    assert detect_cuts(CALL, LOADER, [SERVER], NetworkObjects([*shut, *allowances], NAMESPACES, [SERVICE])) == []
    assert len(allowances) == 2


def test_an_address_needs_no_dns() -> None:
    call = Call(CALL.client, CALL.server, reach="10.96.0.9:80")
    found = detect_cuts(call, LOADER, [SERVER], NetworkObjects([DENY_OUT], NAMESPACES, [SERVICE]))
    assert found == [OUT.format("shop/deny")]
