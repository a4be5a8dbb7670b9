"""Runs on a node: requests an identity from the control plane with another proxy's token, as an attacker who took that
proxy over would.

`request_identity JSON`: `{"uid", "container_id", "trusted", "identities"}`, in a privileged pod
with hostPID. Prints `{"given", "refused", "error"}`: the names of what came back, never a key.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceStub

from chaos.inpod.process_helper import processes
from chaos.mesh.controlplane.xds import SECRET
from chaos.names import CONTROL_PLANE, PORT_XDS, SYSTEM_NAMESPACE, TOKEN_PATH

SECONDS = 10.0


def request_identity(token: str, trusted: str, identities: list[str]) -> dict[str, Any]:
    """Return what the control plane answers to a proxy with that token that requests the identities."""
    found: dict[str, Any] = {"given": [], "refused": [], "error": ""}
    address = f"{CONTROL_PLANE}.{SYSTEM_NAMESPACE}.svc.cluster.local:{PORT_XDS}"
    request = DeltaDiscoveryRequest(type_url=SECRET, resource_names_subscribe=identities)
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted.encode())) as channel:
        stream = SecretDiscoveryServiceStub(channel).DeltaSecrets(
            iter([request]), timeout=SECONDS, metadata=[("authorization", token)]
        )
        try:
            for response in stream:
                found["given"] += [resource.name for resource in response.resources]
                found["refused"] += response.removed_resources
                if {*found["given"], *found["refused"]} >= set(identities):
                    stream.cancel()
                    break
        except grpc.RpcError as error:
            found["error"] = f"{error.code().name}: {error.details()}"
    return found


def within(root: Path, path: str) -> Path:
    """Resolve a path in another process's root: an absolute link (/var/run) leads into that root, not into ours."""
    found = root
    for part in Path(path).parts[1:]:
        found = found / part
        if found.is_symlink() and (target := os.readlink(found)).startswith("/"):
            found = Path(f"{root}{target}")
    return found


def main() -> None:
    asked = json.loads(sys.argv[1])
    pid = processes(asked["uid"], asked["container_id"])[0]
    token = within(Path(f"/proc/{pid}/root"), TOKEN_PATH).read_text().strip()
    print(json.dumps(request_identity(token, asked["trusted"], asked["identities"])))


if __name__ == "__main__":
    main()
