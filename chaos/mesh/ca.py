"""The mesh's own certificate authority: ECDSA P-256, short-lived leaf certificates with one SPIFFE identity each.

Its key lives in a Secret of the system namespace, so that a restarted control plane goes on with the same root. Every
proxy gets a key of its own for each identity that it holds: a stolen key tells whose proxy it was taken from.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chaos.names import TRUST_DOMAIN

_SKEW: Final = datetime.timedelta(minutes=1)  # clocks of nodes differ
_ROOT_LIFE: Final = datetime.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Issued:
    """A leaf certificate with its key, both PEM."""

    certificate: bytes
    key: bytes
    serial: str
    public_key_sha256: str  # of the SubjectPublicKeyInfo: names a key without giving it away
    not_before: float
    not_after: float


class Authority:
    """Issues leaf certificates. Thread-safe: holds no state but its key.

    Attributes:
        root_pem: its own certificate.
        trusted: what its members trust: that, and other roots while one follows another.
        fingerprint: of its public key.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, *, also: bytes = b"") -> None:
        self._certificate = certificate
        self._key = key
        self.root_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.trusted = self.root_pem + also
        self.fingerprint = fingerprint(key.public_key())

    @classmethod
    def new(cls, now: datetime.datetime | None = None) -> Authority:
        """Make a new root."""
        now = now or datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sharedfate mesh root")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + _ROOT_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}")]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def loaded(cls, certificate_pem: bytes, key_pem: bytes, also: bytes = b"") -> Authority:
        """Load a stored root; raises ValueError when certificate and key do not match. `also`: other roots that are
        trusted, PEM.
        """
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("the authority's key does not belong to its certificate")
        return cls(certificate, key, also=also)

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self._key)

    def issue(self, uri: str, *, seconds: float, now: datetime.datetime | None = None) -> Issued:
        """Issue a certificate for one SPIFFE id, usable as client and as server."""
        return self._issue([x509.UniformResourceIdentifier(uri)], None, seconds, now)

    def issue_server(self, *names: str, seconds: float) -> Issued:
        """Issue a certificate for DNS names: the control plane's own."""
        return self._issue([x509.DNSName(name) for name in names], names[0], seconds, None)

    def _issue(
        self,
        alternatives: list[x509.GeneralName],
        common_name: str | None,
        seconds: float,
        now: datetime.datetime | None,
    ) -> Issued:
        now = now or datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        end = now + datetime.timedelta(seconds=seconds)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - _SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=common_name is None)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            certificate.public_bytes(serialization.Encoding.PEM),
            _key_pem(key),
            f"{serial:x}",
            fingerprint(key.public_key()),
            now.timestamp(),
            end.timestamp(),
        )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def fingerprint(public_key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of a public key's SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(
        public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()
