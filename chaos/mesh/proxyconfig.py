"""The data of the ConfigMap `sharedfate-proxy`: the files that a proxy's container starts from.

One text for all proxies of a mode: who a proxy is follows from its token, not from its bootstrap.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chaos.mesh.envoy.start import bootstrap, status_listener
from chaos.mesh.modes import mode_named
from chaos.names import LABEL_RUN, PORT_ADMIN, PORT_STATUS, PROXY_CONFIG


def proxy_config(mode: str, root_pem: str) -> dict[str, str]:
    """File name -> text."""
    found = placebo() if not mode_named(mode).hops else bootstrap()
    return {"bootstrap.json": json.dumps(found, sort_keys=True), "ca.pem": root_pem}


def config_map(namespace: str, data: Mapping[str, str], run: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "data": dict(data),
        "metadata": {"name": PROXY_CONFIG, "namespace": namespace, "labels": {LABEL_RUN: run}},
    }


def placebo() -> dict[str, Any]:
    """Return an Envoy configuration that asks nobody for anything: admin, and /ready for its probe."""
    admin = {
        "name": "admin",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "admin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address("127.0.0.1", PORT_ADMIN)}}]}],
        },
    }
    return {
        "node": {"cluster": "placebo", "id": "placebo"},
        "admin": {"address": _address("127.0.0.1", PORT_ADMIN)},
        "static_resources": {"listeners": [status_listener("0.0.0.0", PORT_STATUS)], "clusters": [admin]},
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
