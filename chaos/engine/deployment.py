"""One mode in the cluster with its tenants under load: what all trials of that mode share.

Load runs from the moment the tenants are ready until they go; each trial gathers it into a history of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chaos.clock import Clock, SystemClock
from chaos.engine.hop_logs import HopLogs, explain_by_logs, read_hop_logs
from chaos.engine.progress import Progress
from chaos.engine.recorder import Recorder
from chaos.engine.settings import Settings
from chaos.engine.steady import SteadyLoad
from chaos.engine.stuck import explain_stuck
from chaos.engine.targets import placebo, proxy_on_path, workload
from chaos.engine.topology import REQUEST_TIMEOUT, Tenant, TenantLoad, Topology, plan_tenants, servers_of
from chaos.engine.usage import Facts
from chaos.errors import ApiError, ExperimentFailure, Misuse, NotReady, SharedfateError
from chaos.faults.model import Target
from chaos.faults.selection import container_target
from chaos.faults.workload import pods_of
from chaos.history.spans import SpanKind, Spans
from chaos.kube.client import Cluster
from chaos.kube.kubeconfig import one_line
from chaos.kube.nodes import read_nodes, zones_of
from chaos.kube.objects import has_condition
from chaos.load.client import LoaderClient, ServerClient, choose_way
from chaos.load.collector import Loader
from chaos.mesh import manifests
from chaos.mesh.budget import Budget
from chaos.mesh.handle import MeshHandle
from chaos.mesh.install import Mesh
from chaos.model.flow import Flow
from chaos.model.modes import Layer, ProxyMode
from chaos.model.placement import Placement, Proxy
from chaos.model.spreading import Spread
from chaos.names import PORT_TCP, SYSTEM_NAMESPACE

STREAM = "stream"  # name and label of the long-lived connections
_SERVER = "server"  # container of the reference servers (manifests/apps/tenant.yaml)
STREAM_RATE = 20.0  # requests a second, over all of a tenant's streams
SLOW_START = 0.05  # of its rate: what a flow whose path gave out begins with again
ANSWERED = ("answered", "frames")  # what a server counts of its own answers
HEALTHY = 0.95  # share of a flow's requests that are answered, above which it needs no help
HEALTHY_SECONDS = 0.5  # for which a flow is watched to tell
RESTORE_SECONDS = 20.0  # longest wait for a flow to be healthy again
FEW_RATE = 5.0  # requests a second of the question whether a call is answered at all,
FEW_SECONDS = 4.0  # which is asked for so long
QUIET_AFTER = 1.0  # seconds after a disturbance before what is seen counts as baseline


@dataclass(frozen=True, slots=True)
class AddedPod:
    """A server pod that was added while a mode runs."""

    name: str
    ready: bool
    requests: int | None  # that it has answered; None: it cannot be asked yet
    address: str = ""
    bare: str = ""  # by which missing mark it is outside the mesh


Breaks = Callable[[Placement, str, Layer], Proxy | None]


class Deployment:
    """A mesh and its tenants, deployed. `start` waits until every tenant is under load; `stop` leaves nothing of ours,
    `vacate` what the run's next deployment has too.

    Args:
        mesh: brings `objects`, the tenants' or only their loaders, and takes them away.
        tenants: the first is the noisy one, and its path is broken.
        breaks: the proxy of a layer that a trial breaks, on the path of a client (`namespace/name`) of a placement.
        elsewhere: namespaces besides the tenants' in which something may restart.
        first_word: is called once all is there, before the load; raises what keeps the load from making sense.
        title: what it is, for those who wait for it.
    """

    def __init__(
        self,
        mesh: MeshHandle,
        tenants: Sequence[TenantLoad],
        objects: Sequence[dict[str, Any]],
        *,
        breaks: Breaks,
        settings: Settings,
        progress: Progress,
        clock: Clock | None = None,
        elsewhere: Sequence[str] = (),
        first_word: Callable[[Deployment], None] | None = None,
        title: str,
    ) -> None:
        self.mesh, self.cluster, self.run = mesh, mesh.cluster, mesh.run
        self.settings, self.progress, self.clock = settings, progress, clock or SystemClock()
        self.tenants: tuple[TenantLoad, ...] = tuple(tenants)
        self.steady = SteadyLoad()
        self.ready_seconds = 0.0
        self.contradictions: list[str] = []  # between the mesh's own view and the prediction
        self.recorder: Recorder | None = None
        self.spans = Spans()  # of the run, where there is one
        self._objects, self._breaks, self._elsewhere, self._title = objects, breaks, elsewhere, title
        self._first_word = first_word
        self._own: dict[str, set[str]] = {}  # server workload -> `namespace/pod` of every pod that it has had
        self._counting: dict[str, dict[str, str]] = {}  # tenant -> its servers' containers when the load began

    @property
    def reference_mesh(self) -> Mesh:
        """The mesh, where it is the reference one; raises Misuse for any other, which offers less."""
        if not isinstance(self.mesh, Mesh):
            raise Misuse(f"{self.mesh.mode.name} is not the reference mesh: its settings and keys are not ours to read")
        return self.mesh

    @property
    def may_replace_pods(self) -> bool:
        """Whether a pod may be deleted to get a fresh one; pods that are not ours may not."""
        return isinstance(self.mesh, Mesh)

    @property
    def namespaces(self) -> list[str]:
        return list(dict.fromkeys([SYSTEM_NAMESPACE, *(one.namespace for one in self.tenants), *self._elsewhere]))

    @property
    def calls(self) -> list[tuple[str, str]]:
        return [(tenant.client, tenant.server) for tenant in self.tenants]

    @property
    def flows(self) -> list[Flow]:
        return [Flow(*call) for call in self.calls]

    def start(self) -> None:
        """Deploy the mesh and the tenants, and start the load."""
        mode = self.mesh.mode.name
        self.progress.step(f"{mode}: {self._title}")
        begin = time.monotonic()
        self.mesh.start(self._objects)
        if loaders := self.loaders():
            if way := choose_way(self.cluster, loaders[0].namespace, loaders[0].pod):
                self.progress.step(way)
            if self._first_word is not None:
                self._first_word(self)
        self.ready_seconds = time.monotonic() - begin
        self.progress.step(f"{mode}: ready in {self.ready_seconds:.1f} s" + ("; starting the load" if loaders else ""))
        self.contradictions = self.mesh.contradictions()
        for sentence in self.contradictions:
            self.progress.step(f"{mode}: the mesh's own view contradicts the prediction: {sentence}")
        if loaders:
            self._begin_load()

    def _begin_load(self) -> None:
        self._counting = {tenant.name: counting_containers(servers_of(self.cluster, tenant)) for tenant in self.tenants}
        for tenant in self.tenants:
            self._set_flows(tenant, self._rate(tenant))
        every = max(1.0, self.settings.every)
        self.recorder = Recorder(self.cluster, self.namespaces, run=self.run, every=every).start()
        self.steady = self.steady.begin(time.time_ns() + 500_000_000)  # the first connections are not steady load

    def stop(self) -> None:
        """Take the tenants and the mesh down."""
        self.leave()
        self.mesh.uninstall()

    def vacate(self) -> None:
        """Take the tenants and the mesh down, and leave the run's namespaces to its next deployment."""
        self.leave()
        self.mesh.vacate()

    def leave(self) -> None:
        """End what runs here for the deployment; what is in the cluster stays."""
        if self.recorder is not None:
            self.recorder.stop()

    def placement(self) -> Placement:
        """Read the current placement."""
        return self.mesh.placement(self.calls)

    def read_usage(self) -> list[Facts]:
        """Return what each pod of the deployment uses now (`chaos.engine.usage`). Raises ApiError when nothing can be
        read, and Misuse before there is load.
        """
        if self.recorder is None:
            raise Misuse("what pods use is read under load: start it first")
        return self.recorder.read_usage()

    def loaders(self) -> Sequence[Loader]:
        """The client pods."""
        pods = [(tenant.namespace, tenant.loader(self.cluster)["metadata"]["name"]) for tenant in self.tenants]
        return [Loader(*pod) for pod in dict.fromkeys(pods)]  # each once: one may carry several calls

    def proxy_to_break(self, layer: Layer = Layer.L4) -> Proxy:
        """Return the proxy of that layer on the first tenant's path that a trial breaks; without a mesh the placebo,
        which carries no traffic.
        """
        placement = self.placement()
        return self._breaks(placement, self.tenants[0].client, layer) or placebo(placement)

    def loader_target(self, tenant: TenantLoad) -> Target:
        """The loader of a tenant, as a fault's target."""
        return container_target(tenant.loader(self.cluster), "client")

    @contextmanager
    def one_more_server(self, tenant: TenantLoad) -> Iterator[Callable[[], AddedPod | None]]:
        """Add one replica to a tenant's server until the block is left; yield a function that returns the added pod's
        state, None while there is none.
        """
        if not tenant.reference_apps:
            raise Misuse(f"{tenant.server} is not the reference application: its replicas are its owner's affair")
        name = tenant.server.rpartition("/")[2]
        had = {pod["metadata"]["uid"] for pod in servers_of(self.cluster, tenant)}

        def added() -> AddedPod | None:
            for pod in servers_of(self.cluster, tenant):
                if pod["metadata"]["uid"] not in had:
                    return self._added(tenant, pod)
            return None

        self._counting.pop(tenant.name, None)  # the added pod will take its counts along
        self.cluster.patch("Deployment", name, {"spec": {"replicas": len(had) + 1}}, tenant.namespace)
        try:
            yield added
        finally:
            self.cluster.patch("Deployment", name, {"spec": {"replicas": len(had)}}, tenant.namespace)
            self.cluster.wait(
                "the added pod is gone", lambda: len(servers_of(self.cluster, tenant)) == len(had), seconds=60
            )

    def _added(self, tenant: TenantLoad, pod: dict[str, Any]) -> AddedPod:
        name, address = pod["metadata"]["name"], pod.get("status", {}).get("podIP", "")
        requests: int | None = None
        if address:
            try:
                seen = ServerClient.of(self.cluster, tenant.namespace, name).stats()
                requests = sum(seen.get(kind, 0) for kind in ANSWERED)
            except ApiError:  # it does not run yet
                requests = None
        return AddedPod(name, has_condition(pod, "Ready"), requests, address, self.mesh.why_bare(pod))

    # ---- who answers

    def own_servers(self, flow: Flow, names: frozenset[str]) -> frozenset[str] | None:
        """Return the pods (`namespace/pod`) of the workload that a flow calls, past ones included; read again when an
        unknown one answered. None for a flow whose servers do not name themselves.
        """
        if flow.server not in {tenant.server for tenant in self.tenants if tenant.reference_apps}:
            return None
        known = self._own.setdefault(flow.server, set())
        if names - known:
            pods = pods_of(self.cluster, workload(self.cluster, flow.server))
            known |= {f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods}
        return frozenset(known)

    def read_counts(self) -> dict[str, dict[str, Any]]:
        """Return for each tenant how many requests its loader counts as answered, and how many its servers count as
        answered. A tenant whose servers were replaced has none: their counts went with them; nor has one whose requests
        others answered.
        """
        counts: dict[str, dict[str, Any]] = {}
        for tenant in self.tenants:
            servers = servers_of(self.cluster, tenant)
            if not servers or counting_containers(servers) != self._counting.get(tenant.name):
                continue
            # The loader first: what it saw answered, the servers have counted by then.
            counts_of_flows = self._loader(tenant).state()["flows"]
            answered = sum(
                int(one["ok"]) for one in counts_of_flows if one["server"] == tenant.server and not one["sentinel"]
            )
            stats = [
                ServerClient.of(self.cluster, tenant.namespace, pod["metadata"]["name"]).stats() for pod in servers
            ]
            served = sum(int(seen.get(kind, 0)) for seen in stats for kind in ANSWERED)
            counts[tenant.namespace] = {"answered": answered, "served": served}
        return counts

    def stop_counting(self, namespace: str) -> None:
        """Compare a tenant's counts no more: others have answered its requests, how many of them after this trial
        nobody counts.
        """
        for tenant in self.tenants:
            if tenant.namespace == namespace:
                self._counting.pop(tenant.name, None)

    # ---- the load

    @contextmanager
    def streams(self, number: int) -> Iterator[list[Flow]]:
        """Keep `number` long-lived TCP connections of each tenant with reference servers in use until the block is
        left; yield their flows in the history.
        """
        tenants = [tenant for tenant in self.tenants if tenant.reference_apps]
        for tenant in tenants:
            self._tell_loader(tenant, [self._stream(tenant, number, STREAM_RATE)])
        self.cluster.wait(
            "every stream is open",
            lambda: all(self._counters(tenant, STREAM)["opened"] >= number for tenant in tenants),
            seconds=RESTORE_SECONDS,
        )
        try:
            yield [Flow(tenant.client, tenant.server, label=STREAM) for tenant in tenants]
        finally:
            for tenant in tenants:
                self._tell_loader(tenant, [self._stream(tenant, number, 0.0)])

    @contextmanager
    def calls_beside(self, tenant: TenantLoad, *flows: dict[str, Any]) -> Iterator[None]:
        """Let a tenant's loader make other calls beside its own until the block is left, once each of them is answered.

        Args:
            flows: as the loader takes them, each with a name of its own.
        """
        self._tell_loader(tenant, flows)
        for flow in flows:
            self._await_healthy(tenant, "is answered", name=str(flow["name"]))
        try:
            yield
        finally:
            self._tell_loader(tenant, [{**flow, "rate": 0.0} for flow in flows])

    def _stream(self, tenant: TenantLoad, number: int, rate: float) -> dict[str, Any]:
        return {
            "name": STREAM,
            "label": STREAM,
            "server": tenant.server,
            "target": f"server:{PORT_TCP}",
            "protocol": "tcp",
            "connections": number,
            "rate": rate,
            "timeout": REQUEST_TIMEOUT,
        }

    def _rate(self, tenant: TenantLoad) -> float:
        return tenant.rate(self.settings.rate)

    def pause(self, tenant: TenantLoad) -> None:
        """Stop the requests of the tenant's own flow until `resume` or `restore_load`; its sentinel continues."""
        self._set_flows(tenant, 0.0)

    def resume(self, tenant: TenantLoad) -> None:
        """Start the tenant's own flow again at its full rate; `restore_load` does so gradually."""
        self._set_flows(tenant, self._rate(tenant))

    def restore_load(self, tenants: Sequence[TenantLoad] | None = None) -> list[str]:
        """Restore every flow that is not healthy, and return what was done, a sentence each.

        A proxy that an overload drove into time-outs stays there under the load that it bore before: each request that
        times out costs its connection, and each new connection a handshake. So a flow that is not healthy starts
        slowly, as clients that back off do. Raises NotReady naming the flow that does not come back.

        Args:
            tenants: whose flows were paused; by default every tenant, and only flows that fail are touched.
        """
        begin, done = self.clock.now(), []
        with self.spans.span("flows healthy", SpanKind.WAIT):
            for tenant in self._unhealthy(HEALTHY_SECONDS) if tenants is None else tenants:
                started = self.clock.now()
                self._set_flows(tenant, self._rate(tenant) * SLOW_START)
                self._await_healthy(tenant, "answers a slow start")
                self._set_flows(tenant, self._rate(tenant))
                self._await_healthy(tenant, "bears its load")
                done.append(
                    f"{tenant.client} -> {tenant.server} was started slowly, and was healthy again after "
                    f"{(self.clock.now() - started) / 1e9:.1f} s"
                )
        self.steady = self.steady.healthy_from(self.clock.now() if done else begin)
        return done

    def _await_healthy(self, tenant: TenantLoad, what: str, *, name: str = "") -> None:
        before, begin = self._counters(tenant, name), time.monotonic()
        try:
            self.cluster.wait(
                f"{tenant.client} -> {name or tenant.server} {what}",
                lambda: tenant not in self._unhealthy(HEALTHY_SECONDS, [tenant], name=name),
                seconds=RESTORE_SECONDS,
            )
        except NotReady as error:
            why = explain_stuck(before, self._counters(tenant, name), headers=self.mesh.reply_headers)
            by_logs = explain_by_logs(self._hop_logs(tenant, begin), self.mesh.log_signs)
            raise NotReady(f"{error}: {'. '.join(filter(None, (why, by_logs)))}") from error

    def _hop_logs(self, tenant: TenantLoad, begin: float) -> HopLogs:
        """Read the logs of the proxies that the tenant's own flow passes, since that time of the monotonic clock."""
        try:
            placement = self.mesh.placement()
            pairs = [pair for pair in placement.pairs() if pair.call == (tenant.client, tenant.server)]
            return read_hop_logs(self.cluster, placement, pairs, seconds=time.monotonic() - begin)
        except SharedfateError as error:
            return HopLogs({}, (one_line(error),))

    def _unhealthy(
        self, seconds: float, tenants: Sequence[TenantLoad] | None = None, *, name: str = ""
    ) -> list[TenantLoad]:
        """Return the tenants whose flows are not answered as they should be, by their loaders' counts in that time.

        Args:
            name: of another flow at their loaders than their own.
        """
        watched = self.tenants if tenants is None else tenants
        before = [self._counters(tenant, name) for tenant in watched]
        self.clock.wait(seconds)
        found = []
        for tenant, old in zip(watched, before, strict=True):
            new = self._counters(tenant, name)
            due, answered = (new[name] - old[name] for name in ("due", "ok"))
            if not due or answered < HEALTHY * due:
                found.append(tenant)
        return found

    def is_answered(self, tenant: TenantLoad) -> bool:
        """Whether any of a few slow requests of the tenant's own flow is answered as it should be."""
        self._set_flows(tenant, FEW_RATE)
        end = time.monotonic() + FEW_SECONDS
        try:
            while not self._counters(tenant)["ok"]:
                if time.monotonic() >= end:
                    return False
                time.sleep(0.1)
            return True
        finally:
            self._set_flows(tenant, 0.0)

    def _counters(self, tenant: TenantLoad, name: str = "") -> dict[str, Any]:
        """Return the loader's own counts of the tenant's own flow, or of another."""
        if (counts := self._loader(tenant).flow(name or tenant.flow_name)) is None:
            raise ExperimentFailure(
                f"the loader of {tenant.client} has no flow {name or tenant.flow_name!r}: was it started again?"
            )
        return counts

    def _loader(self, tenant: TenantLoad) -> LoaderClient:
        return LoaderClient.of(self.cluster, tenant.namespace, tenant.loader(self.cluster)["metadata"]["name"])

    def _set_flows(self, tenant: TenantLoad, rate: float) -> None:
        self._tell_loader(tenant, tenant.flows(self.cluster, rate))

    def mark_disturbed(self) -> None:
        """Record that the load, or what carries it, was changed until now."""
        self.steady = self.steady.disturb(self.clock.now() + int(QUIET_AFTER * 1e9))

    def _tell_loader(self, tenant: TenantLoad, flows: Sequence[dict[str, Any]]) -> None:
        self.mark_disturbed()
        self._loader(tenant).set_flows(flows)


def reference_deployment(
    cluster: Cluster,
    mode: ProxyMode | str,
    *,
    run: str,
    settings: Settings,
    progress: Progress,
    clock: Clock | None = None,
    mesh: type[Mesh] = Mesh,
    opens: bool = False,
) -> Deployment:
    """Plan the reference tenants in the reference mesh. Reads the nodes, changes nothing; raises Misuse for too few.

    Args:
        opens: the cluster shuts new namespaces by NetworkPolicies, so ours are opened again.
    """
    made = mesh(cluster, mode, run=run, budget=Budget(settings.budget))
    made.opens = opens
    made.nodes = read_nodes(cluster)
    tenants = read_tenants(cluster, made.nodes.names, settings.topology)
    return Deployment(
        made,
        tenants,
        tenant_objects(tenants),
        breaks=first_on_path,
        settings=settings,
        progress=progress,
        clock=clock,
        title="deploying",
    )


def read_tenants(cluster: Cluster, nodes: Sequence[str], topology: Topology) -> tuple[Tenant, ...]:
    """Place the tenants of a topology on those nodes; their zones are read where it goes by them."""
    zones = zones_of(cluster.list("Node")) if topology.spread is Spread.ZONE else {}
    return plan_tenants(nodes, topology, zones)


def tenant_objects(tenants: Iterable[Tenant]) -> list[dict[str, Any]]:
    """Return the reference applications of the tenants, without any mesh."""
    return [
        obj
        for tenant in tenants
        for obj in manifests.tenant(
            tenant.name, client_nodes=tenant.client_nodes, server_nodes=tenant.server_nodes, servers=tenant.servers
        )
    ]


def first_on_path(placement: Placement, client: str, layer: Layer) -> Proxy | None:
    """Return the first proxy of that layer on the client's path; None in mode `none`.

    The reference topology is made so that this one instance shows both directions.
    """
    return proxy_on_path(placement, client=client, layer=layer)


def counting_containers(pods: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Map the UID of each pod of a reference server to its server container's ID: a new process starts new counts. A
    proxy beside it that was killed has none to lose. Pure.
    """
    return {
        pod["metadata"]["uid"]: " ".join(
            one.get("containerID", "")
            for one in pod.get("status", {}).get("containerStatuses") or []
            if one["name"] == _SERVER
        )
        for pod in pods
    }


def detect_contradictions(counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the tenants whose loader counts more answers than their servers do, beyond what retries, lost answers and
    the time between the two readings explain. Pure.

    Args:
        counts: as `Deployment.read_counts` gives them.
    """
    return [
        f"{tenant}: it counted {one['answered']} answers, and the servers gave {one['served']}"
        for tenant, one in sorted(counts.items())
        if one["answered"] > one["served"]
    ]
