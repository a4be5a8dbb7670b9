"""The rules of a fault in a network namespace, as text for `nft` and `tc`. Pure: the helpers apply them.

One nftables table per fault, named after its receipt, so that an undo that knows nothing but the receipt finds it, and
two faults in one namespace do not meet. Every rule that drops counts, so that the undo can tell what the fault did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

LOSS_STEPS = 10_000  # resolution of a loss: a hundredth of a per cent
SEGMENTS = {"all": "", "opening": "tcp flags & (syn | ack) == syn", "data": "tcp flags & psh == psh"}
_BEFORE_ALL = -300  # priority: before connection tracking's own and every capture rule
_BEFORE_CAPTURE = -150  # priority: before the mesh's own redirection (-100)
_BURST_BYTES = 16_000  # ten packets: a smaller bucket would hold back single ones
_QUEUE_MS = 400  # of a slowed link, after which it drops: a home router's, not an endless one


def table(receipt: str) -> str:
    """Name of the fault's table."""
    return f"sharedfate-fault-{receipt}"


@dataclass(frozen=True, slots=True)
class Isolation:
    """How to cut one process off in one namespace.

    Args:
        ports: those that the process listens on here.
        mark: SO_MARK of what the process sends; 0 when it marks nothing.
        whole: everything but loopback is meant: the namespace is the process's own.
        spared: ports that stay open although the process listens on them (status, for the kubelet's probes).
        peers: only packets from and to these addresses or networks; none: all.
        only: only packets from or to these ports, on either side; none: all.
        into, out: the directions that are meant.
        reset: answer with a TCP reset instead of silence; what is not TCP passes.
        segments: which are meant: all, those that open a connection, or those that end a piece of data (a stack
            pushes the last segment of whatever a process wrote).
    """

    ports: frozenset[int]
    mark: int = 0
    whole: bool = False
    spared: frozenset[int] = frozenset()
    peers: tuple[str, ...] = ()
    only: frozenset[int] = frozenset()
    into: bool = True
    out: bool = True
    reset: bool = False
    segments: Literal["all", "opening", "data"] = "all"


def _set(members: Iterable[int | str]) -> str:
    return "{ " + ", ".join(map(str, sorted(members))) + " }"


def plan_isolation(receipt: str, isolation: Isolation) -> str:
    """Rules that lose (or reset) the process's packets, as far as the isolation means them."""
    into, out = _matches(isolation, "in"), _matches(isolation, "out")
    before_in: list[str] = []
    before_out: list[str] = []
    if isolation.whole:
        before_in.append('iifname "lo" accept')
        before_out.append('oifname "lo" accept')
        if isolation.spared:
            before_in.append(f"tcp dport {_set(isolation.spared)} accept")
            before_out.append(f"tcp sport {_set(isolation.spared)} accept")
    end = "meta l4proto tcp counter reject with tcp reset" if isolation.reset else "counter drop"
    return _table(
        receipt,
        [*before_in, *(f"{match} {end}".strip() for match in into if isolation.into)],
        [*before_out, *(f"{match} {end}".strip() for match in out if isolation.out)],
    )


def _matches(isolation: Isolation, way: Literal["in", "out"]) -> list[str]:
    """What each rule of a direction matches: the process's packets, narrowed to peers and ports."""
    if isolation.whole:
        bases = [""]
    else:
        ports = isolation.ports - isolation.spared
        bases = [f"tcp {'dport' if way == 'in' else 'sport'} {_set(ports)}"] if ports else []
        if isolation.mark and way == "out":
            bases.append(f"meta mark {isolation.mark:#x}")
    peers = f"ip {'saddr' if way == 'in' else 'daddr'} {_set(isolation.peers)}" if isolation.peers else ""
    header = "meta l4proto { tcp, udp } th" if isolation.segments == "all" else "tcp"
    sides = [f"{header} {side} {_set(isolation.only)}" for side in ("sport", "dport")] if isolation.only else [""]
    flags = SEGMENTS[isolation.segments]
    return [" ".join(part for part in (base, peers, side, flags) if part) for base in bases for side in sides]


def plan_loss(receipt: str, share: float, spared: frozenset[int] = frozenset()) -> str:
    """Return rules that drop the share (0 … 1) of all packets, each way, except loopback's and those of spared
    ports.
    """
    lost = f"numgen random mod {LOSS_STEPS} < {round(share * LOSS_STEPS)} counter drop"
    kept = [f"tcp {side} {_set(spared)} accept" for side in ("sport", "dport")] if spared else []
    return _table(receipt, [*kept, f'iifname != "lo" {lost}'], [*kept, f'oifname != "lo" {lost}'])


def plan_redirect(receipt: str, port: int, mark: int) -> str:
    """Return rules that redirect the namespace's DNS questions to a port of its own, except marked packets."""
    return "\n".join(
        [
            plan_removal(receipt) + f"table inet {table(receipt)} {{",
            f"chain names {{ type nat hook output priority {_BEFORE_CAPTURE};",
            f"meta mark != {mark:#x} udp dport 53 counter redirect to :{port}",
            f"meta mark != {mark:#x} tcp dport 53 counter redirect to :{port}",
            "}",
            "}",
            "",
        ]
    )


def plan_removal(receipt: str) -> str:
    """Return the exact inverse of both, also correct when nothing is there."""
    return f"add table inet {table(receipt)}\ndelete table inet {table(receipt)}\n"


def _table(receipt: str, into: Sequence[str], out: Sequence[str]) -> str:
    return "\n".join(
        [
            plan_removal(receipt) + f"table inet {table(receipt)} {{",
            f"chain into {{ type filter hook input priority {_BEFORE_ALL};",
            *into,
            "}",
            f"chain out {{ type filter hook output priority {_BEFORE_ALL};",
            *out,
            "}",
            "}",
            "",
        ]
    )


def plan_rate(device: str, kilobits: int) -> list[str]:
    """The `tc` command that lets at most so many kilobits a second leave by the device (token bucket)."""
    return [
        "tc",
        "qdisc",
        "replace",
        "dev",
        device,
        "root",
        "tbf",
        "rate",
        f"{kilobits}kbit",
        "burst",
        str(_BURST_BYTES),
        "latency",
        f"{_QUEUE_MS}ms",
    ]


def plan_rate_removal(device: str) -> list[str]:
    """The inverse of `plan_rate`."""
    return ["tc", "qdisc", "del", "dev", device, "root"]
