"""How people enrol pods, Services and namespaces, and what each call then passes by the meshes' own documentation.

Variations of the recorded clusters: a row is one change of their objects, what it leaves on the path of a call, and
the page, or the source, that says so. `Z1` and `Z2` are the nodes' ztunnels; other hops have their pod's first word.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from chaos.errors import ExperimentFailure, Misuse
from chaos.external.parsing import built_in
from chaos.external.placement import Site, plan_placement
from chaos.model.fate import path
from chaos.model.modes import Balancing
from tests.external import recorded_site as live

NAMES = {"ztunnel-xtl27": "Z1", "ztunnel-xfs9h": "Z2"}
WAYPOINT, SPACE = "istio.io/use-waypoint", "istio.io/use-waypoint-namespace"
CARRIED = "ambient.istio.io/redirection"
INJECTION = "https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/#controlling-the-injection-policy"
AMBIENT = "https://istio.io/latest/docs/ambient/usage/add-workloads/#ambient-labels"
USE = "https://istio.io/latest/docs/ambient/usage/waypoint/"
SOURCE = "istio/istio, pilot/pkg/serviceregistry/ambient/waypoints.go: getUseWaypoint, fetchWaypointForTarget"
PROTOCOLS = "https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/"
OPAQUE = "https://linkerd.io/2/features/protocol-detection/#marking-ports-as-opaque"
LINKERD = "https://linkerd.io/2/features/proxy-injection/"
SKIP = "https://linkerd.io/2/features/protocol-detection/#marking-ports-as-skip-ports"

Object = dict[str, Any]
Change = Callable[[Site], Object]


def change(kind: str, namespace: str, name: str, do: Callable[[Object], object]) -> Change:
    def changed(site: Site) -> Object:
        found = copy.deepcopy(live.find(site, kind, namespace, name))
        do(found)
        return found

    return changed


def labelled(kind: str, namespace: str, name: str, **changes: str | None) -> Change:
    """The object with those labels; None takes one away."""
    return change(kind, namespace, name, lambda obj: _mark(obj, "labels", changes))


def annotated(kind: str, namespace: str, name: str, **changes: str | None) -> Change:
    return change(kind, namespace, name, lambda obj: _mark(obj, "annotations", changes))


def _mark(obj: Object, part: str, changes: Mapping[str, str | None]) -> Object:
    marks = {**(obj["metadata"].get(part) or {}), **changes}
    obj["metadata"][part] = {key: value for key, value in marks.items() if value is not None}
    return obj


def unbound(namespace: str, **labels: str) -> Change:
    """The Service without a condition, as an older istiod leaves it."""

    def do(obj: Object) -> None:
        obj["status"].pop("conditions", None)
        _mark(obj, "labels", labels)

    return change("Service", namespace, "server", do)


def bound(namespace: str, message: str, **labels: str) -> Change:
    def do(obj: Object) -> None:
        said = {"type": "istio.io/WaypointBound", "status": "True", "reason": "WaypointAccepted", "message": message}
        obj["status"]["conditions"] = [said]
        _mark(obj, "labels", labels)

    return change("Service", namespace, "server", do)


def ported(namespace: str, service: str, /, **port: Any) -> Change:
    """The Service's first port, changed."""
    return change("Service", namespace, service, lambda obj: obj["spec"]["ports"][0].update(port))


def without_proxy(pod: Object) -> None:
    for part in ("containers", "initContainers"):
        kept = [one for one in pod["spec"].get(part) or [] if one["name"] not in ("istio-proxy", "linkerd-proxy")]
        pod["spec"][part] = kept


def gateway(pod: Object) -> None:
    """An ingress gateway: nothing but a proxy, of no data plane's."""
    sidecar = live.find(live.sidecars(), "Pod", "shop", "server")["spec"]["initContainers"]
    (proxy,) = [one for one in sidecar if one["name"] == "istio-proxy"]
    pod["spec"] |= {"initContainers": [], "containers": [{k: v for k, v in proxy.items() if k != "restartPolicy"}]}
    _mark(pod, "annotations", {CARRIED: None})


@dataclass(frozen=True)
class Case:
    """One variation.

    Attributes:
        passes: the hops; or, of what is refused, words of the refusal.
        because: words of why.
    """

    name: str
    source: str
    call: tuple[str, str, str]
    passes: list[str] | str
    changes: list[Change] = field(default_factory=list)
    balancing: Balancing | None = None
    because: str = ""
    mesh: str = "istio"
    site: Callable[[], Site] = live.ambient


BY_REQUEST, BY_CONNECTION = Balancing.REQUEST, Balancing.CONNECTION


def to(namespace: str, reach: str = "", client: str = "") -> tuple[str, str, str]:
    return (f"{client or namespace}/client", f"{namespace}/server", reach or f"server.{namespace}:8080")


SHOP = ("shop/client", "shop/server", "server.shop:8080")
FRONT = ("shop/frontend", "shop/backend", "backend.shop:80")
LINKED: dict[str, Any] = {"mesh": "linkerd", "site": lambda: live.linkerd("native"), "call": FRONT}

CASES = [
    # ---- pods in and out of ambient
    Case(
        "a pod that opts out of its ambient namespace",
        AMBIENT,
        to("ashop"),
        ["Z2"],
        [
            labelled("Pod", "ashop", "client", **{"istio.io/dataplane-mode": "none"}),
            annotated("Pod", "ashop", "client", **{CARRIED: None}),
        ],
        because=f"has no annotation {CARRIED}=enabled",
    ),
    Case(
        "a server that opts out, behind a waypoint",
        AMBIENT,
        to("nsw"),
        ["Z2", "waypoint"],
        [annotated("Pod", "nsw", "server", **{CARRIED: None})],
        BY_REQUEST,
    ),
    Case(
        "a pod that istio-cni has not finished with",
        "istio/istio, pkg/config/constants: AmbientRedirectionPending",
        to("ashop"),
        ["Z1"],
        [annotated("Pod", "ashop", "server", **{CARRIED: "pending"})],
    ),
    Case(
        "a pod that opts in, in a namespace that does not",
        AMBIENT,
        ("plain2/client", "ashop/server", "server.ashop:8080"),
        ["Z2", "Z2"],
        [annotated("Pod", "plain2", "client", **{CARRIED: "enabled"})],
    ),
    Case(
        "a pod with a sidecar in an ambient namespace: the sidecar carries it",
        AMBIENT,
        to("nsw"),
        ["client", "Z2"],
        [
            change(
                "Pod",
                "nsw",
                "client",
                lambda pod: (
                    pod["spec"].update(
                        initContainers=live.find(live.sidecars(), "Pod", "shop", "server")["spec"]["initContainers"]
                    ),
                    _mark(pod, "annotations", {CARRIED: None}),
                ),
            )
        ],
        BY_REQUEST,
        because="is not carried by ztunnel: its calls pass none",
    ),
    # ---- which waypoint
    Case(
        "the namespace's, before the condition is written",
        SOURCE,
        to("nsw"),
        ["Z2", "waypoint", "Z2"],
        [unbound("nsw")],
    ),
    Case(
        "the Service names another than its namespace",
        SOURCE,
        to("nsw"),
        ["Z2", "shared", "Z2"],
        [unbound("nsw", **{WAYPOINT: "shared", SPACE: "infra"})],
        BY_REQUEST,
    ),
    Case(
        "the Service's name is looked for in its own namespace, not in the one that its namespace's label names",
        SOURCE,
        to("xone"),
        "Service xone/server has istio.io/use-waypoint=shared names xone/shared",
        [unbound("xone", **{WAYPOINT: "shared"})],
    ),
    Case(
        "the Service says none, its namespace another's",
        SOURCE,
        to("xtwo"),
        ["Z2", "Z2"],
        [unbound("xtwo", **{WAYPOINT: "none"})],
    ),
    Case(
        "the Service's label is empty: it is asked for and not found, and its namespace's is not taken",
        SOURCE,
        to("nsw"),
        ["Z2", "Z2"],
        [unbound("nsw", **{WAYPOINT: ""})],
        BY_CONNECTION,
    ),
    Case(
        "a namespace that says none, a Service that names one of another namespace",
        SOURCE,
        to("nonew"),
        ["Z2", "shared", "Z2"],
        [
            labelled("Namespace", "", "nonew", **{WAYPOINT: "none"}),
            unbound("nonew", **{WAYPOINT: "shared", SPACE: "infra"}),
        ],
    ),
    Case(
        "the condition goes on after the name",
        "istio/istio, pilot/pkg/model: ServiceInfo.GetConditions",
        to("nsw"),
        ["Z2", "waypoint", "Z2"],
        [bound("nsw", "Successfully attached to waypoint nsw/waypoint. Ingress traffic will traverse the waypoint")],
        BY_REQUEST,
    ),
    Case(
        "the condition says what label would let gateways through",
        "istio/istio, pilot/pkg/model: ServiceInfo.GetConditions",
        to("xone"),
        ["Z2", "shared", "Z2"],
        [
            bound(
                "xone",
                "Successfully attached to waypoint infra/shared. Ingress traffic is not using the waypoint, set the "
                "istio.io/ingress-use-waypoint label to true if desired.",
            )
        ],
    ),
    Case(
        "waypoint-for none: it takes nothing",
        USE,
        to("nsw"),
        ["Z2", "Z2"],
        [unbound("nsw"), labelled("Pod", "nsw", "waypoint", **{"istio.io/waypoint-for": "none"})],
    ),
    Case(
        "waypoint-for all: a pod's address too",
        USE,
        to("nsw", "10.244.2.164:8080"),
        ["Z2", "waypoint", "Z2"],
        [labelled("Pod", "nsw", "waypoint", **{"istio.io/waypoint-for": "all"})],
        BY_CONNECTION,
    ),
    Case(
        "a pod that says none is dialled past its namespace's",
        SOURCE,
        to("nsw", "10.244.2.164:8080"),
        ["Z2", "Z2"],
        [
            labelled("Pod", "nsw", "waypoint", **{"istio.io/waypoint-for": "all"}),
            labelled("Pod", "nsw", "server", **{WAYPOINT: "none"}),
        ],
    ),
    Case(
        "a pod with another namespace's waypoint of workloads",
        SOURCE,
        to("podw", "10.244.2.160:8080"),
        ["Z2", "shared", "Z2"],
        [
            labelled("Pod", "infra", "shared", **{"istio.io/waypoint-for": "workload"}),
            labelled("Pod", "podw", "server", **{WAYPOINT: "shared", SPACE: "infra"}),
        ],
    ),
    Case(
        "a pod's own waypoint does not take what goes to its Service",
        USE,
        to("nsw"),
        ["Z2", "Z2"],
        [
            unbound("nsw", **{WAYPOINT: "none"}),
            labelled("Pod", "nsw", "server", **{WAYPOINT: "waypoint"}),
            labelled("Pod", "nsw", "waypoint", **{"istio.io/waypoint-for": "workload"}),
        ],
    ),
    Case("the client's own namespace has one, the server's has none", USE, to("ashop", client="nsw"), ["Z2", "Z2"]),
    Case(
        "the client's canary is not the server's",
        SOURCE,
        to("ashop", client="nsw"),
        ["Z2", "Z2"],
        [labelled("Namespace", "", "nsw", **{"istio.io/use-waypoint-canary": "next"})],
    ),
    Case(
        "a gateway's call passes no waypoint",
        USE,
        to("nsw"),
        ["client", "Z2"],
        [change("Pod", "nsw", "client", gateway)],
    ),
    Case(
        "a gateway's call to a Service that lets gateways through its waypoint",
        USE,
        to("nsw"),
        r"Service nsw/server has istio.io/ingress-use-waypoint=true, and Pod nsw/client-\S+ is a gateway",
        [
            change("Pod", "nsw", "client", gateway),
            bound("nsw", "Successfully attached to waypoint nsw/waypoint", **{"istio.io/ingress-use-waypoint": "true"}),
        ],
    ),
    Case(
        "an ambient client of such a Service",
        USE,
        to("nsw"),
        ["Z2", "waypoint", "Z2"],
        [bound("nsw", "Successfully attached to waypoint nsw/waypoint", **{"istio.io/ingress-use-waypoint": "true"})],
    ),
    # ---- how it is addressed
    Case(
        "a Service that leads elsewhere",
        "Kubernetes, Service",
        to("nsw", "server.ashop:8080"),
        "Service ashop/server selects none of the call's servers",
    ),
    Case(
        "a headless Service: kept connections stay",
        "Kubernetes, headless Services",
        SHOP,
        ["client", "server"],
        [change("Service", "shop", "server", lambda one: one["spec"].update(clusterIP="None", clusterIPs=["None"]))],
        BY_CONNECTION,
        site=live.sidecars,
    ),
    # ---- sidecars, in and out, and what they read
    Case(
        "a pod without a sidecar in an injected namespace (inject: false)",
        INJECTION,
        SHOP,
        ["server"],
        [change("Pod", "shop", "client", without_proxy)],
        BY_CONNECTION,
        site=live.sidecars,
        because="has no container istio-proxy",
    ),
    Case(
        "a pod of another revision",
        INJECTION,
        SHOP,
        ["client", "server"],
        [
            labelled("Pod", "shop", "server", **{"istio.io/rev": "canary"}),
            labelled("Namespace", "", "shop", **{"istio-injection": None, "istio.io/rev": "stable"}),
        ],
        BY_REQUEST,
        site=live.sidecars,
    ),
    Case(
        "interception NONE",
        "https://istio.io/latest/docs/reference/config/annotations/",
        SHOP,
        "has sidecar.istio.io/interceptionMode=NONE .*not modelled",
        [annotated("Pod", "shop", "client", **{"sidecar.istio.io/interceptionMode": "NONE"})],
        site=live.sidecars,
    ),
    Case(
        "ports with blanks, and a range",
        "https://istio.io/latest/docs/reference/config/annotations/",
        SHOP,
        ["server"],
        [annotated("Pod", "shop", "client", **{"traffic.sidecar.istio.io/excludeOutboundPorts": "9000, 8000-8100"})],
        site=live.sidecars,
    ),
    Case(
        "a port whose name says tcp",
        PROTOCOLS,
        SHOP,
        ["client", "server"],
        [ported("shop", "server", name="tcp-web", appProtocol=None)],
        BY_CONNECTION,
        site=live.sidecars,
        because="is said to carry tcp: its connections are spread",
    ),
    Case(
        "appProtocol goes before the name",
        PROTOCOLS,
        SHOP,
        ["client", "server"],
        [ported("shop", "server", name="tcp-web", appProtocol="http")],
        BY_REQUEST,
        site=live.sidecars,
    ),
    Case(
        "a port whose name says nothing is found out",
        PROTOCOLS,
        SHOP,
        ["client", "server"],
        [ported("shop", "server", name="web")],
        BY_REQUEST,
        site=live.sidecars,
    ),
    Case(
        "a waypoint in front of a port of bytes",
        PROTOCOLS,
        to("nsw"),
        ["Z2", "waypoint", "Z2"],
        [ported("nsw", "server", name="x", appProtocol="tcp")],
        BY_CONNECTION,
    ),
    # ---- linkerd
    Case(
        "an opaque port of the Service",
        OPAQUE,
        passes=["frontend", "backend"],
        changes=[annotated("Service", "shop", "backend", **{"config.linkerd.io/opaque-ports": "80"})],
        balancing=BY_CONNECTION,
        because="has config.linkerd.io/opaque-ports=80: no requests are read there",
        **LINKED,
    ),
    Case(
        "appProtocol goes before the opaque ports",
        OPAQUE,
        passes=["frontend", "backend"],
        changes=[annotated("Service", "shop", "backend", **{"config.linkerd.io/opaque-ports": "80"})],
        balancing=BY_REQUEST,
        **{
            **LINKED,
            "site": lambda: live.with_changes(
                live.linkerd("native"), [ported("shop", "backend", appProtocol="http")(live.linkerd("native"))]
            ),
        },
    ),
    Case(
        "linkerd.io/opaque",
        OPAQUE,
        passes=["frontend", "backend"],
        changes=[ported("shop", "backend", appProtocol="linkerd.io/opaque")],
        balancing=BY_CONNECTION,
        **LINKED,
    ),
    Case(
        "a usual port of bytes",
        OPAQUE,
        passes=["frontend", "backend"],
        changes=[ported("shop", "backend", port=5432)],
        balancing=BY_CONNECTION,
        **{**LINKED, "call": (*FRONT[:2], "backend.shop:5432")},
    ),
    Case(
        "the annotation replaces the usual ports",
        OPAQUE,
        passes=["frontend", "backend"],
        changes=[
            change(
                "Service",
                "shop",
                "backend",
                lambda one: (
                    one["spec"]["ports"][0].update(port=5432),
                    _mark(one, "annotations", {"config.linkerd.io/opaque-ports": "9000"}),
                ),
            )
        ],
        balancing=BY_REQUEST,
        **{**LINKED, "call": (*FRONT[:2], "backend.shop:5432")},
    ),
    Case(
        "a pod that opts out (linkerd.io/inject: disabled)",
        LINKERD,
        passes=["frontend"],
        changes=[change("Pod", "shop", "backend", without_proxy)],
        balancing=BY_REQUEST,
        because="has no container linkerd-proxy",
        **LINKED,
    ),
    Case(
        "the network plugin instead of linkerd-init",
        "https://linkerd.io/2/features/cni/",
        passes=["backend"],
        changes=[
            change(
                "Pod",
                "shop",
                "frontend",
                lambda pod: (
                    pod["spec"].update(
                        initContainers=[one for one in pod["spec"]["initContainers"] if one["name"] != "linkerd-init"]
                    ),
                    _mark(pod, "annotations", {"config.linkerd.io/skip-outbound-ports": "80"}),
                ),
            )
        ],
        **LINKED,
    ),
    Case(
        "an ingress's pod",
        LINKERD,
        passes="has linkerd.io/inject=ingress .*not modelled",
        changes=[annotated("Pod", "shop", "frontend", **{"linkerd.io/inject": "ingress"})],
        **LINKED,
    ),
    Case(
        "a Service of another cluster",
        "https://linkerd.io/2/features/multicluster/",
        passes="mirrored-service=true",
        changes=[labelled("Service", "shop", "backend", **{"mirror.linkerd.io/mirrored-service": "true"})],
        **LINKED,
    ),
]


def placed(case: Case) -> Any:
    site = case.site()
    for one in case.changes:
        site = live.with_changes(site, [one(site)])
    return plan_placement(live.target(case.call, mesh=case.mesh), built_in(case.mesh), site)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_call_passes_what_the_mesh_documents(case: Case) -> None:
    if isinstance(case.passes, str):
        with pytest.raises(Misuse, match=case.passes):
            placed(case)
        return
    placement = placed(case)
    (pair,) = placement.pairs()
    found = [NAMES.get(proxy.pod, proxy.pod.partition("-")[0]) for hop in path(placement, pair) for proxy in hop]
    assert found == case.passes, placement.route(pair).because
    if case.balancing is not None:
        assert placement.route(pair).balancing is case.balancing
    assert case.because in " ".join(placement.route(pair).because)


def spread_over_two_nodes(service: Change, reach: str) -> Any:
    site = live.ambient()
    second = copy.deepcopy(live.find(site, "Pod", "ashop", "server"))
    second["metadata"] |= {"name": "server-668d7d685d-zzzzz", "uid": "second"}
    second["spec"]["nodeName"] = "node-1"
    second["status"] |= {"podIP": "10.244.1.99", "podIPs": [{"ip": "10.244.1.99"}]}
    site = live.with_changes(site, [second, service(site)])
    return plan_placement(live.target(to("ashop", reach), mesh="istio"), built_in("istio"), site)


@pytest.mark.parametrize(
    ("spec", "reach", "words"),
    [
        (
            {"internalTrafficPolicy": "Local"},
            "server.ashop:8080",
            "has internalTrafficPolicy=Local, and its servers are on",
        ),
        ({"trafficDistribution": "PreferSameNode"}, "server.ashop:8080", "has trafficDistribution=PreferSameNode"),
        ({}, "10.244.1.99:8080", "it is the address of one of 2 pods, and the others are not called"),
    ],
)
def test_a_call_that_reaches_some_servers_alone_is_refused(spec: dict[str, str], reach: str, words: str) -> None:
    service = change("Service", "ashop", "server", lambda one: one["spec"].update(spec))
    with pytest.raises(Misuse, match=words):
        spread_over_two_nodes(service, reach)
    assert len(spread_over_two_nodes(lambda site: dict(live.find(site, "Service", "ashop", "server")), "").pairs()) == 2


def test_a_call_whose_every_port_is_skipped_is_carried_by_nobody() -> None:
    site = live.sidecars()
    for pod, ports in (("client", "excludeOutboundPorts"), ("server", "excludeInboundPorts")):
        one = annotated("Pod", "shop", pod, **{f"traffic.sidecar.istio.io/{ports}": "8080"})
        site = live.with_changes(site, [one(site)])
    with pytest.raises(ExperimentFailure, match=r"no call passes any proxy of istio: .*excludeOutboundPorts=8080"):
        plan_placement(live.target(SHOP, mesh="istio"), built_in("istio"), site)
