"""Delays what a network namespace sends, except for spared ports, in user space: it also works on kernels without
netem.

A rule in front of the main routing table leads everything that leaves into a TUN device; this process reads the
packets, holds each for its time, and puts them on the wire itself, to the gateway that they would have gone to. The
device lives as long as this process: when it dies, however it dies, the route goes with the device and traffic takes
its usual way.

Only what is sent is delayed (a round trip grows by the delay once), only IPv4, and only through the namespace's default
gateway. A few ten thousand packets a second are the limit; each costs about ten microseconds.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import socket
import stat
import struct
import subprocess
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

DEVICE: Final = "sf-delay"
TABLE: Final = 5390
PREFERENCE: Final = 90  # of the rule: after the local table, before the main one
SPARING: Final = 89  # of the rules for spared ports: before that
QUEUE: Final = 20_000  # packets held at most; more are dropped, as a full buffer does
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x1, 0x1000
_ETHERTYPE_IPV4: Final = 0x0800
_TUN: Final = Path("/dev/net/tun")


@dataclass(frozen=True, slots=True)
class Uplink:
    """Where the namespace's packets leave by."""

    device: str
    gateway: str
    source: str
    mtu: int


def detect_uplink(routes: list[dict[str, Any]], addresses: list[dict[str, Any]]) -> Uplink:
    """The default route, from `ip -j route` and `ip -j address`. Raises LookupError when there is none through a
    gateway.
    """
    route = next((one for one in routes if one.get("dst") == "default" and "gateway" in one), None)
    if route is None:
        raise LookupError("no default route through a gateway: nothing leaves this namespace that could be delayed")
    link = next(one for one in addresses if one["ifname"] == route["dev"])
    source = next(one["local"] for one in link["addr_info"] if one["family"] == "inet" and one["scope"] == "global")
    return Uplink(route["dev"], route["gateway"], source, link["mtu"])


def _ip(*arguments: str) -> Any:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout) if done.stdout.strip() and arguments[0] == "-j" else None


def uplink() -> Uplink:
    """Return the uplink of this process's namespace."""
    return detect_uplink(_ip("-j", "route", "show", "table", "main"), _ip("-j", "-4", "address"))


def _hardware(link: Uplink, seconds: float = 2.0) -> bytes:
    """Return the gateway's MAC; resolve it first if nobody has."""
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        while time.monotonic() < end:
            for entry in _ip("-j", "neighbour", "show", "to", link.gateway, "dev", link.device) or ():
                if "lladdr" in entry:
                    return bytes.fromhex(entry["lladdr"].replace(":", ""))
            probe.sendto(b"", (link.gateway, 9))  # the discard port: only the question for the MAC matters
            time.sleep(0.01)  # there is no event for a neighbour entry short of another netlink socket
    raise LookupError(f"gateway {link.gateway} does not tell its MAC address")


def _open_tun() -> int:
    if not _TUN.exists():  # a container's own /dev; the kernel's device is there
        _TUN.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(_TUN, stat.S_IFCHR | 0o600, os.makedev(10, 200))
    handle = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return handle


def remove_rule() -> bool:
    """Remove the rule; return False when there was none. The device and its route went with their process."""
    found = False
    for preference in (PREFERENCE, SPARING):
        while any(rule.get("priority") == preference for rule in _ip("-j", "rule", "show") or ()):
            _ip("rule", "del", "priority", str(preference))
            found = True
    return found


class DelayLine:
    """Use in the target's namespace: `with DelayLine(…) as line: line.run(stop, seconds)`."""

    def __init__(
        self, *, delay: float, jitter: float = 0.0, seed: int = 0, spared: frozenset[int] = frozenset()
    ) -> None:
        """Hold each packet `delay` ± `jitter` seconds (uniform); with jitter packets may overtake each other. Those
        from and to the spared TCP ports take their usual way."""
        self._delay, self._jitter, self._spared = delay, jitter, spared
        self._chance = random.Random(seed)
        self._held: list[tuple[float, int, bytes]] = []
        self._order = count()
        self.passed = self.dropped = 0

    def __enter__(self) -> DelayLine:
        link = uplink()
        hardware = _hardware(link)
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self._to = (link.device, _ETHERTYPE_IPV4, 0, 0, hardware)
        self._tun = _open_tun()
        try:
            _ip("link", "set", DEVICE, "mtu", str(link.mtu), "up")
            _ip("route", "replace", "default", "dev", DEVICE, "src", link.source, "table", str(TABLE))
            remove_rule()
            for port in sorted(self._spared):
                for side in ("sport", "dport"):
                    # By number: its name is in /etc/protocols, which a slim image has not.
                    protocol = str(socket.IPPROTO_TCP)
                    _ip("rule", "add", "priority", str(SPARING), "ipproto", protocol, side, str(port), "lookup", "main")
            _ip("rule", "add", "priority", str(PREFERENCE), "lookup", str(TABLE))
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        remove_rule()
        for _due, _number, packet in sorted(self._held):  # nothing that was sent is lost
            self._send(packet)
        self._held.clear()
        os.close(self._tun)
        self._wire.close()

    def run(self, stop: int, seconds: float) -> str:
        """Pass packets on until the descriptor `stop` is readable ("told") or the time is over ("deadline")."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            due = self._held[0][0] if self._held else end
            readable, _, _ = select.select([self._tun, stop], [], [], max(0.0, min(due, end) - now))
            if stop in readable:
                return "told"
            if self._tun in readable:
                self._take()
            self._release(time.monotonic())
        return "deadline"

    def _take(self) -> None:
        now = time.monotonic()
        for _ in range(64):  # then see what is due
            try:
                packet = os.read(self._tun, 65536)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:
                continue
            if len(self._held) >= QUEUE:
                self.dropped += 1
                continue
            extra = self._chance.uniform(-self._jitter, self._jitter) if self._jitter else 0.0
            heapq.heappush(self._held, (now + max(0.0, self._delay + extra), next(self._order), packet))

    def _release(self, now: float) -> None:
        while self._held and self._held[0][0] <= now:
            self._send(heapq.heappop(self._held)[2])

    def _send(self, packet: bytes) -> None:
        try:
            self._wire.sendto(packet, self._to)
            self.passed += 1
        except OSError:  # the link is down or full: a wire loses packets then
            self.dropped += 1
