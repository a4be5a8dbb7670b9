"""The prediction held against what the proxies themselves say, by dumps and statistics as they were recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from chaos.errors import ExperimentFailure
from chaos.external.parsing import built_in
from chaos.external.placement import plan_placement, resolve_target
from chaos.external.views import SeenProxy, View, contradictions, parse_view
from chaos.model.modes import Scope
from chaos.model.placement import Placement
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
