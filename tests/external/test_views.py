"""The prediction held against what the proxies themselves say, by dumps and statistics as they were recorded."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml

from chaos.engine.features.own_words import judge_counts, judge_held
from chaos.errors import ExperimentFailure
from chaos.external.parsing import built_in
from chaos.external.placement import plan_placement, resolve_target
from chaos.external.views import SeenProxy, View, contradictions, parse_view, sum_of
from chaos.mesh.ca import Authority
from chaos.model.fate import identities_held, path
from chaos.model.modes import Scope
from chaos.model.placement import Placement
from chaos.verdict import Verdict
from chaos.verdict.check import Check
from tests.external import recorded_site as live

SPACES = ("ashop", "nsw", "xone", "xtwo", "svcw", "nonew", "podw", "wa")
TARGET = live.target(*((f"{n}/client", f"{n}/server", f"server.{n}:8080") for n in SPACES), mesh="istio")


def dump() -> dict[str, Any]:
    """ztunnel's dump of the whole cluster, from the rows of its two tables."""
    services = [
        {
            "namespace": row["NAMESPACE"],
            "name": row["SERVICE NAME"],
            "hostname": f"{row['SERVICE NAME']}.{row['NAMESPACE']}.svc.cluster.local",
            "vips": [f"/{row['SERVICE VIP']}"],
            **({} if row["WAYPOINT"] == "None" else {"waypoint": {"destination": _where(row), "hboneMtlsPort": 15008}}),
        }
        for row in live.table(
            "ambient/ztunnel-config.services.txt", "NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS"
        )
    ]
    workloads = [
        {"namespace": row["NAMESPACE"], "name": row["POD NAME"], "protocol": row["PROTOCOL"], "workloadType": "pod"}
        for row in live.table(live.WORKLOADS, *live._COLUMNS)
    ]
    return {"services": services, "workloads": workloads, "certificates": []}


def _where(row: dict[str, str]) -> str:
    if row["NAMESPACE"] == "wa":  # by its Service's address, as other versions have it
        return "/10.96.52.0"
    space = "infra" if row["WAYPOINT"] == "shared" else row["NAMESPACE"]
    return f"{space}/{row['WAYPOINT']}.{space}.svc.cluster.local"


def differences(view: View, placement: Placement, *, scope: Scope = Scope.NODE, loaded: bool = False) -> list[str]:
    services = {
        call: f"{one.service['metadata']['namespace']}/{one.service['metadata']['name']}"
        for call, one in resolve_target(TARGET, live.ambient()).items()
        if one.service is not None
    }
    seen = [SeenProxy(proxy, view) for proxy in placement.proxies if proxy.scope is scope][:1]
    return contradictions(placement, services, seen, loaded=loaded)


def placed() -> Placement:
    return plan_placement(TARGET, built_in("istio"), live.ambient())


def test_the_prediction_agrees_with_ztunnels_own_view_of_the_recorded_cluster() -> None:
    view = parse_view(json.dumps(dump()), "ztunnel-dump")
    assert view.waypoints is not None
    assert view.carried is not None
    assert view.waypoints["xone/server"] == "infra/shared"
    assert view.waypoints["wa/server"] == "wa/waypoint"
    assert view.waypoints["nonew/server"] == ""
    assert view.carried["ashop/server-668d7d685d-xmrr2"]
    assert not view.carried["plain2/server-668d7d685d-mz9pt"]
    assert differences(view, placed()) == []


@pytest.mark.parametrize(
    ("field", "name", "change", "words"),
    [
        (
            "services",
            ("nsw", "server"),
            {"waypoint": None},
            "sends calls to nsw/server through no waypoint, and by the obj",
        ),
        (
            "services",
            ("ashop", "server"),
            {"waypoint": {"destination": "nsw/waypoint.nsw"}},
            "through nsw/waypoint, and",
        ),
        ("workloads", ("ashop", "server-668d7d685d-xmrr2"), {"protocol": "TCP"}, "is not carried, and its marks say"),
    ],
)
def test_where_ztunnel_was_told_otherwise_the_contradiction_is_said(
    field: str, name: tuple[str, str], change: dict[str, Any], words: str
) -> None:
    found = dump()
    row = next(one for one in found[field] if (one["namespace"], one["name"]) == name)
    row |= change
    (said, *_) = differences(parse_view(json.dumps(found), "ztunnel-dump"), placed())
    assert words in said


def test_entries_as_istioctl_printed_them_are_read() -> None:
    rows = yaml.safe_load(live.text("ambient/ztunnel-config.certificates.yaml"))
    services = yaml.safe_load(live.text("ambient/ztunnel-config.services.yaml"))
    view = parse_view(json.dumps({"certificates": rows, "services": services, "workloads": []}), "ztunnel-dump")
    assert view.identities is not None
    assert view.waypoints is not None
    assert ("abank", "server") in view.identities
    assert len(view.waypoints) == len(services)
    assert set(view.waypoints.values()) == {""}


def test_envoys_clusters_say_which_services_it_has_routes_for() -> None:
    client = parse_view(live.text("sidecar/config-dump-client.trimmed.yaml"), "envoy-dump")
    assert client.services is not None
    assert {"shop/server", "bank/server", "post/server"} <= client.services
    waypoint = parse_view(live.text("ambient/config-dump-waypoint.trimmed.yaml"), "envoy-dump")
    assert waypoint.services == frozenset({"nsw/server"})
    placement = placed()
    assert differences(waypoint, placement, scope=Scope.WAYPOINT) != []  # the first waypoint is another's
    full = {
        "configs": [
            {"dynamic_active_clusters": [{"cluster": {"name": "outbound|8080||server.shop.svc.cluster.local"}}]}
        ]
    }
    assert parse_view(json.dumps(full), "envoy-dump").services == frozenset({"shop/server"})


def test_linkerds_statistics_say_whose_requests_came_over_mutual_tls() -> None:
    view = parse_view(live.text("linkerd/metrics-lines.txt"), "linkerd-metrics")
    assert view.callers == frozenset({("shop", "frontend")})
    target = live.target(("shop/frontend", "shop/backend", "backend.shop:80"), mesh="linkerd")
    placement = plan_placement(target, built_in("linkerd"), live.linkerd("native"))
    seen = [SeenProxy(proxy, view) for proxy in placement.proxies]
    assert contradictions(placement, {}, seen, loaded=True) == []
    bare = [
        SeenProxy(proxy, View(callers=frozenset())) for proxy in placement.proxies if proxy.pod.startswith("backend")
    ]
    (said,) = contradictions(placement, {}, bare, loaded=True)
    assert "has taken no request of shop/frontend over mutual TLS" in said
    assert contradictions(placement, {}, bare) == []  # before any load there is nothing to have been seen


@pytest.mark.parametrize("text", ["- a\n- b\n", "{", "services: 5\n"])
def test_what_is_no_dump_is_refused(text: str) -> None:
    with pytest.raises(ExperimentFailure):
        parse_view(text, "ztunnel-dump")


# ---- whose identities, and how much passed


@pytest.mark.parametrize(
    ("state", "chain", "held"),
    [
        ("Available", [{"serialNumber": "1", "pem": "REMOVED"}], True),
        ("Initializing", [], False),  # asked for, and not there yet
        ("Unavailable: the identity is no longer needed", [], False),
        ("Unavailable: signing gRPC error (The caller does not have permission)", [], False),
    ],
)
def test_an_identity_that_ztunnel_names_without_a_certificate_is_not_held(
    state: str, chain: list[dict[str, str]], held: bool
) -> None:
    row = {"identity": "spiffe://cluster.local/ns/shop/sa/web", "state": state, "certChain": chain, "rootCerts": []}
    view = parse_view(json.dumps({"services": [], "workloads": [], "certificates": [row]}), "ztunnel-dump")
    assert view.identities == (frozenset({("shop", "web")}) if held else frozenset())


def held(view: View, placement: Placement, proxy: str) -> Check:
    return judge_held(
        placement, [SeenProxy(one, view) for one in placement.proxies if one.pod == proxy], ["z: refused"]
    )


def test_the_identities_in_ztunnels_dump_are_held_against_the_model() -> None:
    placement = placed()
    node_2 = next(one for one in placement.proxies if one.scope is Scope.NODE and one.node == "node-2")
    mine = identities_held(placement, node_2)
    exact = View(identities=mine | {("elsewhere", "other")})  # of tenants that are not ours it holds others' too
    assert held(exact, placement, node_2.pod).verdict is Verdict.PASS
    less = held(View(identities=frozenset(sorted(mine)[1:])), placement, node_2.pod)
    assert less.verdict is Verdict.FAIL
    assert f"lacks {'/'.join(sorted(mine)[0])}" in less.sentence
    more = held(View(identities=mine | {("wa", "secret")}), placement, node_2.pod)
    assert "also holds wa/secret" in more.sentence
    assert held(View(), placement, node_2.pod).verdict is Verdict.INCONCLUSIVE  # nothing said is nothing shown


def test_an_envoys_dump_names_the_identity_of_its_certificate() -> None:
    chain = Authority.new().issue("spiffe://cluster.local/ns/shop/sa/server", seconds=60).certificate
    secret = {"tls_certificate": {"certificate_chain": {"inline_bytes": base64.b64encode(chain).decode()}}}
    dump = {"configs": [{"dynamic_active_secrets": [{"name": "default", "secret": secret}, {"name": "ROOTCA"}]}]}
    assert parse_view(json.dumps(dump), "envoy-dump").identities == frozenset({("shop", "server")})
    assert parse_view(json.dumps({"configs": []}), "envoy-dump").identities is None


def test_proxies_on_the_path_have_to_count_what_passed_and_others_are_not_asked() -> None:
    placement = placed()
    pairs = [pair for pair in placement.pairs() if pair.client.namespace == "nsw"]
    on_path = {one: 40.0 for hop in path(placement, pairs[0]) for one in hop}
    assert judge_counts(placement, pairs, on_path, 40, mesh="istio").verdict is Verdict.PASS
    waypoint = next(one for one in on_path if one.scope is Scope.WAYPOINT)
    idle = judge_counts(placement, pairs, {**on_path, waypoint: 0.0}, 40, mesh="istio")
    assert (idle.verdict, f"{waypoint} counted 0 of about 40" in idle.sentence) == (Verdict.FAIL, True)
    others = {one: 0.0 for one in placement.proxies if one not in on_path}
    assert judge_counts(placement, pairs, others, 40, mesh="istio").verdict is Verdict.INCONCLUSIVE


def test_counters_are_summed_over_a_recorded_page() -> None:
    assert sum_of(live.text("linkerd/metrics-lines.txt"), ["request_total"]) > 0
    assert sum_of(live.text("linkerd/metrics-lines.txt"), ["istio_tcp_connections_opened_total"]) == 0
    with pytest.raises(ExperimentFailure, match="no statistics"):
        sum_of("<html>{", ["request_total"])
