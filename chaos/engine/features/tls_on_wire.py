"""Checks that there is TLS on the wire between pods: read from the nodes' own networks, in both directions, on one node
and two.

A marker travels in the request's body and comes back in the answer. In a mode without a mesh it must be readable: that
shows that the reader reads. Elsewhere it must not be, and what passes must begin with TLS records.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from chaos.engine.features.context import CheckContext
from chaos.errors import ExperimentFailure
from chaos.faults.helper_pod import CONTAINER
from chaos.model.placement import Pod
from chaos.names import PORT_AGENT, PORT_CONTROL, PORT_STATUS, PORT_XDS, PORT_XDS_STATUS, SYSTEM_NAMESPACE
from chaos.verdict.check import Check, decided, undecided

REQUESTS: Final = 24
SECONDS: Final = 40.0
_NOT_MESHED: Final = frozenset({PORT_AGENT, PORT_CONTROL, PORT_STATUS, PORT_XDS, PORT_XDS_STATUS})  # probes and control


@dataclass(frozen=True, slots=True)
class Direction:
    """The packets of one pod in one direction."""

    packets: int
    records: int
    marked: int


def toward(heard: Iterable[Mapping[str, Any]], pod: Pod) -> tuple[Direction, Direction]:
    """Return the packets (to the pod, from the pod) of the traffic that the mesh carries."""
    to, by = [0, 0, 0], [0, 0, 0]
    for one in heard:
        if {one["source_port"], one["target_port"]} & _NOT_MESHED:
            continue
        for sums, address in ((to, one["target"]), (by, one["source"])):
            if address == pod.ip:
                for number, field in enumerate(("packets", "records", "marked")):
                    sums[number] += one[field]
    return Direction(*to), Direction(*by)


def judge_pair(name: str, directions: Mapping[str, Direction], *, meshed: bool) -> Check:
    """Judge one pair of pods. Pure."""
    silent = [text for text, seen in directions.items() if not seen.packets]
    if silent:
        return undecided(name, f"no packet {' or '.join(silent)} was seen")
    marked = sum(seen.marked for seen in directions.values())
    records = sum(seen.records for seen in directions.values())
    packets = sum(seen.packets for seen in directions.values())
    sentence = f"of {packets} packets {records} begin with a TLS record and {marked} show the marker"
    if not meshed:
        readable = all(seen.marked for seen in directions.values())
        return decided(
            name, readable, f"{sentence}; without a mesh it must be readable in both directions", marked, "packets"
        )
    good = not marked and all(seen.records for seen in directions.values())
    return decided(name, good, sentence, marked, "readable packets")


def _listens(context: CheckContext, pod: str, name: str, reader: Future[Any]) -> bool:
    """Whether the sniffer is listening, or has ended and its result says why."""
    there = ["test", "-e", f"/tmp/{name}.on"]
    return reader.done() or context.cluster.exec(SYSTEM_NAMESPACE, pod, there, container=CONTAINER).code == 0


def check_tls_on_wire(context: CheckContext) -> list[Check]:
    """Call each server from the client while reading what crosses the nodes' networks."""
    marker = f"sharedfate{secrets.token_hex(12)}"
    name = f"wire-{marker[-6:]}"
    with ExitStack() as stack, ThreadPoolExecutor(len(context.debug_pods)) as pool:

        def silence() -> None:
            for pod in context.debug_pods.values():
                context.cluster.exec(SYSTEM_NAMESPACE, pod, ["touch", f"/tmp/{name}.off"], container=CONTAINER)

        listening = {
            node: pool.submit(
                context.run_on_node, node, "chaos.inpod.sniffer", name, marker, str(SECONDS), seconds=SECONDS + 20
            )
            for node in context.debug_pods
        }
        stack.callback(silence)
        for node, pod in context.debug_pods.items():
            context.cluster.wait(
                f"the reader on {node} listens", partial(_listens, context, pod, name, listening[node]), seconds=30
            )
        replies = context.call(context.client, requests=REQUESTS, method="POST", path="/echo", body=marker)
        stack.close()
        heard = [one for found in listening.values() for one in found.result()]
    answered = {reply.pod for reply in replies if reply.status == 200 and marker in reply.body}
    if not answered:
        raise ExperimentFailure(
            f"wire: none of {REQUESTS} requests to {context.host} was answered: {replies[-1].error}"
        )
    return [
        judge_pair(
            f"TLS on the wire, {'one node' if server.node == context.client.node else 'two nodes'}",
            {
                "to the server": (of_server := toward(heard, server))[0],
                "from the server": of_server[1],
                "from the client": (of_client := toward(heard, context.client))[1],
                "to the client": of_client[0],
            },
            meshed=context.mode.l4 is not None,  # the layer that encrypts
        )
        for server in context.servers
        if server.name in answered
    ]
