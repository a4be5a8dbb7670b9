"""A pod of a tenant that reads large answers slowly, beside the tenant's own client, which asks for small ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from chaos.engine.beside import Beside
from chaos.engine.designs import switchback
from chaos.engine.trial import Trial
from chaos.faults.overload import Overload
from chaos.faults.selection import container_target
from chaos.load.client import LoaderClient
from chaos.mesh import manifests
from chaos.model.faulting import FaultShape
from chaos.model.tunnels import shares_in_tunnels
from chaos.verdict.check import Check, decided

READER: Final = "reader"  # Deployment of the tenant
# Answers that wait at once. A connection between proxies takes 8 MiB that nobody has read, and 2 MiB of each answer
# (chaos/mesh/envoy/parts.py): to either of two servers there are more than that.
WAITING: Final = 24
ANSWER: Final = 16 << 20  # bytes: more than all buffers on the way take of one
OPENED: Final = 30.0  # answers a second that are asked for, of which those beyond are never sent
SECONDS: Final = 20.0  # for which one of them is waited for: longer than a window
BUILD_UP: Final = 4.0  # seconds until buffers on the way are full: moving them costs CPU, which is not what is asked


def hold_up(trial: Trial) -> Check:
    """Let the reader ask the first tenant's server for large answers, and read them slowly, on and off in turn. Whoever
    shares a connection between proxies with it must be hurt, and nobody else. Return whether the answers waited.
    """
    tenant = trial.deployment.tenants[0]
    fault = Overload(
        server=tenant.server,
        profile="slow-readers",
        seconds=SECONDS,
        start_rate=OPENED,
        max_rate=OPENED,
        in_flight=WAITING,
        timeout=SECONDS,
        answer_bytes=ANSWER,
    )
    objects = manifests.reader(READER, tenant=tenant.name, nodes=trial.placement.nodes_of(tenant.client))
    with Beside(trial, objects, {READER: 1}) as beside:
        (pod,) = beside.pods(READER)
        call = (f"{tenant.namespace}/{READER}", tenant.server)
        placement = trial.mesh.placement([*trial.deployment.calls, call])
        slow = [pair for pair in placement.pairs() if pair.call == call]
        shares = shares_in_tunnels(placement, slow)
        trial.expect(
            {flow: shares[flow.client, flow.server] for flow in trial.deployment.flows}, shape=FaultShape.GRADUAL
        )
        described = f"{call[0]} reads {tenant.server} slowly"
        switchback(trial, fault, container_target(pod, "client"), described=described, build_up=BUILD_UP)
        loader = LoaderClient.of(trial.cluster, tenant.namespace, pod["metadata"]["name"])
        return judge_waiting(loader.state()["flows"])


def judge_waiting(flows: Iterable[Mapping[str, Any]]) -> Check:
    """Judge that answers waited for their reader, by its loader's counts of its flows: hardly any was read whole.
    Pure.
    """
    counts = [flow for flow in flows if str(flow["name"]).startswith("aggressor-")]
    asked, read = (sum(int(flow[what]) for flow in counts) for what in ("sent", "ok"))
    return decided(
        "answers wait for their slow reader",
        asked >= WAITING and read <= asked / 10,
        f"of {asked} large answers that were asked for {read} were read whole",
        asked - read,
        "requests",
    )
