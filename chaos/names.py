"""Every label, annotation, port and fixed name, in one place: the protocol between the parts."""

from __future__ import annotations

import os
import re
from typing import Final

from chaos.version import __version__

# An installation's own name. SHAREDFATE_NAME gives another, so that two live in one cluster and know nothing of each
# other: a mesh that `render` printed for good, say, and a run of the suite on it.
DEFAULT_NAME: Final = "sharedfate"
NAME: Final = os.environ.get("SHAREDFATE_NAME") or DEFAULT_NAME
GROUP: Final = f"{NAME}.io"

# Labels
LABEL_RUN: Final = f"{GROUP}/run"  # on every object that we create; faults touch nothing without it
LABEL_TENANT: Final = f"{GROUP}/tenant"  # on a tenant's namespace and pods: the tenant's name
LABEL_ROLE: Final = f"{GROUP}/role"  # on pods: client | server | proxy | control-plane | helper | watchdog
LABEL_LAYER: Final = f"{GROUP}/layer"  # on proxy pods (and in the annotation of injected pods): l4 | l7 | l4-l7
LABEL_SCOPE: Final = f"{GROUP}/scope"  # pod | node | namespace
LABEL_SCOPE_KEY: Final = f"{GROUP}/scope-key"  # scope namespace: the namespace served; a pod's waypoint: the pod's name
LABEL_MODE: Final = f"{GROUP}/mode"  # on namespaces and proxies: the proxy mode
LABEL_POLICY: Final = f"{GROUP}/policy"  # on a ConfigMap that holds an allow-list of its namespace: enabled
LABEL_WAYPOINT: Final = f"{GROUP}/use-waypoint"  # on a Service and on its pods: none, where they have no waypoint
NO_WAYPOINT: Final = "none"
LABEL_POD_SECURITY: Final = "pod-security.kubernetes.io/enforce"  # Kubernetes' own, on namespaces
LABEL_MESH: Final = f"{GROUP}/mesh"  # on namespaces: enabled

# Annotations
ANNOTATION_SANDBOX: Final = f"{GROUP}/sandbox"  # written by the node agent: <pod uid>-<inode of its network namespace>
ANNOTATION_BUDGET: Final = f"{GROUP}/cpu-budget"  # on proxy pods: millicores of the proxy container once it is ready
ANNOTATION_BUDGET_HOLD: Final = f"{GROUP}/cpu-budget-hold"  # on a pod: its proxy's CPU limit belongs to a fault for now
ANNOTATION_PROXY_CONTAINER: Final = f"{GROUP}/proxy-container"  # name of the container that holds the proxy

# On a run's pods: asks autoscalers (Karpenter, Cluster Autoscaler) to leave their node alone meanwhile.
KEEP_IN_PLACE: Final = {
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}
CONDITION_CAPTURED: Final = f"{GROUP}/captured"  # pod readiness gate of node and ambient modes
REASON_RELEASED: Final = "Released"  # of that condition: the pod has left the mesh, and has nothing to wait for

# Namespaces and objects
SYSTEM_NAMESPACE: Final = f"{NAME}-system"  # control plane, node proxies, helpers, watchdog: all the privileged
CONTROL_PLANE: Final = "control-plane"  # Deployment and Service
PROXY_CONTAINER: Final = "proxy"
NODE_PROXY: Final = "node-proxy"  # DaemonSet and account, in the system namespace, that alone may serve a node's pods
WAYPOINT: Final = "waypoint"  # account and workload of the L7 proxies that stand apart
PLACEBO: Final = "placebo"  # DaemonSet of mode `none`
PROXY_CONFIG: Final = f"{NAME}-proxy"  # ConfigMap in each namespace with proxies: bootstrap and trust bundle
MESH_CONFIG: Final = "mesh"  # ConfigMap in the system namespace: mode and features
AUTHORITY_SECRET: Final = "mesh-authority"  # Secret in the system namespace: the mesh's own certificate authority
CONTROL_SECRET: Final = "control-key"  # Secret in the system namespace: opens 9990 and 15014 (`chaos.control_key`)
TOKEN_AUDIENCE: Final = GROUP  # of the tokens by which proxies show who they are
TOKEN_PATH: Final = "/var/run/secrets/sharedfate/token"
# The one image; SHAREDFATE_IMAGE names it as a private registry does. The embedded cluster runs the installation itself
# under it.
IMAGE: Final = os.environ.get("SHAREDFATE_IMAGE") or f"sharedfate/sharedfate:{__version__}"
TRUST_DOMAIN: Final = "cluster.local"

# Ports in a meshed pod
PORT_OUTBOUND: Final = 15001  # captured outbound connections
PORT_INBOUND: Final = 15006  # captured inbound connections
PORT_HBONE: Final = 15008  # CONNECT over mutual TLS
PORT_ADMIN: Final = 15000  # Envoy's admin, on 127.0.0.1 only
PORT_AGENT: Final = 15020  # the node agent's status
PORT_STATUS: Final = 15021  # Envoy's /ready and /stats/prometheus, for probes and scraping
PORT_XDS: Final = 15012  # control plane: gRPC over TLS
PORT_WATCHDOG: Final = 15022  # the watchdog's /healthz
PORT_XDS_STATUS: Final = 15014  # control plane: /healthz, /readyz, /debug

# Ports of the reference apps
PORT_HTTP: Final = 8080  # HTTP/1.1, HTTP/2 with prior knowledge, gRPC
PORT_TCP: Final = 9000  # raw TCP, long-lived streams
PORT_CONTROL: Final = 9990  # excluded from capture: health, samples, loader control, sentinel

MARK_PROXY: Final = 0x539  # SO_MARK of what a proxy sends: capture lets it pass


def spiffe_id(namespace: str, service_account: str) -> str:
    """`spiffe://cluster.local/ns/NS/sa/SA`, the identity in a workload's certificate."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{service_account}"


def summary_of(doc: str | None) -> str:
    """The first paragraph of a docstring on one line; "" without one."""
    return " ".join((doc or "").strip().partition("\n\n")[0].split())


_PART = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])"
_IMAGE: Final = re.compile(
    rf"(?=[^@]{{1,255}}(?:@|$))(?:{_HOST}(?::[0-9]+)?/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?",
    re.ASCII,
)


def is_image_name(name: str) -> bool:
    """Whether it is a reference by the grammar of https://pkg.go.dev/github.com/distribution/reference."""
    return _IMAGE.fullmatch(name) is not None


def full_image_name(name: str) -> str:
    """The full name: registry, repository and tag, as containerd spells it."""
    if "@" in name:
        return name
    first, _, rest = name.partition("/")
    if not rest:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
