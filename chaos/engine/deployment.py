"""One mode in the cluster with its tenants under load: what the trials of that mode share.

Load runs from the moment the tenants are ready until they go; each trial gathers it into a history of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from chaos.chance import Clock, Seed, SystemClock
from chaos.cluster.client import Cluster
from chaos.engine.progress import Progress
from chaos.engine.settings import Settings
from chaos.engine.topology import Tenant, plan_tenants
from chaos.errors import ExperimentFailure
from chaos.faults.selection import Pick, pick
from chaos.history.model import Flow
from chaos.load.collector import Loader
from chaos.mesh import manifests
from chaos.mesh.budget import Budget
from chaos.mesh.fate import Placement, ProxyInstance, path
from chaos.mesh.install import Mesh
from chaos.names import LABEL_ROLE, PORT_CONTROL, SYSTEM_NAMESPACE

REQUEST_TIMEOUT = 1.0  # seconds from when a request was due
SENTINEL_RATE = 50.0
FLOW = "http"  # name of a tenant's own flow at its loader
SLOW_START = 0.05  # of its rate: what a flow whose path gave out begins with again
HEALTHY = 0.95  # share of a flow's requests that are answered, above which it needs no help
HEAL_SECONDS = 20.0  # longest wait for a flow to be sound again


class Deployment:
    """A mode, deployed. `start` waits until every tenant is ready and under load; `stop` leaves nothing."""

    def __init__(self, cluster: Cluster, mode: str, *, run: str, settings: Settings, progress: Progress,
                 clock: Clock | None = None) -> None:
        self.cluster, self.run, self.settings, self.progress = cluster, run, settings, progress
        self.clock = clock or SystemClock()
        self.mesh = Mesh(cluster, mode, run=run, budget=Budget(settings.budget))
        self.tenants: tuple[Tenant, ...] = ()
        self.since = 0  # ns: begin of steady load
        self.ready_seconds = 0.0

    @property
    def namespaces(self) -> list[str]:
        return [SYSTEM_NAMESPACE, *(tenant.namespace for tenant in self.tenants)]

    @property
    def calls(self) -> list[tuple[str, str]]:
        return [(tenant.client, tenant.server) for tenant in self.tenants]

    @property
    def flows(self) -> list[Flow]:
        return [Flow(*call) for call in self.calls]

    def start(self) -> None:
        """Install the mesh, deploy the tenants, start the load."""
        mode = self.mesh.mode.name
        self.progress.step(f"{mode}: deploying")
        begin = time.monotonic()
        nodes = sorted(n["metadata"]["name"] for n in self.cluster.list("Node") if not n["spec"].get("unschedulable"))
        self.tenants = plan_tenants(nodes)
        objects: list[dict[str, Any]] = []
        for tenant in self.tenants:
            objects += manifests.tenant(tenant.name, client_nodes=tenant.client_nodes, server_nodes=tenant.server_nodes)
        self.mesh.start(objects)
        self.ready_seconds = time.monotonic() - begin
        self.progress.step(f"{mode}: ready in {self.ready_seconds:.1f} s; starting the load")
        for tenant in self.tenants:
            self._set_flows(tenant, self.settings.rate)
        self.since = time.time_ns() + 500_000_000  # the first connections of every flow are not steady load

    def stop(self) -> None:
        """Take the tenants and the mesh down."""
        self.mesh.uninstall()

    def placement(self) -> Placement:
        """What is where now."""
        return self.mesh.placement(self.calls)

    def loaders(self) -> Sequence[Loader]:
        """The client pods."""
        return [Loader(tenant.namespace, self.client_pod(tenant)["metadata"]["name"]) for tenant in self.tenants]

    def client_pod(self, tenant: Tenant) -> dict[str, Any]:
        """The pod of a tenant's loader."""
        pods = self.cluster.list("Pod", tenant.namespace, labels=f"{LABEL_ROLE}=client")
        live = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        return pick(live, Pick.ONE, what=f"loader of tenant {tenant.name}", name=lambda pod: str(pod["metadata"]["name"]))[0]

    def proxies_of_client(self, tenant: Tenant) -> list[ProxyInstance]:
        """The proxies of the first hop of a tenant's path: the ones that its own overload drowns. None in mode `none`."""
        placement = self.placement()
        found: dict[ProxyInstance, None] = {}
        for pair in placement.pairs():
            if pair.client.workload_key == tenant.client and placement.mode.hops:
                found.update(dict.fromkeys(path(placement, pair)[0]))
        return list(found)

    def proxy_to_break(self, seed: Seed) -> ProxyInstance:
        """The first proxy on the first tenant's path; in mode `none` a placebo, which no traffic passes."""
        del seed  # the reference topology is made so that this one instance shows both directions
        if found := self.proxies_of_client(self.tenants[0]):
            return found[0]
        proxies = self.placement().proxies
        if not proxies:
            raise ExperimentFailure(f"mode {self.mesh.mode.name} has neither a proxy nor a placebo: is the mesh whole?")
        return sorted(proxies)[0]

    # ---- the load

    def pause(self, tenant: Tenant) -> None:
        """No requests of the tenant's own flow until `heal`; its sentinel goes on."""
        self._set_flows(tenant, 0.0)

    def heal(self, tenants: Sequence[Tenant] | None = None) -> list[str]:
        """See that flows are sound, and help those that are not; returns what was done, a sentence each.

        A proxy that an overload drove into time-outs stays there under the load that it bore before: each request that
        times out costs its connection, and each new connection a handshake. So a flow that is not sound starts slowly, as
        clients that back off do. Raises NotReady naming the flow that does not come back.

        Args:
            tenants: whose flows were paused; by default every tenant, and only flows that fail are touched.
        """
        done = []
        for tenant in self.tenants if tenants is None else tenants:
            if tenants is None and self._is_sound(tenant, 0.5):
                continue
            begin = self.clock.now()
            self._set_flows(tenant, self.settings.rate * SLOW_START)
            self._await_sound(tenant, "answers a slow start")
            self._set_flows(tenant, self.settings.rate)
            self._await_sound(tenant, "bears its load")
            done.append(f"{tenant.client} -> {tenant.server} was started slowly, and was sound again after "
                        f"{(self.clock.now() - begin) / 1e9:.1f} s")
        return done

    def _await_sound(self, tenant: Tenant, what: str) -> None:
        self.cluster.wait(f"{tenant.client} -> {tenant.server} {what}", lambda: self._is_sound(tenant, 0.5), seconds=HEAL_SECONDS)

    def _is_sound(self, tenant: Tenant, seconds: float) -> bool:
        before = self._ledger(tenant)
        self.clock.wait(seconds)
        after = self._ledger(tenant)
        due, answered = (after[name] - before[name] for name in ("due", "ok"))
        return bool(due and answered >= HEALTHY * due)

    def _ledger(self, tenant: Tenant) -> dict[str, Any]:
        """The loader's own counts of the tenant's flow."""
        loader = self.client_pod(tenant)["metadata"]["name"]
        state = json.loads(self.cluster.pod_http(tenant.namespace, loader, PORT_CONTROL, "/state"))
        return dict(next(flow for flow in state["flows"] if flow["name"] == FLOW))

    def _set_flows(self, tenant: Tenant, rate: float) -> None:
        servers = self.cluster.list("Pod", tenant.namespace, labels=f"{LABEL_ROLE}=server")
        address = sorted(pod["status"]["podIP"] for pod in servers)[0]
        flows = [
            {"name": FLOW, "server": tenant.server, "target": "server:80", "rate": rate, "timeout": REQUEST_TIMEOUT},
            {"name": "sentinel", "server": tenant.server, "target": f"{address}:{PORT_CONTROL}", "path": "/sentinel",
             "rate": SENTINEL_RATE, "sentinel": True, "timeout": REQUEST_TIMEOUT},
        ]
        loader = self.client_pod(tenant)["metadata"]["name"]
        self.cluster.pod_http(tenant.namespace, loader, PORT_CONTROL, "/flows", method="POST", body=json.dumps(flows).encode())
