"""Capture: the nftables rules in a pod's own network namespace that redirect its TCP traffic through the mesh.

`plan_capture` is pure; `python -m chaos.mesh.capture` applies it where it runs (the init container of sidecar modes,
which needs NET_ADMIN only), and the node agent applies the same plan inside the pods' namespaces from outside.

What passes untouched: loop-back; what a proxy sends (marked); the control and status ports in both directions; and,
inbound, the node itself at the ports that its kubelet probes. Not at others: whoever calls a node port comes from the
node's address too, and whoever may write a Service and its EndpointSlice chooses the pod that a node port leads to.
Anything else that is TCP meets a proxy or is refused: when no proxy listens, that is a reset, never plain text. TCP
over IPv6 is refused both ways, because the proxies speak IPv4 only. A redirect keeps the original destination, which
the proxy asks the kernel for.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from chaos.errors import EnvironmentUnfit, Misuse, SharedfateError
from chaos.names import MARK_PROXY, PORT_CONTROL, PORT_HBONE, PORT_INBOUND, PORT_OUTBOUND, PORT_STATUS

TABLE: Final = "sharedfate"
PROBED_VARIABLE: Final = "PROBED_PORTS"  # of the init container: the ports of its pod that the kubelet probes
_OPEN: Final = (PORT_CONTROL, PORT_STATUS)


class Inbound(StrEnum):
    """How others reach a captured pod."""

    REDIRECT = "redirect"  # the original port, led to the inbound listener, which insists on mutual TLS
    TUNNEL = "tunnel"  # port 15008 alone: everything else is refused


def plan_capture(*, inbound: Inbound, node: Sequence[str], probed: Collection[int], ipv6: bool = True) -> str:
    """Return the whole rule set as one atomic nft transaction, which replaces an earlier one.

    Args:
        node: the node's addresses as the pod sees them: what its kubelet's probes come from.
        probed: the ports that they go to.
        ipv6: whether the kernel has IPv6 at all.
    """
    if not node:
        raise Misuse("capture: no address of the node: its kubelet's probes would be refused")
    addresses = ", ".join(sorted({str(ipaddress.IPv4Address(address)) for address in node}))
    open_ports = ", ".join(str(port) for port in _OPEN)
    ports = ", ".join(str(port) for port in sorted(set(probed)))
    probes = f"ip saddr {{ {addresses} }} tcp dport {{ {ports} }}" if ports else ""
    redirect = f"""
  chain inbound {{
    type nat hook prerouting priority -105; policy accept;
    iifname "lo" return
    {probes and f"{probes} return"}
    tcp dport {{ {open_ports} }} return
    meta l4proto tcp redirect to :{PORT_INBOUND}
  }}"""
    tunnel = f"""
  chain inbound {{
    type filter hook input priority -10; policy accept;
    iifname "lo" accept
    ct state established,related accept
    {probes and f"{probes} accept"}
    tcp dport {{ {open_ports}, {PORT_HBONE} }} accept
    meta l4proto tcp reject with tcp reset
  }}"""
    rules = f"""
  chain outbound {{
    type nat hook output priority -105; policy accept;
    meta mark {MARK_PROXY:#x} return
    oifname "lo" return
    tcp dport {{ {open_ports} }} return
    meta l4proto tcp redirect to :{PORT_OUTBOUND}
  }}{redirect if inbound is Inbound.REDIRECT else tunnel}
"""
    stamp = hashlib.blake2b(rules.encode(), digest_size=6).hexdigest()
    text = f"add table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n  chain v_{stamp} {{ }}{rules}}}\n"
    if ipv6:
        text += f"""add table ip6 {TABLE}
delete table ip6 {TABLE}
table ip6 {TABLE} {{
  chain outbound {{
    type filter hook output priority -10; policy accept;
    oifname "lo" accept
    meta l4proto tcp reject with tcp reset
  }}
  chain inbound {{
    type filter hook input priority -10; policy accept;
    iifname "lo" accept
    meta l4proto tcp reject with tcp reset
  }}
}}
"""
    return text


def plan_release(*, ipv6: bool = True) -> str:
    """Return the inverse, correct whether or not any rules are there."""
    families = ("ip", "ip6") if ipv6 else ("ip",)
    return "".join(f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n" for family in families)


def stamp_of(plan: str) -> str:
    """Return the name of the chain that identifies a plan in the output of `nft list`."""
    return next(word for word in plan.split() if word.startswith("v_"))


def detect_gateways(route_table: str) -> list[str]:
    """The default gateways in the text of /proc/<pid>/net/route: on a bridged node, where probes come from."""
    found = []
    for line in route_table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000" and fields[2] != "00000000":
            found.append(str(ipaddress.IPv4Address(int.from_bytes(bytes.fromhex(fields[2]), "little"))))
    return found


def apply_rules(rules: str, *, netns: str = "") -> None:
    """Run nft on the rules, here or in the network namespace at that path."""
    command = ["nft", "-f", "-"]
    if netns:
        command = ["nsenter", f"--net={netns}", *command]
    done = _run(command, rules)
    if done.returncode:
        raise EnvironmentUnfit(
            f"capture: nft refused the rules ({done.stderr.strip()}): NET_ADMIN and nf_tables are needed"
        )


def is_applied(plan: str, *, netns: str = "") -> bool:
    """Whether exactly this plan is in place."""
    command = ["nft", "list", "table", "ip", TABLE]
    if netns:
        command = ["nsenter", f"--net={netns}", *command]
    done = _run(command, "")
    return done.returncode == 0 and stamp_of(plan) in done.stdout


def _run(command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=text, text=True, capture_output=True, timeout=20, check=False)
    except FileNotFoundError as error:
        raise EnvironmentUnfit(f"capture: {error.filename} is not installed") from error


def node_addresses(given: Iterable[str], proc_net: Path) -> list[str]:
    """Return every address that the node's own connections to the pod may come from: its InternalIP and the pod's
    gateways.
    """
    routes = proc_net / "route"
    gateways = detect_gateways(routes.read_text()) if routes.exists() else []
    return sorted({address for address in (*given, *gateways) if address and ":" not in address})


def has_ipv6(proc_net: Path) -> bool:
    return (proc_net / "if_inet6").exists()


def main() -> int:
    """Capture this pod, in place: the init container of sidecar modes."""
    net = Path("/proc/self/net")
    try:
        apply_rules(
            plan_capture(
                inbound=Inbound.REDIRECT,
                ipv6=has_ipv6(net),
                node=node_addresses(os.environ.get("NODE_IP", "").split(","), net),
                probed=[int(port) for port in os.environ.get(PROBED_VARIABLE, "").split(",") if port],
            )
        )
    except SharedfateError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
