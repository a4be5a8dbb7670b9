"""A mesh that stands in for Istio ambient: the reference mesh in mode `node`, under another name and Istio's labels.

What Istio does to a namespace with its label is done here by a webhook (the pods get what our node agent asks for) and
by a watch (a pod that is captured gets the annotation by which istio-cni says so). A run sees an installation.
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
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chaos.errors import ApiError
from chaos.kube.applying import apply_all, is_ready
from chaos.kube.client import Cluster
from chaos.kube.objects import has_condition
from chaos.mesh import manifests

NAME: Final = "standin"
_AMBIENT: Final = "istio.io/dataplane-mode"
_CARRIED: Final = "ambient.istio.io/redirection"
Object = dict[str, Any]


def objects(folder: Path) -> list[Object]:
    """The reference mesh under that name, its node proxies labelled as ztunnels and its control plane as istiod."""
    empty = folder / "nothing.yaml"
    empty.write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n")
    rendered = subprocess.run(
        [sys.executable, "-m", "chaos.cli", "render", "--mode", "node", "-f", str(empty)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "SHAREDFATE_NAME": NAME},
    ).stdout
    found = [
        obj for obj in manifests.parse(rendered, source="rendered") if obj["metadata"]["name"] not in ("default", empty)
    ]
    for obj in found:
        if obj["kind"] == "DaemonSet":
            template = obj["spec"]["template"]
            for labels in (obj["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]):
                labels["app"] = "ztunnel"
            template["metadata"]["annotations"][f"{NAME}.io/proxy-container"] = "istio-proxy"
            for container in template["spec"]["containers"]:
                container["name"] = {"proxy": "istio-proxy"}.get(container["name"], container["name"])
        if obj["kind"] == "Deployment" and obj["metadata"]["name"] == "control-plane":
            obj["metadata"].setdefault("labels", {}).update({"app": "istiod", "app.kubernetes.io/version": "stand-in"})
    return found


@contextlib.contextmanager
def installed(cluster: Cluster, folder: Path) -> Iterator[None]:
    """The stand-in, ready in the cluster, until left."""
    everything = objects(folder)
    apply_all(cluster, everything)
    with injector() as (url, authority), carrying(cluster):
        cluster.request(
            "POST", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", webhook(url, authority)
        )
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


# ---- what istiod and istio-cni do to what carries their label


def webhook(url: str, authority: bytes) -> Object:
    """Asks the injector about namespaces and pods of the ambient data plane."""

    def hook(name: str, resource: str) -> Object:
        return {
            "name": f"{name}.standin.example",
            "clientConfig": {"url": url, "caBundle": base64.b64encode(authority).decode()},
            "namespaceSelector": {"matchLabels": {_AMBIENT: "ambient"}},
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


def patched(obj: Object) -> list[Object]:
    """The JSON patch by which the stand-in takes a namespace or a pod."""
    wanted = {f"{NAME}.io/mode": "node", **({f"{NAME}.io/mesh": "enabled"} if obj["kind"] == "Namespace" else {})}
    labels = {**(obj["metadata"].get("labels") or {}), **wanted}
    found: list[Object] = [{"op": "add", "path": "/metadata/labels", "value": labels}]
    if obj["kind"] == "Pod":
        gates = [*(obj["spec"].get("readinessGates") or []), {"conditionType": f"{NAME}.io/captured"}]
        found.append({"op": "add", "path": "/spec/readinessGates", "value": gates})
    return found


@contextlib.contextmanager
def injector() -> Iterator[tuple[str, bytes]]:
    """(URL, certificate of its authority) of a webhook on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))["request"]
            patch = base64.b64encode(
                json.dumps(patched({"kind": request["kind"]["kind"], **request["object"]})).encode()
            )
            response = {"uid": request["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch.decode()}
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
    import tempfile

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
    stop = threading.Event()

    def look() -> None:
        for pod in cluster.list("Pod", labels=f"{NAME}.io/mode"):
            meta = pod["metadata"]
            done = (meta.get("annotations") or {}).get(_CARRIED)
            if has_condition(pod, f"{NAME}.io/captured") and not done and "deletionTimestamp" not in meta:
                change = {"metadata": {"annotations": {_CARRIED: "enabled"}}}
                with contextlib.suppress(ApiError):  # it may be gone by now
                    cluster.patch("Pod", meta["name"], change, meta["namespace"])

    def run() -> None:
        while not stop.wait(0.25):
            look()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
