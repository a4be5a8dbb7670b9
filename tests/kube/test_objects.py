"""What every part reads of Kubernetes' objects: conditions, containers, owners, roll-outs, pods, quantities, errors."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.errors import AlreadyExists, ApiError, Conflict, Forbidden, NotFound
from chaos.kube.access import Permission
from chaos.kube.api_errors import api_error
from chaos.kube.objects import (
    container,
    container_status,
    containers_seen,
    is_live,
    is_ready_pod,
    is_rolled_out,
    label_selector,
    pods_of,
    probed_ports,
    rfc3339,
    selects,
    sole_owner,
    true_conditions,
    workload_name,
)
from chaos.kube.quantity import byte_count, cpu_quantity, millicores, parse

Object = dict[str, Any]


def pod(name: str, labels: dict[str, str], *owners: Object, **spec: Any) -> Object:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "uid": f"u-{name}", "labels": labels, "ownerReferences": owners},
        "spec": {"nodeName": "n1", "containers": [{"name": "app"}], "initContainers": [{"name": "proxy"}], **spec},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Captured", "status": "False"}],
            "containerStatuses": [{"name": "app", "restartCount": 2, "containerID": "c1", "state": {"running": {}}}],
            "initContainerStatuses": [{"name": "proxy", "restartCount": 1, "state": {"terminated": {"exitCode": 137}}}],
        },
    }


def replica_set(name: str) -> Object:
    return {"kind": "ReplicaSet", "name": name, "uid": f"u-{name}", "controller": True}


class Lister:
    """A cluster that answers one list, and keeps what it was asked."""

    def __init__(self, *pods: Object) -> None:
        self.pods, self.asked = list(pods), ""

    def list(self, kind: str, namespace: str, *, labels: str) -> list[Object]:
        self.asked = labels
        wanted = dict(part.split("=") for part in labels.split(","))
        return [one for one in self.pods if wanted.items() <= one["metadata"]["labels"].items()]


def test_a_workloads_pods_are_found_by_its_selector_and_no_namesakes_are() -> None:
    own = pod("server-h1-a", {"app": "server", "pod-template-hash": "h1"}, replica_set("server-h1"))
    canary = pod("server-canary-h2-b", {"app": "server", "pod-template-hash": "h2"}, replica_set("server-canary-h2"))
    other = pod("server-x", {"app": "other"}, replica_set("server-h1"))
    bare = pod("server-by-hand", {"app": "server"})
    cluster = Lister(own, canary, other, bare)
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "server", "namespace": "ns", "uid": "u-d"},
        "spec": {"selector": {"matchLabels": {"app": "server"}}},
    }
    assert [one["metadata"]["name"] for one in pods_of(cluster, deployment)] == ["server-h1-a"]  # type: ignore[arg-type]
    assert cluster.asked == "app=server"


def test_a_selector_is_said_as_a_list_request_takes_it() -> None:
    rules = [
        {"key": "a", "operator": "In", "values": ["x", "y"]},
        {"key": "b", "operator": "NotIn", "values": ["z"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    said = label_selector({"matchLabels": {"app": "s"}, "matchExpressions": rules})
    assert said == "app=s,a in (x,y),b notin (z),c,!d"


def test_conditions_that_are_true_and_no_others() -> None:
    assert set(true_conditions(pod("p", {}))) == {"Ready"}
    assert true_conditions({"metadata": {}}) == {}


@pytest.mark.parametrize(
    ("change", "live", "ready"),
    [
        ({}, True, True),
        ({"deletionTimestamp": "now"}, False, False),
        ({"phase": "Failed"}, False, True),
        ({"nodeName": ""}, False, True),
    ],
)
def test_a_pod_is_live_and_ready(change: Object, live: bool, ready: bool) -> None:
    found = pod("p", {})
    for part, names in (("metadata", ["deletionTimestamp"]), ("status", ["phase"]), ("spec", ["nodeName"])):
        found[part] |= {name: change[name] for name in names if name in change}
    assert (is_live(found), is_ready_pod(found)) == (live, ready)


def test_containers_are_found_among_both_kinds() -> None:
    found = pod("p", {})
    assert container(found, "proxy") == {"name": "proxy"}
    assert container(found, "none") == {}
    assert container_status(found, "proxy")["restartCount"] == 1
    seen = containers_seen(found)
    assert (seen["app"].restarts, seen["app"].init, seen["app"].state) == (2, False, "running")
    assert (seen["proxy"].init, seen["proxy"].exit_code) == (True, 137)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (replica_set("server-h1"), "server"),
        ({"kind": "DaemonSet", "name": "agent", "uid": "u", "controller": True}, "agent"),
        ({"kind": "Pod", "name": "other", "uid": "u"}, "p"),  # no controller
    ],
)
def test_a_pod_belongs_to_its_controller(owner: Object, name: str) -> None:
    assert workload_name(pod("p", {"pod-template-hash": "h1"}, owner)) == name


@pytest.mark.parametrize(
    ("owners", "found"),
    [
        ((), None),
        ((replica_set("server-h1"),), None),
        ((replica_set("server-h1"), {"kind": "Pod", "name": "app", "uid": "u"}), "u"),
        (({"kind": "Pod", "name": "app", "uid": "u"}, {"kind": "Pod", "name": "other", "uid": "v"}), None),
    ],
)
def test_a_sole_owner_is_the_only_one_of_its_kind(owners: tuple[Object, ...], found: str | None) -> None:
    owner = sole_owner(pod("proxy", {}, *owners), "Pod")
    assert (owner["uid"] if owner else None) == found


@pytest.mark.parametrize(
    ("kind", "status", "done"),
    [
        ("Deployment", {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}, True),
        ("Deployment", {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}, False),
        ("Deployment", {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 2}, False),
        ("DaemonSet", {"observedGeneration": 2, "desiredNumberScheduled": 0}, False),
        (
            "DaemonSet",
            {"observedGeneration": 2, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": 1},
            True,
        ),
        ("StatefulSet", {}, False),
    ],
)
def test_a_workload_is_rolled_out_when_every_pod_is_of_its_newest_template_and_ready(
    kind: str, status: Object, done: bool
) -> None:
    workload = {"kind": kind, "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}
    assert is_rolled_out(workload) is done


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100m", "0.1"),
        ("1", "1"),
        ("2Ti", str(2 << 40)),
        ("1.5Gi", str(3 << 29)),
        ("1e3", "1000"),
        ("7n", "7e-9"),
        ("1k", "1000"),
    ],
)
def test_a_quantity_is_the_number_that_kubernetes_reads(text: str, number: str) -> None:
    assert parse(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "m", "1ki", "1mi", "x", "--1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@given(st.integers(0, 10**7))
def test_millicores_are_written_as_the_api_server_answers_and_read_back(number: int) -> None:
    assert millicores(cpu_quantity(number)) == number


@given(st.integers(1, 10**6), st.sampled_from(["Ki", "Mi", "k", "M"]))
def test_units_are_rounded_up(number: int, suffix: str) -> None:
    assert byte_count(f"{number}{suffix}") == math.ceil(parse(f"{number}{suffix}"))
    assert (millicores("0.1m"), byte_count("100m")) == (1, 1)


def test_a_stamp_is_in_utc_and_whole_seconds() -> None:
    assert rfc3339(datetime(2026, 11, 28, 4, 5, 6, 789, tzinfo=UTC)) == "2026-11-28T04:05:06Z"


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (404, "NotFound", NotFound),
        (404, "", NotFound),
        (403, "Forbidden", Forbidden),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (422, "Invalid", ApiError),
    ],
)
def test_an_answer_is_an_error_of_its_own_type(code: int, reason: str, kind: type[ApiError]) -> None:
    error = api_error("GET", "/x", code, f'{{"reason": "{reason}", "message": "no"}}'.encode())
    assert (type(error), error.code, error.reason) == (kind, code, reason)


def test_a_permission_is_asked_as_a_review_and_said_in_a_line() -> None:
    one = Permission("get", "pods/log", namespace="ns", name="p")
    asked = one.review()["spec"]["resourceAttributes"]
    assert asked == {
        "verb": "get",
        "resource": "pods",
        "subresource": "log",
        "group": "",
        "namespace": "ns",
        "name": "p",
    }
    assert str(one) == "get pods/log p in ns"
    assert Permission("get", path="/healthz").review()["spec"] == {
        "nonResourceAttributes": {"verb": "get", "path": "/healthz"}
    }


@pytest.mark.parametrize(
    ("selector", "labels", "picked"),
    [
        ("", {}, True),
        ("app=server", {"app": "server", "x": "1"}, True),
        ("app=server", {"app": "server-canary"}, False),
        ("app=server", {}, False),
        ("app==server", {"app": "server"}, True),
        ("app!=server", {"app": "client"}, True),
        ("app!=server", {}, True),
        ("app in (client,server)", {"app": "server"}, True),
        ("app in (client, server),!canary", {"app": "server", "canary": ""}, False),
        ("app notin (server)", {"app": "server"}, False),
        ("app notin (server)", {}, True),
        ("canary", {"canary": ""}, True),
        ("canary", {"app": "canary"}, False),
        ("!canary", {"app": "canary"}, True),
        ("app=server,tier in (a,b),canary", {"app": "server", "tier": "b", "canary": ""}, True),
        ("app=", {"app": ""}, True),
    ],
)
def test_a_selector_picks_what_a_list_request_would(selector: str, labels: dict[str, str], picked: bool) -> None:
    assert selects(selector, labels) is picked


# What a container says of its probes and hooks, and the ports at which its pod is then probed.
PROBED: list[tuple[Object, set[int]]] = [
    ({}, set()),
    ({"readinessProbe": None, "lifecycle": None, "ports": None}, set()),
    ({"readinessProbe": {"httpGet": {"path": "/", "port": 80}}}, {80}),
    ({"livenessProbe": {"tcpSocket": {"port": 81}}, "startupProbe": {"grpc": {"port": 82}}}, {81, 82}),
    ({"readinessProbe": {"exec": {"command": ["true"]}}}, set()),
    ({"readinessProbe": {"httpGet": {"port": "web"}}, "ports": [{"name": "web", "containerPort": 8080}]}, {8080}),
    ({"readinessProbe": {"httpGet": {"port": "web"}}, "ports": [{"name": "other", "containerPort": 8080}]}, set()),
    ({"lifecycle": {"preStop": {"httpGet": {"port": 83}}, "postStart": {"sleep": {"seconds": 1}}}}, {83}),
    ({"lifecycle": {"preStop": {"httpGet": {"port": 84}}}, "livenessProbe": {"httpGet": {"port": 80}}}, {80, 84}),
    ({"ports": [{"containerPort": 9000}]}, set()),  # a port is no probe
]


@pytest.mark.parametrize(("says", "ports"), PROBED)
@pytest.mark.parametrize("field", ["containers", "initContainers"])
def test_a_pod_is_probed_where_its_containers_say_so_and_nowhere_else(
    says: Object, ports: set[int], field: str
) -> None:
    assert probed_ports({field: [{"name": "app", **says}]}) == ports
    assert probed_ports({field: [{"name": "x", "livenessProbe": {"tcpSocket": {"port": 7}}}, says]}) == {7, *ports}
