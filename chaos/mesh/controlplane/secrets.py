"""Secrets for one proxy: the trust bundle, and a certificate with a key of its own for each identity it may hold.

Reissued at two thirds of their life; a reissue is an ordinary update of the same name, so that no connection is lost.
Every issue and every refusal goes to the log, by public key: it names a private key without giving it away.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any, Final

from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.any_pb2 import Any as AnyMessage

from chaos.mesh.ca import Authority, Issued
from chaos.mesh.controlplane.xds import SECRET
from chaos.mesh.snapshot import ROOT_SECRET, ProxyRole
from chaos.model.placement import Proxy

RENEW_AT: Final = 2 / 3


@dataclass(frozen=True, slots=True)
class SecretResource:
    """A packed Secret."""

    name: str
    version: str
    packed: Any


@dataclass(frozen=True, slots=True)
class Handed:
    """One line of the log: an identity given to a proxy, or refused."""

    at: float
    proxy: str  # namespace/pod
    proxy_uid: str
    node: str
    identity: str
    refused: bool = False
    reason: str = ""
    serial: str = ""
    public_key_sha256: str = ""
    issuer_sha256: str = ""  # of the public key of the root that issued it
    not_after: float = 0.0


class HandedLog:
    """The latest entries, oldest first."""

    def __init__(self, size: int = 20_000) -> None:
        self._lines: deque[Handed] = deque(maxlen=size)

    def add(self, line: Handed) -> None:
        self._lines.append(line)

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(line) for line in self._lines]


class ProxySecrets:
    """The secrets of one proxy's stream.

    Args:
        seconds: life of its certificates. Set to another, each is issued anew when it is next asked for.
    """

    def __init__(
        self, proxy: Proxy, authority: Authority, log: HandedLog, *, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._proxy = proxy
        self._who = f"{proxy.namespace}/{proxy.pod}"
        self._authority = authority
        self._log = log
        self.seconds = seconds
        self._clock = clock
        self._issued: dict[str, tuple[Issued, SecretResource]] = {}
        self._refused: set[str] = set()
        self._life = seconds  # what the certificates were issued with
        self._expiring = False  # a fault asked for it: they are not renewed
        root = Secret(name=ROOT_SECRET)
        root.validation_context.trusted_ca.inline_bytes = authority.trusted
        self._root = _packed(root)

    def wanted(
        self, asked: Collection[str], allowed: Collection[str], *, life: float = 0.0
    ) -> dict[str, SecretResource]:
        """Return the resources for the requested names; disallowed names are left out, and logged once.

        `life`: seconds that a fault asks for instead of the usual ones; such certificates are left to expire.
        """
        now, found = self._clock(), {}
        asked_life = life or self.seconds
        if asked_life != self._life or bool(life) is not self._expiring:
            self._issued.clear()
            self._life, self._expiring = asked_life, bool(life)
        for name in asked:
            if name == ROOT_SECRET:
                found[name] = self._root
            elif name in allowed:
                self._refused.discard(name)
                found[name] = self._certificate(name, now)
            elif name not in self._refused:
                self._refused.add(name)
                reason = f"a {ProxyRole.of(self._proxy)} of {self._proxy.key} may not hold it"
                self._log.add(Handed(now, self._who, self._proxy.uid, self._proxy.node, name, True, reason))
        for name in self._issued.keys() - found.keys():
            del self._issued[name]
        return found

    def _certificate(self, name: str, now: float) -> SecretResource:
        if name in self._issued and (self._expiring or now < self._renewal(self._issued[name][0])):
            return self._issued[name][1]
        issued = self._authority.issue(name, seconds=self._life)
        secret = Secret(name=name)
        secret.tls_certificate.certificate_chain.inline_bytes = issued.certificate
        secret.tls_certificate.private_key.inline_bytes = issued.key
        resource = _packed(secret)
        self._issued[name] = issued, resource
        self._log.add(
            Handed(
                now,
                self._who,
                self._proxy.uid,
                self._proxy.node,
                name,
                serial=issued.serial,
                public_key_sha256=issued.public_key_sha256,
                issuer_sha256=self._authority.fingerprint,
                not_after=issued.not_after,
            )
        )
        return resource

    @staticmethod
    def _renewal(issued: Issued) -> float:
        return issued.not_before + RENEW_AT * (issued.not_after - issued.not_before)

    def next_renewal(self) -> float | None:
        """When the first certificate is due to be reissued."""
        if self._expiring:
            return None
        return min((self._renewal(issued) for issued, _ in self._issued.values()), default=None)


def _packed(secret: Any) -> SecretResource:
    data = secret.SerializeToString(deterministic=True)
    return SecretResource(
        secret.name, hashlib.blake2b(data, digest_size=8).hexdigest(), AnyMessage(type_url=SECRET, value=data)
    )
