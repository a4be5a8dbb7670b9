"""Questions and false answers of the DNS helper."""

from __future__ import annotations

import socket

import pytest

from chaos.inpod.dns_helper import Wrong, nameserver, plan_answer, plan_question, question


def test_a_lie_answers_addresses_and_a_failure_says_its_code() -> None:
    asked = plan_question("server.tenant-a.svc.cluster.local")
    name, kind, _ = question(asked)
    assert (name, kind) == ("server.tenant-a.svc.cluster.local", 1)
    lie = plan_answer(asked, Wrong("lie", "192.0.2.1", ()))
    assert lie is not None
    assert lie.endswith(socket.inet_aton("192.0.2.1"))
    for answer, code in (("servfail", 2), ("nxdomain", 3)):
        said = plan_answer(asked, Wrong(answer, "192.0.2.1", ()))
        assert said is not None
        assert said[3] & 0x0F == code
    assert plan_answer(asked, Wrong("silence", "192.0.2.1", ())) is None


def test_names_are_meant_by_their_ends() -> None:
    wrong = Wrong("lie", "192.0.2.1", ("tenant-a.svc",))
    assert [wrong.meant(name) for name in ("x.tenant-a.svc", "tenant-a.svc", "xtenant-a.svc", "y.tenant-b.svc")] == [
        True,
        True,
        False,
        False,
    ]


def test_what_is_no_question_is_not_answered() -> None:
    with pytest.raises(ValueError, match="not a question"):
        question(b"\0" * 11)


def test_the_first_name_server_is_asked() -> None:
    assert nameserver("search x\nnameserver 10.96.0.10\nnameserver 1.1.1.1\n") == "10.96.0.10"
    with pytest.raises(LookupError):
        nameserver("search x\n")
