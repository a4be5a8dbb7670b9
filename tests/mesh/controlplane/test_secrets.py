"""What a proxy's stream is given: when a certificate is issued anew, and whom its members trust."""

from __future__ import annotations

import pytest
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from chaos.mesh.ca import Authority
from chaos.mesh.controlplane.secrets import HandedLog, ProxySecrets, SecretResource
from chaos.mesh.snapshot import ROOT_SECRET
from chaos.model.modes import Layer, Scope
from chaos.model.placement import Proxy

NAME = "spiffe://cluster.local/ns/a/sa/a"
PROXY = Proxy("s", "p", "proxy", "u", "node-1", frozenset(Layer), Scope.NODE, "node-1", "node-proxy")


class Stream:
    """One proxy's secrets, on a clock that is set by hand."""

    def __init__(self, authority: Authority, *, seconds: float = 60.0) -> None:
        self.now, self.log = 0.0, HandedLog()
        self.secrets = ProxySecrets(PROXY, authority, self.log, seconds=seconds, clock=lambda: self.now)

    def version(self, *, life: float = 0.0) -> str:
        return self.secrets.wanted([NAME], [NAME], life=life)[NAME].version


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


def unpacked(found: SecretResource) -> Secret:
    secret = Secret()
    secret.ParseFromString(found.packed.value)
    return secret


def test_a_certificate_stays_until_its_life_is_changed_and_is_issued_anew_then(authority: Authority) -> None:
    stream = Stream(authority)
    first = stream.version()
    assert stream.version() == first
    stream.secrets.seconds = 30.0
    second = stream.version()
    assert second != first
    assert stream.version() == second
    lives = [round(line["not_after"] - authority_now) for line, authority_now in stamped(stream)]
    assert lives == [60, 30]


def stamped(stream: Stream) -> list[tuple[dict[str, float], float]]:
    """The lines of the log, each with when its certificate was issued, to a second or so."""
    lines = stream.log.as_json()
    begin = lines[0]["not_after"] - 60
    return [(line, begin) for line in lines]


def test_what_a_fault_lets_expire_is_not_renewed_and_is_issued_anew_when_the_fault_is_over(
    authority: Authority,
) -> None:
    stream = Stream(authority)
    usual = stream.version()
    short = stream.version(life=2.0)
    assert short != usual
    assert stream.secrets.next_renewal() is None
    stream.now = 1e12
    assert stream.version(life=2.0) == short
    stream.now = 0.0
    assert stream.version() not in {usual, short}
    assert stream.secrets.next_renewal() is not None


def test_while_one_root_follows_another_members_trust_both() -> None:
    old, new = Authority.new(), Authority.new()
    both = Authority.loaded(old.root_pem, old.key_pem, new.root_pem)
    given = unpacked(Stream(both).secrets.wanted([ROOT_SECRET], [])[ROOT_SECRET])
    trusted = given.validation_context.trusted_ca.inline_bytes
    assert old.root_pem in trusted
    assert new.root_pem in trusted
    alone = unpacked(Stream(new).secrets.wanted([ROOT_SECRET], [])[ROOT_SECRET])
    assert alone.validation_context.trusted_ca.inline_bytes == new.root_pem
