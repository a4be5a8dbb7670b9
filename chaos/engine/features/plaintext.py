"""Checks that plain text into a meshed pod is refused, whoever sends it; only the node's own kubelet probes pass.

The node's address alone is nobody's proof: what comes through a node port has it too.
"""

from __future__ import annotations

from typing import Final

from chaos.engine.features.context import CheckContext
from chaos.engine.features.programs.caller import CallSpec
from chaos.names import PORT_ADMIN, PORT_CONTROL, PORT_HBONE, PORT_HTTP, PORT_INBOUND, PORT_OUTBOUND, PORT_TCP
from chaos.verdict.check import Check, decided

PROBES: Final = "of what comes from the node's address, the kubelet's probes alone pass"


def calls_to(ip: str, *, meshed: bool) -> list[CallSpec]:
    """Return what an outsider tries on a server: its application, and the ports of its proxy, if any."""
    found = [
        CallSpec(host=ip, port=port, protocol=protocol, method="POST", path="/echo", body="x", timeout=2.0)
        for port, protocol in ((PORT_HTTP, "http1"), (PORT_HTTP, "grpc"), (PORT_TCP, "tcp"))
    ]
    own = (PORT_ADMIN, PORT_OUTBOUND, PORT_INBOUND, PORT_HBONE) if meshed else ()
    return found + [CallSpec(host=ip, port=port, path="/echo", timeout=2.0) for port in own]


def check_plaintext(context: CheckContext) -> list[Check]:
    """Call every server from pods outside of the mesh, on its own node and on others."""
    meshed = bool(context.mode.hops)
    tried: list[tuple[str, int]] = []  # (what, status)
    for node in context.debug_pods:
        calls = [call for server in context.servers for call in calls_to(server.ip, meshed=meshed)]
        for call, replies in zip(calls, context.call_from_outside(node, calls), strict=True):
            tried.append((f"{call.protocol} to {call.host}:{call.port} from {node}", replies[0].status))
    server = context.servers[0]
    control = context.call_from_outside(server.node, [CallSpec(host=server.ip, port=PORT_CONTROL, path="/healthz")])[0][
        0
    ].status
    answered = [what for what, status in tried if status]
    if not meshed:
        return [
            decided(
                "plain text is answered without a mesh",
                len(answered) == len(tried) and control == 200,
                f"{len(answered)} of {len(tried)} calls from outside were answered",
                len(answered),
                "calls",
            )
        ]
    probe, other = (
        context.run_on_node(server.node, "chaos.engine.features.programs.probe", server.ip, str(port))
        for port in (PORT_CONTROL, PORT_HTTP)
    )
    return [
        decided(
            "plain text into a meshed pod is refused",
            not answered and control == 200,
            f"{len(answered)} of {len(tried)} calls in plain text were "
            f"answered{': ' if answered else ''}{', '.join(answered[:3])}"
            f"; the control port, which is not captured, answered {control}",
            len(answered),
            "calls answered",
        ),
        decided(
            PROBES,
            probe["status"] == 200 and not other["status"],
            f"a request from the node's own address was answered {probe['status']} {probe['error']}".rstrip()
            + f" at the port that the kubelet probes, and {other['status']} at the application's",
        ),
    ]
