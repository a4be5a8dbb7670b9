"""IP addresses and networks in objects; valid ones may be written into nftables scripts."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from chaos.embedded.api.errors import wrong
from chaos.embedded.api.validation.names import Causes

ADDRESS_RULE: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
NETWORK_RULE: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_of(text: object) -> Address | None:
    """Parse an address; None for anything else, also for one with a zone, which may hold any text at all."""
    try:
        return ipaddress.ip_address(str(text)) if "%" not in str(text) else None
    except ValueError:
        return None


def network_of(text: object) -> Network | None:
    """Parse a network with its prefix length; None for anything else: a netmask, a zone."""
    address, _, prefix = str(text).partition("/")
    if address_of(address) is None or not (prefix.isascii() and prefix.isdigit()):
        return None
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return None


def leading_zeros(text: str) -> bool:
    return any(len(part) > 1 and part.startswith("0") and part.isdigit() for part in re.split("[./]", text))


def legacy_address(text: str, field: str) -> Causes:
    if address_of(text) is None:
        yield wrong(field, text, ADDRESS_RULE)


def network(text: str, field: str) -> Causes:
    if network_of(text) is None:
        yield wrong(field, text, NETWORK_RULE)


def strict_network(text: str, field: str) -> Causes:
    """As newer kinds have it: in its one canonical spelling."""
    found = network_of(text)
    if found is None:
        zeros = "must not have leading 0s in IP or prefix length"
        yield wrong(field, text, zeros if "/" in text and leading_zeros(text) else NETWORK_RULE)
    elif address_of(text.partition("/")[0]) != found.network_address:
        yield wrong(field, text, "must not have bits set beyond the prefix length")


def endpoint_address(text: str, field: str) -> Causes:
    """Validate an endpoint's address."""
    address = address_of(text)
    if address is None:
        yield wrong(field, text, "must be a valid IP address")
        return
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # ::ffff:127.0.0.1 leads to 127.0.0.1
    if address.is_unspecified:
        yield wrong(field, text, f"may not be unspecified ({text})")
    if address.is_loopback:
        yield wrong(field, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        yield wrong(field, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if address.is_multicast and str(address).startswith(("224.0.0.", "ff02:")):
        yield wrong(field, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
