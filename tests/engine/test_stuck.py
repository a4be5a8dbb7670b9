"""What a load that does not get sound says: how its requests ended, who answered, and the likely cause."""

from __future__ import annotations

import pytest

from chaos.engine.stuck import explain_stuck
from chaos.load.outcomes import telling

BEFORE = {"due": 10, "ok": 4, "ends": {"RESET": 2}, "said": ""}


def after(ends: dict[str, int], *, said: str = "", due: int = 40, ok: int = 4) -> dict[str, object]:
    return {"due": due, "ok": ok, "ends": {"RESET": 2, **ends}, "said": said}


@pytest.mark.parametrize(
    ("ends", "said", "words"),
    [
        ({"REFUSED": 30}, "", "of 30 requests 0 were answered well: 30 x refused. likely: nothing listens there"),
        ({"RESET": 32}, "", "30 x reset. likely: the other side closed it: mutual TLS is demanded of a client"),
        ({"TIMEOUT": 30}, "", "protocol detection that waits for a client whose server speaks first (an opaque port)"),
        ({"CONNECT_TIMEOUT": 30}, "", "packets are dropped on the way: a NetworkPolicy"),
        ({"DNS": 30}, "", "the name is not known there"),
        (
            {"TLS": 30},
            "handshake: unable to get local issuer certificate",
            "30 x tls (handshake: unable to get local issuer certificate). likely: the server's certificate is not",
        ),
        ({"TLS": 30}, "", "the handshake between proxies is refused"),
        (
            {"STATUS 403": 30},
            "server: istio-envoy; RBAC: access denied",
            "a policy of the mesh denies it. a proxy of the",
        ),
        (
            {"STATUS 503": 30},
            "server: envoy; no healthy upstream",
            "(server: envoy; no healthy upstream). likely: a proxy has",
        ),
        ({"STATUS 500": 30}, "content: x", "no header of a proxy is in that answer: the application itself may have"),
        (
            {"TIMEOUT": 70},
            "",
            "of 70 requests 0 were answered well: 70 x timeout",
        ),  # more ended than fell due meanwhile
        ({"STATUS 503": 20, "RESET": 12}, "", "20 x status 503, 10 x reset"),
    ],
)
def test_the_commonest_end_decides_what_is_said(ends: dict[str, int], said: str, words: str) -> None:
    headers = ("server: istio-envoy", "server: envoy", "x-envoy-")
    assert words in explain_stuck(BEFORE, after(ends, said=said), headers=headers)


def test_nothing_that_fell_due_and_nothing_that_ended_are_said_as_such() -> None:
    assert "no request fell due" in explain_stuck(BEFORE, after({}, due=10))
    assert "have not ended yet" in explain_stuck(BEFORE, after({}))


def test_of_an_answer_the_lines_of_proxies_and_its_first_words_are_kept() -> None:
    head = b"HTTP/1.1 503 x\r\nserver: envoy\r\ndate: now\r\nx-envoy-a: 1\r\nl5d-proxy-error: fail-fast"
    assert telling(head, b"no  healthy\nupstream") == (
        "server: envoy; x-envoy-a: 1; l5d-proxy-error: fail-fast; no healthy upstream"
    )
    assert len(telling(head, b"x" * 5000)) == 240
