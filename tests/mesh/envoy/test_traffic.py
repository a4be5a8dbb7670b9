"""Every mode's data path with the real Envoy in namespaces, and each trap as a broken variant that the same check
catches.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos.apps.wire import FRAME
from chaos.mesh import capture
from chaos.mesh.mutations import Defect
from chaos.mesh.snapshot import Endpoint, Features, Policy, Rule
from chaos.model.modes import MODES, Balancing, Scope
from chaos.names import LABEL_WAYPOINT, NO_WAYPOINT, spiffe_id
from tests.mesh.envoy.bench import PROBED, Bench, bench, until
from tests.mesh.envoy.placements import MESHED

pytestmark = pytest.mark.privileged

SERVICE_A, SERVICE_B = "10.96.0.1", "10.96.0.2"
SERVERS_A = {"server-a-0", "server-a-1"}
SHARED = [m for m in MESHED if not MODES[m].in_pod]
AMBIENT = [m for m in MESHED if MODES[m].separate_layers]


@contextmanager
def tenants(mode: str, **options: Any) -> Iterator[Bench]:
    """Tenants a and b, a client and two servers each, all behind the mode's proxies."""
    with bench(mode, **options) as made:
        for n, tenant in enumerate("ab"):
            made.pod(f"tenant-{tenant}", f"client-{tenant}", 10 + n)
            for k in range(2):
                made.pod(f"tenant-{tenant}", f"server-{tenant}-{k}", 20 + 2 * n + k)
        made.everything()
        yield made


QUICK = ("sidecar", "node", "ambient-namespace")  # one of each kind; the others differ from them in placement alone


@pytest.fixture(
    scope="module", params=[pytest.param(m, marks=[] if m in QUICK else [pytest.mark.slow]) for m in MESHED]
)
def mesh(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with tenants(request.param) as made:
        yield made


def pods_of(text: str) -> Counter[str]:
    return Counter(re.findall(r"^x-pod: (\S+)", text, re.MULTILINE | re.IGNORECASE))


def spread(made: Bench, requests: int = 12) -> Counter[str]:
    """Which pods answered the requests of one kept connection of client a."""
    urls = [f"http://{SERVICE_A}/echo"] * requests
    return pods_of(made.spaces["client-a"].run("curl", "-s", "-i", "-m", "5", *urls))


def sources(made: Bench) -> Counter[str]:
    """Requests by the source that the proxies' golden metrics name, of tenant a's and b's servers."""
    found: Counter[str] = Counter()
    for name in made.proxies:
        space = name.removeprefix("sidecar-")
        text = made.spaces[space].run("curl", "-s", "-m", "5", "127.0.0.1:15021/stats/prometheus")
        for line in text.splitlines():
            if line.startswith("envoy_sharedfate_requests{") and (source := re.search(r'source="([^"]*)"', line)):
                found[source[1]] += int(line.rsplit(" ", 1)[1])
    return found


def wire(made: Bench, secret: str) -> bool:
    """Whether a request's body can be read on the node's bridge."""
    name = f"{made.folder.name}-{secret}"
    command = made.spaces["fabric"].command(sys.executable, "-m", "chaos.inpod.sniffer", name, secret, "20", "here")
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    on, off = (Path("/tmp") / f"{name}.{state}" for state in ("on", "off"))
    try:
        until(on.exists)
        # in the body: HTTP/2 between proxies would not show a path even in plain text
        assert made.curl("client-a", f"http://{SERVICE_A}/echo", "-d", secret * 30)[0] == 200
        off.touch()
        heard = json.loads(reader.communicate(timeout=20)[0])
    finally:
        off.unlink(missing_ok=True)
        reader.kill()
        reader.wait()
    assert sum(one["bytes"] for one in heard) > 500  # it did see the traffic
    return any(one["marked"] for one in heard)


def dial(made: Bench, space: str, ip: str, authority: str, identity: str) -> str:
    """Status of a CONNECT, and the first line of what came through it."""
    issued = made.authority.issue(identity, seconds=600)
    asked = {
        "host": ip,
        "port": 15008,
        "authority": authority,
        "certificate": issued.certificate.decode(),
        "key": issued.key.decode(),
    }
    found = json.loads(
        made.spaces[space].run(sys.executable, "-m", "chaos.engine.features.programs.tls_client", json.dumps(asked))
    )
    return f"{found['status']} {found['body'].partition(chr(13))[0]}"


# ---- every mode


def test_requests_arrive_and_are_balanced_as_the_mode_says(mesh: Bench) -> None:
    seen = spread(mesh)
    assert sum(seen.values()) == 12
    if MODES[mesh.mode].balancing is Balancing.REQUEST:
        assert seen == {"server-a-0": 6, "server-a-1": 6}
    else:
        assert len(seen) == 1


def test_http2_with_prior_knowledge_arrives(mesh: Bench) -> None:
    status, text = mesh.curl("client-a", f"http://{SERVICE_A}/echo", "--http2-prior-knowledge")
    assert (status, text.split()[0]) == (200, "HTTP/2")


ECHO = b"xxxx".hex()


def frame_through(mesh: Bench, space: str, address: str) -> str:
    """What a stream's frame is answered, in hexadecimal digits; "" for no answer."""
    frame = FRAME.pack(4, 4, 7) + b"mesh"
    script = (
        f"import socket; s = socket.create_connection(({address!r}, 9000), 3); s.settimeout(3)\n"
        f"s.sendall({frame!r}); print(s.recv(64).hex())"
    )
    return mesh.spaces[space].run(sys.executable, "-c", script, check=False).strip()


def test_raw_tcp_arrives(mesh: Bench) -> None:
    assert frame_through(mesh, "client-a", SERVICE_A).endswith(ECHO)


def test_another_tenants_service_is_reached_too(mesh: Bench) -> None:
    assert set(pods_of(mesh.curl("client-a", f"http://{SERVICE_B}/echo")[1])) <= {"server-b-0", "server-b-1"}
    assert mesh.curl("client-a", f"http://{SERVICE_B}/echo")[0] == 200


def test_plain_text_into_a_pod_is_refused_and_the_nodes_probe_passes(mesh: Bench) -> None:
    if "intruder" not in mesh.spaces:
        mesh.attach("intruder", "10.244.1.99")
    for port in (8080, 15006, 15001, 15000):
        for outsider in ("intruder", "fabric"):  # the node's address, which node ports give to anybody
            assert mesh.curl(outsider, f"http://10.244.1.20:{port}/echo")[0] == 0
    assert not frame_through(mesh, "intruder", "10.244.1.20").endswith(ECHO), "at most TLS's own complaint"
    assert frame_through(mesh, "fabric", "10.244.1.20").endswith(ECHO), PROBED
    assert mesh.curl("intruder", "http://10.244.1.20:9990/healthz")[0] == 200


def test_a_connection_to_a_proxys_own_port_does_not_loop(mesh: Bench) -> None:
    for port in (15001, 15006, 15008):
        assert mesh.curl("client-a", f"http://127.0.0.1:{port}/echo")[0] in (0, 404)


def test_the_wire_shows_nothing(mesh: Bench) -> None:
    assert not wire(mesh, "secret-on-the-wire")


def test_certificates_of_interleaved_tenants_never_cross(mesh: Bench) -> None:
    before = sources(mesh)
    interleave(mesh)
    seen = sources(mesh) - before
    assert seen == {spiffe_id("tenant-a", "client"): 40, spiffe_id("tenant-b", "client"): 40}


def interleave(made: Bench) -> None:
    """Both clients call tenant a's Service by turns, each time both of its endpoints: one's connections stand idle in
    the pools when the other calls."""
    for _ in range(20):
        for client in ("client-a", "client-b"):
            made.spaces[client].run("curl", "-s", "-m", "5", *[f"http://{SERVICE_A}/echo"] * 2)


def test_trace_context_and_the_attempt_count_are_on(mesh: Bench) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    status, text = mesh.curl(
        "client-a", f"http://{SERVICE_A}/echo", "-H", f"traceparent: 00-{trace}-b7ad6b7169203331-01"
    )
    assert status == 200
    assert "x-envoy-attempt-count: 1" in text.lower()
    until(lambda: any(trace in file.read_text(errors="replace") for file in mesh.folder.glob("*envoy.log")))


def test_policy_allows_by_source_and_by_request(mesh: Bench) -> None:
    whole = mesh.world
    rule = Rule((spiffe_id("tenant-a", "client"),), ("GET",), ("/allowed*",))
    mesh.push(mesh.make_world(whole.waypoints, policies=(Policy("tenant-a", "p", (rule,)),)))
    try:
        until(lambda: {mesh.curl("client-b", f"http://{SERVICE_A}/allowed")[0] for _ in range(4)} == {403})
        assert mesh.curl("client-a", f"http://{SERVICE_A}/allowed/x")[0] == 200
        assert mesh.curl("client-a", f"http://{SERVICE_A}/other")[0] == 403
        assert mesh.curl("client-a", f"http://{SERVICE_A}/allowed", "-X", "POST")[0] == 403
        assert mesh.curl("client-b", f"http://{SERVICE_B}/other")[0] == 200
        # a rule that needs requests allows no raw connection
        assert mesh.curl("client-a", f"http://{SERVICE_A}:9000/")[0] == 0
    finally:
        mesh.push(whole)
        until(lambda: {mesh.curl("client-b", f"http://{SERVICE_A}/allowed")[0] for _ in range(4)} == {200})


def test_retries_hide_a_refusing_endpoint_from_idempotent_requests_only(mesh: Bench) -> None:
    if MODES[mesh.mode].balancing is not Balancing.REQUEST:
        pytest.skip("a waypoint of one pod has no other endpoint")
    if (
        "server-a-9" not in mesh.spaces
    ):  # an endpoint whose application does not listen: the proxy's connection is refused
        dead = mesh.pod("tenant-a", "server-a-9", 29)
        mesh.processes[-1].kill()
        mesh.processes[-1].wait()
        if not MODES[mesh.mode].in_pod:
            mesh.push(mesh.make_world(mesh.world.waypoints))
            inbound = capture.Inbound.TUNNEL if MODES[mesh.mode].separate_layers else capture.Inbound.REDIRECT
            until(lambda: 15001 in mesh.listening(dead))
            mesh.capture(dead, inbound)
    whole = mesh.make_world(mesh.world.waypoints)
    try:
        mesh.push(whole)
        until(lambda: 503 in {mesh.curl("client-a", f"http://{SERVICE_A}/echo")[0] for _ in range(3)})
        mesh.push(mesh.make_world(whole.waypoints, features=Features(retries=True)))
        until(lambda: {mesh.curl("client-a", f"http://{SERVICE_A}/echo")[0] for _ in range(9)} == {200})
        posts = {mesh.curl("client-a", f"http://{SERVICE_A}/echo", "-d", "x")[0] for _ in range(6)}
        assert posts == {200, 503}
    finally:
        uid = next(p.uid for p in mesh.pods.values() if p.name == "server-a-9")
        del mesh.pods[uid]
        mesh.push(mesh.make_world(whole.waypoints))
        until(lambda: {mesh.curl("client-a", f"http://{SERVICE_A}/echo")[0] for _ in range(6)} == {200})


def test_no_configuration_was_refused(mesh: Bench) -> None:
    assert mesh.nacks == []


def test_every_identity_that_a_proxy_serves_is_held_before_it_is_needed_and_no_other(mesh: Bench) -> None:
    for name, proxy in mesh.proxies.items():
        held = {h["identity"] for h in mesh.log.as_json() if h["proxy"] == f"{proxy.namespace}/{name}"}
        assert held >= mesh.world.identities(proxy)
    assert not [h for h in mesh.log.as_json() if h["refused"]]


def test_a_certificate_is_held_before_the_first_request() -> None:
    with bench("node") as made:
        made.pod("tenant-a", "client-a", 10)
        made.everything()
        assert {h["identity"] for h in made.log.as_json()} == {spiffe_id("tenant-a", "client")}


# ---- waypoints and tunnels


@pytest.mark.parametrize("mode", [pytest.param(m, marks=[] if m in QUICK else [pytest.mark.slow]) for m in AMBIENT])
def test_tunnels_end_only_for_the_waypoint_and_only_at_the_pod(mode: str) -> None:
    with tenants(mode) as made:
        waypoint = made.world.waypoints[0]
        serves = {
            Scope.NAMESPACE: "10.244.1.20",
            Scope.NODE: "10.244.1.20",
            Scope.POD: made.pods[waypoint.proxy.key].ip if waypoint.proxy.key in made.pods else "",
        }[waypoint.proxy.scope]
        made.attach("peer", "10.244.1.98")
        assert dial(made, "peer", serves, f"{serves}:8080", waypoint.identity).startswith("200 HTTP/1.1 200")
        assert dial(made, "peer", serves, f"{serves}:8080", spiffe_id("tenant-b", "client")).startswith("0")
        for authority in ("10.244.1.23:8080", "10.244.1.1:80", "127.0.0.1:15000", f"{serves}:15000", f"{serves}:15008"):
            assert dial(made, "peer", serves, authority, waypoint.identity).split()[0] in ("403", "404")
        assert dial(made, "peer", waypoint.ip, "10.244.1.20:8080", spiffe_id("tenant-a", "client")).startswith("404")


@pytest.mark.parametrize("mode", [pytest.param(m, marks=[] if m in QUICK else [pytest.mark.slow]) for m in AMBIENT])
def test_a_service_without_a_waypoint_is_reached_past_it_by_whom_its_policy_lets_in(mode: str) -> None:
    with tenants(mode) as made:
        none = ((LABEL_WAYPOINT, NO_WAYPOINT),)
        for uid, pod in made.pods.items():
            if pod.namespace == "tenant-a" and "server" in pod.name:
                made.pods[uid] = replace(pod, labels=none)
        world = made.make_world(made.world.waypoints)
        past = tuple(replace(one, waypoint=one.namespace != "tenant-a") for one in world.services)
        made.push(replace(world, services=past))
        until(lambda: not passing(made, SERVICE_A))
        before = passes(made)
        answered = pods_of("".join(made.curl("client-a", f"http://{SERVICE_A}/echo")[1] for _ in range(6)))
        assert answered == {"server-a-0": 3, "server-a-1": 3}  # connections are balanced
        assert made.curl("client-b", f"http://{SERVICE_A}/echo")[0] == 200
        assert passes(made) == before
        assert passing(made, SERVICE_B)
        made.attach("peer", "10.244.1.98")
        assert dial(made, "peer", "10.244.1.20", "10.244.1.20:8080", spiffe_id("tenant-b", "client")).startswith("200")
        assert dial(made, "peer", "10.244.1.22", "10.244.1.22:8080", spiffe_id("tenant-a", "client")).startswith("0")
        own = Policy("tenant-a", "p", (Rule((spiffe_id("tenant-a", "client"),)),))
        made.push(replace(world, services=past, policies=(own,)))
        until(lambda: {made.curl("client-b", f"http://{SERVICE_A}/echo")[0] for _ in range(4)} == {0})  # all drained
        for _ in range(10):  # by turns: certificates never cross
            assert made.curl("client-a", f"http://{SERVICE_A}/echo")[0] == 200
            assert made.curl("client-b", f"http://{SERVICE_A}/echo")[0] == 0
        assert made.nacks == []


def passes(made: Bench) -> int:
    """How many CONNECTs the waypoints have had."""
    total = 0
    for waypoint in made.world.waypoints:
        name = waypoint.proxy.pod
        text = made.admin(name, "/stats?filter=http.hbone.downstream_rq_total")
        total += sum(int(line.rpartition(" ")[2]) for line in text.splitlines())
    return total


def passing(made: Bench, address: str) -> bool:
    """Whether a request to the Service, which is answered, passes a waypoint."""
    before = passes(made)
    assert made.curl("client-a", f"http://{address}/echo")[0] == 200
    return passes(made) > before


def test_an_open_connect_terminator_is_caught() -> None:
    with tenants("ambient-namespace", defects=frozenset({Defect.OPEN_CONNECT})) as made:
        made.attach("peer", "10.244.1.98")
        identity = made.world.waypoints[0].identity
        # the node itself may speak plain text to any pod, and now anyone can by way of the terminator
        assert dial(made, "peer", "10.244.1.20", "10.244.1.20:9990", identity).startswith("200")
        assert dial(made, "peer", "10.244.1.20", "10.244.1.23:9990", identity).startswith("200")


def test_a_destination_that_accepts_anybody_is_caught() -> None:
    with tenants("ambient-namespace", defects=frozenset({Defect.ANY_PEER})) as made:
        made.attach("peer", "10.244.1.98")
        assert dial(made, "peer", "10.244.1.20", "10.244.1.20:8080", spiffe_id("tenant-b", "client")).startswith("200")


# ---- broken variants of what every mode is checked for


def test_certificates_that_cross_are_caught() -> None:
    with tenants("node", defects=frozenset({Defect.UNHASHED_IDENTITY})) as made:
        interleave(made)
        assert sources(made) != {spiffe_id("tenant-a", "client"): 40, spiffe_id("tenant-b", "client"): 40}


def test_a_plain_text_hop_is_caught() -> None:
    with tenants("sidecar", defects=frozenset({Defect.PLAIN_TEXT_HOP})) as made:
        assert wire(made, "secret-on-the-wire")


def test_a_proxy_that_does_not_balance_is_caught() -> None:
    with tenants("sidecar", defects=frozenset({Defect.UNBALANCED})) as made:
        assert len(spread(made)) == 1


# ---- change under traffic


class Caller:
    """Calls tenant a's Service from client a until stopped, and counts what comes back."""

    def __init__(self, made: Bench) -> None:
        self._made, self._stop = made, threading.Event()
        self.seen: Counter[int] = Counter()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.seen[self._made.curl("client-a", f"http://{SERVICE_A}/echo")[0]] += 1

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("mode", QUICK)
def test_certificates_rotate_under_traffic(mode: str) -> None:
    """Certificates of six seconds, reissued at two thirds: eight seconds hold at least one rotation of each."""
    with bench(mode, seconds=6.0) as made:
        made.pod("tenant-a", "client-a", 10)
        made.pod("tenant-a", "server-a-0", 20)
        made.everything()
        with Caller(made) as caller:
            end = time.monotonic() + 8
            while time.monotonic() < end:
                time.sleep(0.05)
                for name in list(made._streams):
                    assert made._loop is not None
                    made._loop.call_soon_threadsafe(made._streams[name].set)
        assert set(caller.seen) == {200}
        assert caller.seen[200] > 50
        client = [h for h in made.log.as_json() if h["identity"].endswith("/client")]
        assert len({h["serial"] for h in client}) >= 2


@pytest.mark.parametrize("mode", [pytest.param(m, marks=[] if m in QUICK else [pytest.mark.slow]) for m in SHARED])
def test_a_pod_that_goes_frees_its_namespace_while_others_go_on(mode: str) -> None:
    with tenants(mode) as made:
        for _ in range(4):
            assert made.curl("client-b", f"http://{SERVICE_A}/echo")[0] == 200
        links = made.spaces["fabric"].run("ip", "-o", "link").count("menv")
        uid = next(p.uid for p in made.pods.values() if p.name == "client-b")
        sandbox = made.pods.pop(uid).sandbox
        with Caller(made) as caller:
            made.push(made.make_world(made.world.waypoints))
            made.spaces.pop("client-b").end()
            until(lambda: made.spaces["fabric"].run("ip", "-o", "link").count("menv") == links - 1, 5)
            until(lambda: sandbox not in made.admin("node", "/listeners"))
        assert set(caller.seen) == {200}
        assert made.nacks == []


def test_a_node_without_pods_is_ready() -> None:
    with bench("node") as made:
        made.everything()
        assert "LIVE" in made.spaces["node"].run("curl", "-s", "127.0.0.1:15021/ready")


def test_a_namespace_that_is_gone_spoils_no_other_pods_listener() -> None:
    with tenants("node") as made:
        ghost = made.pod("tenant-a", "client-ghost", 60)
        (made.folder / "sandboxes" / ghost.sandbox).unlink()
        late = made.pod("tenant-a", "client-late", 61)
        made.push(made.make_world())
        until(lambda: made.listening(late) >= {15001, 15006})
        assert any(ghost.sandbox in text for text in made.nacks)
        made.capture(late, capture.Inbound.REDIRECT)
        assert made.curl("client-late", f"http://{SERVICE_A}/echo")[0] == 200


def test_an_endpoint_of_a_wrong_identity_is_refused() -> None:
    """Tenant b's server under tenant a's name: the client's proxy insists on whose Service it is."""
    with tenants("node") as made:
        service = made.world.services[0]
        thief = next(p for p in made.pods.values() if p.name == "server-b-0")
        ports = tuple(replace(p, endpoints=(Endpoint(thief.uid, thief.ip, p.target_port),)) for p in service.ports)
        made.push(replace(made.world, services=(replace(service, ports=ports), *made.world.services[1:])))
        until(lambda: made.curl("client-a", f"http://{SERVICE_A}/echo")[0] == 503)
