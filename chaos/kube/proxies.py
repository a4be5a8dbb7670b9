"""Chooses the HTTP proxy to an API server: the kubeconfig's, else the environment's, by the rules of Kubernetes' Go
clients.

The rules are those of golang.org/x/net/http/httpproxy, which client-go uses: loop-back is never proxied by the
environment, and NO_PROXY holds names, addresses and ranges (CIDR), each with an optional port. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from chaos.fields import whole_number

_PORTS: Final = {"http": 80, "https": 443}


def proxy_for(url: str, environment: Mapping[str, str], *, configured: str = "") -> str:
    """Return the proxy's URL; "" for none.

    Args:
        url: of the API server.
        environment: variables, of either case; the upper case goes first.
        configured: `proxy-url` of the kubeconfig, which goes before the environment and knows no exception.
    """
    if configured:
        return configured
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    proxy = _variable(environment, f"{parts.scheme}_proxy")
    if not proxy or _is_loopback(host) or is_excepted(host, port, _variable(environment, "no_proxy")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether a NO_PROXY list names the host: `*`, an address, a range, a domain (with its subdomains), or `.domain`
    (subdomains only), each with an optional `:port`.
    """
    return any(_names(entry, host.lower().rstrip("."), port) for entry in exceptions.lower().split(","))


def _names(entry: str, host: str, port: int) -> bool:
    entry = entry.strip()
    if not entry:
        return False
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted = _split_port(entry)
    if wanted and wanted != port:
        return False
    if (other := _address(name)) is not None:
        return other == address
    below = name[1:] if name.startswith("*.") else name  # "*.domain" is ".domain"
    return host.endswith(below) if below.startswith(".") else host == below or host.endswith(f".{below}")


def _split_port(entry: str) -> tuple[str, int]:
    if _address(entry) is not None:  # an IPv6 address has colons of its own
        return entry, 0
    name, colon, port = entry.rpartition(":")
    number = whole_number(port)
    return (entry, 0) if not colon or number is None else (name, number)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name) or ""
