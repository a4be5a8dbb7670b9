"""Keeps the mesh's authority in a Secret of the system namespace, made on first use.

The runner makes it while it installs a mesh, so that proxies can start beside the control plane; after `kubectl apply`
of rendered manifests the control plane does.
"""

from __future__ import annotations

import base64
from typing import Any

from chaos.errors import AlreadyExists
from chaos.kube.client import Cluster
from chaos.mesh.ca import Authority
from chaos.names import AUTHORITY_SECRET, LABEL_RUN, SYSTEM_NAMESPACE


def stored_authority(cluster: Cluster, *, run: str) -> Authority:
    """Return the authority from its Secret, which is created when missing: a restart keeps the root."""
    found = cluster.find("Secret", AUTHORITY_SECRET, SYSTEM_NAMESPACE)
    if found is None:
        new = Authority.new()
        try:
            cluster.create(secret(new, run=run))
        except AlreadyExists:
            found = cluster.get("Secret", AUTHORITY_SECRET, SYSTEM_NAMESPACE)
        else:
            return new
    return Authority.loaded(*(base64.b64decode(found["data"][key]) for key in ("tls.crt", "tls.key")))


def secret(made: Authority, *, run: str) -> dict[str, Any]:
    """Return the Secret that holds the authority."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": AUTHORITY_SECRET, "namespace": SYSTEM_NAMESPACE, "labels": {LABEL_RUN: run}},
        "data": {
            "tls.crt": base64.b64encode(made.root_pem).decode(),
            "tls.key": base64.b64encode(made.key_pem).decode(),
        },
    }
