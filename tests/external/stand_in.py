"""Meshes that stand in for others: the reference mesh in one of its modes, under another name and the other's labels.

What the other's injector does to a pod of an enrolled namespace is done here by a webhook, which renders the reference
mesh's patch; what its network plugin writes onto a carried pod, by a watch. A run sees an installation.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chaos.errors import ApiError
from chaos.kube.applying import apply_all, delete_all, is_ready
from chaos.kube.client import Cluster
from chaos.kube.objects import has_condition
from chaos.mesh import manifests
from chaos.model.modes import MODES
from chaos.names import ANNOTATION_BUDGET_HOLD, MESH_CONFIG, PORT_ADMIN, SYSTEM_NAMESPACE

NAME: Final = "standin"
_AMBIENT: Final = "istio.io/dataplane-mode"
_CARRIED: Final = "ambient.istio.io/redirection"
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StandIn:
    """How the reference mesh looks like another.

    Attributes:
        mode: of the reference mesh.
        container: of the proxies.
        plane: labels of the control plane's Deployment.
        enrolled: label or annotation by which a namespace is enrolled; marks: labels that its injector gives a pod;
            signs: annotations.
        agent: its proxies have a program that prints their configuration, which follows its VirtualServices.
    """

    mode: str
    container: str
    plane: dict[str, str]
    enrolled: tuple[str, str]
    marks: dict[str, str] = field(default_factory=dict)
    signs: dict[str, str] = field(default_factory=dict)
    agent: bool = False

    @property
    def in_pod(self) -> bool:
        return MODES[self.mode].in_pod


AMBIENT: Final = StandIn("node", "istio-proxy", {"app": "istiod"}, (_AMBIENT, "ambient"))
LINKERD: Final = StandIn(
    "native-sidecar",
    "linkerd-proxy",
    {"linkerd.io/control-plane-component": "destination"},
    ("linkerd.io/inject", "enabled"),
    {"linkerd.io/control-plane-ns": f"{NAME}-system"},
)
CLASSIC: Final = replace(LINKERD, mode="sidecar")
ISTIO: Final = StandIn(
    "native-sidecar",
    "istio-proxy",
    {"app": "istiod"},
    ("istio-injection", "enabled"),
    signs={"sidecar.istio.io/status": "injected"},
)
CONFIGURED: Final = replace(ISTIO, agent=True)
ISTIO_CLASSIC: Final = replace(ISTIO, mode="sidecar")

WAYPOINTS: Final = replace(AMBIENT, mode="ambient-namespace")


def rendered(mode: str, *added: Object) -> list[Object]:
    """What `sharedfate render` makes of the objects under that name, the mesh's own parts before them."""
    return manifests.parse(_rendered(mode, manifests.dump(added)), source="rendered")


@cache  # pods of one template differ by nothing that is rendered
def _rendered(mode: str, added: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "objects.yaml"
        file.write_text(added)
        return subprocess.run(
            [sys.executable, "-m", "chaos.cli", "render", "--mode", mode, "-f", str(file)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "SHAREDFATE_NAME": NAME},
        ).stdout


def objects(how: StandIn) -> list[Object]:
    """The reference mesh under that name: its node proxies labelled as ztunnels, its control plane as the other's."""
    default = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    every = rendered(how.mode, default)
    found = [obj for obj in every if "default" not in (obj["metadata"]["name"], obj["metadata"].get("namespace"))]
    for obj in found:
        if obj["kind"] == "DaemonSet":
            template = obj["spec"]["template"]
            for labels in (obj["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]):
                labels["app"] = "ztunnel"
            # No limit, as the other's chart has it: its control plane takes it for a fault's.
            template["metadata"]["annotations"][ANNOTATION_BUDGET_HOLD.replace("sharedfate", NAME)] = "as-installed"
            _rename(template, how.container)
        if obj["kind"] == "Deployment" and obj["metadata"]["name"] == "control-plane":
            obj["metadata"].setdefault("labels", {}).update({**how.plane, "app.kubernetes.io/version": "stand-in"})
    return found


# Prints the names of the VirtualServices that the proxy has: one, by the time-out that it asks for.
_AGENT: Final = f"""#!/usr/bin/env python3
import urllib.request
dump = urllib.request.urlopen("http://127.0.0.1:{PORT_ADMIN}/config_dump", timeout=10).read().decode()
print("sharedfate-check" if '"timeout": "15s"' in dump else "")
"""


def give_agent(pod: Object, container: str) -> None:
    """Put `pilot-agent` into the proxy's container, from an annotation of its pod."""
    pod["metadata"]["annotations"][f"{NAME}.io/agent"] = _AGENT
    what = {"path": "pilot-agent", "mode": 0o755, "fieldRef": {"fieldPath": f"metadata.annotations['{NAME}.io/agent']"}}
    pod["spec"].setdefault("volumes", []).append({"name": "agent", "downwardAPI": {"items": [what]}})
    for part in ("containers", "initContainers"):
        for one in pod["spec"].get(part) or []:
            if one["name"] == container:
                one.setdefault("volumeMounts", []).append({"name": "agent", "mountPath": "/opt/agent"})
                path = "/opt/agent:/opt/sharedfate/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                one.setdefault("env", []).append({"name": "PATH", "value": path})


def _rename(pod: Object, container: str) -> None:
    """Give the proxy's container, of a pod or a template, the other mesh's name for it."""
    pod["metadata"]["annotations"][f"{NAME}.io/proxy-container"] = container
    for part in ("containers", "initContainers"):
        for one in pod["spec"].get(part) or []:
            one["name"] = container if one["name"] == "proxy" else one["name"]


@contextlib.contextmanager
def installed(cluster: Cluster, how: StandIn = AMBIENT) -> Iterator[None]:
    """The stand-in, ready in the cluster, until left; then it is taken away."""
    everything = objects(how)
    hooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    apply_all(cluster, everything)
    with contextlib.ExitStack() as stack:
        stack.callback(_take_away, cluster, everything)
        url, authority = stack.enter_context(injector(cluster, how))
        stack.enter_context(carrying(cluster))
        stack.enter_context(gateways(cluster, how))
        if how.agent:
            stack.enter_context(virtual_services(cluster))
        cluster.request("POST", hooks, webhook(url, authority))
        stack.callback(cluster.request, "DELETE", f"{hooks}/standin")
        cluster.wait(
            "the stand-in's mesh",
            lambda: all(
                is_ready(cluster.get(obj["kind"], obj["metadata"]["name"], obj["metadata"]["namespace"]))
                for obj in everything
                if obj["kind"] in ("Deployment", "DaemonSet")
            ),
            seconds=120,
        )
        yield


def _take_away(cluster: Cluster, everything: list[Object]) -> None:
    delete_all(cluster, [obj for obj in everything if obj["kind"] != "Namespace"])
    delete_all(cluster, [obj for obj in everything if obj["kind"] == "Namespace"])
    cluster.wait("the stand-in is gone", lambda: cluster.find("Namespace", f"{NAME}-system") is None, seconds=60)


# ---- what an injector and a network plugin do to what is enrolled


def webhook(url: str, authority: bytes) -> Object:
    """Asks the injector about every namespace and pod that is not the cluster's own."""

    def hook(name: str, resource: str) -> Object:
        return {
            "name": f"{name}.standin.example",
            "clientConfig": {"url": url, "caBundle": base64.b64encode(authority).decode()},
            "namespaceSelector": {
                "matchExpressions": [
                    {
                        "key": "kubernetes.io/metadata.name",
                        "operator": "NotIn",
                        "values": ["kube-system", f"{NAME}-system", SYSTEM_NAMESPACE],
                    }
                ]
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}],
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
        }

    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "standin"},
        "webhooks": [hook("namespaces", "namespaces"), hook("pods", "pods")],
    }


def is_enrolled(space: Object, how: StandIn) -> bool:
    key, value = how.enrolled
    marks = {**(space["metadata"].get("labels") or {}), **(space["metadata"].get("annotations") or {})}
    return marks.get(key) == value


def patched(obj: Object, how: StandIn) -> list[Object]:
    """The JSON patch by which the stand-in takes an enrolled namespace, or a pod in one."""
    meta = obj["metadata"]
    if obj["kind"] == "Namespace":
        plain = {**obj, "apiVersion": "v1", "metadata": {"name": meta["name"], "labels": meta.get("labels") or {}}}
        of_that_name = [one for one in rendered(how.mode, plain) if one["metadata"]["name"] == meta["name"]]
        (labels,) = [one["metadata"]["labels"] for one in of_that_name if one["kind"] == "Namespace"]
        del labels[f"{NAME}.io/run"]  # its waypoints ask for more than the other's do: so the label of pod security
        return [{"op": "add", "path": "/metadata/labels", "value": labels}]
    plain = {**obj, "apiVersion": "v1", "metadata": {**meta, "name": "injected"}}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": meta["namespace"]}}
    pod = next(one for one in rendered(how.mode, space, plain) if one["kind"] == "Pod")
    del pod["metadata"]["labels"][f"{NAME}.io/run"]  # the reference mesh's own; the run's label stays
    if how.in_pod:
        _rename(pod, how.container)
    if how.agent:
        give_agent(pod, how.container)
    return [
        {"op": "add", "path": "/metadata/labels", "value": {**pod["metadata"]["labels"], **how.marks}},
        {
            "op": "add",
            "path": "/metadata/annotations",
            "value": {**(pod["metadata"].get("annotations") or {}), **how.signs},
        },
        {"op": "add", "path": "/spec", "value": pod["spec"]},
    ]


@contextlib.contextmanager
def injector(cluster: Cluster, how: StandIn) -> Iterator[tuple[str, bytes]]:
    """(URL, certificate of its authority) of a webhook on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))["request"]
            obj = {**request["object"], "kind": request["kind"]["kind"]}
            obj["metadata"] = {"namespace": request.get("namespace", ""), **obj["metadata"]}
            space = obj if obj["kind"] == "Namespace" else cluster.get("Namespace", obj["metadata"]["namespace"])
            response = {"uid": request["uid"], "allowed": True}
            own = f"{NAME}.io/role" in (obj["metadata"].get("labels") or {})
            if is_enrolled(space, how) and not own:
                patch = base64.b64encode(json.dumps(patched(obj, how)).encode()).decode()
                response |= {"patchType": "JSONPatch", "patch": patch}
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
            body = json.dumps(review).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    key, certificate = _self_signed()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(key + certificate)
        file.flush()
        context.load_cert_chain(file.name)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/inject", certificate
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def _self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "standin")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def carrying(cluster: Cluster) -> Iterator[None]:
    """Pods that are captured get the annotation by which istio-cni says so."""

    def look() -> None:
        for pod in cluster.list("Pod", labels=f"{NAME}.io/mode"):
            meta = pod["metadata"]
            done = (meta.get("annotations") or {}).get(_CARRIED)
            if has_condition(pod, f"{NAME}.io/captured") and not done and "deletionTimestamp" not in meta:
                change = {"metadata": {"annotations": {_CARRIED: "enabled"}}}
                with contextlib.suppress(ApiError):  # it may be gone by now
                    cluster.patch("Pod", meta["name"], change, meta["namespace"])

    with repeating(look):
        yield


@contextlib.contextmanager
def gateways(cluster: Cluster, how: StandIn) -> Iterator[None]:
    """A Gateway of a tenant becomes the reference mesh's waypoint of that namespace, and is said to be programmed; the
    Services that ask for it are said to be bound.
    """

    def look() -> None:
        for gateway in cluster.list("Gateway"):
            meta = gateway["metadata"]
            if "deletionTimestamp" in meta or has_condition(gateway, "Programmed"):
                continue
            try:
                if cluster.find("Deployment", "waypoint", meta["namespace"]) is None:
                    apply_all(cluster, waypoint(meta["namespace"], meta["name"], how))
                elif is_ready(cluster.get("Deployment", "waypoint", meta["namespace"])):
                    bound = f"Successfully attached to waypoint {meta['namespace']}/{meta['name']}"
                    say(cluster, "Service", "server", meta["namespace"], "istio.io/WaypointBound", bound)
                    say(cluster, "Gateway", meta["name"], meta["namespace"], "Programmed", "programmed")
            except* ApiError:  # its namespace may be going by now; the next one's turn all the same
                pass

    with defined(cluster, "gateway.networking.k8s.io", "Gateway"), repeating(look):
        yield


@contextlib.contextmanager
def virtual_services(cluster: Cluster) -> Iterator[None]:
    """While there is a VirtualService, the mesh's proxies have a time-out of 15 s."""
    first = cluster.get("ConfigMap", MESH_CONFIG, f"{NAME}-system")["data"]["mesh.json"]
    settings = json.loads(first)
    settings["features"]["timeout_seconds"] = 15.0
    other, there = json.dumps(settings), False

    def look() -> None:
        nonlocal there
        if bool(cluster.list("VirtualService")) is not there:
            data = {"data": {"mesh.json": first if there else other}}
            cluster.patch("ConfigMap", MESH_CONFIG, data, f"{NAME}-system")
            there = not there

    with defined(cluster, "networking.istio.io", "VirtualService"), repeating(look):
        yield


@contextlib.contextmanager
def defined(cluster: Cluster, group: str, kind: str) -> Iterator[None]:
    """Serve a kind that anything can be said in, until left."""
    crds, plural = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", f"{kind.lower()}s"
    name = f"{plural}.{group}"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
        "versions": [version],
    }
    cluster.request(
        "POST",
        crds,
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name, "annotations": {"api-approved.kubernetes.io": "unapproved, a test's"}},
            "spec": spec,
        },
    )
    try:
        cluster.wait(
            f"{plural} are served",
            lambda: has_condition(cluster.request("GET", f"{crds}/{name}"), "Established"),
            seconds=20,
        )
        yield
    finally:
        cluster.request("DELETE", f"{crds}/{name}")


def waypoint(namespace: str, gateway: str, how: StandIn) -> list[Object]:
    """The reference mesh's waypoint, named as a Gateway's pods are."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": namespace}}
    plain = {**pod, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    found = [one for one in rendered(how.mode, space, plain) if one["metadata"].get("namespace") == namespace]
    found = [one for one in found if one["kind"] != "Pod"]
    for one in found:
        if one["kind"] == "Deployment":
            template = one["spec"]["template"]
            template["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] = gateway
            _rename(template, how.container)
    return found


def say(cluster: Cluster, kind: str, name: str, namespace: str, condition: str, message: str) -> None:
    """Write a condition that is True."""
    one = {"type": condition, "status": "True", "reason": "Done", "message": message}
    one["lastTransitionTime"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.patch(kind, name, {"status": {"conditions": [one]}}, namespace, subresource="status")


@contextlib.contextmanager
def repeating(look: Callable[[], None]) -> Iterator[None]:
    """Look a few times a second, in a thread."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.25):
            try:
                look()
            except* ApiError:  # what is looked at may be gone by now
                pass
            except* Exception:  # the next look may do better; a test that fails shows why
                traceback.print_exc()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
