"""What a load that does not become healthy says by the logs of the proxies on its path."""

from __future__ import annotations

import re

import pytest

from chaos.engine.hop_logs import HopLogs, explain_by_logs
from chaos.errors import Misuse
from chaos.external import descriptions
from chaos.external.parsing import parse_description
from chaos.mesh.handle import LogSign
from chaos.model.modes import Layer, Scope
from chaos.model.placement import Proxy

ZTUNNEL = Proxy("mesh", "ztunnel-1", "istio-proxy", "u", "n1", frozenset({Layer.L4}), Scope.NODE, "n1", "ztunnel")
ISTIO, LINKERD = (descriptions()[name].log_signs for name in ("istio", "linkerd"))
# A line as the proxy writes it; what is shown of it; the cause that is named.
LINES = [
    (
        ISTIO,
        '2026-11-28T02:28:23.603Z\terror\taccess\tconnection complete\tsrc.addr=10.244.2.150:55374 direction="inbound"'
        ' duration="0ms" error="connection closed due to policy rejection: allow policies exist, but none allowed"',
        "connection closed due to policy rejection: allow policies exist, but none allowed",
        "a policy of the mesh denies it",
    ),
    (
        ISTIO,
        '2026-11-28T02:28:23.603Z\terror\taccess\tconnection complete\tdirection="outbound" duration="10001ms" '
        'error="connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed"',
        "maybe a NetworkPolicy is blocking HBONE port 15008",
        "a NetworkPolicy closes 15008",
    ),
    (
        ISTIO,
        'error="io error: Connection refused (os error 111)"',
        "io error: Connection refused",
        "the server's side refused or closed",
    ),
    (
        ISTIO,
        '[2026-11-28T01:27:31Z] "GET / HTTP/1.1" 503 UH no_healthy_upstream - "-" 0 19 0 - "-" "-" "id" "server.shop'
        ':8080" "-" outbound|8080||server.shop.svc.cluster.local - 10.96.156.80:8080 10.244.1.183:58316 - default',
        "503 UH no_healthy_upstream",
        "no endpoint of the server is ready",
    ),
    (
        ISTIO,
        '[x] "GET / HTTP/1.1" 403 - rbac_access_denied_matched_policy[none] - "-" 0 19 0 - "-" "-" "i" "server:80" "-" '
        "inbound|8080|| - 10.244.2.151:8080 10.244.1.183:35476 outbound_.80_._.server default",
        "rbac_access_denied_matched_policy[none]",
        "a policy of the mesh denies it",
    ),
    (
        ISTIO,
        '"- - -" 0 NR filter_chain_not_found - "-" 0 0 0 - "-" "-" "-" "-" "-" - - 10.244.2.151:8080 10.2.1.1:9 - -',
        "0 NR filter_chain_not_found",
        "plain text where mutual TLS is demanded",
    ),
    (
        ISTIO,
        '[x] "GET / HTTP/1.1" 503 UF,URX upstream_reset_before_response_started{connection_termination} - "-" 0 95 4 -',
        "503 UF,URX upstream_reset_before_response_started{connection_termination}",
        "the server's side refused or closed the connection",
    ),
    (  # the access log as JSON
        ISTIO,
        '{"response_code":503,"response_flags":"UH","response_code_details":"no_healthy_upstream","path":"/"}',
        "no_healthy_upstream",
        "no endpoint of the server is ready",
    ),
    (
        ISTIO,
        '{"response_code":503,"response_flags":"UF,URX","response_code_details":"upstream_reset_before_response_started'
        '{remote_connection_failure,delayed_connect_error:_Connection_refused}"}',
        "upstream_reset_before_response_started{remote_connection_failure,delayed_connect_error:_Connection_refused}",
        "the server's side refused or closed the connection",
    ),
    (
        ISTIO,
        '{"level":"error","scope":"access","message":"connection complete","direction":"inbound","error":"connection '
        'closed due to policy rejection: explicitly denied by: shop/deny-all"}',
        "connection closed due to policy rejection: explicitly denied by: shop/deny-all",
        "a policy of the mesh denies it",
    ),
    (  # bytes, whose lines have no details
        ISTIO,
        '[x] "- - -" 0 UF,URX - - "-" 0 0 10 - "-" "-" "-" "-" "10.244.2.151:9000" outbound|9000||server.shop - -',
        "0 UF,URX - -",
        "the server's side refused or closed the connection",
    ),
    (
        ISTIO,
        '[x] "GET / HTTP/1.1" 504 UT upstream_response_timeout - "-" 0 24 15000 - "-" "-" "-" "server.shop:8080" "-" -',
        "504 UT upstream_response_timeout",
        "no answer from the server in the mesh's time",
    ),
    (
        LINKERD,
        '{"timestamp":"[ 12.3s]","level":"INFO","fields":{"message":"Connection denied","server.name":"deny"}}',
        "Connection denied",
        "a policy of the mesh denies it",
    ),
    (
        LINKERD,
        "[  31.1s]  INFO ThreadId(01) outbound: linkerd_app_core::errors: HTTP/1.1 request failed error=logical "
        "service 10.96.0.9:80: route default.http: backend Service.shop.server:80: service in fail-fast",
        "service in fail-fast",
        "no endpoint of the server is ready",
    ),
    (
        LINKERD,
        "[    12.3s]  INFO ThreadId(01) inbound:server{port=8080}: linkerd_app_inbound::policy::http: Request denied "
        'server.group="" server.kind="default" server.name="deny" route.name="default"',
        "Request denied",
        "a policy of the mesh denies it",
    ),
    (
        LINKERD,
        "[    12.3s]  WARN ThreadId(01) outbound:proxy{addr=10.96.0.9:80}: linkerd_stack::failfast: Service entering "
        "failfast after 3s",
        "Service entering failfast after 3s",
        "no endpoint of the server is ready",
    ),
]


@pytest.mark.parametrize(("signs", "line", "shown", "cause"), LINES)
def test_a_line_of_a_proxys_log_names_the_proxy_what_it_says_how_often_and_the_cause(
    signs: tuple[LogSign, ...], line: str, shown: str, cause: str
) -> None:
    said = explain_by_logs(HopLogs({ZTUNNEL: f"{line}\n" * 3}), signs)
    assert f"{ZTUNNEL} says 3 times" in said, said
    assert shown in said, said
    assert cause in said, said


@pytest.mark.parametrize(
    "line",
    [
        '[2026-11-28T01:27:31Z] "GET /headers HTTP/1.1" 200 - via_upstream - "-" 0 399 5 4 "-" "Go-http-client/1.1"',
        '2026-11-28T02:28:23.603248Z\tinfo\taccess\tconnection complete\tdirection="inbound" duration="395ms"',
        '10.0.0.1:50302 - - [2026-11-28T02:42:28.780483786Z] "GET /healthz HTTP/1.1" 200',
    ],
)
def test_a_line_of_a_request_that_ended_well_is_no_sign(line: str) -> None:
    for signs in (ISTIO, LINKERD):
        said = explain_by_logs(HopLogs({ZTUNNEL: line}, ("waypoint: 404",)), signs)
        assert said == f"the logs of {ZTUNNEL} have no known sign of the cause; not read: waypoint: 404"


def test_the_commonest_sign_comes_first_and_a_mesh_without_signs_says_nothing() -> None:
    sign = LogSign(re.compile("no|yes"), "it is so")
    said = explain_by_logs(HopLogs({ZTUNNEL: "yes\nno\nno"}), [sign])
    assert said.index("2 times 'no'") < said.index("1 times 'yes'")
    assert explain_by_logs(HopLogs({ZTUNNEL: "no"}), []) == ""


def test_a_sign_that_is_no_regular_expression_is_refused_by_its_place() -> None:
    with pytest.raises(Misuse, match=r"log-signs\[0\].says is no regular expression"):
        parse_description({"name": "x", "log-signs": [{"says": "(", "means": "y"}]}, source="f")
