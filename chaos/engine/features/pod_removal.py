"""Checks that one more pod is served without help, and that a deleted one leaves nothing: its network namespace and
link are soon gone, although it used the node's proxy a moment ago.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

from chaos.engine.features.context import CheckContext
from chaos.errors import NotReady
from chaos.kube.objects import RESTRICTED
from chaos.model.placement import Pod
from chaos.names import IMAGE
from chaos.verdict.check import Check, decided, undecided

SECONDS: Final = 5.0
READY_SECONDS: Final = 60.0  # longest wait for one more pod
NAME: Final = "check-leaver"
SERVED: Final = "one more pod is served without help"
LEAVES: Final = "a pod that goes leaves nothing"


def plan_leaver(client: Pod) -> dict[str, Any]:
    """Plan a pod that knows no mesh, under the client's identity, on its node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": client.namespace, "labels": {"app": NAME}},
        "spec": {
            "serviceAccountName": client.service_account,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [client.node]}]}
                        ]
                    }
                }
            },
            "containers": [
                {
                    "name": "client",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-m", "chaos.apps.server"],
                    "securityContext": RESTRICTED,
                    "resources": {"limits": {"memory": "128Mi"}},
                }
            ],
        },
    }


def check_pod_removal(context: CheckContext, *, ready_seconds: float = READY_SECONDS) -> list[Check]:
    """Add a pod, let it call, delete it, and look for what is left of it on the node."""
    node, begin = context.client.node, time.monotonic()
    before = set(context.run_on_node(node, "chaos.inpod.socket_holders")["links"])
    pod = context.mesh.inject([plan_leaver(context.client)])[-1]
    try:
        context.cluster.create(pod)
        try:
            context.reference_mesh.wait_ready([pod], seconds=ready_seconds)
        except NotReady as error:
            return [decided(SERVED, False, str(error)), undecided(LEAVES, "it never came so far")]
        served = time.monotonic() - begin
        found = context.cluster.get("Pod", NAME, context.client.namespace)
        leaver = Pod(
            context.client.namespace, NAME, found["metadata"]["uid"], node, "", "", NAME, context.client.service_account
        )
        replies = context.call(leaver, requests=8)
        seen = context.run_on_node(node, "chaos.inpod.socket_holders", leaver.uid)
    finally:
        context.cluster.delete("Pod", NAME, context.client.namespace)
    begin = time.monotonic()
    added = set(seen["links"]) - before
    answered = sum(reply.status == 200 for reply in replies)
    first = decided(
        SERVED,
        answered == len(replies),
        f"ready {served:.1f} s after it was asked for; {answered} of {len(replies)} of its requests were answered",
        served,
        "s",
    )
    if not added:
        return [first, undecided(LEAVES, "no link of its own was seen on the node")]
    left: dict[str, Any] = {}

    def gone() -> bool:
        left["at"] = time.monotonic()
        left.update(context.run_on_node(node, "chaos.inpod.socket_holders", "--cookie", str(seen["cookie"])))
        left["there"] = context.cluster.find("Pod", NAME, context.client.namespace) is not None
        return not (left["there"] or left["holders"] or added & set(left["links"]))

    with suppress(NotReady):  # what is left says why
        context.cluster.wait("nothing is left of the pod", gone, seconds=SECONDS * 2, every=0.2)
    took, by = left["at"] - begin, time.monotonic() - begin  # the last look began and ended then
    holding = [
        name
        for name, there in (
            ("the pod itself", left["there"]),
            ("its link", added & set(left["links"])),
            (f"a socket of its network namespace in process {left['holders']}", left["holders"]),
        )
        if there
    ]
    return [
        first,
        decided(
            LEAVES,
            not holding and took < SECONDS,
            f"after {by:.1f} s {' and '.join(holding) or 'nothing'} was left of it",
            by,
            "s",
        ),
    ]
