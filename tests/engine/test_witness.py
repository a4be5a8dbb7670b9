"""A fault is believed when something else than itself shows that it acted."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.engine import onlookers
from chaos.engine.onlookers import certificate_ends, connected, is_trouble, pushes
from chaos.engine.witness import detect_no_effect
from chaos.faults.catalogue import FAULTS
from chaos.faults.model import Target, Witness

TARGET = Target("container", "p", "ns", "u", "proxy", "containerd://1", "n1")
BEGAN = 1_800_000_000_000_000_000
STARTED, EARLIER = "2027-01-15T08:00:01Z", "2027-01-15T07:00:00Z"


@pytest.mark.parametrize(
    ("witness", "seen", "doubt"),
    [
        (Witness.CONTAINER, {"container": {"id": "containerd://2", "started": STARTED}}, ""),
        (Witness.CONTAINER, {"container": {"id": "containerd://1", "started": STARTED}}, "the same container"),
        (Witness.CONTAINER, {"container": {"id": "containerd://2", "started": EARLIER}}, "started before the fault"),
        (Witness.CONTAINER, {}, "the same container"),
        (Witness.PODS, {"pods": ["a", "b"], "pods_after": ["a", "c"]}, ""),
        (Witness.PODS, {"pods": ["a", "b"], "pods_during": [], "pods_after": ["a", "b"]}, ""),
        (Witness.PODS, {"pods": ["a"], "pods_during": ["a", "b"], "pods_after": ["a", "b"]}, "still there"),
        (Witness.PODS, {}, "still there"),
        (Witness.PODS, {"pods": ["a"]}, "still there"),  # both looks failed
        (Witness.PODS, {"pods": ["a"], "pods_after": ["a"]}, "still there"),
        (Witness.PODS, {"pods": ["a"], "pods_during": ["a"]}, "still there"),
        (Witness.PODS, {"pods": [], "pods_during": ["b"], "pods_after": ["c"]}, "still there"),
        (Witness.PODS, {"pods": ["a"], "pods_during": ["b"]}, ""),
        (Witness.CONTAINER, {"container": {"id": "", "started": STARTED}}, "the same container"),
        (Witness.SILENCE, {"answered_before": True}, "went on answering"),
        (Witness.SILENCE, {"answered_before": True, "answers": None}, "went on answering"),
        (Witness.SILENCE, {"answered_before": None, "states": ["T", "T", "R"]}, "does not say"),
        (Witness.PACKETS, {"packets": {"namespaces": 2, "dropped": 1}, "own": 3}, "met none"),
        (Witness.LIMIT, {"limit_before": 0.45, "limit": None, "used": 0.001}, "did not say"),
        (Witness.LIMIT, {"limit_before": 0.01, "limit": 0.45, "used": 0.001}, "did not say"),
        (Witness.LOADER, {"requests_before": 900, "requests": 0, "seconds": 3.0}, "counted -900 requests"),
        (Witness.LEASE, {"renewed_for": None}, "went on renewing"),
        (Witness.SILENCE, {"answered_before": True, "answers": False}, ""),
        (Witness.SILENCE, {"answered_before": True, "answers": True}, "went on answering"),
        (Witness.SILENCE, {"answered_before": None, "states": ["T", "T"]}, ""),
        (Witness.SILENCE, {"answered_before": False, "states": ["T"]}, ""),
        (Witness.SILENCE, {"answered_before": None, "states": ["T", "S"]}, "does not say"),
        (Witness.SILENCE, {"answered_before": None, "states": []}, "does not say"),
        (Witness.SILENCE, {"answered_before": False, "answers": False}, "does not say"),
        (Witness.FILES, {"files": [{"spare": 0}, {"spare": 2}, {}]}, ""),
        (Witness.FILES, {"files": [{"spare": 0}, {"spare": 9}]}, "may still open files"),
        (Witness.FILES, {"files": [{}]}, "may still open files"),  # every process had gone
        (Witness.FILES, {}, "may still open files"),
        (Witness.PACKETS, {"packets": {"namespaces": 2, "dropped": 9}}, ""),
        (Witness.PACKETS, {"packets": {"namespaces": 2, "dropped": 0}}, "met none"),
        (Witness.PACKETS, {"packets": {"namespaces": 0, "dropped": 0}}, "no rule"),
        (Witness.PACKETS, {}, "no rule"),
        (Witness.PACKETS, {"packets": {"namespaces": 1, "dropped": 1}, "own": 1}, "met none"),
        (Witness.PACKETS, {"packets": {"namespaces": 1, "dropped": 4}, "own": 1}, ""),
        (Witness.LINK, {"packets": {"delayed": 90, "dropped": 3, "held_back": 0}}, ""),
        (Witness.LINK, {"packets": {"delayed": 90, "dropped": 0}}, "was dropped"),
        (Witness.LINK, {"packets": {"delayed": 0, "dropped": 5}}, "was delayed"),
        (Witness.LINK, {}, "was delayed, dropped"),
        (Witness.LEASE, {"renewed_for": 12.4}, ""),
        (Witness.LEASE, {"renewed_for": 3.0}, "went on renewing"),
        (Witness.LEASE, {}, "went on renewing"),
        (Witness.USAGE, {"cores": 0.4, "mib": 70.0}, ""),
        (Witness.USAGE, {"cores": 0.01, "mib": 70.0}, "used 0.01 cores"),
        (Witness.USAGE, {"cores": 0.4, "mib": 5.0}, "held 5 MiB"),
        (Witness.USAGE, {}, "used 0.00 cores"),
        (Witness.LIMIT, {"limit_before": 0.45, "limit": 0.01, "used": 0.011}, ""),
        (Witness.LIMIT, {"limit_before": 0.45, "limit": 0.01, "used": None}, ""),
        (Witness.LIMIT, {"limit_before": 0.45, "limit": 0.45, "used": 0.1}, "did not say"),
        (Witness.LIMIT, {"limit_before": 0.45, "limit": 0.01, "used": 0.2}, "with a limit of"),
        (Witness.LIMIT, {}, "did not say"),
        (Witness.LOADER, {"requests_before": 10, "requests": 900, "seconds": 3.0}, ""),
        (Witness.LOADER, {"requests_before": 10, "requests": 11, "seconds": 3.0}, "counted 1 requests"),
        (Witness.LOADER, {}, "counted 0 requests"),
        (Witness.NONE, {}, "nothing but the fault itself"),
    ],
)
def test_a_fault_that_nothing_else_saw_was_not_seen_to_act(witness: Witness, seen: dict[str, Any], doubt: str) -> None:
    asked = {"delay_ms": 50, "loss": 0.1, "cores": 1, "memory_mib": 64}
    found = detect_no_effect(witness, seen, target=TARGET, began=BEGAN, asked=asked)
    assert bool(found) is bool(doubt)
    assert doubt in found


@pytest.mark.parametrize("witness", [Witness.USAGE, Witness.LINK])
@pytest.mark.parametrize("asked", [{}, {"cores": 0, "memory_mib": 0, "delay_ms": 0, "loss": 0.0}])
def test_a_fault_of_which_nothing_was_asked_was_not_seen_to_act(witness: Witness, asked: dict[str, Any]) -> None:
    seen = {"cores": 3.0, "mib": 900.0, "packets": {"namespaces": 1, "delayed": 9, "dropped": 9}}
    assert "nothing was asked" in detect_no_effect(witness, seen, target=TARGET, began=BEGAN, asked=asked)


ERRORS, SLOW, EXPIRED = {"answer": "errors", "delay": 5.0}, {"answer": "slow", "delay": 5.0}, {"life": 2.0}
SOUND = {"proxies": 3, "connected": 3, "certificates": 6, "good_certificates": 6}


@pytest.mark.parametrize(
    ("asked", "seen", "doubt"),
    [
        (ERRORS, {"before": SOUND, "during": {**SOUND, "connected": 0}}, ""),
        (ERRORS, {"before": SOUND, "during": SOUND}, "3 proxies are connected"),
        (ERRORS, {"before": {**SOUND, "connected": 0}, "during": {**SOUND, "connected": 0}}, "no proxy was connected"),
        (ERRORS, {"before": SOUND}, "shows what it got"),
        (ERRORS, {}, "shows what it got"),
        (SLOW, {"before": SOUND, "during": SOUND, "push_before": 0.3, "push": None}, ""),
        (SLOW, {"before": SOUND, "during": SOUND, "push_before": 0.3, "push": 0.4}, "within 0.4 s"),
        (SLOW, {"before": SOUND, "during": SOUND, "push_before": None, "push": None}, "even before"),
        (SLOW, {"before": SOUND, "during": SOUND, "push_before": 0.3}, "nobody saw"),  # the look failed
        (EXPIRED, {"before": SOUND, "during": {**SOUND, "good_certificates": 0}}, ""),
        (EXPIRED, {"before": SOUND, "during": {**SOUND, "good_certificates": 1}}, "1 of 6 certificates"),
        (EXPIRED, {"before": SOUND, "during": {**SOUND, "certificates": 0, "good_certificates": 0}}, "0 of 0"),
        (EXPIRED, {"before": {**SOUND, "good_certificates": 0}, "during": SOUND}, "before the fault"),
    ],
)
def test_a_control_plane_is_believed_by_what_its_proxies_got(
    asked: dict[str, Any], seen: dict[str, Any], doubt: str
) -> None:
    found = detect_no_effect(Witness.PLANE, seen, target=TARGET, began=BEGAN, asked=asked)
    assert bool(found) is bool(doubt)
    assert doubt in found


@pytest.mark.parametrize(
    ("seen", "acted"),
    [
        ({"misanswered_before": 0, "misanswered": 12}, True),
        ({"misanswered_before": 40, "misanswered": 41}, True),
        ({"misanswered_before": 40, "misanswered": 3}, True),  # its counts went with an earlier fault
        ({"misanswered_before": 0, "misanswered": 0}, False),
        ({"misanswered_before": 40, "misanswered": 40}, False),
        ({"misanswered_before": 40, "misanswered": 0}, False),
        ({"misanswered_before": 0}, False),
        ({}, False),
    ],
)
def test_a_proxy_misanswers_if_its_own_counts_say_so(seen: dict[str, Any], acted: bool) -> None:
    found = detect_no_effect(Witness.REQUESTS, seen, target=TARGET, began=BEGAN)
    assert ("misanswered no request" in found) is not acted


def test_what_a_proxy_answers_in_its_servers_place_is_read_from_its_page() -> None:
    page = "\n".join(
        (
            'envoy_http_fault_aborts_injected{envoy_http_conn_manager_prefix="a"} 3',
            'envoy_http_fault_aborts_injected{envoy_http_conn_manager_prefix="b"} 4',
            'envoy_http_fault_delays_injected{envoy_http_conn_manager_prefix="a"} 5',
            'envoy_http_fault_faults_overflow{envoy_http_conn_manager_prefix="a"} 9',
            'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="a"} 900',
        )
    )
    assert onlookers.misanswered(page + "\n") == 12
    assert onlookers.misanswered("") == 0


@pytest.mark.parametrize(
    ("seen", "doubt"),
    [
        ({"asked_before": None, "asked": 3}, ""),
        ({"asked_before": None, "asked": None}, "met the trouble"),
        ({"asked_before": 1, "asked": 1}, "before the fault"),
        ({}, "met the trouble"),
    ],
)
def test_an_api_server_is_believed_by_what_it_answers_the_account(seen: dict[str, Any], doubt: str) -> None:
    found = detect_no_effect(Witness.API_SERVER, seen, target=TARGET, began=BEGAN)
    assert bool(found) is bool(doubt)
    assert doubt in found


@pytest.mark.parametrize(
    ("asked", "status", "seconds", "trouble"),
    [
        ({"code": 503}, 503, 0.0, True),
        ({"code": 503}, 200, 0.0, False),
        ({"code": 503, "delay": 2.0}, 503, 0.1, False),
        ({"delay": 2.0}, 200, 2.1, True),
        ({"delay": 2.0}, 200, 0.1, False),
        ({"silent": True}, 0, 1.0, True),
        ({"silent": True}, 200, 0.1, False),
    ],
)
def test_trouble_is_what_was_asked_for(asked: dict[str, Any], status: int, seconds: float, trouble: bool) -> None:
    assert is_trouble(asked, status=status, seconds=seconds) is trouble


PAGE = """\
# TYPE envoy_cluster_manager_cds_update_success counter
envoy_cluster_manager_cds_update_success{} 2
# TYPE envoy_control_plane_connected_state gauge
envoy_control_plane_connected_state{} 1
# TYPE envoy_listener_ssl_certificate_expiration_unix_time_seconds gauge
envoy_listener_ssl_certificate_expiration_unix_time_seconds{envoy_tls_certificate="ROOTCA",envoy_listener_address="a"} 9
# TYPE envoy_listener_ssl_certificate_local_ns_tenant_a_sa_server_expiration_unix_time_seconds gauge
envoy_listener_ssl_certificate_local_ns_tenant_a_sa_server_expiration_unix_time_seconds{envoy_tls_certificate="spiffe://cluster",envoy_listener_address="a"} 7
"""  # noqa: E501


def test_a_proxys_page_tells_its_connection_its_pushes_and_the_ends_of_its_own_certificates() -> None:
    assert (connected([PAGE, "", PAGE]), pushes([PAGE, PAGE]), certificate_ends([PAGE])) == (2, 4, [7.0])


def test_every_fault_has_a_second_witness() -> None:
    from chaos.faults.catalogue import fault_class

    assert [name for name in FAULTS if fault_class(name).witness is Witness.NONE] == []
