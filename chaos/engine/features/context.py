"""`CheckContext`: what feature checks work with: the running mesh, its tenants, and a debug pod on each node."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from chaos.engine.features.debug_pod import debug_pods, program
from chaos.engine.features.programs.caller import CallReply, CallSpec
from chaos.errors import ExperimentFailure, Misuse
from chaos.faults.helper_pod import CONTAINER
from chaos.kube.client import Cluster
from chaos.load.client import LoaderClient, ServerClient
from chaos.mesh.authority import stored_authority
from chaos.mesh.ca import Authority
from chaos.mesh.handle import MeshHandle
from chaos.mesh.install import Mesh
from chaos.mesh.policy import policy_config_map
from chaos.mesh.snapshot import Features, Rule
from chaos.model.modes import ProxyMode
from chaos.model.placement import Placement, Pod, Role
from chaos.names import SYSTEM_NAMESPACE

SERVICE = "server"  # the Service of a reference tenant
DIAL_SECONDS = 120.0  # life of a certificate that a check makes for itself


@dataclass(frozen=True, slots=True)
class CheckContext:
    """A mode with its tenants, quiet: only the checks send requests.

    `client` calls `servers`, which lie on as many nodes as any tenant's do; `other_tenant` is another tenant's
    client, on the same node if there is one.
    """

    cluster: Cluster
    mesh: MeshHandle
    placement: Placement
    debug_pods: Mapping[str, str]  # node -> pod
    client: Pod
    servers: tuple[Pod, ...]
    other_tenant: Pod

    @property
    def mode(self) -> ProxyMode:
        return self.mesh.mode

    @property
    def reference_mesh(self) -> Mesh:
        """The mesh, where it is the reference one; raises Misuse for any other, which offers less."""
        if not isinstance(self.mesh, Mesh):
            raise Misuse(f"{self.mesh.mode.name} is not the reference mesh: its settings are not ours to turn")
        return self.mesh

    @property
    def host(self) -> str:
        """The name of the client's own Service."""
        return f"{SERVICE}.{self.client.namespace}"

    # ---- calling

    def call(self, pod: Pod, **fields: Any) -> list[CallReply]:
        """Call from an application's pod: the fields of `CallSpec`; by default to the client's own Service."""
        return self._call(pod.namespace, pod.name, "client", [CallSpec(**{"host": self.host, "port": 80, **fields})])[0]

    def call_from_outside(self, node: str, calls: Sequence[CallSpec]) -> list[list[CallReply]]:
        """Call from a pod on that node that is not in the mesh; return the replies to each call."""
        return self._call(SYSTEM_NAMESPACE, self.debug_pods[node], CONTAINER, calls)

    def _call(self, namespace: str, pod: str, container: str, calls: Sequence[CallSpec]) -> list[list[CallReply]]:
        text = json.dumps([asdict(call) for call in calls])
        seconds = 10 + sum(call.requests * (call.timeout + call.pause) for call in calls)
        found = program(
            self.cluster, namespace, pod, container, "chaos.engine.features.programs.caller", text, seconds=seconds
        )
        return [[CallReply(**reply) for reply in replies] for replies in found]

    def tls_client(
        self,
        node: str,
        host: str,
        port: int,
        *,
        identity: str = "",
        authority: str = "",
        trusted: Authority | None = None,
    ) -> dict[str, Any]:
        """Connect from outside the mesh with a certificate for that identity, issued by the mesh's authority (or
        another); with no certificate when the identity is empty.
        """
        asked = {"host": host, "port": port, "authority": authority}
        if identity:
            issuer = trusted or stored_authority(self.cluster, run=self.mesh.run)
            issued = issuer.issue(identity, seconds=DIAL_SECONDS)
            asked |= {"certificate": issued.certificate.decode(), "key": issued.key.decode()}
        found: dict[str, Any] = program(
            self.cluster,
            SYSTEM_NAMESPACE,
            self.debug_pods[node],
            CONTAINER,
            "chaos.engine.features.programs.tls_client",
            json.dumps(asked),
        )
        return found

    def run_on_node(self, node: str, module: str, *arguments: str, seconds: float = 60.0) -> Any:
        """Run a program in the node's debug pod."""
        return program(
            self.cluster, SYSTEM_NAMESPACE, self.debug_pods[node], CONTAINER, module, *arguments, seconds=seconds
        )

    # ---- reading and turning

    def stats(self, pod: Pod) -> Mapping[str, Any]:
        """Return a server's counters."""
        return ServerClient.of(self.cluster, pod.namespace, pod.name).stats()

    @contextmanager
    def misbehaviour(self, *, servers: Sequence[Pod] | None = None, **misbehaviour: Any) -> Iterator[None]:
        """Make the client's servers (or some of them) misbehave until the block is left."""
        self._misbehave({**misbehaviour, "seconds": 60}, servers or self.servers)
        try:
            yield
        finally:
            self._misbehave({}, self.servers)

    def _misbehave(self, misbehaviour: Mapping[str, Any], servers: Sequence[Pod]) -> None:
        for server in servers:
            ServerClient.of(self.cluster, server.namespace, server.name).misbehave(misbehaviour)

    @contextmanager
    def features(self, **changes: Any) -> Iterator[Features]:
        """Set other L7 features until the block is left."""
        mesh = self.reference_mesh
        before = mesh.features
        try:
            mesh.set_features(replace(before, **changes))
            yield mesh.features
        finally:
            mesh.set_features(before)

    @contextmanager
    def allowed(self, *rules: Rule, namespace: str = "") -> Iterator[None]:
        """Let only what the rules allow reach a namespace's servers, by default the client's, until the block is
        left.
        """
        namespace = namespace or self.client.namespace
        made = policy_config_map(namespace, "sharedfate-check", rules, run=self.mesh.run)
        try:
            self.reference_mesh.await_pushed(self.cluster.apply(made))
            yield
        finally:
            self.cluster.delete("ConfigMap", "sharedfate-check", namespace)
            self.reference_mesh.await_withdrawn(namespace, "sharedfate-check")


@contextmanager
def check_context(mesh: MeshHandle) -> Iterator[CheckContext]:
    """Put debug pods on the nodes of a running mesh, and pause its loaders; raises ExperimentFailure when it has too
    few tenants. The caller restarts the load.
    """
    placement = mesh.placement()
    client, servers, other_tenant = choose(placement)
    for pod in placement.pods:
        if pod.role == Role.CLIENT:
            LoaderClient.of(mesh.cluster, pod.namespace, pod.name).stop_flows()
    nodes = sorted({pod.node for pod in placement.pods})
    with debug_pods(mesh.cluster, nodes, run=mesh.run) as made:
        yield CheckContext(mesh.cluster, mesh, placement, made, client, servers, other_tenant)


def choose(placement: Placement) -> tuple[Pod, tuple[Pod, ...], Pod]:
    """Choose a client, its servers, and another tenant's client."""
    servers: dict[str, list[Pod]] = {}
    for pod in placement.pods:
        if pod.role == Role.SERVER:
            servers.setdefault(pod.namespace, []).append(pod)
    clients = sorted(p for p in placement.pods if p.role == Role.CLIENT and len(servers.get(p.namespace, [])) > 1)
    if len({client.namespace for client in clients}) < 2:
        raise ExperimentFailure(
            "the checks of the mesh's features need two tenants, each with a client and two servers"
        )
    client = max(clients, key=lambda pod: len({server.node for server in servers[pod.namespace]}))
    others = [pod for pod in clients if pod.namespace != client.namespace]
    other_tenant = next((pod for pod in others if pod.node == client.node), others[0])
    return client, tuple(sorted(servers[client.namespace])), other_tenant
