"""The delta protocol without I/O: what a session sends, and what it makes of the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from google.protobuf.any_pb2 import Any as AnyMessage

from chaos.mesh.controlplane.xds import CLUSTER, ENDPOINTS, LISTENER, SECRET, XdsSession


@dataclass(frozen=True)
class Thing:
    name: str
    version: str

    @property
    def packed(self) -> AnyMessage:
        return AnyMessage(type_url=LISTENER, value=self.version.encode())


def wanted(type_url: str, **versions: str) -> dict[str, dict[str, Thing]]:
    return {type_url: {name: Thing(name, version) for name, version in versions.items()}}


def ask(type_url: str, **fields: Any) -> DeltaDiscoveryRequest:
    return DeltaDiscoveryRequest(type_url=type_url, **fields)


def nack(type_url: str, nonce: str, message: str) -> DeltaDiscoveryRequest:
    request = DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
    request.error_detail.code = 13
    request.error_detail.message = message
    return request


def names(responses: list[Any]) -> list[list[str]]:
    return [[r.name for r in response.resources] for response in responses]


def test_one_more_listener_sends_only_that_one() -> None:
    session = XdsSession()
    session.request(ask(LISTENER), 0)
    assert names(session.plan(wanted(LISTENER, a="1", b="1"), 0)) == [["a", "b"]]
    assert names(session.plan(wanted(LISTENER, a="1", b="1", c="1"), 0)) == [["c"]]


def test_nothing_is_sent_twice_although_nothing_was_acknowledged() -> None:
    session = XdsSession()
    session.request(ask(LISTENER), 0)
    session.plan(wanted(LISTENER, a="1"), 0)
    assert session.plan(wanted(LISTENER, a="1"), 0) == []


def test_a_proxy_that_reconnects_gets_only_what_changed_meanwhile() -> None:
    session = XdsSession()
    session.request(ask(LISTENER, initial_resource_versions={"a": "1", "b": "1", "gone": "1"}), 0)
    first, second = session.plan(wanted(LISTENER, a="1", b="2"), 0)
    assert names([first]) == [["b"]]
    assert list(second.removed_resources) == ["gone"]


def test_a_refused_resource_is_offered_again_alone_and_later() -> None:
    session = XdsSession()
    session.request(ask(LISTENER), 0)
    [response] = session.plan(wanted(LISTENER, good="1", bad="1"), 0)
    answer = session.request(
        nack(LISTENER, response.nonce, "Error adding/updating listener(s) bad: no such file"), 10.0
    )
    assert answer.refused == ("bad",)
    assert session.plan(wanted(LISTENER, good="1", bad="1"), 10.0) == []
    due = session.next_retry()
    assert due is not None
    assert 10.0 < due < 11.0
    [again] = session.plan(wanted(LISTENER, good="1", bad="1"), due)
    assert names([again]) == [["bad"]]
    session.request(ask(LISTENER, response_nonce=again.nonce), due)
    assert session.next_retry() is None
    assert session.status()["Listener"]["acked"] == {"bad": "1", "good": "1"}


def test_a_refused_resource_that_is_no_longer_wanted_is_not_offered_again() -> None:
    session = XdsSession()
    session.request(ask(LISTENER), 0)
    [response] = session.plan(wanted(LISTENER, bad="1"), 0)
    session.request(nack(LISTENER, response.nonce, "bad"), 0)
    [removal] = session.plan(wanted(LISTENER), 100)
    assert list(removal.removed_resources) == ["bad"]
    assert session.next_retry() is None


def test_refusals_wait_longer_each_time_and_never_for_ever() -> None:
    session, now, waits = XdsSession(), 0.0, []
    session.request(ask(LISTENER), 0)
    for _ in range(8):
        [response] = session.plan(wanted(LISTENER, bad="1"), now)
        session.request(nack(LISTENER, response.nonce, "bad"), now)
        due = session.next_retry()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == sorted(waits)
    assert waits[-1] == 5.0


def test_a_name_that_does_not_exist_is_answered_once() -> None:
    session = XdsSession()
    session.request(ask(SECRET, resource_names_subscribe=["spiffe://other"]), 0)
    [response] = session.plan({}, 0)
    assert list(response.removed_resources) == ["spiffe://other"]
    assert session.plan({}, 0) == []


def test_a_name_that_comes_to_exist_is_sent_to_who_asked_before() -> None:
    session = XdsSession()
    session.request(ask(ENDPOINTS, resource_names_subscribe=["x"]), 0)
    session.plan({}, 0)
    assert names(session.plan(wanted(ENDPOINTS, x="1", y="1"), 0)) == [["x"]]


def test_asking_again_is_answered_again() -> None:
    session = XdsSession()
    session.request(ask(ENDPOINTS, resource_names_subscribe=["x"]), 0)
    session.plan(wanted(ENDPOINTS, x="1"), 0)
    session.request(ask(ENDPOINTS, resource_names_subscribe=["x"]), 0)
    assert names(session.plan(wanted(ENDPOINTS, x="1"), 0)) == [["x"]]


def test_a_wildcard_without_resources_is_answered_once() -> None:
    session = XdsSession()
    session.request(ask(LISTENER), 0)
    assert names(session.plan({}, 0)) == [[]]
    assert session.plan({}, 0) == []


def test_clusters_come_before_listeners_and_go_after_them() -> None:
    session = XdsSession()
    for type_url in (LISTENER, CLUSTER):
        session.request(ask(type_url), 0)
    added = session.plan({**wanted(LISTENER, a="1"), **wanted(CLUSTER, a="1")}, 0)
    assert [r.type_url for r in added] == [CLUSTER, LISTENER]
    removed = session.plan({}, 0)
    assert [r.type_url for r in removed] == [LISTENER, CLUSTER]


def test_a_changed_cluster_gets_its_endpoints_again() -> None:
    """To Envoy it is a new cluster, which waits for endpoints that it does not ask for."""
    session = XdsSession()
    session.request(ask(CLUSTER), 0)
    session.request(ask(ENDPOINTS, resource_names_subscribe=["c", "d"]), 0)
    ends = wanted(ENDPOINTS, c="1", d="1")
    first = names(session.plan({**wanted(CLUSTER, c="1", d="1"), **ends}, 0))
    assert [sorted(found) for found in first] == [["c", "d"], ["c", "d"]]
    assert names(session.plan({**wanted(CLUSTER, c="2", d="1"), **ends}, 0)) == [["c"], ["c"]]
    assert session.plan({**wanted(CLUSTER, c="2", d="1"), **ends}, 0) == []
