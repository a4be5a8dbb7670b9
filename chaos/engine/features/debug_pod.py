"""Debug pods: one privileged pod per node, outside the mesh, in which checks read the node's network and processes.

They live in our own system namespace, carry the run's label, see the node's processes (hostPID), and end by themselves
after their deadline. What they run are short programs of this package, through exec.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from chaos.errors import ExperimentFailure
from chaos.faults.helper_pod import manifest
from chaos.kube.client import Cluster
from chaos.kube.objects import container_statuses
from chaos.names import SYSTEM_NAMESPACE

DEADLINE = 600  # seconds


@contextmanager
def debug_pods(cluster: Cluster, nodes: Sequence[str], *, run: str) -> Iterator[dict[str, str]]:
    """Yield node -> name of a running debug pod on it; delete them afterwards."""
    made = {node: f"debug-{number}-{secrets.token_hex(3)}" for number, node in enumerate(nodes)}
    try:
        for node, name in made.items():
            cluster.create(manifest(name, ["sleep", str(DEADLINE)], node=node, run=run, seconds=DEADLINE))
        for name in made.values():
            cluster.wait(f"debug pod {name} runs", partial(_running, cluster, name), seconds=60)
        yield made
    finally:
        for name in made.values():
            cluster.delete("Pod", name, SYSTEM_NAMESPACE, grace=0)


def _running(cluster: Cluster, name: str) -> bool:
    statuses = container_statuses(cluster.get("Pod", name, SYSTEM_NAMESPACE))
    return bool(statuses) and "running" in (statuses[0].get("state") or {})


def program(
    cluster: Cluster, namespace: str, pod: str, container: str, module: str, *arguments: str, seconds: float = 60.0
) -> Any:
    """Run one of this package's programs in a container and read its JSON; raises ExperimentFailure with its last
    output.
    """
    command = ["python", "-m", module, *arguments]
    done = cluster.exec(namespace, pod, command, container=container, seconds=seconds)
    if done.code:
        raise ExperimentFailure(f"{module} in {namespace}/{pod} ended with {done.code}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)
