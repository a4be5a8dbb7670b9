"""Trust in a webhook's serving certificate, with refusals in the words of Go's crypto/x509.

OpenSSL decides (every certificate of a caBundle is a trust anchor, as in Go's pools); `why_refused` only words its
decision. Without a caBundle the machine's own authorities count.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class BadBundle(ValueError):
    """A caBundle without a certificate."""


def trusting(bundle: str) -> ssl.SSLContext:
    """A client's TLS context that trusts only the base64 PEM certificates in `bundle`. Raises BadBundle."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.hostname_checks_common_name = False  # Go looks at the alternative names alone
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if not bundle:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    blocks = _blocks(bundle)
    if not blocks:
        raise BadBundle("unable to parse bytes as PEM block")
    try:
        context.load_verify_locations(cadata="\n".join(block.decode("ascii", "replace") for block in blocks))
    except (ssl.SSLError, ValueError):
        raise BadBundle("failed to parse certificate: x509: malformed certificate") from None
    return context


def _blocks(bundle: str) -> list[bytes]:
    try:
        return _PEM.findall(base64.b64decode(bundle))
    except (binascii.Error, ValueError):
        return []


def why_refused(der: bytes, host: str, bundle: str, otherwise: str) -> str:
    """Why a certificate was refused, checked in Go's order: time, name, signer. `otherwise`: OpenSSL's words for the
    rest.
    """
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        leaf = x509.load_der_x509_certificate(der)
    except ValueError:
        return f"x509: {otherwise}"
    now = datetime.now(UTC)
    if now > leaf.not_valid_after_utc or now < leaf.not_valid_before_utc:
        late = now > leaf.not_valid_after_utc
        bound = leaf.not_valid_after_utc if late else leaf.not_valid_before_utc
        return (
            f"x509: certificate has expired or is not yet valid: current time {_stamp(now)} is "
            f"{'after' if late else 'before'} {_stamp(bound)}"
        )
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
        addresses = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    except x509.ExtensionNotFound:
        common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if common and re.fullmatch(r"[-a-zA-Z0-9_.*]+", str(common[0].value)):
            return "x509: certificate relies on legacy Common Name field, use SANs instead"
        dns, addresses = [], []
    if wrong_name := _wrong_name(host, dns, addresses):
        return f"x509: {wrong_name}"
    return f"x509: certificate signed by unknown authority{_candidate(leaf, bundle)}"


def _wrong_name(host: str, dns: list[str], addresses: list[str]) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if any(_fits(pattern.lower(), host.lower()) for pattern in dns):
            return ""
        if not dns:
            return f"certificate is not valid for any names, but wanted to match {host}"
        return f"certificate is valid for {', '.join(dns)}, not {host}"
    if not addresses:
        return f"cannot validate certificate for {host} because it doesn't contain any IP SANs"
    return "" if str(address) in addresses else f"certificate is valid for {', '.join(addresses)}, not {host}"


def _fits(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.partition(".")[2] == pattern[2:]
    return host == pattern


def _candidate(leaf: x509.Certificate, bundle: str) -> str:
    """An authority with the signer's name and another key, which Go names."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    for block in _blocks(bundle):
        try:
            authority = x509.load_pem_x509_certificate(block)
        except ValueError:
            continue
        if authority.subject == leaf.issuer and authority != leaf:
            common = authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            name = str(common[0].value) if common else f"serial:{authority.serial_number}"
            of_rsa = isinstance(authority.public_key(), rsa.RSAPublicKey)
            why = "crypto/rsa: verification error" if of_rsa else "x509: ECDSA verification failure"
            return f' (possibly because of "{why}" while trying to verify candidate authority certificate "{name}")'
    return ""


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
