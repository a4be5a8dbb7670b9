"""Links, addresses and routes of one network namespace, over a netlink socket opened in it.

Holds the few requests that the cluster's wiring needs, written against linux/rtnetlink.h and linux/if_link.h: attaching
a pod then takes about a millisecond and no library. The socket keeps its namespace, so any thread may use it; each call
is one system call to send and one to read the kernel's answer.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from typing import Final

from chaos.embedded.network.netns import Namespace

_NLMSG_ERROR: Final = 2
_REQUEST, _ACK, _EXCL, _CREATE, _REPLACE = 0x1, 0x4, 0x200, 0x400, 0x100
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _NEWROUTE = 20, 24
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_IFLA_OPERSTATE, _OPER_UP, _CARRIER_SECONDS = 16, 6, 2.0
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER: Final = 1
_BRPORT_ISOLATED: Final = 33
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_RTNH_F_ONLINK: Final = 4
_IFF_UP: Final = 1
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST = 254, 4, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-length % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _nested(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | 0x8000, b"".join(attributes))


def _link_header(*, index: int = 0, up: bool | None = None) -> bytes:
    flags, change = (0, 0) if up is None else (_IFF_UP if up else 0, _IFF_UP)
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


class Links:
    """The links of one namespace. Errors are OSError with the kernel's errno."""

    def __init__(self, namespace: Namespace) -> None:
        self._socket = namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, kind: int, flags: int, payload: bytes, what: str) -> bytes:
        """Send one request; return the kernel's answer, empty for a bare acknowledgement."""
        self._sequence += 1
        self._socket.send(struct.pack("=IHHII", 16 + len(payload), kind, _REQUEST | flags, self._sequence, 0) + payload)
        while True:
            data = self._socket.recv(65536)
            length, answer, _, sequence, _ = struct.unpack_from("=IHHII", data)
            if sequence != self._sequence:
                continue  # the answer to a request that was interrupted
            if answer != _NLMSG_ERROR:
                return data[16:length]
            (code,) = struct.unpack_from("=i", data, 16)
            if code:
                raise OSError(-code, f"{what}: {os.strerror(-code)}")
            return b""

    def index(self, name: str) -> int:
        """The link's index; OSError ENODEV when there is none of that name."""
        answer = self._ask(_GETLINK, 0, _link_header() + _text(_IFLA_IFNAME, name), f"find link {name}")
        index: int = struct.unpack_from("=BxHi", answer)[2]
        return index

    def add_bridge(self, name: str, hardware: bytes) -> int:
        """Add a bridge, up, with a fixed MAC: an unset one would change with every port."""
        payload = (
            _link_header(up=True)
            + _text(_IFLA_IFNAME, name)
            + _attribute(_IFLA_ADDRESS, hardware)
            + _nested(_IFLA_LINKINFO, _text(_INFO_KIND, "bridge"))
        )
        self._ask(_NEWLINK, _ACK | _CREATE | _EXCL, payload, f"add bridge {name}")
        return self.index(name)

    def add_veth(self, name: str, *, master: int, peer: str, peer_namespace: Namespace, peer_hardware: bytes) -> int:
        """Add a veth pair: `name` here, up, a port of bridge `master`; `peer`, down, in the other namespace."""
        other = (
            _link_header()
            + _text(_IFLA_IFNAME, peer)
            + _attribute(_IFLA_ADDRESS, peer_hardware)
            + _number(_IFLA_NET_NS_FD, peer_namespace.fd)
        )
        payload = (
            _link_header(up=True)
            + _text(_IFLA_IFNAME, name)
            + _number(_IFLA_MASTER, master)
            + _nested(
                _IFLA_LINKINFO, _text(_INFO_KIND, "veth"), _nested(_INFO_DATA, _attribute(_VETH_INFO_PEER, other))
            )
        )
        self._ask(_NEWLINK, _ACK | _CREATE | _EXCL, payload, f"add link {name}")
        return self.index(name)

    def isolate(self, index: int) -> None:
        """Isolate the bridge port: it reaches the bridge itself and no other isolated port."""
        port = _nested(_INFO_SLAVE_DATA, _attribute(_BRPORT_ISOLATED, b"\1"))
        payload = _link_header(index=index) + _nested(_IFLA_LINKINFO, _text(_INFO_SLAVE_KIND, "bridge"), port)
        self._ask(_NEWLINK, _ACK, payload, "isolate bridge port")

    def set_up(self, index: int) -> None:
        self._ask(_NEWLINK, _ACK, _link_header(index=index, up=True), "set link up")

    def await_carrier(self, index: int) -> None:
        """Wait until the kernel has acted on the link's carrier: before that a port forwards nothing and a link drops
        packets.

        The kernel's link watch may otherwise take up to a second. Querying a link makes it catch up (since Linux 6.8,
        and for ethtool's query since long before); elsewhere, wait. Raises TimeoutError after two seconds.
        """
        deadline = time.monotonic() + _CARRIER_SECONDS
        while self._operational_state(index) != _OPER_UP:
            if time.monotonic() > deadline:
                raise TimeoutError(f"link {index} has no carrier after {_CARRIER_SECONDS} s: its other end is down")
            time.sleep(0.001)

    def _operational_state(self, index: int) -> int:
        answer, at = self._ask(_GETLINK, 0, _link_header(index=index), "look at link"), 16
        while at + 4 <= len(answer):
            length, kind = struct.unpack_from("=HH", answer, at)
            if kind == _IFLA_OPERSTATE:
                return answer[at + 4]
            at += (length + 3) & ~3
        return 0

    def set_master(self, index: int, master: int) -> None:
        """Make the link a port of a bridge; 0 removes it from its bridge."""
        self._ask(_NEWLINK, _ACK, _link_header(index=index) + _number(_IFLA_MASTER, master), "set link's bridge")

    def delete(self, name: str) -> bool:
        """Delete the link and with it its peer; False when there is none."""
        try:
            self._ask(_DELLINK, _ACK, _link_header() + _text(_IFLA_IFNAME, name), f"delete link {name}")
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def add_address(self, index: int, address: str, prefix: int) -> None:
        packed = socket.inet_aton(address)
        payload = (
            struct.pack("=BBBBi", socket.AF_INET, prefix, 0, _SCOPE_UNIVERSE, index)
            + _attribute(_IFA_LOCAL, packed)
            + _attribute(_IFA_ADDRESS, packed)
        )
        self._ask(_NEWADDR, _ACK | _CREATE | _EXCL, payload, f"add address {address}")

    def add_route(
        self, destination: str, prefix: int, *, link: int, gateway: str | None = None, source: str | None = None
    ) -> None:
        """Route a network (0.0.0.0/0: all) over a link, replacing an existing route. A gateway needs no route of its
        own.
        """
        scope = _SCOPE_UNIVERSE if gateway else _SCOPE_LINK
        payload = struct.pack(
            "=BBBBBBBBI",
            socket.AF_INET,
            prefix,
            0,
            0,
            _RT_TABLE_MAIN,
            _RTPROT_STATIC,
            scope,
            _RTN_UNICAST,
            _RTNH_F_ONLINK if gateway else 0,
        )
        if prefix:
            payload += _attribute(_RTA_DST, socket.inet_aton(destination))
        payload += _number(_RTA_OIF, link)
        if gateway:
            payload += _attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        if source:
            payload += _attribute(_RTA_PREFSRC, socket.inet_aton(source))
        self._ask(_NEWROUTE, _ACK | _CREATE | _REPLACE, payload, f"route {destination}/{prefix}")
