"""Keeps the mesh's authority in a Secret of the system namespace, made on first use.

The runner makes it while it installs a mesh, so that proxies can start beside the control plane; after `kubectl apply`
of rendered manifests the control plane does.

Another root follows in three steps, each of which the control plane takes up when it starts again: members trust both
(`ca.crt` holds the other one), the new one issues, the old one is trusted no more. The control plane's own certificate
stays with the root that the proxies' bootstrap names (`plane.crt`), for a running proxy reads no other.
"""

from __future__ import annotations

import base64
from typing import Any

from chaos.errors import AlreadyExists
from chaos.kube.client import Cluster
from chaos.mesh.ca import Authority
from chaos.names import AUTHORITY_SECRET, LABEL_RUN, SYSTEM_NAMESPACE


def stored_authority(cluster: Cluster, *, run: str) -> Authority:
    """Return the authority that issues the members' certificates, from its Secret, which is created when missing: a
    restart keeps the root.
    """
    data = _stored(cluster, run)
    return Authority.loaded(data["tls.crt"], data["tls.key"], data.get("ca.crt", b""))


def plane_authority(cluster: Cluster, *, run: str) -> Authority:
    """Return the authority of the control plane's own certificate: the first one, whatever followed."""
    data = _stored(cluster, run)
    return Authority.loaded(*(data.get(f"plane.{part}", data[f"tls.{part}"]) for part in ("crt", "key")))


def _stored(cluster: Cluster, run: str) -> dict[str, bytes]:
    found = cluster.find("Secret", AUTHORITY_SECRET, SYSTEM_NAMESPACE)
    if found is None:
        found = secret(Authority.new(), run=run)
        try:
            cluster.create(found)
        except AlreadyExists:
            found = cluster.get("Secret", AUTHORITY_SECRET, SYSTEM_NAMESPACE)
    return {name: base64.b64decode(text) for name, text in found["data"].items()}


def store_succession(cluster: Cluster, *, issuing: Authority, also: bytes, plane: Authority) -> None:
    """Store one step from a root to the next.

    Args:
        issuing: who issues the members' certificates; also: other roots that they trust, PEM.
        plane: whose certificate the control plane keeps.
    """
    data = _encoded(
        {
            "tls.crt": issuing.root_pem,
            "tls.key": issuing.key_pem,
            "ca.crt": also,
            "plane.crt": plane.root_pem,
            "plane.key": plane.key_pem,
        }
    )
    cluster.patch("Secret", AUTHORITY_SECRET, {"data": data}, SYSTEM_NAMESPACE)


def secret(made: Authority, *, run: str) -> dict[str, Any]:
    """Return the Secret that holds the authority."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": AUTHORITY_SECRET, "namespace": SYSTEM_NAMESPACE, "labels": {LABEL_RUN: run}},
        "data": _encoded({"tls.crt": made.root_pem, "tls.key": made.key_pem}),
    }


def _encoded(data: dict[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in data.items()}
