"""Keep the nodes' nftables rules in step with the store: Services with their endpoints, and NetworkPolicies.

One task each. A task waits a moment after the first change, plans every node's rules afresh (cheap, and no state to get
out of step), and writes those that differ from the node's present rules.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final

from chaos.embedded.network.fabric import ClusterNetwork
from chaos.embedded.network.netns import Namespace
from chaos.embedded.network.policies import plan_policies, render_policies
from chaos.embedded.network.services import plan_host_ports, plan_services, render_services, wants_host_port
from chaos.embedded.resources import ENDPOINT_SLICE, NAMESPACE, NETWORK_POLICY, POD, SERVICE, Resource
from chaos.embedded.store import Store, Watch, WatchEvent

GATHER_SECONDS: Final = 0.01  # after the first change, for those that follow on its heels
RETRY_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


async def run_services(store: Store, network: ClusterNetwork) -> None:
    """Keep every node's Service rules in step until cancelled."""

    def rules(node: str) -> str:
        served = plan_services(store.list(SERVICE), store.list(ENDPOINT_SLICE), node)
        return render_services(served + plan_host_ports(store.list(POD), node))

    # Refusals stand even without a Service, so that a new node is always told.
    await _keep(store, network, {SERVICE: _always, ENDPOINT_SLICE: _always, POD: _host_port}, rules, nothing=None)


def _always(_: WatchEvent) -> bool:
    return True


def _host_port(event: WatchEvent) -> bool:
    return any(pod is not None and wants_host_port(pod) for pod in (event.object, event.before))


async def run_policies(store: Store, network: ClusterNetwork) -> None:
    """Keep every node's policy rules in step until cancelled. Without a policy there are no rules."""

    def rules(node: str) -> str:
        policies = store.list(NETWORK_POLICY)
        return render_policies(
            plan_policies(policies, store.list(POD), store.list(NAMESPACE), node) if policies else ()
        )

    await _keep(
        store, network, dict.fromkeys((NETWORK_POLICY, POD, NAMESPACE), _always), rules, nothing=render_policies(())
    )


async def _keep(
    store: Store,
    network: ClusterNetwork,
    concerns: Mapping[Resource, Callable[[WatchEvent], bool]],
    rules: Callable[[str], str],
    *,
    nothing: str | None,
) -> None:
    """Watch the kinds in `concerns` and rewrite rules; `nothing` are the rules that a new node already has."""
    dirty = asyncio.Event()
    dirty.set()
    written: dict[str, tuple[Namespace, str]] = {}  # node -> its namespace and what stands there
    with ExitStack() as stack, network.on_node(dirty.set):
        followers = [
            asyncio.create_task(_follow(stack.enter_context(store.watch(resource)), matters, dirty))
            for resource, matters in concerns.items()
        ]
        try:
            while True:
                await dirty.wait()
                await asyncio.sleep(GATHER_SECONDS)
                dirty.clear()
                if not await _write(network, rules, written, nothing):
                    asyncio.get_running_loop().call_later(RETRY_SECONDS, dirty.set)
        finally:
            for follower in followers:
                follower.cancel()


async def _follow(watch: Watch, matters: Callable[[WatchEvent], bool], dirty: asyncio.Event) -> None:
    async for event in watch:
        if matters(event):
            dirty.set()


async def _write(
    network: ClusterNetwork, rules: Callable[[str], str], written: dict[str, tuple[Namespace, str]], nothing: str | None
) -> bool:
    """Write the rules that differ; False when a node refused. A node that has gone meanwhile is ignored."""
    good = True
    for node in network.nodes():
        if node not in network.nodes():
            continue  # it went while another's rules were written
        namespace = network.namespace(node)
        try:
            wanted = rules(node)
        except Exception:  # an object that nobody foresaw: what stands goes on standing, and the cluster too
            log.exception("%s: cannot compute the rules; the old ones stay", node)
            good = False
            continue
        had = written.get(node)
        stands = had[1] if had is not None and had[0] is namespace else nothing
        if stands == wanted:
            continue
        try:
            await network.nft(node, wanted)
        except (OSError, KeyError) as error:
            written[node] = (namespace, "")  # whatever stands there
            if node in network.nodes():
                log.error("%s: %s", node, error)
                good = False
        else:
            written[node] = (namespace, wanted)
    return good
