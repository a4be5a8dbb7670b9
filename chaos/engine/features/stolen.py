"""Checks what an attacker in a proxy could do with the keys that it holds: which servers accept a request as whom.

Each tenant's servers let in their own callers alone. The keys come out of every proxy's memory, and the pod that took
them knocks with each at every door of every server: at the server's own proxy, and at the waypoints before it. Who
opens is compared with the model (`chaos.model.reach`), identity by identity and server by server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from chaos.engine.features.context import SERVICE, CheckContext
from chaos.engine.features.programs.stolen_keys import Knock
from chaos.errors import ExperimentFailure
from chaos.mesh.snapshot import Rule
from chaos.model.placement import Placement, Pod, Proxy
from chaos.model.reach import Identity, callers, reach, waypoints
from chaos.names import PORT_HBONE, PORT_HTTP, spiffe_id
from chaos.report.keys_table import KEYS_OF
from chaos.verdict import Verdict
from chaos.verdict.check import Check, decided, undecided

PROGRAM: Final = "chaos.engine.features.programs.stolen_keys"
WITHOUT_A_KEY: Final = "without a key no server answers"
OPENED: Final = "servers that a proxy's keys open are those that the model says"
SERVICE_PORT: Final = 80
START_SECONDS: Final = 60.0  # in which a node's keys are found
KNOCK_SECONDS: Final = 0.2  # several times what a handshake takes
REFUSALS: Final = (0, 403)  # no answer, which a proxy of connections gives, and a proxy of requests'
TOLD: Final = 6  # identities that are told one by one

Answers = Mapping[str, Mapping[str, Sequence[Knock]]]  # SPIFFE id -> server workload -> what its doors answered


@dataclass(frozen=True, slots=True)
class Door:
    """One way to ask a server workload: where to connect, and for a tunnel where it shall lead."""

    server: str
    host: str
    port: int
    authority: str = ""


def check_stolen(context: CheckContext) -> list[Check]:
    """Take the keys of every proxy, and try each on every server: a check for each proxy, one of knocks without a key,
    and the most that one proxy's keys open.
    """
    placement = context.mesh.placement()
    try:
        with own_callers_only(context, placement):
            doors = list(doors_of(context, placement))
            nobody, knocks, unusable = _try_all(context, placement, doors)
    except ExperimentFailure as error:
        return [undecided(OPENED, str(error))]
    pods: dict[str, set[str]] = {}
    for pod in placement.pods:
        pods.setdefault(pod.workload_key, set()).add(pod.name)
    checks = [judge_nobody(nobody, pods)]
    most = 0
    for proxy in placement.proxies:
        answers = by_identity(one for one in knocks if one.uid == proxy.uid)
        checks.append(judge_keys(proxy, reach(placement, proxy), answers, pods, unusable=unusable.get(proxy.uid, 0)))
        most = max(most, len({server for at in answers.values() for server, said in at.items() if opened(said, pods)}))
    return [*checks, judge_most(checks, most, len({door.server for door in doors}))]


@contextmanager
def own_callers_only(context: CheckContext, placement: Placement) -> Iterator[None]:
    """Let each tenant's servers accept their own callers alone until the block is left."""
    with ExitStack() as stack:
        allowed: dict[str, set[Identity]] = {}
        for server, identities in callers(placement).items():
            allowed.setdefault(server.partition("/")[0], set()).update(identities)
        for namespace, sources in allowed.items():
            rule = Rule(tuple(spiffe_id(*one) for one in sorted(sources)))
            stack.enter_context(context.allowed(rule, namespace=namespace))
        yield


def doors_of(context: CheckContext, placement: Placement) -> Iterator[Door]:
    """Yield the doors of every server that is called: the waypoints before it, and each of its pods."""
    for server, before in waypoints(placement).items():
        service = context.cluster.get("Service", SERVICE, server.partition("/")[0])["spec"]["clusterIP"]
        for waypoint in sorted(before):
            address = context.cluster.get("Pod", waypoint.pod, waypoint.namespace)["status"]["podIP"]
            yield Door(server, address, PORT_HBONE, f"{service}:{SERVICE_PORT}")
        for pod in (one for one in placement.pods if one.workload_key == server):
            yield _door_of_pod(pod, tunnelled=bool(before))


def _door_of_pod(pod: Pod, *, tunnelled: bool) -> Door:
    if tunnelled:
        return Door(pod.workload_key, pod.ip, PORT_HBONE, f"{pod.ip}:{PORT_HTTP}")
    return Door(pod.workload_key, pod.ip, PORT_HTTP)


def _try_all(
    context: CheckContext, placement: Placement, doors: Sequence[Door]
) -> tuple[list[Knock], list[Knock], dict[str, int]]:
    """Knock without a key, then with those of every proxy, from its own node. Return the knocks of both, and by the
    proxy's UID the keys that have no certificate.
    """

    def knocks(node: str, proxies: Sequence[Proxy]) -> Any:
        asked = {
            "proxies": [{"uid": one.uid, "container_id": one.container_id.rpartition("//")[2]} for one in proxies],
            "doors": [asdict(door) for door in doors],
        }
        held = 1 + sum(len(reach(placement, one)) for one in proxies)
        seconds = START_SECONDS + KNOCK_SECONDS * held * len(doors)
        return context.run_on_node(node, PROGRAM, json.dumps(asked), seconds=seconds)

    nodes: dict[str, list[Proxy]] = {}
    for proxy in placement.proxies:
        nodes.setdefault(proxy.node, []).append(proxy)
    nobody = [Knock(**one) for one in knocks(min(nodes), [])["knocks"]]
    made, unusable = list[Knock](), dict[str, int]()
    for node, proxies in nodes.items():
        found = knocks(node, proxies)
        made += [Knock(**one) for one in found["knocks"]]
        unusable |= found["unusable"]
    return nobody, made, unusable


def by_identity(knocks: Iterable[Knock]) -> Answers:
    """Sort knocks by identity and server. Pure."""
    found: dict[str, dict[str, list[Knock]]] = {}
    for one in knocks:
        found.setdefault(one.identity, {}).setdefault(one.server, []).append(one)
    return found


def opened(answers: Iterable[Knock], pods: Mapping[str, set[str]]) -> bool:
    """Whether one of the server's own pods answered. Pure."""
    return any(one.status == 200 and one.pod in pods.get(one.server, ()) for one in answers)


def _unclear(answers: Iterable[Knock], pods: Mapping[str, set[str]]) -> str:
    """Return an answer that is neither the server's nor a refusal; "" when there is none."""
    for one in answers:
        if opened([one], pods) or (one.status in REFUSALS and "timed out" not in one.error):
            continue
        return f"{one.server} answered {one.status or one.error}" + (f" by {one.pod}" if one.pod else "")
    return ""


def judge_nobody(knocks: Iterable[Knock], pods: Mapping[str, set[str]]) -> Check:
    """Judge that no door opens without a certificate: what opens afterwards is the key's doing. Pure."""
    knocks = list(knocks)
    through = sorted({one.server for one in knocks if opened([one], pods)})
    if not knocks:
        return undecided(WITHOUT_A_KEY, "no server is called")
    if not through and (unclear := _unclear(knocks, pods)):
        return undecided(WITHOUT_A_KEY, unclear)
    said = f"{len(knocks)} knocks were refused" if not through else f"{', '.join(through)} answered"
    return decided(WITHOUT_A_KEY, not through, said)


def judge_keys(
    proxy: Proxy,
    expected: Mapping[Identity, frozenset[str]],
    answers: Answers,
    pods: Mapping[str, set[str]],
    *,
    unusable: int = 0,
) -> Check:
    """Hold what a proxy's keys opened against the servers that each identity opens by the model. Pure.

    Args:
        expected: of each identity that the proxy holds by the model, the servers that it opens.
        pods: of each server workload, the names.
        unusable: keys of the proxy without a certificate.
    """
    name = f"{KEYS_OF}{proxy}"
    predicted = {spiffe_id(*identity): servers for identity, servers in expected.items()}
    if missing := sorted(_short(identity) for identity in predicted.keys() - answers.keys()):
        beside = f" ({unusable} keys have none)" if unusable else ""
        return undecided(name, f"no key with a certificate was found of {', '.join(missing)}{beside}")
    wrong, unclear = list[str](), list[str]()
    through: dict[str, list[str]] = {}
    for identity, servers in sorted(answers.items()):
        through[identity] = sorted(server for server, said in servers.items() if opened(said, pods))
        for server, said in sorted(servers.items()):
            accepted, should = server in through[identity], server in predicted.get(identity, ())
            if accepted and not should:
                wrong.append(f"{server} accepted {_short(identity)}, which it should not")
            elif not accepted and (doubt := _unclear(said, pods)):
                unclear.append(f"to {_short(identity)} {doubt}")
            elif should and not accepted:
                wrong.append(f"{server} refused {_short(identity)}, whom it lets in")
    if wrong or not unclear:
        return decided(name, not wrong, "; ".join([*wrong[:TOLD], _told(through)]))
    return undecided(name, "; ".join(unclear[:TOLD]))


def _told(through: Mapping[str, Sequence[str]]) -> str:
    """Say which identities opened which servers."""
    opening = {identity: servers for identity, servers in through.items() if servers}
    parts = [f"as {_short(identity)} it opens {', '.join(servers)}" for identity, servers in opening.items()]
    if len(parts) > TOLD:
        parts = [*parts[:TOLD], f"{len(parts) - TOLD} more identities open servers"]
    if idle := sorted(_short(identity) for identity in through.keys() - opening.keys()):
        who = ", ".join(idle) if len(idle) <= TOLD else f"{len(idle)} identities"
        parts.append(f"as {who} it is refused everywhere")
    return "; ".join(parts) or "it holds no key"


def _short(identity: str) -> str:
    """`namespace/account` of a SPIFFE id of the mesh."""
    namespace, _, account = identity.partition("/ns/")[2].partition("/sa/")
    return f"{namespace}/{account}" if account else identity


def judge_most(checks: Iterable[Check], most: int, servers: int) -> Check:
    """Say what the keys of one proxy open at most, decided as the checks of all proxies are. Pure."""
    of_proxies = [check for check in checks if check.name.startswith(KEYS_OF)]
    said = f"the keys of one proxy open at most {most} of {servers} servers"
    if any(check.verdict is Verdict.INCONCLUSIVE for check in of_proxies):
        return undecided(OPENED, "not every proxy's keys could be tried on every server")
    wrong = sum(check.verdict is Verdict.FAIL for check in of_proxies)
    beside = f"; of {wrong} of {len(of_proxies)} proxies it is not what the model says" if wrong else ""
    return decided(OPENED, not wrong, said + beside, most, "servers, the most of one proxy")
