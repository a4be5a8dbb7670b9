"""Which serving certificates of webhooks are believed, by whom they must be signed, and how a refusal is worded."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from chaos.embedded.api.serving_certificates import BadBundle, trusting, why_refused
from tests.embedded.webhooks.injector import Server

HOST = "hook.ns.svc"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def bundle(self) -> str:
        return base64.b64encode(self.pem).decode()


def issue(
    name: str,
    *,
    by: Issued | None = None,
    names: tuple[str, ...] | None = (HOST,),
    days: tuple[int, int] = (-1, 1),
    authority: bool = False,
    kind: str = "ec",
) -> Issued:
    """Signed by another or, without one, by itself; `names` None: without the extension."""
    key: Key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False
        )
    return Issued(builder.sign(by.key if by is not None else key, hashes.SHA256()), key)


CA = issue("authority", authority=True, names=None)
MIDDLE = issue("middle", by=CA, authority=True, names=None)
OTHER = issue("authority", authority=True, names=None)
RSA = issue("authority", authority=True, names=None, kind="rsa")
SELF = issue("hook")
NOW = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
UNKNOWN = "x509: certificate signed by unknown authority"
CANDIDATE = r' \(possibly because of "{}" while trying to verify candidate authority certificate "authority"\)'

# the certificate, the bundle, what Go says of it ("" where it is believed)
ROWS = [
    ("signed by the bundle", issue("hook", by=CA), CA, ""),
    ("its own authority, as Linkerd's are", SELF, SELF, ""),
    ("signed by an authority in the middle that the bundle names", issue("hook", by=MIDDLE), MIDDLE, ""),
    ("a star", issue("hook", by=CA, names=("*.ns.svc",)), CA, ""),
    ("a stranger's", issue("hook", by=issue("nobody", authority=True, names=None)), CA, UNKNOWN),
    ("its own, of the same subject", issue("hook"), SELF,
     UNKNOWN + r' \(possibly because of "x509: ECDSA verification failure" while trying to verify candidate authority'
     r' certificate "hook"\)'),
    ("an authority of the same name", issue("hook", by=OTHER), CA,
     UNKNOWN + CANDIDATE.format("x509: ECDSA verification failure")),
    ("an authority of the same name with an RSA key", issue("hook", by=OTHER), RSA,
     UNKNOWN + CANDIDATE.format("crypto/rsa: verification error")),
    ("over", issue("hook", by=CA, days=(-3, -1)), CA,
     f"x509: certificate has expired or is not yet valid: current time {NOW} is after {NOW}"),
    ("not begun", issue("hook", by=CA, days=(1, 3)), CA,
     f"x509: certificate has expired or is not yet valid: current time {NOW} is before {NOW}"),
    ("of another name", issue("hook", by=CA, names=("a.ns.svc", "b.ns.svc")), CA,
     "x509: certificate is valid for a.ns.svc, b.ns.svc, not hook.ns.svc"),
    ("a star too high", issue("hook", by=CA, names=("*.svc",)), CA,
     r"x509: certificate is valid for \*.svc, not hook.ns.svc"),
    ("a common name alone", issue(HOST, by=CA, names=None), CA,
     "x509: certificate relies on legacy Common Name field, use SANs instead"),
    ("no name", issue("a hook", by=CA, names=None), CA,
     "x509: certificate is not valid for any names, but wanted to match hook.ns.svc"),
]  # fmt: skip


@contextmanager
def serving(one: Issued, folder: Path) -> Iterator[Server]:
    (folder / "crt").write_bytes(one.pem)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key").write_bytes(one.key.private_bytes(serialization.Encoding.PEM, form, plain))
    server = Server(str(folder / "crt"), str(folder / "key"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(("one", "authority", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_certificate_is_believed_or_refused_as_go_does(
    one: Issued, authority: Issued, said: str, tmp_path: Path
) -> None:
    context = trusting(authority.bundle)
    with serving(one, tmp_path) as server, socket.create_connection(("127.0.0.1", server.port)) as plain:
        if not said:
            with context.wrap_socket(plain, server_hostname=HOST) as wrapped:
                assert wrapped.version() in ("TLSv1.2", "TLSv1.3")
            return
        with pytest.raises(ssl.SSLCertVerificationError) as refused:
            context.wrap_socket(plain, server_hostname=HOST)
    assert re.fullmatch(said, why_refused(one.der, HOST, authority.bundle, str(refused.value)))


@pytest.mark.parametrize("bundle", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN KEY-----"])
def test_a_bundle_without_a_certificate_is_refused(bundle: bytes) -> None:
    text = base64.b64encode(bundle).decode()
    if not text:
        assert trusting(text).verify_mode is ssl.CERT_REQUIRED  # the machine's own authorities
        return
    with pytest.raises(BadBundle, match="unable to parse bytes as PEM block"):
        trusting(text)
