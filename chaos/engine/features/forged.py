"""Checks that a tenant's pod that claims to be a proxy of the mesh gets no traffic, no configuration and no key.

One forged pod for each kind of proxy that stands apart, in another tenant's namespace, on the node of the client's own
proxy. It listens where that proxy would, and writes down who comes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from chaos.engine.features.context import CheckContext
from chaos.errors import ApiError
from chaos.kube.objects import RESTRICTED
from chaos.model.modes import layer_name
from chaos.model.placement import Proxy
from chaos.names import (
    ANNOTATION_BUDGET,
    ANNOTATION_PROXY_CONTAINER,
    IMAGE,
    LABEL_LAYER,
    LABEL_ROLE,
    LABEL_SCOPE,
    LABEL_SCOPE_KEY,
    PORT_HBONE,
    PORT_HTTP,
    PORT_INBOUND,
    PORT_OUTBOUND,
)
from chaos.verdict.check import Check, decided, undecided

PORTS: Final = (PORT_HTTP, PORT_INBOUND, PORT_HBONE, PORT_OUTBOUND)
REQUESTS: Final = 40
PAUSE: Final = 0.05  # seconds between requests: a change of configuration takes less than all of them together
CLAIM: Final = "a forged {} proxy gets no traffic"


def check_forged(context: CheckContext) -> list[Check]:
    """Forge a proxy of each kind in turn, while the client calls its servers."""
    return [_check(context, proxy) for proxy in _kinds(context)]


def _kinds(context: CheckContext) -> list[Proxy]:
    """Return a live proxy of each kind that stands apart from the applications' pods."""
    own = {pod.uid for pod in context.placement.pods}
    apart = [proxy for proxy in context.placement.proxies if proxy.layers and proxy.uid not in own]
    apart.sort(key=lambda proxy: proxy.node != context.client.node)
    return list({(proxy.layers, proxy.scope): proxy for proxy in reversed(apart)}.values())


def plan_forged(context: CheckContext, proxy: Proxy) -> dict[str, Any]:
    """The forged pod: the proxy's labels and annotations, another tenant's namespace and account."""
    name = f"forged-{layer_name(proxy.layers)}"
    labels = {LABEL_ROLE: "proxy", LABEL_LAYER: layer_name(proxy.layers), LABEL_SCOPE: str(proxy.scope)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": context.other_tenant.namespace,
            "labels": {**labels, LABEL_SCOPE_KEY: context.client.namespace, "app": "waypoint"},
            "annotations": {ANNOTATION_PROXY_CONTAINER: "proxy", ANNOTATION_BUDGET: "900"},
        },
        "spec": {
            "nodeName": proxy.node,
            "serviceAccountName": context.other_tenant.service_account,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "proxy",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-m", "chaos.inpod.listener", *map(str, PORTS)],
                    "securityContext": RESTRICTED,
                    "resources": {"limits": {"memory": "64Mi"}},
                }
            ],
        },
    }


@contextmanager
def _forged(context: CheckContext, proxy: Proxy) -> Iterator[tuple[str, str]]:
    """Yield (namespace, name) of the forged pod while it listens."""
    made = plan_forged(context, proxy)
    namespace, name = made["metadata"]["namespace"], made["metadata"]["name"]
    try:
        context.cluster.create(made)
        context.reference_mesh.wait_ready([made], seconds=30)
        context.cluster.wait(f"{name} listens", lambda: "listens" in context.cluster.logs(namespace, name), seconds=20)
        yield namespace, name
    finally:
        context.cluster.delete("Pod", name, namespace, grace=0)


def _check(context: CheckContext, proxy: Proxy) -> Check:
    claim = CLAIM.format(f"{layer_name(proxy.layers)} per-{proxy.scope}")
    try:
        with _forged(context, proxy) as (namespace, name):
            uid = context.cluster.get("Pod", name, namespace)["metadata"]["uid"]
            replies = context.call(context.client, requests=REQUESTS, pause=PAUSE)
            lines = [json.loads(line) for line in context.cluster.logs(namespace, name).splitlines()]
            page = context.reference_mesh.control_plane()
    except ApiError as error:
        return undecided(claim, f"the forged pod could not be made: {error}")
    came = [line for line in lines if "peer" in line]
    known = uid in {one["uid"] for one in page["proxies"]} | {one["proxy_uid"] for one in page["identities"]}
    own = {server.name for server in context.servers}
    answered = sum(reply.status == 200 and reply.pod in own for reply in replies)
    return decided(
        claim,
        not came and not known and answered == len(replies),
        f"{len(came)} connections came to it, {answered} of {len(replies)} requests were answered by "
        f"their own servers, and the control plane {'serves' if known else 'does not know'} it",
        len(came),
        "connections",
    )
