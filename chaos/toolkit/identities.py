"""Reads whose private keys a proxy holds from the memory of its process, not from what it was meant to be given."""

from __future__ import annotations

from chaos.engine.features.debug_pod import debug_pods, program
from chaos.faults.helper_pod import CONTAINER
from chaos.kube.client import Cluster
from chaos.mesh.install import Mesh
from chaos.model.placement import Proxy
from chaos.names import SYSTEM_NAMESPACE, spiffe_id

UNKNOWN = "a key that nobody was handed"


def in_memory(cluster: Cluster, mesh: Mesh, proxy: Proxy) -> list[str]:
    """Return `namespace/service-account` of every private key in the proxy's memory, by the public halves in the
    control plane's log.
    """
    with debug_pods(cluster, [proxy.node], run=mesh.run) as made:
        keys = program(
            cluster,
            SYSTEM_NAMESPACE,
            made[proxy.node],
            CONTAINER,
            "chaos.engine.features.programs.memory_keys",
            proxy.uid,
            proxy.container_id.rpartition("//")[2],
        )
    log = mesh.control_plane()["identities"]
    whose = {line["public_key_sha256"]: short(line["identity"]) for line in log if line["public_key_sha256"]}
    return sorted({whose.get(key, UNKNOWN) for key in keys})


def short(identity: str) -> str:
    """Return `namespace/service-account` of a SPIFFE identity; any other identity unchanged."""
    namespace, _, account = identity.partition("/ns/")[2].partition("/sa/")
    return f"{namespace}/{account}" if spiffe_id(namespace, account) == identity else identity
