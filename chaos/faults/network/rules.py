"""What is put into a network namespace, as text for `nft` and `tc`. Pure: `helper` applies it.

One nftables table per fault, named after its receipt, so that an undo that knows nothing but the receipt finds it, and
two faults in one namespace do not meet. Every rule that drops counts, so that the undo can tell what the fault did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LOSS_STEPS = 10_000  # resolution of a loss: a hundredth of a per cent
_BEFORE_ALL = -300  # priority: before connection tracking's own and every capture rule
_BURST_BYTES = 16_000  # ten packets: a smaller bucket would hold back single ones
_QUEUE_MS = 400  # of a slowed link, after which it drops: a home router's, not an endless one


def table(receipt: str) -> str:
    """Name of the fault's table."""
    return f"sharedfate-fault-{receipt}"


@dataclass(frozen=True, slots=True)
class Isolation:
    """How one process is cut off in one namespace.

    Args:
        ports: those that the process listens on here.
        mark: SO_MARK of what the process sends; 0 when it marks nothing.
        whole: everything but loopback is lost: the namespace is the process's own.
        spared: ports that stay open although the process listens on them (status, for the kubelet's probes).
    """

    ports: frozenset[int]
    mark: int = 0
    whole: bool = False
    spared: frozenset[int] = frozenset()


def _set(ports: frozenset[int]) -> str:
    return "{ " + ", ".join(map(str, sorted(ports))) + " }"


def plan_isolation(receipt: str, isolation: Isolation) -> str:
    """Rules that lose every packet of the process, both ways, with no answer to the sender."""
    into: list[str] = []
    out: list[str] = []
    if isolation.whole:
        into.append('iifname "lo" accept')
        out.append('oifname "lo" accept')
        if isolation.spared:
            into.append(f"tcp dport {_set(isolation.spared)} accept")
            out.append(f"tcp sport {_set(isolation.spared)} accept")
        into.append("counter drop")
        out.append("counter drop")
    else:
        if ports := isolation.ports - isolation.spared:
            into.append(f"tcp dport {_set(ports)} counter drop")
            out.append(f"tcp sport {_set(ports)} counter drop")
        if isolation.mark:
            out.append(f"meta mark {isolation.mark:#x} counter drop")
    return _table(receipt, into, out)


def plan_loss(receipt: str, share: float) -> str:
    """Rules that lose the share (0 … 1) of all packets, each way, but loopback's."""
    lost = f"numgen random mod {LOSS_STEPS} < {round(share * LOSS_STEPS)} counter drop"
    return _table(receipt, [f'iifname != "lo" {lost}'], [f'oifname != "lo" {lost}'])


def plan_removal(receipt: str) -> str:
    """The exact inverse of both, whatever is there; also when nothing is."""
    return f"add table inet {table(receipt)}\ndelete table inet {table(receipt)}\n"


def _table(receipt: str, into: Sequence[str], out: Sequence[str]) -> str:
    return "\n".join([
        plan_removal(receipt) + f"table inet {table(receipt)} {{",
        f"chain into {{ type filter hook input priority {_BEFORE_ALL};", *into, "}",
        f"chain out {{ type filter hook output priority {_BEFORE_ALL};", *out, "}", "}", ""])


def plan_rate(device: str, kilobits: int) -> list[str]:
    """The `tc` command that lets at most so many kilobits a second leave by the device (token bucket)."""
    return ["tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", f"{kilobits}kbit",
            "burst", str(_BURST_BYTES), "latency", f"{_QUEUE_MS}ms"]


def plan_rate_removal(device: str) -> list[str]:
    """The inverse of `plan_rate`."""
    return ["tc", "qdisc", "del", "dev", device, "root"]
